"""The calls that open files: those that make one, write to one, or that somebody may not make.

What root makes needs no row, and is the kernel's to make; another user's is made here.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from . import credentials as rights
from .attributes import owns
from .calls import PLACES
from .held import fail, held, is_proc
from .made import given, is_plain, makes_rows, settle
from .permissions import READ, WRITE, check, check_writable
from .record import inode_of
from .ways import Scope

if TYPE_CHECKING:
    from .caller import Caller, Named
    from .credentials import Credentials, Users
    from .record import Record
    from .written import Written

_MODE_BITS = 0o7777
_TMPFILE = 0o20000000
"""The bit that makes O_TMPFILE more than O_DIRECTORY."""
_FLAGS = 0o37777703
"""All flags of open(2), in every ABI, which ignores any other."""
_HOW, _MOST_HOW = struct.Struct("=QQQ"), 4096
"""A struct open_how (openat2(2)): flags, mode, and which ways are open; the most that the kernel takes of a later one."""
_TRIES = 10


class Given(NamedTuple):
    """A descriptor that a call is to give a copy of."""

    descriptor: int
    close_on_exec: bool


class Opens:
    """Opens files."""

    def __init__(self, record: Record, users: Users, written: Written) -> None:
        """Record what is made; ``written`` is told of files that are opened to be written to."""
        self._record, self._users, self._written = record, users, written

    def open(self, caller: Caller) -> int | Given | None:
        """Open a file that is made where it is not there, or one that somebody may not write to."""
        who, how = self._users.of(caller.pid), _how(caller)
        if how is None:
            return None
        flags, mode = how
        if flags & os.O_PATH or not flags & (os.O_CREAT | _TMPFILE):
            # A path's descriptor makes nothing and opens nothing, and no listener can give it.
            watched = not flags & os.O_PATH and (self._record.capable or not who.has(rights.DAC_OVERRIDE))
            return self._open_found(caller, who, flags) if watched else None
        if not makes_rows(self._record, who, mode) and not self._record.capable:
            return None
        return (self._open_nameless if flags & _TMPFILE else self._open_made)(caller, who, flags, mode)

    def _open_made(self, caller: Caller, who: Credentials, flags: int, mode: int) -> Given | None:
        """Open a file that is made where it is not there."""
        for _ in range(_TRIES):
            named = caller.parent(follow=not flags & (os.O_EXCL | os.O_NOFOLLOW))
            try:
                above = os.fstat(named.folder)
                if _is_kernels(named, above):
                    self._check_kernels(caller, who, flags)
                    return None
                if is_plain(self._record, who, above, mode):
                    return self._open_capable(caller, who, named, flags)
                if not os.path.lexists(named.path):
                    with contextlib.suppress(FileExistsError):
                        return self._open_new(caller, who, named, flags, mode)
                elif flags & os.O_EXCL:
                    raise fail(errno.EEXIST)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        return self._open_there(caller, who, named, flags)
            finally:
                os.close(named.folder)
        raise fail(errno.EAGAIN)

    def _open_found(self, caller: Caller, who: Credentials, flags: int) -> Given | None:
        """Open a file that is not made."""
        named = caller.parent(follow=not flags & os.O_NOFOLLOW)
        try:
            if _is_kernels(named, os.fstat(named.folder)):
                self._check_kernels(caller, who, flags)
                return None
            watched = not who.has(rights.DAC_OVERRIDE)
            return (self._open_there if watched else self._open_capable)(caller, who, named, flags)
        finally:
            os.close(named.folder)

    def _check_kernels(self, caller: Caller, who: Credentials, flags: int) -> None:
        """See that somebody may open a file that a descriptor of /proc leads to; the kernel opens it, and any other of /proc."""
        start, path, _ = caller.named()
        if who.has(rights.DAC_OVERRIDE) or flags & os.O_EXCL or path.endswith(b"/"):
            return
        descriptor = caller.hold(start, path, not flags & os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and not is_proc(held(descriptor), status.st_dev):
                check(self._record, who, _wanted(flags), status)
        finally:
            os.close(descriptor)

    def _open_capable(self, caller: Caller, who: Credentials, named: Named, flags: int) -> Given | None:
        """Open a file that loses its capabilities when it is written to; any other is the kernel's to open."""
        inode = None
        if self._record.capable and not flags & os.O_EXCL:
            with contextlib.suppress(OSError):
                inode = inode_of(os.lstat(named.path))
        return self._open_there(caller, who, named, flags) if inode in self._record.capable else None

    def _open_there(self, caller: Caller, who: Credentials, named: Named, flags: int) -> Given | None:
        descriptor = os.open(named.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            caller.scope.cross(named.folder, descriptor)
            status, want = os.fstat(descriptor), _wanted(flags)
            folder = stat.S_ISDIR(status.st_mode)
            if stat.S_ISLNK(status.st_mode) or (want & WRITE if folder else flags & os.O_DIRECTORY):
                return None  # another error than that of the permission
            check(self._record, who, want, status)
            if flags & os.O_NOATIME and not owns(who, self._record.of(status)):
                raise fail(errno.EPERM)
            if not stat.S_ISREG(status.st_mode):
                return None  # whoever opens a pipe may wait: not here
            opened = os.open(held(descriptor), flags & ~(os.O_CREAT | os.O_NOFOLLOW) | os.O_CLOEXEC)
            if flags & os.O_TRUNC:
                self._written.cut(who, descriptor, status)
            elif want & WRITE:
                self._written.note(caller.pid, who, descriptor, status)
        finally:
            os.close(descriptor)
        return Given(opened, bool(flags & os.O_CLOEXEC))

    def _open_new(self, caller: Caller, who: Credentials, named: Named, flags: int, mode: int) -> Given | None:
        check_writable(self._record, who, named.folder)
        folder = os.fstat(named.folder)
        new = given(self._record, caller, who, folder, stat.S_IFREG | mode & _MODE_BITS)
        opened = os.open(named.path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IMODE(new[0].mode) & 0o1777 | 0o600)
        settle(self._record, opened, *new)
        return Given(opened, bool(flags & os.O_CLOEXEC))

    def _open_nameless(self, caller: Caller, who: Credentials, flags: int, mode: int) -> Given:
        start, path, _ = caller.named()
        descriptor = caller.hold(start, path, not flags & os.O_NOFOLLOW)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise fail(errno.ENOTDIR)
            check_writable(self._record, who, descriptor)
            new = given(self._record, caller, who, os.fstat(descriptor), stat.S_IFREG | mode & _MODE_BITS)
            opened = os.open(held(descriptor), flags & ~os.O_NOFOLLOW | os.O_CLOEXEC, stat.S_IMODE(new[0].mode) & 0o1777 | 0o600)
        finally:
            os.close(descriptor)
        settle(self._record, opened, *new)
        return Given(opened, bool(flags & os.O_CLOEXEC))


def _how(caller: Caller) -> tuple[int, int] | None:
    """Give how a file is to be opened, and a new one's mode; nothing where the kernel refuses what openat2(2) is told."""
    arguments = caller.arguments
    if caller.name == "creat":
        return os.O_CREAT | os.O_WRONLY | os.O_TRUNC, arguments[1]
    if caller.name == "openat2":
        how = _how_of(caller, arguments[2], arguments[3])
    else:
        first = (PLACES[caller.name].path or 0) + 1
        how = arguments[first] & _FLAGS, arguments[first + 1]
    if how is None or how[0] & os.O_PATH:
        return how
    flags = how[0]
    unclear = (
        flags & os.O_TMPFILE if flags & os.O_CREAT else flags & _TMPFILE and not (flags & os.O_DIRECTORY and flags & os.O_ACCMODE)
    )
    if unclear:
        raise fail(errno.EINVAL)
    return how


def _how_of(caller: Caller, address: int, size: int) -> tuple[int, int] | None:
    """Read a struct open_how, and keep the caller to the ways that it leaves open."""
    data = caller.read(address, min(size, _MOST_HOW)) if size else b""
    if not _HOW.size <= len(data) == size or any(data[_HOW.size :]):
        return None
    flags, mode, resolve = _HOW.unpack_from(data)
    if flags & ~_FLAGS or mode & ~(_MODE_BITS if flags & (os.O_CREAT | _TMPFILE) else 0):
        return None
    if resolve:
        caller.scope, caller.stepwise = Scope.of(resolve, caller.start(caller.arguments[0])), True
    return flags, mode


def _wanted(flags: int) -> int:
    """Give the permissions that somebody needs who opens a file with these flags."""
    return {os.O_RDONLY: READ, os.O_WRONLY: WRITE}.get(flags & os.O_ACCMODE, READ | WRITE) | (WRITE if flags & os.O_TRUNC else 0)


def _is_kernels(named: Named, folder: os.stat_result) -> bool:
    """Say whether a name is the kernel's to look up: one of /proc, or one that only a directory may have."""
    return named.name.endswith(b"/") or is_proc(held(named.folder), folder.st_dev)
