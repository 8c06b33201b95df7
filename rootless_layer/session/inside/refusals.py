"""Calls that the kernel carries out, but not for everybody: whoever may not make one is refused here.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING

from . import credentials as rights
from . import shared
from .calls import AUDIT, PLACES, TARGETS, Place
from .held import fail, held, is_proc
from .permissions import EXECUTE, READ, WRITE, check, check_writable, may

if TYPE_CHECKING:
    from .caller import Caller
    from .credentials import Credentials, Users
    from .record import Record
    from .written import Written

_FOLLOW = 0x400
_SOCKET_ADDRESS, _FAMILY = 110, struct.Struct("=H")
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2


class Refusals:
    """Refuses what a process may not do; nothing else is its business."""

    def __init__(self, record: Record, users: Users, written: Written) -> None:
        """Refuse by a record; ``written`` is told of files that are cut."""
        self._record, self._users, self._written = record, users, written

    def enter(self, caller: Caller) -> None:
        """See that a process may make a directory its working directory or its root."""
        if caller.name == "chroot":
            shared.forget_root()
        who = self._users.of(caller.pid)
        if who is rights.ROOT:
            return
        status = self._look(caller, PLACES[caller.name])
        if status is None or not stat.S_ISDIR(status.st_mode):
            return
        check(self._record, who, EXECUTE, status)
        if caller.name == "chroot" and not who.has(rights.SYS_CHROOT):
            raise fail(errno.EPERM)

    def truncate(self, caller: Caller) -> None:
        """See that a process may change a file's length."""
        who = self._users.of(caller.pid)
        if who.has(rights.DAC_OVERRIDE) and not self._record.capable:
            return
        descriptor = caller.open()
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and not is_proc(held(descriptor), status.st_dev):
                check(self._record, who, WRITE, status)
                if not _is_negative(caller):
                    self._written.cut(who, descriptor, status)
        finally:
            os.close(descriptor)

    def link(self, caller: Caller) -> None:
        """See that a process may give a file another name: as where ``fs.protected_hardlinks`` is set, as it is everywhere."""
        who = self._users.of(caller.pid)
        if who.has(rights.DAC_OVERRIDE) and who.has(rights.FOWNER):
            return
        place = PLACES[caller.name]
        if caller.name == "linkat" and caller.arguments[4] & _FOLLOW:
            place = place._replace(follow=True)
        status = self._look(caller, place)
        if status is None:
            return
        named = caller.parent(TARGETS[caller.name])
        try:
            if os.path.lexists(named.path):
                return  # the kernel's to say
            if not who.has(rights.FOWNER) and not self._is_safe(who, status):
                raise fail(errno.EPERM)
            check_writable(self._record, who, named.folder)
        finally:
            os.close(named.folder)

    def connect(self, caller: Caller) -> None:
        """See that a process may write to the socket that it names by a path."""
        who = self._users.of(caller.pid)
        if who.has(rights.DAC_OVERRIDE):
            return
        path = socket_path(caller)
        if not path:
            return
        descriptor = caller.hold(caller.start(), path, True)  # noqa: FBT003 - a link is followed
        try:
            check(self._record, who, WRITE, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _is_safe(self, who: Credentials, status: os.stat_result) -> bool:
        """Say whether another's file does no harm by a new name: it is none that its mode makes special."""
        row = self._record.of(status)
        if row.uid == who.users.files:
            return True
        runs_as_group = row.mode & stat.S_ISGID and row.mode & stat.S_IXGRP
        plain = stat.S_ISREG(row.mode) and not row.mode & stat.S_ISUID and not runs_as_group
        return plain and may(self._record, who, READ | WRITE, status)

    def _look(self, caller: Caller, place: Place) -> os.stat_result | None:
        """Look at a file; nothing for one of /proc, which the kernel knows better."""
        descriptor = caller.open(place)
        try:
            status = os.fstat(descriptor)
            return None if is_proc(held(descriptor), status.st_dev) else status
        finally:
            os.close(descriptor)


def socket_path(caller: Caller) -> bytes:
    """Give the path that a call has as a socket's address; it is empty where the address is another."""
    data = caller.read(caller.arguments[1], min(caller.arguments[2], _SOCKET_ADDRESS))
    is_path = len(data) > _FAMILY.size and _FAMILY.unpack_from(data)[0] == socket.AF_UNIX
    return data[_FAMILY.size :].split(b"\0")[0] if is_path else b""


def _is_negative(caller: Caller) -> bool:
    """Say whether a length is one that no file has, so that the kernel refuses it."""
    word = 2 if caller.name == "truncate64" else 1  # i386 has the upper half of a long length in the next argument
    bits = 32 if caller.audit == AUDIT["i386"] else 64
    return bool(caller.arguments[word] >> bits - 1 & 1)


def check_times(record: Record, who: Credentials, caller: Caller, status: os.stat_result) -> None:
    """See that somebody may change a file's times: only its owner may give others than the time that it is."""
    if who.has(rights.FOWNER) or record.of(status).uid == who.users.files:
        return
    now = _means_now(caller)
    if now is False:
        raise fail(errno.EPERM)
    if now and not who.has(rights.DAC_OVERRIDE):
        check(record, who, WRITE, status)


def _means_now(caller: Caller) -> bool | None:
    """Say whether a call is to give a file the time that it is; nothing where it is to change no time."""
    address = caller.arguments[1 if PLACES[caller.name].folder is None else 2]
    if not address:
        return True
    if not caller.name.startswith("utimensat"):
        return False
    short = caller.audit == AUDIT["i386"] and not caller.name.endswith("64")
    times = struct.unpack("=iIiI" if short else "=qQqQ", caller.read(address, 16 if short else 32))
    kinds = {value & 0xFFFFFFFF for value in times[1::2]}
    return None if kinds == {_OMIT} else kinds == {_NOW}
