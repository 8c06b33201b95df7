"""A part of a blob, as a request asks for it (RFC 9110, section 14), and its bytes on their way."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_PART_BYTES = 1 << 20


@attrs.frozen(slots=True)
class Range:
    """The bytes from ``begin`` to before ``end``; ``asked`` where a request named them."""

    begin: int
    end: int
    asked: bool = False

    @property
    def size(self) -> int:
        """Give how many they are."""
        return self.end - self.begin


def parse_range(header: str, size: int) -> Range | None:
    """Read a header ``Range`` for so many bytes: all where it is none or names several, ``None`` where none of them is in it."""
    found = _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return Range(0, size)
    if not found[1]:  # the last bytes
        wanted = min(int(found[2]), size)
        return Range(size - wanted, size, asked=True) if wanted else None
    begin, end = int(found[1]), min(int(found[2]) + 1 if found[2] else size, size)
    if found[2] and int(found[2]) < begin:
        return Range(0, size)
    return Range(begin, end, asked=True) if begin < size else None


@attrs.define(slots=True)
class Window:
    """Passes on the bytes of a range, and keeps the last one back until all bytes of the blob are known to be right.

    So an answer whose blob turns out to be another one is never whole.
    """

    range: Range
    write: Callable[[memoryview], object]
    position: int = 0
    kept: bytes = b""

    def take(self, part: memoryview) -> None:
        """Take the next part of the blob."""
        begin, end = (min(max(place - self.position, 0), len(part)) for place in (self.range.begin, self.range.end))
        self.position += len(part)
        if begin == end:
            return
        if self.position >= self.range.end:
            end -= 1
            self.kept = bytes(part[end : end + 1])
        if begin < end:
            self.write(part[begin:end])

    def finish(self) -> None:
        """Pass on the last byte."""
        self.write(memoryview(self.kept))


State = tuple[int, ...]


def state_of(path: str) -> State:
    """Give what changes whenever a file does (inode, size and times); raises :class:`OSError`."""
    return _state(os.stat(path))


def _state(status: os.stat_result) -> State:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def send_file(path: str, offset: int, wanted: Range, state: State, write: Callable[[memoryview], object]) -> bool:
    """Pass on a range of a blob in a file, whose bytes are known for a ``state``; say whether the file still has that."""
    with open(path, "rb", buffering=0) as file:
        if _state(os.fstat(file.fileno())) != state:
            return False
        buffer, left = memoryview(bytearray(_PART_BYTES)), wanted.size
        file.seek(offset + wanted.begin)
        while left:
            count = file.readinto(buffer[: min(left, _PART_BYTES)])
            if not count:
                return False
            left -= count
            if not left and _state(os.fstat(file.fileno())) != state:
                return False
            write(buffer[:count])
    return True
