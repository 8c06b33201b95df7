"""What a layer does to the tree below it (image-spec ``layer.md``, "Applying Changesets").

A path may be in an archive any number of times, as a directory and as a file by turns. Whatever
goes with a directory is not looked for then: the moment is kept, and who asks for a path sees
whether one of the directories that it is in went after it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Path(Protocol):
    """What stands at a path: an entry, or the member of an archive."""

    @property
    def is_dir(self) -> bool:
        """Say whether it is a directory."""


T = TypeVar("T", bound=Path)


def parents(path: bytes) -> Iterator[bytes]:
    """Give the directories that a path is in, the root last."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


class Added(Generic[T]):
    """What an archive has at each path so far: what comes later takes the place of what was there.

    With a directory in whose place something else comes, all goes that was below it.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._at: dict[bytes, T] = {}
        self._came: dict[bytes, int] = {}
        self._folders = {b""}
        """The directories that something was put in, which are there although no member says so."""
        self._went: dict[bytes, int] = {}
        self._now = 0

    def add(self, path: bytes, what: T) -> None:
        """Put something at a path."""
        self._now += 1
        if path and not what.is_dir and path in self._folders:
            self._went[path] = self._now
        self._at[path] = what
        self._came[path] = self._now
        for above in parents(path):
            if above in self._folders:
                break
            self._folders.add(above)

    def get(self, path: bytes) -> T | None:
        """Give what is at a path."""
        return self._at.get(path) if self._is_there(path) else None

    def all(self) -> dict[bytes, T]:
        """Give what is at each path."""
        return {path: what for path, what in self._at.items() if self._is_there(path)} if self._went else self._at

    def _is_there(self, path: bytes) -> bool:
        if not self._went:
            return True
        came = self._came.get(path, 0)
        return all(self._went.get(above, 0) < came for above in parents(path))


@attrs.frozen(slots=True)
class Changes(Generic[T]):
    """What a layer does to the tree below it: what it adds, and the paths that it removes.

    ``removed`` paths go with all below them (whiteouts); of ``emptied`` directories only
    what lower layers put below them goes (opaque whiteouts).
    """

    added: Mapping[bytes, T]
    removed: frozenset[bytes] = frozenset()
    emptied: frozenset[bytes] = frozenset()

    def hides(self, below: Mapping[bytes, T]) -> frozenset[bytes]:
        """Give every path of the tree below that is there no more.

        What is added at a path takes the place of what was there, which is not counted.
        """
        removed, emptied = self.removed & below.keys(), self.emptied & below.keys()
        covered = {path for path, what in self.added.items() if not what.is_dir and path in below and below[path].is_dir}
        if not removed and not covered and not emptied:
            return frozenset()

        def hidden(path: bytes) -> bool:
            return path in removed or any(above in removed or above in covered or above in emptied for above in parents(path))

        return frozenset(path for path in below if path and path not in self.added and hidden(path))

    def apply(self, tree: dict[bytes, T]) -> None:
        """Make of a tree the one that comes of it; what this takes is in proportion to the layer, where it removes nothing."""
        for path in self.hides(tree):
            del tree[path]
        tree.update(self.added)
