"""The process that waits for the answer to a system call: its memory, and the files that it names.

A path is looked up as the caller would: from its root, its working directory or a descriptor of its own. The file
is held by a descriptor (``O_PATH``), and whatever is done is done to that: the caller's memory may change meanwhile.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import stat
import struct
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from . import memory, shared
from .calls import PLACES
from .descent import check_process

if TYPE_CHECKING:
    from .calls import Place

AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR = 0x1000, 0x100, 0x200
AT_FDCWD = -100
_OPENAT2 = 437  # the same number on every architecture
_NO_MAGIC_LINKS, _BENEATH, _IN_ROOT = 0x02, 0x08, 0x10
_MOST_LINKS = 40
_PROC, _SYS = 0x9FA0, 0x62656572
"""The numbers of the file systems proc and sysfs (linux/magic.h)."""
_OF_THE_READER = frozenset({b"self", b"thread-self", b"mounts", b"net"})
"""The links of /proc that lead to the directory of whoever reads them."""
_OF_A_PROCESS = re.compile(rb"(?:^|/)(?:self|thread-self|fd)(?:/|$)")
"""Paths that may lead to what is each process's own."""
_HELD = os.O_PATH | os.O_CLOEXEC
_HOW = struct.Struct("=QQQ")
_libc = ctypes.CDLL(None, use_errno=True)
_call = _libc.syscall
_call.restype = ctypes.c_long

_HOWS = {
    (absolute, follow): _HOW.pack(
        _HELD | (0 if follow else os.O_NOFOLLOW), 0, _NO_MAGIC_LINKS | (_IN_ROOT if absolute else _BENEATH)
    )
    for absolute in (False, True)
    for follow in (False, True)
}
"""The third argument of openat2, by whether a path is absolute, and a link at its end followed."""


_STEPS = frozenset({errno.EXDEV, errno.ELOOP, errno.EAGAIN})
"""What the kernel says of a path that is to be looked up step by step."""
Start = bytes | int
"""Where a path begins: a directory's path for this process, or the number of a descriptor of the caller's."""


class Named(NamedTuple):
    """A name in a directory that is held; ``name`` is as the caller has it, slashes at its end included."""

    folder: int
    name: bytes

    @property
    def path(self) -> bytes:
        """Give a path that leads to it, from this process."""
        return b"/proc/self/fd/%d/%b" % self


def fail(number: int) -> OSError:
    """Give the error that a call is to fail with."""
    return OSError(number, os.strerror(number))


def signed(number: int) -> int:
    """Read the low half of an argument as an int of C."""
    number &= 0xFFFFFFFF
    return number - 0x100000000 if number & 0x80000000 else number


def held(descriptor: int) -> bytes:
    """Give the path by which this process's other calls name a file that is held."""
    return b"/proc/self/fd/%d" % descriptor


class Caller:
    """The thread that makes a system call, which waits for its answer under the name of ``cookie``."""

    __slots__ = ("arguments", "audit", "cookie", "name", "pid")
    stepwise: ClassVar[bool] = False
    """Whether each directory on the way to a file is looked at."""

    def __init__(self, cookie: int, pid: int, name: str, audit: int, arguments: tuple[int, ...]) -> None:
        """Say which thread, and which call of which ABI (``audit``)."""
        self.cookie = cookie
        self.pid = pid
        self.name = name
        self.audit = audit
        self.arguments = arguments

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
        if place.path is None:
            return self.start(arguments[place.folder or 0]), b"", True
        address = arguments[place.path]
        path = b"" if not address and flags & AT_EMPTY_PATH else self.text(address)
        if not path and not flags & AT_EMPTY_PATH:
            raise fail(errno.ENOENT)
        start = self.start() if place.folder is None else self.start(arguments[place.folder])
        return start, path, place.follow and not flags & AT_SYMLINK_NOFOLLOW

    def open(self, place: Place | None = None) -> int:
        """Hold the file that the call is about."""
        return self.hold(*self.named(place))

    def hold(self, start: Start, path: bytes, follow: bool) -> int:  # noqa: FBT001 - the parts that named() gives
        """Hold the file at a path."""
        absolute = path.startswith(b"/")
        if absolute and not self.stepwise and (root := shared.root()) is not None:
            return self._find(root, path, follow=follow)
        top = self._hold_start(b"/proc/%d/root" % self.pid if absolute else start, folder=path == b".")
        if not path or (path == b"." and not self.stepwise):
            return top
        try:
            return (self._walk if self.stepwise else self._find)(top, path, follow=follow)
        finally:
            os.close(top)

    def folder(self, path: bytes) -> int | None:
        """Share the directory at an absolute path, here without its last slash; it is not the caller's to close.

        Nothing where the path may lead elsewhere for another process, or may do so without a call that is answered here.
        """
        found = shared.folder(path)
        if found is not None or self.stepwise or (root := shared.lasting_root()) is None:
            return None if self.stepwise else found
        found = int(_call(_OPENAT2, root, path + b"/", _HOWS[True, True], _HOW.size))
        if found < 0:
            number = ctypes.get_errno()
            if number in _STEPS or _OF_A_PROCESS.search(path):
                return None
            raise fail(number)
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
                return os.open(self.path(start), _HELD | (os.O_DIRECTORY if folder else 0))
            except FileNotFoundError as error:
                raise fail(errno.EBADF) from error
        if folder and not stat.S_ISDIR(os.fstat(top).st_mode):
            os.close(top)
            raise fail(errno.ENOTDIR)
        return top

    def _find(self, top: int, path: bytes, *, follow: bool) -> int:
        """Hold the file at a path that begins there."""
        found: int = _call(_OPENAT2, top, path, _HOWS[path.startswith(b"/"), follow], _HOW.size)
        if found >= 0:
            return found
        # A link that leads anywhere, `..` above the start, or a directory that is moved meanwhile: step by step.
        # So is what this process has not, and its caller may have: a descriptor of that number.
        number = ctypes.get_errno()
        missing = number == errno.ENOENT and _OF_A_PROCESS.search(path)
        if number not in _STEPS and not missing:
            raise fail(number)
        return self._walk(top, path, follow=follow)

    def parent(self, place: Place | None = None, *, follow: bool = False) -> Named:
        """Hold the directory of the name that a call is about; with ``follow`` of where a link of that name leads."""
        start, path, _ = self.named(place)
        named = self.split(start, path)
        for _ in range(_MOST_LINKS if follow else 0):
            if _of_proc(named.folder):
                break  # what is written in a link there leads nowhere
            try:
                target = os.readlink(named.name, dir_fd=named.folder)
            except OSError:
                break
            folder = named.folder
            named = self.split(held(folder), target)
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
        return Named(self.hold(start, above, follow=True), (tail or b".") + path[len(bare) :])

    def search(self, folder: int) -> None:
        """See that names may be looked up in a directory, by whoever may not search each one."""

    def _walk(self, top: int, path: bytes, *, follow: bool) -> int:
        """Hold the file at a path, a name after the other."""
        root = os.open(f"/proc/{self.pid}/root", _HELD)
        above = os.fstat(root)
        left = path.split(b"/")[::-1]
        current = os.dup(root if path.startswith(b"/") else top)
        links = 0
        try:
            while left:
                name = left.pop()
                if name:
                    self.search(current)
                if name in {b"", b"."}:
                    if not left:
                        _check_directory(current)
                    continue
                if name == b".." and os.path.samestat(os.fstat(current), above):
                    continue
                found = os.open(name, _HELD | os.O_NOFOLLOW, dir_fd=current)
                try:
                    if not stat.S_ISLNK(os.fstat(found).st_mode) or not (left or follow):
                        found, current = current, found
                        continue
                    links += 1
                    _check_links(links)
                    if _of_proc(found) and name not in _OF_THE_READER:
                        check_process(current)
                        target, start = b"", os.open(name, _HELD, dir_fd=current)  # to a file, whatever is written there
                    else:
                        target = self._target(found, name)
                        start = os.dup(root if target.startswith(b"/") else current)
                    left += target.split(b"/")[::-1] if target else []
                    os.close(current)
                    current = start
                finally:
                    os.close(found)
        except BaseException:
            os.close(current)
            raise
        finally:
            os.close(root)
        return current

    def _target(self, link: int, name: bytes) -> bytes:
        if _of_proc(link) and name == b"self":
            return b"%d" % self.status("Tgid")
        if _of_proc(link) and name == b"thread-self":
            return b"%d/task/%d" % (self.status("Tgid"), self.pid)
        return os.readlink(b"", dir_fd=link)

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


_kinds: dict[int, int] = {}


def _kind(path: bytes, device: int) -> int:
    """Give the number of the file system that a file, of this device, is on."""
    known = _kinds.get(device)
    if known is None:
        found = (ctypes.c_long * 32)()
        known = _kinds[device] = found[0] if _libc.statfs(path, found) == 0 else 0
    return known


def is_proc(path: bytes, device: int) -> bool:
    """Say whether a file, of this device, is one of /proc, where each process sees another self."""
    return _kind(path, device) == _PROC


def is_the_kernels(path: bytes, device: int) -> bool:
    """Say whether a file, of this device, is one of /proc or /sys, which are no part of any layer."""
    return _kind(path, device) in {_PROC, _SYS}


def _check_directory(descriptor: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise fail(errno.ENOTDIR)


def _check_links(count: int) -> None:
    if count > _MOST_LINKS:
        raise fail(errno.ELOOP)


def _of_proc(descriptor: int) -> bool:
    return is_proc(held(descriptor), os.fstat(descriptor).st_dev)
