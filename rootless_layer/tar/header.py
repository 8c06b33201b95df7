"""What a tar's headers say by their own bytes (pax, "ustar Header Block"; GNU tar's ``tar.h``).

libarchive takes a number that it cannot read as nought, cuts one at the first byte that is no
digit, and looks for GNU's fields in headers that have others there. So what it says of a member
is compared with this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import attrs

from .acl import KEYWORDS
from .holes import MapError, check_regions, old_regions, pax_regions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

BLOCK = 512
_FIELDS = {
    "mode": slice(100, 108), "uid": slice(108, 116), "gid": slice(116, 124),
    "size": slice(124, 136), "mtime": slice(136, 148),
}  # fmt: skip
_DEVICE = {"devmajor": slice(329, 337), "devminor": slice(337, 345)}
_PAX_FIELDS = {
    b"uid": "uid", b"gid": "gid", b"size": "size", b"mtime": "mtime",
    b"SCHILY.devmajor": "devmajor", b"SCHILY.devminor": "devminor",
}  # fmt: skip
_OCTAL = re.compile(rb" *([0-7]+)(?:[ \0].*)?|[ \0]*", re.DOTALL)
_DECIMAL = re.compile(rb"-?[0-9]{1,19}")
_TIME = re.compile(rb"(-?[0-9]{1,19})(?:\.[0-9]*)?")
_RECORD = re.compile(rb"([0-9]{1,10}) ")
_REAL_SIZE = slice(483, 495)
_SPARSE_SIZES = (b"GNU.sparse.size", b"GNU.sparse.realsize")
_GNU_MAGIC = b"ustar  \0"
# The typeflags of what stands before a member's own header: pax's, GNU's long names and labels, Solaris's lists.
EXTENSIONS = frozenset(b"xgXKLAV")
PAX = frozenset(b"xX")
XATTR = b"SCHILY.xattr."
"""What the pax keyword of an extended attribute begins with: its name follows as it is, but one with ``=`` has none."""
_XATTR_ENCODED = b"LIBARCHIVE.xattr."
_GLOBAL, _COUNTS = ord("g"), (*_PAX_FIELDS, b"path", b"linkpath", b"GNU.sparse.", XATTR, _XATTR_ENCODED, b"SCHILY.acl.")
_SPARSE, _SPARSE_KEY = ord("S"), b"GNU.sparse."
_DEVICES, _LINKS = frozenset(b"34"), frozenset(b"12")


_ID, _LONG = rb"[0-7]{6}[0-7 ][\0 ]", rb"[0-7]{11}[\0 ]"
is_plain = re.compile(
    rb".{100}" + _ID * 3 + _LONG * 2 + rb".{8}(?:[05\0].{100}|[12][^\0].{99})(?:ustar\x0000|ustar  \0(?=.{80}\0{150})).*",
    re.DOTALL,
).fullmatch
"""Match a header of which all that is read here stands where every reader looks, and is a number: that is nearly each."""


class HeaderError(ValueError):
    """A header says something that is no number, or cannot be read as what it should be."""


@attrs.frozen(slots=True)
class Header:
    """What a member's headers say.

    ``size`` is the file's in bytes; one with a map of its holes is ``sparse``, and takes less in the archive.
    ``device`` is the major and the minor number of a device, ``link`` what pax says a link is to: empty
    where it says nothing, and ``None`` for what is no link. ``acls`` are the texts of access control lists by the
    extended attributes that these stand for.
    ``doubled`` are names of attributes in the encoding of URLs: libarchive writes such an attribute once
    more under a keyword of its own, and decodes the name only there.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    sparse: bool
    device: tuple[int, int] | None
    link: bytes | None
    doubled: frozenset[bytes]
    acls: Mapping[bytes, bytes]


def read_header(block: bytes, records: Sequence[tuple[bytes, bytes]], behind: bytes) -> Header:
    """Read a member's own header, with the pax records that stand before it and what is read ``behind`` it.

    Raises :class:`HeaderError`, which names the field, for a number that is none, and for a
    sparse file of another form than GNU tar's, or of a map that is none.
    """
    pax = _taken(records)
    numbers = {name: _number(block[place], name) for name, place in _FIELDS.items()}
    if block[257:265] == _GNU_MAGIC and b"path" not in pax and not all(map(_is_time, (block[345:357], block[357:369]))):
        message = "its name has a prefix, which stands where GNU tar has times"
        raise HeaderError(message)
    if block[156] in _DEVICES:
        numbers |= {name: _number(block[place], name) for name, place in _DEVICE.items()}
    if pax:
        numbers |= {name: _pax_number(pax[key], name) for key, name in _PAX_FIELDS.items() if key in pax}
    sparse = block[156] == _SPARSE or any(key.startswith(_SPARSE_KEY) for key in pax)
    if sparse:
        numbers["size"] = _sparse_size(block, records, behind, numbers["size"])
    for name in ("size", *_DEVICE):
        if numbers.get(name, 0) < 0:
            message = f"its {name} is {numbers[name]}"
            raise HeaderError(message)
    device = (numbers["devmajor"], numbers["devminor"]) if block[156] in _DEVICES else None
    link = pax.get(b"linkpath", b"") if block[156] in _LINKS else None
    return Header(
        numbers["mode"], numbers["uid"], numbers["gid"], numbers["size"], numbers["mtime"], sparse, device, link,
        _doubled(pax), {name: pax[key] for key, name in KEYWORDS.items() if key in pax},
    )  # fmt: skip


def _doubled(pax: Mapping[bytes, bytes]) -> frozenset[bytes]:
    names = {key.removeprefix(XATTR) for key in pax if b"%" in key and key.startswith(XATTR)}
    return frozenset(name for name in names if _XATTR_ENCODED + name in pax and unquote_to_bytes(name) != name)


def _number(field: bytes, name: str) -> int:
    if field[0] & 0x80:  # GNU's base-256: two's complement, without the bit that marks it
        bits = 8 * len(field) - 1
        number = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return number - (1 << bits) if field[0] & 0x40 else number
    found = _OCTAL.fullmatch(field)
    if found is None:
        message = f"its {name} is no number: {field!r}"
        raise HeaderError(message)
    return int(found[1] or b"0", 8)


def _is_time(field: bytes) -> bool:
    return bool(field[0] & 0x80 or _OCTAL.fullmatch(field))


def _pax_number(value: bytes, name: str) -> int:
    found = (_TIME if name == "mtime" else _DECIMAL).fullmatch(value)
    if found is None:
        message = f"its pax {name} is no number: {value[:40]!r}"
        raise HeaderError(message)
    return int(found[1] if name == "mtime" else value)


def pax_records(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Read pax records (pax, "pax Extended Header"): where each one's keyword begins, that, and its value."""
    at = 0
    while at < len(data) and data[at]:
        length = _RECORD.match(data, at)
        end = at + int(length[1]) if length else 0
        place = length.end() if length else 0
        name, equals, value = data[place : end - 1].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            message = "its pax records cannot be read"
            raise HeaderError(message)
        yield place, name, value
        at = end


def _taken(records: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Take pax records together; one without a value takes an earlier one away."""
    return {name: value for name, value in dict(records).items() if value}


def _sparse_size(block: bytes, records: Sequence[tuple[bytes, bytes]], behind: bytes, stored: int) -> int:
    """Give the size of a sparse file of whose data so many bytes are ``stored``, its map being one."""
    size, taken = stored, 0
    try:
        if block[156] == _SPARSE:
            if block[257:265] != _GNU_MAGIC:
                message = "it is sparse, and not as GNU tar writes that"
                raise HeaderError(message)
            size, regions = _number(block[_REAL_SIZE], "size"), old_regions(block, behind, _number)
        else:
            for key in _SPARSE_SIZES:
                size = _pax_number(dict(records)[key], "size") if key in dict(records) else size
            regions, taken = pax_regions(records, behind)
        check_regions(regions, size, stored - taken)
    except MapError as error:
        raise HeaderError(str(error)) from error
    return size


def _check_global(pax: Mapping[bytes, bytes]) -> None:
    """Refuse what is said of all members that follow: GNU tar takes it, and libarchive and Go do not."""
    for key in pax:
        if key.startswith(_COUNTS):
            said = key.decode("utf-8", "replace")
            message = f"a global pax header gives it and all that follow a {said}, which readers do not take alike"
            raise HeaderError(message)


def own_header(blocks: bytes) -> Header:
    """Read the headers of one member, from the first of its extended ones on; raises :class:`HeaderError`."""
    at = 0
    records: list[tuple[bytes, bytes]] = []
    while blocks[at + 156] in EXTENSIONS:
        size = _number(blocks[at : at + BLOCK][_FIELDS["size"]], "size")
        at += BLOCK
        if blocks[at - BLOCK + 156] in PAX:
            records += ((key, value) for _, key, value in pax_records(blocks[at : at + size]))
        elif blocks[at - BLOCK + 156] == _GLOBAL:
            _check_global(_taken((key, value) for _, key, value in pax_records(blocks[at : at + size])))
        at += size + -size % BLOCK
        if size < 0 or at + BLOCK > len(blocks):
            message = "its extended headers cannot be read"
            raise HeaderError(message)
    return read_header(blocks[at : at + BLOCK], records, blocks[at + BLOCK :])
