"""The calls that make, rename and remove names.

A name is removed by this process, and the row of its inode with it when it was the last: the file system may give the
inode's number to another file at once. What root makes needs no row, and is the kernel's to make; another user's is made here.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from rootless_layer.system.namespaces import numbers, syscall

from . import credentials as rights
from . import shared
from .caller import AT_FDCWD, AT_REMOVEDIR, Named, fail, held, is_proc
from .calls import PLACES, TARGETS
from .made import given
from .permissions import WRITE, check, check_removable, check_writable
from .reads import look_unmounted
from .record import Record, Row, inode_of
from .written import Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from .caller import Caller
    from .credentials import Credentials, Users

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_MODE_BITS, _SET_ID = 0o7777, 0o6000
_TMPFILE = 0o20000000
"""The bit that makes O_TMPFILE more than O_DIRECTORY."""
_TRIES = 10
_SOCKET_ADDRESS, _FAMILY = 110, struct.Struct("=H")
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})


class Given(NamedTuple):
    """A descriptor that a call is to give a copy of."""

    descriptor: int
    close_on_exec: bool


class Names:
    """Makes the changes of directories."""

    def __init__(self, record: Record, users: Users, check_moved: Callable[[int], object] | None) -> None:
        """Record changes; ``check_moved`` is called with a descriptor of each directory that is to be renamed."""
        self._record, self._users, self._check_moved = record, users, check_moved
        self.written = Written(record)
        self.sockets: list[tuple[int, Named, Row, list[tuple[bytes, bytes]]]] = []
        """Sockets that are being made, by whom, and what they are to be."""

    def unlink(self, caller: Caller) -> int:
        """Remove a file's name, or an empty directory."""
        folder = caller.name == "rmdir" or (caller.name == "unlinkat" and bool(caller.arguments[2] & AT_REMOVEDIR))
        who, named = self._users.of(caller.pid), caller.parent()
        try:
            status = look_unmounted(named)
            check_removable(self._record, who, named, status)
            self._record.unlink(named, status, folder=folder)
            shared.moved(status.st_mode)
            return 0
        finally:
            os.close(named.folder)

    def rename(self, caller: Caller) -> int:
        """Give a file another name."""
        flags = caller.arguments[4] & 0xFFFFFFFF if caller.name == "renameat2" else 0
        old = caller.parent(PLACES[caller.name])
        try:
            new = caller.parent(TARGETS[caller.name])
            try:
                self._rename(self._users.of(caller.pid), old, new, flags)
            finally:
                os.close(new.folder)
        finally:
            os.close(old.folder)
        return 0

    def _rename(self, who: Credentials, old: Named, new: Named, flags: int) -> None:
        status, replaced = look_unmounted(old), None
        with contextlib.suppress(FileNotFoundError):
            replaced = look_unmounted(new)
        check_removable(self._record, who, old, status)
        if stat.S_ISDIR(status.st_mode) and not os.path.samestat(os.fstat(old.folder), os.fstat(new.folder)):
            check(self._record, who, WRITE, status)  # it says which directory is above it
        if replaced is not None:
            check_removable(self._record, who, new, replaced)
        else:
            check_writable(self._record, who, new.folder)
        for named, found in ((old, status), (new, replaced if flags & _RENAME_EXCHANGE else None)):
            if self._check_moved is not None and found is not None and stat.S_ISDIR(found.st_mode):
                self._look_at_moved(named)
        if flags:
            paths = ctypes.c_char_p(old.path), ctypes.c_char_p(new.path)
            syscall(numbers()[3], AT_FDCWD, paths[0], AT_FDCWD, paths[1], ctypes.c_uint(flags))
        else:
            same = replaced is not None and os.path.samestat(status, replaced)
            self._record.rename(old, new, None if same else replaced)
        shared.moved(status.st_mode)
        if replaced is not None:
            shared.moved(replaced.st_mode)

    def _look_at_moved(self, named: Named) -> None:
        descriptor = os.open(named.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._check_moved(descriptor)  # type: ignore[misc]
        finally:
            os.close(descriptor)

    def mkdir(self, caller: Caller) -> int | None:
        """Make a directory."""
        mode = caller.arguments[(PLACES[caller.name].path or 0) + 1] & (_MODE_BITS & ~_SET_ID)
        return self._make(caller, stat.S_IFDIR | mode, os.mkdir)

    def symlink(self, caller: Caller) -> int | None:
        """Make a symbolic link."""
        return self._make(caller, stat.S_IFLNK | 0o777, lambda path, _: os.symlink(caller.text(caller.arguments[0]), path))

    def mknod(self, caller: Caller) -> int | None:
        """Make a device, pipe, socket or empty file."""
        first = (PLACES[caller.name].path or 0) + 1
        mode, device = caller.arguments[first] & 0xFFFF, caller.arguments[first + 1] & 0xFFFFFFFF
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        if kind in _DEVICES:
            return self._make_device(caller, mode, device)
        return self._make(caller, kind | mode & _MODE_BITS, lambda path, mode: os.mknod(path, kind | mode))

    def bind(self, caller: Caller) -> int | None:
        """Note that somebody makes a socket; the kernel does so, as the socket tells its own name."""
        who = self._users.of(caller.pid)
        if not self._makes_rows(who):
            return None
        data = caller.read(caller.arguments[1], min(caller.arguments[2], _SOCKET_ADDRESS))
        path = data[_FAMILY.size :].split(b"\0")[0]
        if path and _FAMILY.unpack_from(data)[0] == socket.AF_UNIX:
            named = caller.split(caller.start(), path)
            try:
                check_writable(self._record, who, named.folder)
                new = given(self._record, caller, who, os.fstat(named.folder), stat.S_IFSOCK | 0o777)
            except OSError:
                os.close(named.folder)
                raise
            self.sockets.append((caller.pid, named, *new))
        return None

    def settle_sockets(self, caller: int) -> None:
        """Record the sockets that are there by now; one that is not, and whose maker makes another call, is never made."""
        for made in self.sockets[:]:
            maker, named, row, pairs = made
            try:
                descriptor = os.open(named.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                if maker != caller:
                    continue
            else:
                status = os.fstat(descriptor)
                if stat.S_ISSOCK(status.st_mode) and inode_of(status) not in self._record.rows:
                    self._settle(descriptor, row, pairs)
                os.close(descriptor)
            os.close(named.folder)
            self.sockets.remove(made)

    def open(self, caller: Caller) -> int | Given | None:
        """Open a file that is made where it is not there, or one that somebody may not write to."""
        who = self._users.of(caller.pid)
        flags, mode = self._flags(caller)
        if flags & os.O_PATH or not flags & (os.O_CREAT | _TMPFILE):
            # A path's descriptor makes nothing and opens nothing, and no listener can give it.
            watched = not flags & os.O_PATH and (self._record.capable or not who.has(rights.DAC_OVERRIDE))
            return self._open_found(caller, who, flags) if watched else None
        if not self._makes_rows(who, mode) and not self._record.capable:
            return None
        if flags & _TMPFILE and not flags & os.O_CREAT:
            return self._open_nameless(caller, who, flags, mode)
        for _ in range(_TRIES):
            named = caller.parent(follow=not flags & (os.O_EXCL | os.O_NOFOLLOW))
            try:
                above = os.fstat(named.folder)
                if self._is_plain(who, above, mode) or _is_kernels(named, above):
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
                return None
            watched = not who.has(rights.DAC_OVERRIDE)
            return (self._open_there if watched else self._open_capable)(caller, who, named, flags)
        finally:
            os.close(named.folder)

    def _flags(self, caller: Caller) -> tuple[int, int]:
        arguments = caller.arguments
        if caller.name == "creat":
            return os.O_CREAT | os.O_WRONLY | os.O_TRUNC, arguments[1]
        if caller.name == "openat2":
            flags, mode = struct.unpack_from("=QQ", caller.read(arguments[2], 16))
            return flags, mode
        first = (PLACES[caller.name].path or 0) + 1
        return arguments[first] & 0xFFFFFFFF, arguments[first + 1]

    def _makes_rows(self, who: Credentials, mode: int = 0) -> bool:
        """Say whether what is made with a mode may need a row."""
        return bool(mode & _SET_ID or self._record.inheriting) or not _is_root(who)

    def _is_plain(self, who: Credentials, folder: os.stat_result, mode: int) -> bool:
        """Say whether what is made in a directory is as the kernel makes it: root's, not set-ID, and nothing is inherited."""
        return not mode & _SET_ID and _is_root(who) and inode_of(folder) not in self._record.inheriting

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
            status = os.fstat(descriptor)
            want = {os.O_RDONLY: 4, os.O_WRONLY: 2, os.O_RDWR: 6}.get(flags & os.O_ACCMODE, 6) | (2 if flags & os.O_TRUNC else 0)
            if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and want & WRITE):
                return None  # another error than that of the permission
            check(self._record, who, want, status)
            if not stat.S_ISREG(status.st_mode):
                return None  # whoever opens a pipe may wait: not here
            opened = os.open(held(descriptor), flags & ~(os.O_CREAT | os.O_NOFOLLOW) | os.O_CLOEXEC)
            if flags & os.O_TRUNC:
                self.written.cut(who, descriptor, status)
            elif want & WRITE:
                self.written.note(caller.pid, who, descriptor, status)
        finally:
            os.close(descriptor)
        return Given(opened, bool(flags & os.O_CLOEXEC))

    def _open_new(self, caller: Caller, who: Credentials, named: Named, flags: int, mode: int) -> Given | None:
        check_writable(self._record, who, named.folder)
        folder = os.fstat(named.folder)
        new = given(self._record, caller, who, folder, stat.S_IFREG | mode & _MODE_BITS)
        opened = os.open(
            named.path, flags & ~_TMPFILE | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IMODE(new[0].mode) & 0o1777 | 0o600
        )
        self._settle(opened, *new)
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
        self._settle(opened, *new)
        return Given(opened, bool(flags & os.O_CLOEXEC))

    def _make(self, caller: Caller, mode: int, make: Callable[[bytes, int], object]) -> int | None:
        who = self._users.of(caller.pid)
        if not self._makes_rows(who, mode):
            return None
        named = caller.parent()
        try:
            folder = os.fstat(named.folder)
            if self._is_plain(who, folder, mode) or is_proc(held(named.folder), folder.st_dev):
                return None
            if os.path.lexists(named.path):
                raise fail(errno.EEXIST)
            check_writable(self._record, who, named.folder)
            new = given(self._record, caller, who, folder, mode)
            if stat.S_ISLNK(mode) and new[0][1:3] == (0, 0):
                return None
            make(named.path, stat.S_IMODE(new[0].mode) & 0o1777 | (0o700 if stat.S_ISDIR(mode) else 0o600))
            made = os.open(named.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._settle(made, *new)
            finally:
                os.close(made)
            return 0
        finally:
            os.close(named.folder)

    def _make_device(self, caller: Caller, mode: int, device: int) -> int:
        who = self._users.of(caller.pid)
        named = caller.parent()
        try:
            if os.path.lexists(named.path):
                raise fail(errno.EEXIST)
            if named.name.endswith(b"/"):
                raise fail(errno.ENOENT)
            check_writable(self._record, who, named.folder)
            if not who.has(rights.MKNOD):
                raise fail(errno.EPERM)
            row, pairs = given(self._record, caller, who, os.fstat(named.folder), mode)
            self._record.make_device(named.path, row._replace(rdev=device))
            made = os.open(named.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._settle(made, row._replace(rdev=device), pairs)
            finally:
                os.close(made)
            return 0
        finally:
            os.close(named.folder)

    def _settle(self, descriptor: int, row: Row, pairs: list[tuple[bytes, bytes]]) -> None:
        status = os.fstat(descriptor)
        if not pairs:
            self._record.change(descriptor, status, row)
        for name, value in pairs:
            self._record.set_attribute(descriptor, status, row, name, value)


def _is_root(who: Credentials) -> bool:
    return who is rights.ROOT or ((who.users.files, who.groups.files) == (0, 0) and who.has(rights.DAC_OVERRIDE))


def _is_kernels(named: Named, folder: os.stat_result) -> bool:
    """Say whether a name is the kernel's to look up: one of /proc, or one that only a directory may have."""
    return named.name.endswith(b"/") or is_proc(held(named.folder), folder.st_dev)
