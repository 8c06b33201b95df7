"""From what is compressed to the bytes: by isal, zstandard and Python's own, for what is compressed as a whole.

Nothing may stand behind the compressed data that is no more of it: engines refuse that.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import re
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self

from rootless_layer.errors import InputError
from rootless_layer.system.machine import NO_MEMORY, enough, unreadable, unwritable

from . import codecs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_BLOCK = 1 << 20
_MAGIC = {
    "gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00", "lz4": b"\x04\x22\x4d\x18",
}  # fmt: skip
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""How a frame begins that says nothing of the data (RFC 8878, section 3.1.2); lz4 has the same."""
_LARGE_WINDOW = "too much memory for decoding"
_MOST_WINDOW = 2 << 30
"""``zstd --ultra --long=31`` writes it, which is the most that its library reads; of it only as much is used as there is data."""
MOST_BYTES = 16 << 30
"""More than this is not unpacked, unless the caller allows it: a small file may claim to be endless."""


def kind_of(path: str, offset: int = 0, size: int = -1) -> str:
    """Tell from its first bytes how a file, or ``size`` bytes of it from ``offset``, is compressed; ``none`` for not at all.

    Raises :class:`UnreadableError` and :class:`MachineError` for what this machine cannot read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            end = None if size < 0 else offset + size
            begin, none = _begin(file, end), "none"
            while len(begin) == 8 and _SKIPPABLE.match(begin):  # noqa: PLR2004 - the magic number and a size
                file.seek(int.from_bytes(begin[4:], "little"), io.SEEK_CUR)
                begin, none = _begin(file, end), "zstd"
    except OSError as error:
        raise unreadable(error, path) from error
    return next((kind for kind, magic in _MAGIC.items() if begin.startswith(magic)), none)


def _begin(file: BinaryIO, end: int | None) -> bytes:
    return file.read(8 if end is None else max(0, min(8, end - file.tell())))


def decompressed(path: str, *, offset: int = 0, size: int = -1) -> Iterator[bytes]:
    """Give what a compressed file, or ``size`` bytes of one from ``offset``, holds, a part at a time.

    What is not compressed comes as it is. Raises :class:`InputError` for what is damaged
    or ends early, :class:`UnreadableError` and :class:`MachineError` for what this machine cannot read.
    """
    kind = kind_of(path, offset, size)
    if kind == "lz4":
        message = f"{path}: is compressed by lz4, which is not read here"
        raise InputError(message, hint="Decompress it first, or compress it with gzip or zstd.")
    try:
        with enough(f"{path}: cannot be read"), open(path, "rb") as file:
            file.seek(offset)
            with _reader(kind, file if size < 0 else io.BufferedReader(_Section(file, size), _BLOCK)) as reader:
                while part := _next(kind, reader, path):
                    yield part
    except OSError as error:
        raise unreadable(error, path) from error


def _next(kind: str, reader: _Source, path: str) -> bytes:
    """Read on; a codec says of damage what an :class:`OSError` of the kernel's says with a number."""
    damage: tuple[type[BaseException], ...] = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, *_damage(kind))
    try:
        data = reader.read(_BLOCK)
    except damage as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if NO_MEMORY in str(error):
            raise
        message = f"{path}: {error}"
        hint = "It is damaged: get it again."
        if _LARGE_WINDOW in message:
            hint = "Compress it again with a window of 2 GiB or less."
        elif isinstance(error, _BehindError):
            hint = "Engines refuse it: take that away, or compress it again."
        raise InputError(message, hint=hint) from error
    return data


def decompress(path: str, target: str, most: int = MOST_BYTES) -> str:
    """Decompress a file into another, of ``most`` bytes at the most, and give its path.

    Raises :class:`InputError` for what is damaged or larger, :class:`OutputError` where
    it cannot be written.
    """
    written = 0
    try:
        with open(target, "xb") as file:
            for part in decompressed(path):
                written += len(part)
                if written > most:
                    message = f"{path}: unpacks to more than {most} bytes"
                    raise InputError(message, hint="If it is to be trusted, allow more with --most-bytes.")
                file.write(part)
    except OSError as error:
        raise unwritable(error, target, f"{path} cannot be unpacked", hint="Set TMPDIR to a directory that is there.") from error
    return target


class _Source(Protocol):
    """What is read like a file."""

    def read(self, most: int, /) -> bytes:
        """Give the next bytes, and none at the end."""


class _Section(io.RawIOBase):
    """A run of a file's bytes, as a file."""

    def __init__(self, file: _Source, size: int) -> None:
        self.file, self.remaining = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        part = self.file.read(min(self.remaining, len(buffer)))
        buffer[: len(part)] = part
        self.remaining -= len(part)
        return len(part)


class _BehindError(ValueError):
    """Something else stands behind compressed data."""


class _GzipMembers:
    """What the members of a gzip file hold, one behind the other (RFC 1952, section 2.2).

    Python's reader takes zeros behind them for nothing, and all else for damage; Go's, which is
    the engines', refuses both.
    """

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._member: Any = None
        self._given = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the file open, as it is another's."""

    def read(self, most: int) -> bytes:
        """Give the next bytes, and none at the end."""
        while self._member is not None or self._next_member():
            given = self._given or self._source.read(_BLOCK)
            data: bytes = self._member.decompress(given, most)  # there may be more of what was given before
            self._given = self._member.unconsumed_tail
            if self._member.eof:
                self._given, self._member = self._member.unused_data, None
            elif not (given or data):
                message = "ends in the middle of its compressed data"
                raise EOFError(message)
            if data:
                return data
        return b""

    def _next_member(self) -> bool:
        magic = _MAGIC["gzip"]
        while len(self._given) < len(magic) and (more := self._source.read(_BLOCK)):
            self._given += more
        if not self._given:
            return False
        if not self._given.startswith(magic):
            count = len(self._given)
            while more := self._source.read(_BLOCK):
                count += len(more)
            message = f"has {count} bytes behind the end of its compressed data"
            raise _BehindError(message)
        self._member = codecs.isal_zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        return True


def _reader(kind: str, source: BinaryIO) -> AbstractContextManager[_Source]:
    if kind == "gzip":
        return _GzipMembers(source)
    if kind == "zstd":
        decompressor = codecs.zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW)
        return decompressor.stream_reader(source, read_across_frames=True)
    if kind == "bzip2":
        return bz2.BZ2File(source)
    return lzma.LZMAFile(source) if kind == "xz" else contextlib.nullcontext(source)


def _damage(kind: str) -> tuple[type[BaseException], ...]:
    """Give what a codec's library raises of its own."""
    if kind == "gzip":
        return (codecs.isal_zlib.error,)  # type: ignore[return-value]
    if kind == "zstd":
        return (codecs.zstandard.ZstdError,)
    return ()
