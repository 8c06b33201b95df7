"""Extended attributes, before a file system is asked: their names, and who may read and set each (xattr(7)).

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from rootless_layer.system.acl import ACCESS, DEFAULT, mode_of, parse

from . import credentials as rights
from .held import fail
from .permissions import WRITE, check
from .record import CAPABILITY

if TYPE_CHECKING:
    import os

    from rootless_layer.system.acl import Item

    from .caller import Caller
    from .credentials import Credentials
    from .record import Record, Row

LISTS = frozenset({ACCESS, DEFAULT})
"""The names of access control lists, which have rules of their own."""
_USER, _TRUSTED, _SECURITY, _SYSTEM = b"user.", b"trusted.", b"security.", b"system."
_NAME_MAX = 255
_REVISION_AT = 3
"""Where a capability's value, a little-endian word first, has its revision."""


def name_of(caller: Caller, address: int) -> bytes:
    """Read the name of an attribute; raises ``ERANGE`` for one that is empty or too long."""
    try:
        name = caller.text(address, _NAME_MAX + 1)
    except OSError as error:
        raise fail(errno.ERANGE if error.errno == errno.ENAMETOOLONG else error.errno or errno.EFAULT) from error
    if not name:
        raise fail(errno.ERANGE)
    return name


def check_name(name: bytes) -> None:
    """See that files may have an attribute of this name."""
    if name in {_USER, _TRUSTED, _SECURITY}:
        raise fail(errno.EINVAL)
    if name not in LISTS and not name.startswith((_USER, _TRUSTED, _SECURITY)):
        raise fail(errno.EOPNOTSUPP)


def check_allowed(record: Record, who: Credentials, name: bytes, want: int, status: os.stat_result) -> None:
    """See that somebody may read or write (4, 2) an attribute of a file; whether there is such a name is asked after that."""
    if name.startswith((_SECURITY, _SYSTEM)):
        return
    row, closed = record.of(status), fail(errno.EPERM if want == WRITE else errno.ENODATA)
    if name.startswith(_TRUSTED):
        if not who.has(rights.SYS_ADMIN):
            raise closed
        return
    if name.startswith(_USER):
        folder = stat.S_ISDIR(row.mode)
        if not folder and not stat.S_ISREG(row.mode):
            raise closed
        if folder and want == WRITE and row.mode & stat.S_ISVTX and not owns(who, row):
            raise closed
    check(record, who, want, status)


def check_security(who: Credentials, name: bytes, value: bytes | None) -> None:
    """See that somebody may give a file this attribute, or take it away, as far as it is one of the kernel's own."""
    if name == CAPABILITY:
        if value is not None and not _is_capability(value):
            raise fail(errno.EINVAL)
        if not who.has(rights.SETFCAP):
            raise fail(errno.EPERM)
    elif name.startswith(_SECURITY) and not who.has(rights.SYS_ADMIN):
        raise fail(errno.EPERM)


def owns(who: Credentials, row: Row) -> bool:
    """Say whether somebody is a file's owner, or may do as the owner may."""
    return who.has(rights.FOWNER) or who.users.files == row.uid


def with_list(who: Credentials, row: Row, name: bytes, value: bytes | None) -> tuple[Row, bytes | None]:
    """Give a file's row with an access control list, and what of that is kept as an attribute."""
    items: list[Item] = parse(value) if value else []
    if stat.S_ISLNK(row.mode):
        raise fail(errno.EOPNOTSUPP)
    if name == DEFAULT and not stat.S_ISDIR(row.mode):
        if items:
            raise fail(errno.EACCES)
        return row, None
    if not owns(who, row):
        raise fail(errno.EPERM)
    if not items:
        return row, None
    if name == DEFAULT:
        return row, value
    mode, said = mode_of(items, row.mode)
    return row._replace(mode=without_group(who, row, mode)), None if said else value


def without_group(who: Credentials, row: Row, mode: int) -> int:
    """Take the set-group-ID bit from a mode that somebody gives a file whose group is none of theirs."""
    return mode if who.has(rights.FSETID) or row.gid in who.all_groups else mode & ~stat.S_ISGID


def _is_capability(value: bytes) -> bool:
    """Say whether a value is one that the kernel takes: of the second revision, or the third (linux/capability.h)."""
    return len(value) == {2: 20, 3: 24}.get(value[_REVISION_AT] if len(value) > _REVISION_AT else 0)
