"""What a file is when it is made: whose, with which mode and which access control lists (mkdir(2), acl(5)).

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless_layer.system.acl import ACCESS, DEFAULT, inherited, mode_of, parse, write

from . import credentials as rights
from .record import Row, inode_of

if TYPE_CHECKING:
    from .caller import Caller
    from .credentials import Credentials
    from .record import Record


_SET_ID = 0o6000


def makes_rows(record: Record, who: Credentials, mode: int = 0) -> bool:
    """Say whether what is made with a mode may need a row."""
    return bool(mode & _SET_ID or record.inheriting) or not _is_root(who)


def is_plain(record: Record, who: Credentials, folder: os.stat_result, mode: int) -> bool:
    """Say whether what is made in a directory is as the kernel makes it: root's, not set-ID, and nothing is inherited."""
    return not mode & _SET_ID and _is_root(who) and inode_of(folder) not in record.inheriting


def given(
    record: Record, caller: Caller, who: Credentials, folder: os.stat_result, mode: int
) -> tuple[Row, list[tuple[bytes, bytes]]]:
    """Say what a file is that somebody makes in a directory, and its access control lists."""
    above = record.of(folder)
    default = record.attributes.get(inode_of(folder), {}).get(DEFAULT)
    uid, gid = who.users.files, who.groups.files
    pairs: list[tuple[bytes, bytes]] = []
    if stat.S_ISLNK(mode):
        return Row(mode, uid, above.gid if above.mode & stat.S_ISGID else gid), pairs
    runs_as_group = mode & stat.S_ISGID and mode & stat.S_IXGRP
    if default is None:
        mode &= ~caller.status("Umask", 8)
    else:
        items, mode = inherited(parse(default), mode)
        if not mode_of(items, mode)[1]:
            pairs.append((ACCESS, write(items)))
        if stat.S_ISDIR(mode):
            pairs.append((DEFAULT, default))
    if above.mode & stat.S_ISGID:
        gid = above.gid
        if stat.S_ISDIR(mode):
            mode |= stat.S_ISGID
        elif runs_as_group and not who.has(rights.FSETID) and gid not in who.all_groups:
            mode &= ~stat.S_ISGID
    return Row(mode, uid, gid), pairs


def settle(record: Record, descriptor: int, row: Row, pairs: list[tuple[bytes, bytes]]) -> None:
    """Have a file that is made, and held, be this, and have these attributes."""
    status = os.fstat(descriptor)
    if not pairs:
        record.change(descriptor, status, row)
    for name, value in pairs:
        record.set_attribute(descriptor, status, row, name, value)


def _is_root(who: Credentials) -> bool:
    return who is rights.ROOT or ((who.users.files, who.groups.files) == (0, 0) and who.has(rights.DAC_OVERRIDE))
