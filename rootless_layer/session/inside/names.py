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
import stat
from typing import TYPE_CHECKING

from rootless_layer.system.namespaces import numbers, syscall

from . import credentials as rights
from . import shared
from .caller import AT_FDCWD, Named
from .calls import PLACES, TARGETS
from .held import AT_REMOVEDIR, fail, held, is_proc
from .made import given, is_plain, makes_rows, settle
from .permissions import WRITE, check, check_removable, check_writable
from .reads import look_unmounted
from .record import Record, Row, inode_of
from .refusals import socket_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from .caller import Caller
    from .credentials import Credentials, Users

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_MODE_BITS, _SET_ID = 0o7777, 0o6000
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})


class Names:
    """Makes the changes of directories."""

    def __init__(self, record: Record, users: Users, check_moved: Callable[[int], object] | None) -> None:
        """Record changes; ``check_moved`` is called with a descriptor of each directory that is to be renamed."""
        self._record, self._users, self._check_moved = record, users, check_moved
        self.sockets: list[tuple[int, Named, Row, list[tuple[bytes, bytes]]]] = []
        """Sockets that are being made, by whom, and what they are to be."""

    def unlink(self, caller: Caller) -> int:
        """Remove a file's name, or an empty directory."""
        flags = caller.arguments[2] & 0xFFFFFFFF if caller.name == "unlinkat" else 0
        if flags & ~AT_REMOVEDIR:
            raise fail(errno.EINVAL)
        folder = caller.name == "rmdir" or bool(flags)
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
        if not makes_rows(self._record, who):
            return None
        path = socket_path(caller)
        if path:
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
                    settle(self._record, descriptor, row, pairs)
                os.close(descriptor)
            os.close(named.folder)
            self.sockets.remove(made)

    def _make(self, caller: Caller, mode: int, make: Callable[[bytes, int], object]) -> int | None:
        who = self._users.of(caller.pid)
        if not makes_rows(self._record, who, mode):
            return None
        named = caller.parent()
        try:
            folder = os.fstat(named.folder)
            if is_plain(self._record, who, folder, mode) or is_proc(held(named.folder), folder.st_dev):
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
                settle(self._record, made, *new)
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
            if not who.has(rights.MKNOD) and not (stat.S_ISCHR(mode) and device == 0):  # a whiteout is anybody's (Linux 5.8)
                raise fail(errno.EPERM)
            row, pairs = given(self._record, caller, who, os.fstat(named.folder), mode)
            self._record.make_device(named.path, row._replace(rdev=device))
            made = os.open(named.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                settle(self._record, made, row._replace(rdev=device), pairs)
            finally:
                os.close(made)
            return 0
        finally:
            os.close(named.folder)
