"""The process that waits for the answer to a system call: its memory, and the files that it names.

A path is looked up as the caller would: from its root, its working directory or a descriptor of its own. The file
is held by a descriptor (``O_PATH``), and whatever is done is done to that: the caller's memory may change meanwhile.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, NamedTuple

from . import memory, shared
from .calls import FLAGS, NAMELESS, OF_OPEN_FILES, PLACES
from .held import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, HELD, fail, held, is_the_kernels, of_proc
from .ways import ANYWHERE, Start, Walk, find

if TYPE_CHECKING:
    from .calls import Place

AT_FDCWD = -100
_MOST_LINKS = 40
_OPEN = 0o600
"""What the link of a descriptor in /proc has of a file that is open to be read or written."""


class Named(NamedTuple):
    """A name in a directory that is held; ``name`` is as the caller has it, slashes at its end included."""

    folder: int
    name: bytes

    @property
    def path(self) -> bytes:
        """Give a path that leads to it, from this process."""
        return b"/proc/self/fd/%d/%b" % self


def signed(number: int) -> int:
    """Read the low half of an argument as an int of C."""
    number &= 0xFFFFFFFF
    return number - 0x100000000 if number & 0x80000000 else number


class Caller:
    """The thread that makes a system call, which waits for its answer under the name of ``cookie``."""

    __slots__ = ("arguments", "audit", "cookie", "name", "pid", "scope", "stepwise")

    def __init__(self, cookie: int, pid: int, name: str, audit: int, arguments: tuple[int, ...]) -> None:
        """Say which thread, and which call of which ABI (``audit``)."""
        self.cookie = cookie
        self.pid = pid
        self.name = name
        self.audit = audit
        self.arguments = arguments
        self.stepwise = False
        """Whether each directory on the way to a file is looked at."""
        self.scope = ANYWHERE
        """Which ways to a file are open."""

    def read(self, address: int, size: int) -> bytes:
        """Read so many bytes of memory, or as many as are there; raises ``EFAULT`` for none."""
        return memory.read(self.pid, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write to memory; raises ``EFAULT`` where not all of it can be written."""
        if data:
            self.write_from(ctypes.create_string_buffer(data, len(data)), address, len(data))

    def write_from(self, buffer: ctypes.Array[ctypes.c_char], address: int, size: int) -> None:
        """Write all of a buffer to memory."""
        memory.write(self.pid, buffer, address, size)

    def text(self, address: int, most: int = memory.PATH_MAX) -> bytes:
        """Read a string; raises ``ENAMETOOLONG`` where it does not end in time."""
        return memory.text(self.pid, address, most)

    def start(self, number: int = AT_FDCWD) -> Start:
        """Say where a relative path begins."""
        number = signed(number)
        return b"/proc/%d/cwd" % self.pid if number == AT_FDCWD else number

    def share(self, start: Start) -> int | None:
        """Share where a path begins; nothing where that is to be had by its path only. Raises ``EBADF``."""
        return shared.share(self.pid, start) if isinstance(start, int) else None

    def path(self, start: Start) -> bytes:
        """Give the path of where a path begins, for this process."""
        return b"/proc/%d/fd/%d" % (self.pid, start) if isinstance(start, int) else start

    def named(self, place: Place | None = None) -> tuple[Start, bytes, bool]:
        """Give where a path begins, the path, and whether a link at its end is followed.

        The path is empty where the descriptor itself is meant.
        """
        place = place or PLACES[self.name]
        arguments = self.arguments
        flags = 0 if place.flags is None else arguments[place.flags]
        if flags & 0xFFFFFFFF & ~FLAGS.get(self.name, flags):
            raise fail(errno.EINVAL)
        if place.path is None:
            if self.name in OF_OPEN_FILES:
                self._check_open(signed(arguments[0]))
            return self.start(arguments[place.folder or 0]), b"", True
        address = arguments[place.path]
        path = b"" if not address and flags & AT_EMPTY_PATH and self.name in NAMELESS else self.text(address)
        if not path and not flags & AT_EMPTY_PATH:
            raise fail(errno.ENOENT)
        start = self.start() if place.folder is None else self.start(arguments[place.folder])
        return start, path, place.follow and not flags & AT_SYMLINK_NOFOLLOW

    def _check_open(self, number: int) -> None:
        """See that a descriptor is of an open file: ``O_PATH`` opens none; raises ``EBADF``."""
        try:
            if os.lstat(self.path(number)).st_mode & _OPEN:
                return
            with open(f"/proc/{self.pid}/fdinfo/{number}", "rb") as file:  # it may be open for nothing but ioctl(2)
                flags = next(int(line.split()[1], 8) for line in file if line.startswith(b"flags:"))
        except FileNotFoundError as error:
            raise fail(errno.EBADF) from error
        if flags & os.O_PATH:
            raise fail(errno.EBADF)

    def open(self, place: Place | None = None) -> int:
        """Hold the file that the call is about."""
        return self.hold(*self.named(place))

    def hold(self, start: Start, path: bytes, follow: bool) -> int:  # noqa: FBT001 - the parts that named() gives
        """Hold the file at a path."""
        if path.startswith(b"/") and not self.stepwise and (root := shared.root()) is not None:
            return self._find(root, path, follow=follow)
        return self._hold(start, path, follow, stepwise=self.stepwise)

    def _hold(self, start: Start, path: bytes, follow: bool, *, stepwise: bool) -> int:  # noqa: FBT001 - as of hold()
        absolute = path.startswith(b"/")
        top = self._hold_start(b"/proc/%d/root" % self.pid if absolute else start, folder=path == b".")
        if not path or (path == b"." and not stepwise):
            return top
        try:
            return (self._walk if stepwise else self._find)(top, path, follow=follow)
        finally:
            os.close(top)

    def folder(self, path: bytes) -> int | None:
        """Share the directory at an absolute path, here without its last slash; it is not the caller's to close.

        Nothing where the path may lead elsewhere for another process, or may do so without a call that is answered here.
        """
        found = shared.folder(path)
        if found is not None or self.stepwise or (root := shared.lasting_root()) is None:
            return None if self.stepwise else found
        found = find(root, path + b"/", follow=True)
        if found is None:
            return None
        if is_the_kernels(held(found), os.fstat(found).st_dev):
            os.close(found)
            return None
        shared.keep_folder(path, found)
        return found

    def _hold_start(self, start: Start, *, folder: bool) -> int:
        """Hold where a path begins, which is to be a directory or may be another file."""
        top = self.share(start)
        if top is None:
            try:
                return os.open(self.path(start), HELD | (os.O_DIRECTORY if folder else 0))
            except FileNotFoundError as error:
                raise fail(errno.EBADF) from error
        if folder and not stat.S_ISDIR(os.fstat(top).st_mode):
            os.close(top)
            raise fail(errno.ENOTDIR)
        return top

    def _find(self, top: int, path: bytes, *, follow: bool) -> int:
        """Hold the file at a path that begins there."""
        found = find(top, path, follow=follow)
        return self._walk(top, path, follow=follow) if found is None else found

    def parent(self, place: Place | None = None, *, follow: bool = False) -> Named:
        """Hold the directory of the name that a call is about; with ``follow`` of where a link of that name leads."""
        start, path, _ = self.named(place)
        named = self.split(start, path)
        for _ in range(_MOST_LINKS if follow else 0):
            if of_proc(named.folder):
                break  # what is written in a link there leads nowhere
            try:
                target = os.readlink(named.name, dir_fd=named.folder)
            except OSError:
                break
            self.scope.enter_link()
            folder = named.folder
            named = self.split(held(folder), target)
            self.scope.cross(folder, named.folder)
            os.close(folder)
        return named

    def split(self, start: Start, path: bytes) -> Named:
        """Hold the directory of a path, which begins at another where it is relative."""
        bare = path.rstrip(b"/")
        tail = bare.rpartition(b"/")[2]
        above = bare[: len(bare) - len(tail)] or (b"/" if not bare and path else b".")
        if above == b"." and not self.stepwise:
            return Named(self._hold_start(start, folder=False), (tail or b".") + path[len(bare) :])  # no name is in another file
        if above.startswith(b"/") and (folder := self.folder(above.rstrip(b"/"))) is not None:
            return Named(os.dup(folder), (tail or b".") + path[len(bare) :])
        folder = self.hold(start, above, follow=True)
        if not self.stepwise and of_proc(folder):  # it may be this process's
            os.close(folder)
            folder = self._hold(start, above, follow=True, stepwise=True)
        return Named(folder, (tail or b".") + path[len(bare) :])

    def search(self, folder: int) -> None:
        """See that names may be looked up in a directory, by whoever may not search each one."""

    def _walk(self, top: int, path: bytes, *, follow: bool) -> int:
        """Hold the file at a path that begins there, a name after the other."""
        above = self.scope.top
        root = os.open(b"/proc/%d/root" % self.pid, HELD) if above is None else self._hold_start(above, folder=False)
        try:
            return Walk(self.scope, root, self.search, self._own).to(path, top, follow=follow)
        finally:
            os.close(root)

    def _own(self, name: bytes) -> bytes:
        """Give the target of a link of /proc that leads to this thread's own directory."""
        if name == b"self":
            return b"%d" % self.status("Tgid")
        return b"%d/task/%d" % (self.status("Tgid"), self.pid) if name == b"thread-self" else b""

    def share_socket(self, number: int) -> socket.socket:
        """Share a socket of the process's."""
        process = os.pidfd_open(self.status("Tgid"))
        try:
            return socket.socket(fileno=shared.copy(process, number))
        finally:
            os.close(process)

    def status(self, field: str, base: int = 10) -> int:
        """Read a number of the process's status file, as ``Umask``."""
        with open(f"/proc/{self.pid}/status", "rb") as file:
            for line in file:
                if line.startswith(field.encode() + b":"):
                    return int(line.split()[1], base)
        return 0
