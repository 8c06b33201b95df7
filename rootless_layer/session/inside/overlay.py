"""The base of a layer shown to the scripts by overlayfs: the snapshots below, what is staged above.

Runs in the session's processes, within their namespaces. A file that is written is copied up
into the directory above and keeps its inode number, by which the record knows it, for as long
as the kernel remembers where it came from. Without privilege that is not on the disk; so in the
end each path of the directory above is looked at, in ``upper`` and in the tree:

==========================  ===================================  ====================  ============================
case                        how it looks on disk                 map                   what is lost
==========================  ===================================  ====================  ============================
copied up, remembered       marked; another number in the tree   paths, moved          nothing
copied up, forgotten        marked; the same number in the tree  forgotten             its row, where any row has
                                                                                       no file
copied up, several names    marked; more than one link           several_names         its row: each name may have
                                                                                       a number of its own
link or pipe, never marked  same number in the tree; a base has  perhaps_copied        its row, where the base's
                            the path                                                   number has one without file
row from the start          same number as at the start          paths, at_start       nothing
row from the start, copied  number gone; a regular file in       at_start              its row
                            ``upper``
==========================  ===================================  ====================  ============================

The kernel forgets where it is short of memory. Where a row may be lost, the session is refused,
and the caller stages a copy of the base.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless_layer.errors import OverlayError
from rootless_layer.system import namespaces

from .messages import OverlayShown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .messages import Inode, OverlayPlan

_PROBE = b".rootless-layer-probe"
_ORIGIN = "user.overlay.origin"
"""overlayfs's mark of a file that was copied up."""


class Overlay:
    """The mounted overlay of one session."""

    def __init__(self, plan: OverlayPlan) -> None:
        """Mount it; raises :class:`OverlayError` where the kernel refuses."""
        self.upper, self.tree, self.placed = plan.upper, plan.tree, plan.placed
        lowers = self.lowers = plan.lowers
        numbers = self.numbers = sorted(map(int, os.listdir(lowers)), reverse=True)
        try:
            devices = {os.stat(lowers + b"/%d" % number).st_dev for number in numbers}
        except OSError as error:
            raise OverlayError(str(error)) from error
        if devices != {os.stat(self.upper).st_dev}:
            message = "the snapshots of the base lie on another file system than the session's files"
            raise OverlayError(message)
        # Relative and short: all options must fit into a page of memory.
        layers = b":".join([*(b"%d" % number for number in numbers), b"probe"])
        os.mkdir(lowers + b"/probe")
        os.close(os.open(lowers + b"/probe/" + _PROBE, os.O_CREAT | os.O_WRONLY, 0o600))
        os.symlink(self.upper, lowers + b"/upper")
        os.symlink(plan.scratch, lowers + b"/scratch")
        os.chdir(lowers)
        try:
            options = b"lowerdir=" + layers + b",upperdir=upper,workdir=scratch,userxattr"
            namespaces.mount(b"overlay", self.tree, b"overlay", 0, options)
        except OSError as error:
            raise OverlayError(str(error)) from error
        finally:
            os.chdir("/")
        self.device = os.stat(self.tree).st_dev
        self._probe()
        # Paths by their inode numbers in the tree; the table above says which case is in which.
        self.paths: dict[int, bytes] = {}
        self.at_start: dict[int, bytes] = {}
        self.perhaps_copied: dict[int, bytes] = {}
        self.several_names: dict[int, bytes] = {}
        self.forgotten: list[bytes] = []

    def _probe(self) -> None:
        """Have a file copied up, and see that it is marked and keeps its number: not every file system above can do that."""
        path = self.tree + b"/" + _PROBE
        number = os.lstat(path).st_ino
        try:
            os.utime(path)
            marked = _ORIGIN in os.listxattr(self.upper + b"/" + _PROBE)
            kept = os.lstat(path).st_ino == number
            os.unlink(path)
        except OSError as error:
            raise OverlayError(str(error)) from error
        if not (marked and kept):
            message = "overlayfs does not keep track of files here"
            raise OverlayError(message)

    def rows(self) -> bytes:
        """Give the rows that the record begins with, as ``faked --load`` reads them."""
        lines = []
        for path, mode, uid, gid, rdev in self.placed:
            number = self._number(path)
            self.paths[number] = self.at_start[number] = path
            lines.append(b"dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=1,rdev=%d\n" % (self.device, number, mode, uid, gid, rdev))
        return b"".join(lines)

    def shown(self, with_row: Collection[Inode]) -> OverlayShown:
        """Say how the tree was shown, for those who find a file's row by its path in the upper directory.

        Raises :class:`OverlayError` where a row may be that of a file which has another number now.
        """
        moved = self.changes()
        numbers = {number for device, number in with_row if device == self.device}
        known = [number for number in self.paths if number in numbers]
        left = numbers.difference(self.paths)
        left.difference_update(entry.inode() for _, entry in _walk(self.upper) if entry is not None)
        named = {
            entry.inode(): path
            for path, entry in (_walk(self.tree) if left else ())
            if entry is not None and entry.inode() in left
        }
        self.check_lost(known, left.difference(named))
        return OverlayShown(self.device, tuple(moved.items()), tuple((self.paths | named).items()))

    def changes(self) -> dict[bytes, int]:
        """Give the paths in the upper directory whose inode numbers are others in the tree, with these."""
        self.paths = {number: path for number, path in self.paths.items() if self._number(path) == number}
        moved = {}
        for path, entry in _walk(self.upper):
            folder = entry is None or entry.is_dir(follow_symlinks=False)
            marked = not folder and _ORIGIN in os.listxattr(self.upper + b"/" + path, follow_symlinks=False)
            if entry is not None and entry.is_file(follow_symlinks=False) and not marked:
                continue
            number = self._number(path)
            status = os.lstat(self.upper + b"/" + path)
            self.paths[number] = path
            if number != status.st_ino:
                moved[path] = number
            elif not folder and not marked:  # a link or a pipe cannot carry the mark
                self._suspect(path)
            if status.st_nlink > 1 and (marked or (not folder and number != status.st_ino)):
                self.several_names[number] = path
            elif marked and number == status.st_ino:
                self.forgotten.append(path)
        return moved

    def _suspect(self, path: bytes) -> None:
        """Note the number that a path has in the base: if that has a row still, the kernel forgot where the file came from."""
        for number in self.numbers:
            below = b"%b/%d/%b" % (self.lowers, number, path)
            if os.path.lexists(below):
                self.perhaps_copied[os.lstat(below).st_ino] = path
                return

    def check_lost(self, with_row: Collection[int], row_without_file: Collection[int]) -> None:
        """Compare what :meth:`changes` found with the record: inode numbers that have a row, and those of rows without a file.

        Raises :class:`OverlayError` where a row may be that of a file which has another number now.
        """
        # The kernel may forget at any moment, also between two looks; but it remembers nothing again. So a number
        # that is still the file's was its number when the record was read.
        lost = [self.paths[number] for number in with_row if self._number(self.paths[number]) != number]
        lost += [path for number, path in self.several_names.items() if number in with_row]
        lost += [path for number, path in self.perhaps_copied.items() if number in row_without_file]
        lost += self.forgotten if row_without_file else []
        # What had a row when the session began, and another number now, was not replaced by a program: its row would be gone.
        started = (self.at_start[number] for number in row_without_file if number in self.at_start)
        lost += [path for path in started if stat.S_ISREG(self._above(path))]
        if lost:
            message = f"{os.fsdecode(b'/' + lost[0])}: overlayfs lost track of this file of the base"
            raise OverlayError(message)

    def check_moved(self, descriptor: int) -> None:
        """Refuse to have a directory of the base renamed, which overlayfs does not do; it is held by a descriptor.

        Raises :class:`OverlayError`: with a copy of the base it can be done.
        """
        status = os.fstat(descriptor)
        if status.st_dev != self.device:
            return
        shown = os.readlink(b"/proc/self/fd/%d" % descriptor).split(b"/")
        for start in range(1, len(shown) + 1):  # its mount is in a place of the script's own
            path = b"/".join(shown[start:])
            if path and self._number(path) == status.st_ino:
                break
        else:
            return
        parts = path.split(b"/")
        above = (self.upper + b"/" + b"/".join(parts[:count]) for count in range(1, len(parts) + 1))
        below = (b"%b/%d/%b" % (self.lowers, number, path) for number in self.numbers)
        if not any(map(_is_opaque, above)) and any(map(os.path.isdir, below)):
            message = f"{os.fsdecode(b'/' + path)}: overlayfs does not rename a directory of the base"
            raise OverlayError(message)

    def _above(self, path: bytes) -> int:
        """Give the mode of a path in the upper directory; 0 where it is not there."""
        try:
            return os.lstat(self.upper + b"/" + path).st_mode
        except OSError:
            return 0

    def _number(self, path: bytes) -> int:
        try:
            return os.lstat(self.tree + b"/" + path).st_ino
        except OSError:
            return 0  # it is there no more


def _walk(top: bytes) -> Iterator[tuple[bytes, os.DirEntry[bytes] | None]]:
    """Go through all that is in the upper directory but for the marks of deletions; the top first."""
    yield b"", None
    folders = [b""]
    while folders:
        above = folders.pop()
        with os.scandir(top + b"/" + above) as listing:
            for entry in listing:
                path = above + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path + b"/")
                elif stat.S_ISCHR(entry.stat(follow_symlinks=False).st_mode):
                    continue
                yield path, entry


def _is_opaque(path: bytes) -> bool:
    return os.path.isdir(path) and "user.overlay.opaque" in os.listxattr(path)
