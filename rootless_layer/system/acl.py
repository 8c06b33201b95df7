"""POSIX access control lists, as the kernel keeps them in extended attributes (acl(5), linux/posix_acl_xattr.h).

A list is a version (2) and entries of eight bytes: a tag, permissions and an id. Three entries say no more than a mode.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import NamedTuple

ACCESS, DEFAULT = b"system.posix_acl_access", b"system.posix_acl_default"
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_VERSION = 2
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF
_MINIMAL = 3


class Item(NamedTuple):
    """An entry of a list."""

    tag: int
    permissions: int
    who: int = NOBODY


def parse(value: bytes) -> list[Item]:
    """Read a list; raises ``EOPNOTSUPP`` for another version and ``EINVAL`` for one that the kernel would refuse."""
    if len(value) < _HEADER.size:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if _HEADER.unpack_from(value)[0] != _VERSION:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if (len(value) - _HEADER.size) % _ENTRY.size:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    items = [Item(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :])]
    tags = [item.tag for item in items]
    named = any(tag in {USER, GROUP} for tag in tags)
    wanted = {OWNER, OWNING_GROUP, OTHER} | ({MASK} if named else set())
    single = [tag for tag in tags if tag not in {USER, GROUP}]
    known = all(item.permissions <= stat.S_IRWXO and item.tag in {1, 2, 4, 8, 16, 32} for item in items)
    if items and not (known and tags == sorted(tags) and wanted <= set(single) and len(single) == len(set(single))):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return items


def write(items: list[Item]) -> bytes:
    """Write a list."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*item) for item in items)


def mode_of(items: list[Item], mode: int) -> tuple[int, bool]:
    """Give the mode with the permissions of a list, and whether the mode says all of it."""
    by_tag = {item.tag: item.permissions for item in items if item.tag not in {USER, GROUP}}
    group = by_tag.get(MASK, by_tag[OWNING_GROUP])
    return mode & ~0o777 | by_tag[OWNER] << 6 | group << 3 | by_tag[OTHER], len(items) == _MINIMAL


def with_mode(items: list[Item], mode: int) -> list[Item]:
    """Give a list with the permissions of a mode, as chmod(2) changes it."""
    group = MASK if any(item.tag == MASK for item in items) else OWNING_GROUP
    given = {OWNER: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    return [item._replace(permissions=given.get(item.tag, item.permissions)) for item in items]


def inherited(default: list[Item], mode: int) -> tuple[list[Item], int]:
    """Give the list and the mode of what is made with a mode in a directory that has a default list."""
    group = MASK if any(item.tag == MASK for item in default) else OWNING_GROUP
    masks = {OWNER: mode >> 6 & 7, group: mode >> 3 & 7, OTHER: mode & 7}
    items = [item._replace(permissions=item.permissions & masks.get(item.tag, 7)) for item in default]
    return items, mode_of(items, mode)[0]


def permitted(items: list[Item], owner: bool, group: int, user: int, groups: tuple[int, ...]) -> int:  # noqa: FBT001
    """Give what a user, who has ``groups``, may do by a list: of a file that is theirs (``owner``), or of ``group``."""
    mask = next((item.permissions for item in items if item.tag == MASK), 7)
    by_tag = {item.tag: item.permissions for item in items}
    if owner:
        return by_tag[OWNER]
    if not by_tag.get(MASK, by_tag[OWNING_GROUP]):  # Linux looks at the mode alone where that gives a group nothing
        return 0 if group in groups else by_tag[OTHER]
    for item in items:
        if item.tag == USER and item.who == user:
            return item.permissions & mask
    matching = [
        item.permissions & mask
        for item in items
        if (item.tag == OWNING_GROUP and group in groups) or (item.tag == GROUP and item.who in groups)
    ]
    if not matching:
        return by_tag[OTHER]
    joined = 0
    for permissions in matching:
        joined |= permissions
    return joined
