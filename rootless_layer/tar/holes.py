"""The map of a sparse file in a tar, in GNU tar's four forms: where its data goes, and that this is one file only.

libarchive takes a map as far as it understands it, and readers do not agree on regions that overlap or have no order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Regions = list[tuple[int, int]]
"""Where each run of data begins in the file, and how many bytes it has."""

_BLOCK = 512
_MAP = re.compile(rb"[0-9]{1,18},[0-9]{1,18}(?:,[0-9]{1,18},[0-9]{1,18})*")
_LINE = re.compile(rb"([0-9]{1,18})\n")
_FORM = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
_OFFSET, _COUNT = b"GNU.sparse.offset", b"GNU.sparse.numbytes"
_FIRST, _MORE = (386, 4, 482), (0, 21, 504)
"""In a header and in a block behind it (GNU tar's ``tar.h``): where regions begin, how many, and what says that more follow."""
_FIELD = 12


class MapError(ValueError):
    """A map says something that is no sparse file."""


def old_regions(block: bytes, behind: bytes, number: Callable[[bytes, str], int]) -> Regions:
    """Read the map of a member of type ``S``, from its header and the blocks behind that."""
    found: Regions = []
    form = _FIRST
    while True:
        begin, count, more = form
        for at in range(begin, begin + count * 2 * _FIELD, 2 * _FIELD):
            offset, size = block[at : at + _FIELD], block[at + _FIELD : at + 2 * _FIELD]
            if not (offset[0] or size[0]):
                break
            found.append((number(offset, "map"), number(size, "map")))
        if not block[more]:
            return found
        block, behind, form = behind[:_BLOCK], behind[_BLOCK:], _MORE
        if len(block) < _BLOCK:
            message = "the map of its holes ends too early"
            raise MapError(message)


def pax_regions(records: Sequence[tuple[bytes, bytes]], behind: bytes) -> tuple[Regions, int]:
    """Read the map that pax records have, or that stands before the data; give how many bytes it takes there."""
    said = dict(records)
    if any(key in said for key in _FORM):
        if {key: said.get(key) for key in _FORM} != _FORM:
            form = b".".join(said.get(key, b"") for key in _FORM).decode("ascii", "replace")
            message = f"it is sparse in the form {form!r}, which is not known"
            raise MapError(message)
        return _lines(behind)
    if b"GNU.sparse.map" in said:
        if not _MAP.fullmatch(said[b"GNU.sparse.map"]):
            message = f"the map of its holes is none: {said[b'GNU.sparse.map'][:40]!r}"
            raise MapError(message)
        numbers = [int(word) for word in said[b"GNU.sparse.map"].split(b",")]
    else:
        listed = [(key, value) for key, value in records if key in {_OFFSET, _COUNT}]
        if [key for key, _ in listed] != [_OFFSET, _COUNT] * (len(listed) // 2) or not all(
            value.isdigit() for _, value in listed
        ):
            message = "the map of its holes is none"
            raise MapError(message)
        numbers = [int(value) for _, value in listed]
    return list(zip(numbers[::2], numbers[1::2], strict=True)), 0


def _lines(behind: bytes) -> tuple[Regions, int]:
    numbers: list[int] = []
    at = 0
    while not numbers or len(numbers) <= 2 * numbers[0]:
        line = _LINE.match(behind, at)
        if line is None:
            message = "the map of its holes cannot be read"
            raise MapError(message)
        numbers.append(int(line[1]))
        at = line.end()
    return list(zip(numbers[1::2], numbers[2::2], strict=True)), at + -at % _BLOCK


def check_regions(regions: Regions, size: int, stored: int) -> None:
    """Raise :class:`MapError` where regions are not in order within ``size`` bytes, with ``stored`` bytes of data in all."""
    end = 0
    for offset, count in regions:
        if offset < 0 or count < 0 or offset < end:
            message = f"its data at {offset} is not behind what ends at {end}"
            raise MapError(message)
        end = offset + count
    if end > size:
        message = f"it has data up to {end}, and {size} bytes"
        raise MapError(message)
    if (total := sum(count for _, count in regions)) != stored:
        message = f"the map of its holes has {total} bytes of data, and the archive {stored}"
        raise MapError(message)
