"""Access control lists as text in a tar's headers, made the extended attributes that a layer has.

star(1) has the text: ``user::rwx,user:games:r-x:5,group::r-x,mask::rwx,other::r-x``. star and bsdtar write a user's number
behind the name; GNU tar writes a name alone, a line an entry. Such a name is looked up in the archive's own ``etc/passwd`` and
``etc/group``: the same archive gives the same list on every machine.
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.system.acl import (
    ACCESS,
    DEFAULT,
    GROUP,
    MASK,
    NOBODY,
    OTHER,
    OWNER,
    OWNING_GROUP,
    USER,
    Item,
    mode_of,
    parse,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEYWORDS = {b"SCHILY.acl.access": ACCESS, b"SCHILY.acl.default": DEFAULT}
"""A list's pax keyword, and the extended attribute that it stands for."""
_TAGS = {
    b"user": (OWNER, USER), b"u": (OWNER, USER), b"group": (OWNING_GROUP, GROUP), b"g": (OWNING_GROUP, GROUP),
    b"mask": (MASK, MASK), b"m": (MASK, MASK), b"other": (OTHER, OTHER), b"o": (OTHER, OTHER),
}  # fmt: skip
_PERMISSIONS = re.compile(rb"[r-][w-][x-]")
_LETTERS = ((b"r", 4), (b"w", 2), (b"x", 1))
_MOST_IDS = 2**32 - 1
_MOST_DIGITS = 20
"""Python reads no number of some thousand digits, and no id has so many."""
_MOST_BYTES = 1 << 16  # XATTR_SIZE_MAX of linux/limits.h
_MOST_SHOWN = 100


class AclError(ValueError):
    """A list cannot be kept; the message says why."""


@attrs.frozen
class Accounts:
    """The numbers of the users and groups that an archive names."""

    users: Mapping[bytes, int]
    groups: Mapping[bytes, int]

    @classmethod
    def read(cls, passwd: bytes, group: bytes) -> Accounts:
        """Read passwd(5) and group(5); a line that has no number says nothing."""
        return cls(_numbers(passwd), _numbers(group))


def _numbers(lines: bytes) -> dict[bytes, int]:
    fields = (line.split(b":", 3) for line in lines.splitlines())
    return {b"root": 0} | {
        name: int(number) for name, _, number in (line[:3] for line in fields if line[2:]) if _is_number(number)
    }


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _MOST_DIGITS


def attributes(texts: Mapping[bytes, bytes], mode: int, accounts: Accounts) -> tuple[dict[bytes, bytes], int]:
    """Give the extended attributes for lists by the names of these, and the mode of the file that has ``mode`` in its header.

    A list of three entries says no more than the mode, and is no attribute, nor is one of none. Raises :class:`AclError`.
    """
    result = {}
    for name, text in texts.items():
        items = sorted((_item(entry, accounts) for entry in _entries(text)), key=lambda item: (item.tag, item.who))
        if not items:
            continue
        value = write(items)
        _check(name, items, value, mode)
        minimal = False
        if name == ACCESS:
            mode, minimal = mode_of(items, mode)
        if not minimal:
            result[name] = value
    return result, mode


def _check(name: bytes, items: Sequence[Item], value: bytes, mode: int) -> None:
    """Refuse what Linux does not take (the kernel's posix_acl_valid() and set_posix_acl()): no engine could unpack the layer."""
    message = ""
    try:
        parse(value)
    except OSError:
        message = "it is no list that Linux takes"
    if stat.S_ISLNK(mode) or (name == DEFAULT and not stat.S_ISDIR(mode)):
        message = "Linux has no such list for a file of this type"
    elif len({(item.tag, item.who) for item in items}) < len(items):
        message = "it names somebody twice"
    elif len(value) > _MOST_BYTES:
        message = f"it has {len(items)} entries, and Linux takes {_MOST_BYTES} bytes at the most"
    if message:
        raise AclError(message)


def _entries(text: bytes) -> list[bytes]:
    """Give the entries of a list: comments say which permissions are left by the mask."""
    parts = (part.partition(b"#")[0].strip() for part in re.split(rb"[,\n]", text))
    return [part for part in parts if part]


def _item(entry: bytes, accounts: Accounts) -> Item:
    tag, _, rest = entry.partition(b":")
    who, _, rest = rest.partition(b":")
    allowed, _, number = rest.partition(b":")
    if tag not in _TAGS or not _PERMISSIONS.fullmatch(allowed):
        message = f"its entry {_said(entry)} cannot be read"
        raise AclError(message)
    own, named = _TAGS[tag]
    permissions = sum(bit for letter, bit in _LETTERS if letter in allowed)
    if not who and not number:
        return Item(own, permissions)
    return Item(named, permissions, _id(who, number, accounts.users if named == USER else accounts.groups))


def _id(who: bytes, number: bytes, known: Mapping[bytes, int]) -> int:
    digits = number or who
    found = int(digits) if _is_number(digits) else known.get(who, NOBODY)
    if found >= _MOST_IDS:
        message = f"it names {_said(who)}, of whom the archive's etc/passwd and etc/group have no number"
        raise AclError(message)
    return found


def _said(text: bytes) -> str:
    """Give what a message says of a text, of which there may be a megabyte."""
    return repr(text[:_MOST_SHOWN].decode(errors="replace"))
