"""Where the members of an archive come to lie when they are unpacked onto a disk, one after the other.

A name may go through a link to a directory, of the archive or of what is below: whoever unpacks follows it, and so
do docker, podman and containerd (path_resolution(7)). The last part of a name is never followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .changes import parents
from .links import follow

if TYPE_CHECKING:
    from .links import Lookup
    from .tree import Entry


class Placing:
    """The places of an archive's members.

    ``there`` gives what the archive has put at a path so far, ``below`` what stands under it. ``endless`` is the
    first path that no reader can follow to its end, ``""`` where there is none: it is left as it is.
    """

    def __init__(self, there: Lookup, below: Lookup) -> None:
        """Begin before the first member."""
        self._there, self._below = there, below
        self._real: dict[bytes, bytes] = {b"": b""}
        self._gone: set[bytes] = set()
        self._emptied: set[bytes] = set()
        self.endless = b""

    def place(self, path: bytes) -> bytes:
        """Give the path that a name leads to."""
        above, slash, name = path.rpartition(b"/")
        folder = self.folder(above)
        return folder + b"/" + name if folder else name if slash else path

    def folder(self, path: bytes) -> bytes:
        """Give the path of the directory that a path leads to; what is not there counts as a directory to be made."""
        unknown = []
        while path not in self._real:
            unknown.append(path)
            path = path.rpartition(b"/")[0]
        real = self._real[path]
        for folder in reversed(unknown):
            way = follow(folder.rpartition(b"/")[2], self._look, real)
            if way.endless and not self.endless:
                self.endless = folder
            real = self._real[folder] = folder if way.endless else way.end
        return real

    def put(self, path: bytes, *, is_dir: bool) -> None:
        """Take note that something came to stand at a path, which is a place."""
        if path in self._real and not (is_dir and self._real[path] == path):
            self._real = {b"": b""}

    def remove(self, path: bytes) -> bytes:
        """Take note of a whiteout of a path; give the place of what it removes."""
        place = self.place(path)
        self._gone.add(place)
        self.put(place, is_dir=False)
        return place

    def empty(self, path: bytes) -> bytes:
        """Take note of an opaque whiteout in a directory; give its place."""
        place = self.folder(path)
        self._emptied.add(place)
        self._real = {b"": b""}
        return place

    def _look(self, path: bytes) -> Entry | None:
        found = self._there(path)
        if found is not None or not (self._gone or self._emptied):
            return found or self._below(path)
        gone = path in self._gone or any(above in self._gone or above in self._emptied for above in parents(path))
        return None if gone else self._below(path)
