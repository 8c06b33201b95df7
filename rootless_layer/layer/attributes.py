"""Extended attributes that the kernel refuses wherever a layer is unpacked: their names, sizes and forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_layer.system.acl import ACCESS, DEFAULT, parse
from rootless_layer.tree.tree import legible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless_layer.tree.tree import Entry

_MOST_NAME, _MOST_VALUE = 255, 65536  # linux/limits.h: XATTR_NAME_MAX, XATTR_SIZE_MAX
_CAPABILITY = b"security.capability"
_CAPABILITY_SIZES = {0x01000000: 12, 0x02000000: 20, 0x03000000: 24}
"""linux/capability.h: the size of ``vfs_cap_data`` by its revision."""
_SHOWN = 80


def unsettable(entry: Entry) -> Iterator[str]:
    """Say of each attribute of an entry why no engine can set it, where that is so."""
    for name, value in entry.xattrs:
        why = _why(entry, name, value)
        if why:
            yield f"the attribute {legible(name[:_SHOWN])} cannot be set: {why}"


def _why(entry: Entry, name: bytes, value: bytes) -> str:
    if len(name) > _MOST_NAME:
        return f"its name has {len(name)} bytes, and Linux takes {_MOST_NAME}"
    if len(value) > _MOST_VALUE:
        return f"it has {len(value)} bytes, and Linux takes {_MOST_VALUE}"
    if name == _CAPABILITY and not _is_capability(value):
        return "it is no set of capabilities"
    if name in {ACCESS, DEFAULT} and not _is_acl(value):
        return "it is no access control list"
    return "only a directory has one" if name == DEFAULT and not entry.is_dir else ""


def _is_capability(value: bytes) -> bool:
    revision = int.from_bytes(value[:4], "little") & 0xFF000000
    return _CAPABILITY_SIZES.get(revision) == len(value)


def _is_acl(value: bytes) -> bool:
    try:
        parse(value)
    except OSError:
        return False
    return True
