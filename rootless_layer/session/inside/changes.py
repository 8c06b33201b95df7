"""The calls that change what a file is: its owner, its mode and its extended attributes.

What stands on a mount that is read-only is not part of the layer: a store path, or the machine. A script that changes such a
file *wishes* to; the wish is remembered, and fails the build.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from rootless_layer.system.acl import ACCESS, parse, with_mode, write

from . import credentials as rights
from .attributes import LISTS, check_allowed, check_name, check_security, name_of, owns, with_list, without_group
from .held import fail, held, is_proc, is_the_kernels
from .messages import Wish
from .permissions import WRITE
from .record import CAPABILITY, Row, changed_by_chown, inode_of
from .refusals import check_times

if TYPE_CHECKING:
    from collections.abc import Collection

    from .caller import Caller
    from .credentials import Users
    from .messages import Inode
    from .record import Record

_MOST_WISHES = 20
_PERMISSIONS = 0o7777
_ID = 0xFFFFFFFF
_SHORT_ID = 0xFFFF
_CREATE, _REPLACE = 1, 2
_SIZE_MAX = 65536


class Kept(NamedTuple):
    """What is to stay of a machine: all that is not below ``tree`` and did not change ``since`` (nanoseconds of its clock)."""

    tree: bytes
    since: int

    def has(self, descriptor: int) -> bool:
        """Say whether a file that is held is not in the tree."""
        return not (os.readlink(held(descriptor)) + b"/").startswith(self.tree)


class Changes:
    """Makes changes of files, and has them recorded."""

    def __init__(self, record: Record, users: Users, nodes: Collection[Inode], kept: Kept | None) -> None:
        """Record changes; ``nodes`` are devices of this machine whose owners and modes are the layer's.

        ``kept`` is given where the rest of the machine is not mounted read-only.
        """
        self._record, self._users, self._nodes, self._kept = record, users, nodes, kept
        self.wishes: list[Wish] = []

    def chown(self, caller: Caller) -> int:
        """Give a file an owner."""
        arguments = caller.arguments
        first = 2 if caller.name == "fchownat" else 1
        short = caller.name.endswith("16")
        uid, gid = (_id(value, short=short) for value in arguments[first : first + 2])
        descriptor = caller.open()
        try:
            status = os.fstat(descriptor)
            if is_the_kernels(held(descriptor), status.st_dev):
                return 0  # in vain
            before, who = self._record.of(status), self._users.of(caller.pid)
            row = changed_by_chown(before, uid, gid)
            if not stat.S_ISDIR(row.mode):
                row = row._replace(mode=without_group(who, before, row.mode))
            changes_nothing = uid == gid == _ID and row == before  # which is anybody's to ask for
            if not (changes_nothing or who.has(rights.CHOWN)):
                owner = who.users.files if _is_nowhere(descriptor) else before.uid
                if who.users.files != owner or uid not in {_ID, owner} or gid not in {_ID, before.gid, *who.all_groups}:
                    raise fail(errno.EPERM)
            if not self._wished(descriptor, status, before, row):
                self._record.change(descriptor, status, row, on_disk=inode_of(status) not in self._nodes)
                if CAPABILITY in self._record.attributes.get(inode_of(status), ()) and not stat.S_ISDIR(row.mode):
                    self._record.set_attribute(descriptor, status, row, CAPABILITY, None)
            return 0
        finally:
            os.close(descriptor)

    def chmod(self, caller: Caller) -> int:
        """Give a file a mode."""
        mode = caller.arguments[2 if caller.name.startswith("fchmodat") else 1] & _PERMISSIONS
        descriptor = caller.open()
        try:
            status = os.fstat(descriptor)
            if is_the_kernels(held(descriptor), status.st_dev):
                return 0  # in vain
            if stat.S_ISLNK(status.st_mode):
                raise fail(errno.EOPNOTSUPP)
            before, who = self._record.of(status), self._users.of(caller.pid)
            if not owns(who, before) and not _is_nowhere(descriptor):
                raise fail(errno.EPERM)
            mode = without_group(who, before, mode)
            row = Row(stat.S_IFMT(before.mode) | mode, before.uid, before.gid, before.rdev)
            if self._wished(descriptor, status, before, row):
                raise fail(errno.EROFS)
            inode = inode_of(status)
            access = self._record.attributes.get(inode, {}).get(ACCESS)
            if access is None:
                self._record.change(descriptor, status, row, on_disk=inode not in self._nodes)
            else:
                self._record.set_attribute(descriptor, status, row, ACCESS, write(with_mode(parse(access), mode)))
            return 0
        finally:
            os.close(descriptor)

    def set_times(self, caller: Caller) -> int | None:
        """Let the times of the kernel's files be set in vain; any others are its to set, for whoever may."""
        descriptor = caller.open()
        try:
            status = os.fstat(descriptor)
            if is_the_kernels(held(descriptor), status.st_dev):
                return 0
        finally:
            os.close(descriptor)
        check_times(self._record, self._users.of(caller.pid), caller, status)
        return None

    def set_attribute(self, caller: Caller) -> int | None:
        """Give a file an attribute."""
        _, name_at, value_at, size, flags = caller.arguments[:5]
        flags &= 0xFFFFFFFF
        if flags & ~(_CREATE | _REPLACE):
            raise fail(errno.EINVAL)
        name = name_of(caller, name_at)
        if size > _SIZE_MAX:
            raise fail(errno.E2BIG)
        value = caller.read(value_at, size) if size else b""
        return self._set(caller, name, value, flags)

    def remove_attribute(self, caller: Caller) -> int | None:
        """Take an attribute away."""
        return self._set(caller, name_of(caller, caller.arguments[1]), None, _REPLACE)

    def _set(self, caller: Caller, name: bytes, value: bytes | None, flags: int) -> int | None:
        descriptor = caller.open()
        try:
            status = os.fstat(descriptor)
            if is_proc(held(descriptor), status.st_dev):
                return None
            before, who = self._record.of(status), self._users.of(caller.pid)
            there, row = self._record.attributes.get(inode_of(status), {}), before
            if name in LISTS:
                row, value = with_list(who, before, name, value)
            else:
                check_allowed(self._record, who, name, WRITE, status)
                check_security(who, name, value)
                check_name(name)
                if (flags & _CREATE and name in there) or (flags & _REPLACE and name not in there):
                    raise fail(errno.EEXIST if flags & _CREATE and name in there else errno.ENODATA)
            if self._only_seen(descriptor, status):
                if there.get(name) != value or row != before:
                    self._wish(descriptor, row)
                return 0
            self._record.set_attribute(descriptor, status, row, name, value)
            return 0
        finally:
            os.close(descriptor)

    def _only_seen(self, descriptor: int, status: os.stat_result) -> bool:
        """Say whether a file is not part of the layer."""
        if inode_of(status) in self._nodes:
            return False
        if os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
            return True
        kept = self._kept
        if kept is None or status.st_ctime_ns >= kept.since:
            return False
        return kept.has(descriptor)

    def _wished(self, descriptor: int, status: os.stat_result, before: Row, row: Row) -> bool:
        """Say whether a file is one that scripts only see; if they wish it to be other than it is, remember that."""
        if not self._only_seen(descriptor, status):
            return False
        if row != before:
            self._wish(descriptor, row)
        return True

    def _wish(self, descriptor: int, row: Row) -> None:
        wish = Wish(os.readlink(held(descriptor)), row.mode, row.uid, row.gid)
        if wish not in self.wishes and len(self.wishes) < _MOST_WISHES:
            self.wishes.append(wish)


def _is_nowhere(descriptor: int) -> bool:
    """Say whether a file that is held is a pipe, a socket or memory: whoever has it open has made it, and no directory has it."""
    path = os.readlink(held(descriptor))
    return not path.startswith(b"/") or path.startswith(b"/memfd:")


def _id(value: int, *, short: bool) -> int:
    value &= _SHORT_ID if short else _ID
    return _ID if short and value == _SHORT_ID else value
