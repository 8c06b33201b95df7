"""Where builds put what they make: no part of any input, although it may lie in one.

``build --copy-to-root . -o out`` gives one digest for ever: before ``out`` is there, and
when the layer of the build before lies in it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OF_A_BUILD = re.compile(rb"\.?rootless-layer-[0-9a-f]{16}")
"""How directories are named that last as long as a build, beside outputs and in TMPDIR, and those that a killed build left."""

CACHE_FOLDERS = LAYERS, SNAPSHOTS, OUTPUTS, SIZES, MOUNTS, TARGETS = (
    "layers", "snapshots", "outputs", "sizes", "mounts", "targets",
)  # fmt: skip
"""What the cache makes in its directory, which may hold other people's files as well."""

MOUNT_FILES, MOUNT_JSON = "files", "mount.json"
"""What is in the directory of a cache that scripts mount: what they see, and which cache it is."""

Id = tuple[int, int]
"""What tells a directory from all others, whichever path leads to it: its file system and its inode."""
_KEY = re.compile(rb"[0-9a-f]{64}")


@attrs.define(slots=True)
class LeftOut:
    """The names that are left out of one directory."""

    names: set[bytes] = attrs.field(factory=set)
    folders: dict[bytes, tuple[str, LeftOut]] = attrs.field(factory=dict)
    """A cache's folders with what is left out of them; one that holds nothing else is left out as well."""
    keys: bool = False
    """Whether this is such a folder: then the cache's own entries are left out."""

    def __contains__(self, name: bytes) -> bool:
        """Say whether what has this name is left out."""
        if name in self.names or (self.keys and _KEY.fullmatch(name) is not None):
            return True
        return name in self.folders and not _holds_more(*self.folders[name])


Hidden = dict[Id, LeftOut]
"""What is left out, by the directory that it is in."""


@attrs.frozen(slots=True)
class Places:
    """Outputs, which are files or directories, and directories of caches: real paths, of what may not be there yet.

    A bind mount gives a directory a second path. So places are compared by the directory that
    each is in, as the kernel knows it, and by name.
    """

    outputs: frozenset[str] = frozenset()
    caches: frozenset[str] = frozenset()

    def and_(self, outputs: Iterable[str | os.PathLike[str]], caches: Iterable[str | os.PathLike[str]]) -> Places:
        """Give these places and more."""
        return Places(
            self.outputs.union(os.path.realpath(path) for path in outputs),
            self.caches.union(os.path.realpath(path) for path in caches),
        )

    def check(self, inputs: Iterable[str]) -> None:
        """Raise :class:`OutputError` for each input that an output would take the place of."""
        outputs = {_spot(output): output for output in sorted(self.outputs)}
        problems = []
        for given in inputs:
            real = os.path.realpath(given)
            for path in _upwards(real):
                if (output := outputs.get(_spot(path))) is not None:
                    how = "is the output as well:" if path == real else "lies in the output"
                    problems.append(f"{given}: is an input, and {how} {output}, which is replaced as a whole")
        if problems:
            raise OutputError(*problems, hint="Name another output.")

    def holds(self, path: str) -> bool:
        """Say whether a path is one of the places, or lies in one."""
        kept = {f"{cache}/{name}" for cache in self.caches for name in CACHE_FOLDERS}
        spots = set(map(_spot, self.outputs | kept))
        return any(_spot(above) in spots for above in _upwards(os.path.realpath(path)))

    def notes(self, inputs: Iterable[str]) -> Iterator[str]:
        """Say what is there and is left out, naming the input as well."""
        for given in inputs:
            top = _id(os.path.realpath(given))
            for kind, places in (("output", self.outputs), ("cache", self.caches)):
                for place in sorted(places):
                    if os.path.lexists(place) and any(_id(above) == top for above in _upwards(os.path.dirname(place))):
                        yield f"{place}: lies in the input {given}, and is left out of it: it is the {kind}"

    def hidden(self, top: Id) -> Hidden:
        """Give the names that are left out of an input, wherever in it they are.

        The directories of a cache's path are made with the cache. So one that holds nothing else
        is left out as well, and one that is empty. Of a folder of the cache that is itself the input
        everything is read.
        """
        found: Hidden = {}
        for output in self.outputs:
            _hide(found, output)
        for cache in self.caches:
            for name in CACHE_FOLDERS:
                folder = f"{cache}/{name}"
                left_out = _in(found, folder)
                left_out.keys = _id(folder) != top
                _in(found, cache).folders[name.encode()] = folder, left_out
            path = cache
            _hide(found, path)
            while path != "/" and not _holds_more(above := os.path.dirname(path), _in(found, above)):
                path = above
                _hide(found, path)
        return found


def _id(folder: str) -> Id | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _spot(path: str) -> tuple[Id | None, str]:
    """Give the directory that a real path is in, and its name there; the path itself where there is no such directory."""
    above, name = os.path.split(path)
    found = _id(above)
    return found, path if found is None else name


def _upwards(path: str) -> Iterator[str]:
    """Give a path, and those of all directories that it is in."""
    yield path
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _hide(found: Hidden, path: str) -> None:
    """Leave out a path."""
    above, name = os.path.split(path)
    _in(found, above).names.add(os.fsencode(name))


def _in(found: Hidden, folder: str) -> LeftOut:
    """Give what is left out of a directory, which need not be there."""
    there = _id(folder)
    return LeftOut() if there is None else found.setdefault(there, LeftOut())


def _holds_more(folder: str, left_out: LeftOut) -> bool:
    """Say whether a directory, which need not be there, holds anything that is not left out."""
    try:
        with os.scandir(folder) as listing:
            return any(os.fsencode(item.name) not in left_out and not _is_work(item) for item in listing)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def meets(read: str, output: str) -> str | None:
    """Say how what is read as a whole stands to an output: it ``is`` it, ``holds`` or ``lies in`` it; nothing where it does not.

    Any of these would lose what is read, or change it: an image, a layer, a file.
    """
    one, other = os.path.realpath(read), os.path.realpath(output)
    if one == other or (os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)):
        return "is"
    if _relative(other, one) is not None:
        return "holds"
    return None if _relative(one, other) is None else "lies in"


def _relative(path: str, folder: str) -> str | None:
    """Give a path below a directory, ``""`` for the directory itself; nothing for what lies elsewhere."""
    if path == folder:
        return ""
    above = folder.rstrip("/") + "/"
    return path.removeprefix(above) if path.startswith(above) else None


def _is_work(item: os.DirEntry[str]) -> bool:
    """Say whether something is what a build has for itself, for as long as it lasts."""
    return OF_A_BUILD.fullmatch(os.fsencode(item.name)) is not None and item.is_dir(follow_symlinks=False)
