"""The way from a directory to a file: at once by the kernel, or a name after the other, as the caller would go.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from .descent import check_process
from .held import HELD, fail, mount_of, of_proc

if TYPE_CHECKING:
    from collections.abc import Callable

Start = bytes | int
"""Where a path begins: a directory's path for this process, or the number of a descriptor of the caller's."""
_OPENAT2 = 437  # the same number on every architecture
_NO_MOUNTS, _NO_MAGIC, _NO_LINKS, _BENEATH, _IN_ROOT, _CACHED = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_KNOWN = 0x3F
"""All flags of openat2(2) that say which ways are open."""
_MOST_LINKS = 40
_OF_THE_READER = frozenset({b"self", b"thread-self", b"mounts", b"net"})
"""The links of /proc that lead to the directory of whoever reads them."""
_STEPS = frozenset({errno.EXDEV, errno.ELOOP, errno.EAGAIN})
"""What the kernel says of a path that is to be looked up step by step."""
_HOW = struct.Struct("=QQQ")
_call = ctypes.CDLL(None, use_errno=True).syscall
_call.restype = ctypes.c_long


def _how(without: int, *, absolute: bool, follow: bool) -> bytes:
    return _HOW.pack(HELD | (0 if follow else os.O_NOFOLLOW), 0, without | _NO_MAGIC | (_IN_ROOT if absolute else _BENEATH))


_HOWS = {
    (without, absolute, follow): _how(without, absolute=absolute, follow=follow)
    for without in (0, _NO_LINKS, _NO_MOUNTS)
    for absolute in (False, True)
    for follow in (False, True)
}
"""The third argument of openat2, by what is closed, whether a path is absolute, and a link at its end followed."""


class Scope(NamedTuple):
    """Which ways a path may take, by flags of openat2(2), and where it begins."""

    resolve: int
    start: Start

    @classmethod
    def of(cls, resolve: int, start: Start) -> Scope:
        """Give the scope of a call of openat2(2); raises ``EINVAL`` for flags that Linux refuses."""
        if resolve & ~_KNOWN or (resolve & _BENEATH and resolve & _IN_ROOT):
            raise fail(errno.EINVAL)
        if resolve & _CACHED:
            raise fail(errno.EAGAIN)  # who looks has to wait
        return cls(resolve, start)

    @property
    def top(self) -> Start | None:
        """Where the path begins, if it is to stay below."""
        return self.start if self.resolve & (_BENEATH | _IN_ROOT) else None

    def enter_link(self, *, magic: bool = False) -> None:
        """See that a link may be followed; a ``magic`` one leads to a file, whatever is written there."""
        if self.resolve & _NO_LINKS or (magic and self.resolve & _NO_MAGIC):
            raise fail(errno.ELOOP)
        if magic and self.top is not None:
            raise fail(errno.EXDEV)

    def leave(self) -> None:
        """See that a way may lead to where the root is, or above it."""
        if self.resolve & _BENEATH:
            raise fail(errno.EXDEV)

    def cross(self, here: int, there: int) -> None:
        """See that a way may lead from one file that is held to another: they may be on two mounts."""
        if self.resolve & _NO_MOUNTS and mount_of(here) != mount_of(there):
            raise fail(errno.EXDEV)


ANYWHERE = Scope(0, b"")


def find(top: int, path: bytes, *, follow: bool) -> int | None:
    """Hold the file at a path that begins there; nothing where it may be another one for another process."""
    absolute = path.startswith(b"/")
    found: int = _call(_OPENAT2, top, path, _HOWS[0, absolute, follow], _HOW.size)
    if found >= 0:
        return found
    # A link that leads anywhere, `..` above the start, or a directory that is moved meanwhile.
    number = ctypes.get_errno()
    if number in _STEPS or (number == errno.ENOENT and _may_be_there(top, path, absolute=absolute)):
        return None
    raise fail(number)


def _may_be_there(top: int, path: bytes, *, absolute: bool) -> bool:
    """Say whether what this process does not find may be there for another, whose own files in /proc a link leads to."""
    for without in (_NO_LINKS, _NO_MOUNTS):
        if _call(_OPENAT2, top, path, _HOWS[without, absolute, True], _HOW.size) < 0 and ctypes.get_errno() == errno.ENOENT:
            return without == _NO_MOUNTS and of_proc(top)
    return True


class Walk(NamedTuple):
    """How somebody goes: within a scope, below a root, and with a look at each directory.

    ``own`` gives the target of a link of /proc that leads to what is theirs.
    """

    scope: Scope
    root: int
    search: Callable[[int], None]
    own: Callable[[bytes], bytes]

    def to(self, path: bytes, top: int, *, follow: bool) -> int:
        """Hold the file at a path that begins there, a name after the other."""
        above = os.fstat(self.root)
        left = path.split(b"/")[::-1]
        links = 0
        if path.startswith(b"/"):
            self.scope.leave()
        current = os.dup(self.root if path.startswith(b"/") else top)
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
                    self.scope.leave()
                    continue
                found, target = self._step(current, name, follow=bool(left) or follow)
                links += target is not None
                left += target.split(b"/")[::-1] if target else []
                before, current = current, found
                try:
                    if self.scope.resolve:
                        self.scope.cross(before, current)
                finally:
                    os.close(before)
                _check_links(links)
        except BaseException:
            os.close(current)
            raise
        return current

    def _step(self, folder: int, name: bytes, *, follow: bool) -> tuple[int, bytes | None]:
        """Hold what a name leads to; where that is a link, what its target is relative to, and the target."""
        found = os.open(name, HELD | os.O_NOFOLLOW, dir_fd=folder)
        if not follow or not stat.S_ISLNK(os.fstat(found).st_mode):
            return found, None
        try:
            if of_proc(found) and name not in _OF_THE_READER:
                self.scope.enter_link(magic=True)
                check_process(folder)
                return os.open(name, HELD, dir_fd=folder), b""  # to a file, whatever is written there
            self.scope.enter_link()
            target = (self.own(name) if of_proc(found) else b"") or os.readlink(b"", dir_fd=found)
            if target.startswith(b"/"):
                self.scope.leave()
            return os.dup(self.root if target.startswith(b"/") else folder), target
        finally:
            os.close(found)


def _check_directory(descriptor: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise fail(errno.ENOTDIR)


def _check_links(count: int) -> None:
    if count > _MOST_LINKS:
        raise fail(errno.ELOOP)
