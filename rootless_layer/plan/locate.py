"""Where the trees of the contents lie on this machine, and what their links to directories lead to."""

from __future__ import annotations

import functools
import os
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, SourceError
from rootless_layer.store.closure import StorePath
from rootless_layer.tree.links import MOST_LINKS
from rootless_layer.tree.walk import listings, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless_layer.store.closure import Closure
    from rootless_layer.tree.walk import Found, Listing

    from .spec import LayerSpec

_LONGEST_PATH = 4095
"""As long as a path may be for the kernel (PATH_MAX, without the NUL)."""
_MOST_FOLLOWED = 100_000
"""Without a loop there may be 2 to the power of 40 of them: in each of 40 directories two links to the next."""
_BUILD_ONLY = b"nix-support"
"""What a package tells the builders of others. nixpkgs' buildEnv leaves it out as well; most packages have one."""
_HINT = "Leave it out, or do not have links to directories followed."


@attrs.frozen(slots=True)
class StoreLocation:
    """A store path: where it stands in the tree, and where it lies on this machine."""

    path: bytes
    source: bytes


@functools.lru_cache(8)
def store_locations(closure: Closure | None) -> tuple[StoreLocation, ...]:
    """Give the places of a closure's store paths, in the order of their paths."""
    if closure is None:
        return ()
    return tuple(
        StoreLocation(os.fsencode(path.path).lstrip(b"/"), os.fsencode(closure.location(path))) for path in closure.paths
    )


@attrs.frozen(slots=True)
class Place:
    """A tree: a content, or what a link to a directory in one leads to.

    ``on_disk`` is where it lies on this machine, without links; ``stored`` the path of the closure that
    this is, ``b""`` if it is none. ``below`` is the path from the content to here, through the links that
    were followed, and ``trail`` the directories that these are in.
    """

    content: str
    on_disk: bytes
    stored: bytes
    below: bytes = b""
    trail: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """Give what messages call it."""
        return f"{self.content}/{os.fsdecode(self.below)}" if self.below else self.content


class Locator:
    """Finds trees in the store or not; for a layer and its key alike."""

    def __init__(self, spec: LayerSpec) -> None:
        """Take the store paths that contents may be in: the closure's, and the tools' where links stand for files."""
        self.closure = spec.closure
        self.store = store_locations(spec.closure)
        self._symbolic = spec.link == "symbolic"
        if self._symbolic:  # a link may lead out of the layer
            self.store += store_locations(spec.tools)
        self._left_out = spec.left_out
        self._stored = frozenset(location.path for location in self.store)
        self._followed = 0

    def find(self, content: str) -> Place:
        """Find a content; raises :class:`SourceError` where it is not there, :class:`InputError` where it is no directory."""
        if not content:
            message = "a content without a name: give the path of a tree"
            raise InputError(message)
        path = os.fsencode(os.path.abspath(content))
        on_disk, stored = self._resolve(content, path)
        if not os.path.isdir(on_disk):
            message = f"{content}: is not a directory, so it cannot be merged into the root"
            raise InputError(message, hint="Put the file into a directory, at the path that it is to have.")
        if self._symbolic and any((path + b"/").startswith(b"/" + location.path + b"/") for location in self.store):
            stored = path.lstrip(
                b"/"
            )  # of a store path that is a link itself the links are through it, as nixpkgs' lndir makes them
        return Place(content, on_disk, stored)

    def walk(self, place: Place) -> Iterator[Found]:
        """Read a tree as :func:`rootless_layer.tree.walk.walk` does, without what is never part of a layer."""
        left_out = None if place.stored in self._stored else self._left_out
        for relative, on_disk, status in walk(place.on_disk, left_out=left_out):
            if stat.S_ISSOCK(status.st_mode):
                continue  # it belongs to a process; no archive holds one
            if place.stored in self._stored and relative.split(b"/", 1)[0] == _BUILD_ONLY:
                continue
            yield relative, on_disk, status

    def listings(self, place: Place) -> Iterator[Listing]:
        """Read a tree as :func:`rootless_layer.tree.walk.listings` does, sockets among it, without what else no layer has."""
        stored = place.stored in self._stored
        left_out, without = (None, (_BUILD_ONLY,)) if stored else (self._left_out, ())
        return listings(place.on_disk, left_out=left_out, without=without)

    def follow(self, place: Place, relative: bytes) -> Place | None:
        """Give what a link of a tree leads to, if that is a directory.

        Raises :class:`SourceError` where that would have no end: for a link that leads back to a
        directory that it is in, or that was come through, and for too many of them.
        """
        below = place.below + b"/" + relative if place.below else relative
        within = os.path.dirname(place.on_disk + b"/" + relative)
        known = b"/" + place.stored if place.stored else place.on_disk
        try:
            on_disk, stored = self._resolve(place.name, known + b"/" + relative)
        except SourceError:
            return None  # it leads nowhere
        if not os.path.isdir(on_disk) or self._left_out.holds(os.fsdecode(on_disk)):
            return None
        found = Place(place.content, on_disk, stored, below, (*place.trail, within))
        self._followed += 1
        problem = ""
        if any((inside + b"/").startswith(on_disk.rstrip(b"/") + b"/") for inside in found.trail):
            problem = "this link leads back to a directory that it is in"
        elif len(found.trail) > MOST_LINKS:
            problem = f"this link to a directory comes after {MOST_LINKS} others, one behind the other"
        elif len(below) > _LONGEST_PATH:
            problem = f"a path through links to directories is longer than {_LONGEST_PATH} bytes"
        elif self._followed > _MOST_FOLLOWED:
            problem = f"this link to a directory comes after {_MOST_FOLLOWED} others"
        if problem:
            message = f"{found.name:.4095}: {problem}"
            raise SourceError(message, hint=_HINT)
        return found

    def _resolve(self, name: str, path: bytes) -> tuple[bytes, bytes]:
        """Find where a path lies on disk, and under which store path, if it is of the closure.

        Links are followed one component after the other, those into the store to where
        the store lies on this machine.
        """
        current, rest = b"", path.split(b"/")[::-1]
        followed = 0
        while rest:
            part = rest.pop()
            if part == b"..":
                current = current.rpartition(b"/")[0]
            elif part not in {b"", b"."}:
                there = self._on_disk(current + b"/" + part)
                if not os.path.islink(there):
                    current += b"/" + part
                    continue
                followed += 1
                if followed > MOST_LINKS:
                    message = f"{name}: too many symbolic links"
                    raise SourceError(message)
                target = os.readlink(there)
                current = b"" if target.startswith(b"/") else current
                rest += target.split(b"/")[::-1]
        for location in self.store:
            for top in (b"/" + location.path, location.source):
                if current == top or current.startswith(top + b"/"):
                    below = current[len(top) :]
                    return _existing(name, location.source + below, stored=True), location.path + below
        stored = StorePath.containing(os.fsdecode(current)) is not None
        return _existing(name, self._on_disk(current or b"/"), stored=stored), b""

    def _on_disk(self, path: bytes) -> bytes:
        closure = self.closure
        if closure is None or not path.startswith(os.fsencode(closure.store_dir) + b"/"):
            return path
        return os.fsencode(closure.store_root.rstrip("/")) + path


def _existing(name: str, on_disk: bytes, *, stored: bool) -> bytes:
    if not os.path.lexists(on_disk):
        message = f"{name}: does not exist (looked for {os.fsdecode(on_disk)})"
        hint = "Does the store lie under another root? Then name it with --store-root." if stored else ""
        raise SourceError(message, hint=hint)
    return on_disk
