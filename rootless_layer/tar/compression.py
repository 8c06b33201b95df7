"""From the tar stream to the blob: digests, and the codecs.

A :class:`BlobWriter` takes the stream a part at a time. The diff ID is of the stream
itself, the digest of what is stored; both are computed while the bytes pass, beside the
compression and the writing.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, Protocol, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError
from rootless_layer.system.fork import uninterrupted
from rootless_layer.system.machine import enough

from .blocks import Blocks
from .known import Mark
from .sha256 import Sha256

if TYPE_CHECKING:
    from types import TracebackType

    from rootless_layer.system.files import Sink

    from .known import Known


CompressionKind = Literal["none", "gzip", "zstd"]

_LEVELS = {"none": (0, 0, 0), "gzip": (0, 2, 3), "zstd": (1, 3, 19)}
"""Lowest, default and highest level; gzip's are ISA-L's."""
_LEVEL = re.compile("[0-9]{1,4}")
_NEAR_BYTES = 256 << 10
"""What a core's own cache has room for, beside all else."""


def _default_level(kind: object) -> int:
    return _LEVELS[kind][1] if isinstance(kind, str) and kind in _LEVELS else 0


@attrs.frozen(slots=True)
class Compression:
    """How a blob is stored: a kind, and a level of that kind (by default the kind's own)."""

    kind: CompressionKind = "none"
    level: int = attrs.field(default=attrs.Factory(lambda made: _default_level(made.kind), takes_self=True))

    def __attrs_post_init__(self) -> None:
        """Refuse a level that the kind does not have."""
        if not isinstance(self.kind, str) or self.kind not in _LEVELS:
            message = f"{self.kind}: not a compression; there are {', '.join(_LEVELS)}"
            raise InputError(message)
        given.instance("level", self.level, int, "a whole number")
        lowest, _, highest = _LEVELS[self.kind]
        if not lowest <= self.level <= highest:
            message = f"{self.kind} has the levels {lowest} to {highest}, not {self.level}"
            raise InputError(message)

    @classmethod
    def parse(cls, text: str) -> Compression:
        """Read a ``text``, ``KIND`` or ``KIND:LEVEL``; raises :class:`InputError`."""
        kind, colon, level = given.text("compression", text).partition(":")
        if colon and not _LEVEL.fullmatch(level):
            message = f"{text!r} is not a compression: write it as KIND or KIND:LEVEL"
            raise InputError(message)
        return cls(kind, int(level)) if colon else cls(kind)  # type: ignore[arg-type]


class _Hash(Protocol):
    """What hashlib gives, and :class:`.Sha256` is."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Give the digest so far."""


class _Stored:
    """The end of the pipe: counts and hashes what is stored, and writes it if there is a file."""

    def __init__(self, file: Sink | None, digest: _Hash, size: int) -> None:
        self.file, self.hash, self.size = file, digest, size

    def write(self, data: bytes) -> None:
        if self.file is not None:
            self.file.write(data)
        self.hash.update(data)
        self.size += len(data)


class BlobWriter:
    """Makes a blob of a tar stream, and its digests.

    Another thread hashes a part, which therefore stays as it is until the next one is written or
    :meth:`finish` is called. A compressed blob depends on where the stream's segments end: each end is told by :meth:`cut`.

    After :meth:`finish`: ``diff_id`` and ``digest`` (``sha256:…``), ``uncompressed_size``
    and ``size`` in bytes. Without a ``file`` nothing is kept of the bytes. What keeps the
    file from being written comes as :class:`OSError`.
    """

    diff_id: str
    digest: str
    size: int

    def __init__(self, compression: Compression, file: Sink | None, known: Known | None = None) -> None:
        """Begin a blob that goes to ``file``, if there is one; ``known`` is what is known of it, and is told more."""
        start = None if known is None else known.start
        self.uncompressed_size = 0 if start is None else start.plain.size
        self._hash: _Hash = hashlib.sha256() if known is None else Sha256(None if start is None else start.plain)
        stored: _Hash = hashlib.sha256() if known is None else Sha256(None if start is None else start.stored)
        self._stored = _Stored(file, stored, 0 if start is None else start.stored.size)
        self._near = memoryview(bytearray(_NEAR_BYTES))
        self._known = known
        self._compression = compression
        # Threads start with the first part: producers are forked before that.
        self._blocks = None if compression.kind == "none" else Blocks(compression.kind, compression.level, self._stored.write)
        self._pool = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the threads."""
        self._pool.shutdown()
        if self._blocks is not None:
            self._blocks.stop()

    def write(self, part: memoryview) -> None:
        """Take the next part of the stream, and let go of the one before."""
        self.uncompressed_size += len(part)
        if self._blocks is None and self._stored.file is None:
            self._digest(part)
            return
        self._await_hash()
        if not part:
            return
        with uninterrupted(), enough("the layer cannot be hashed"):  # until it is known that the thread holds the part
            self._hashing = self._pool.submit(self._digest, part)
        try:  # this may take as long as a reader likes, and be interrupted
            if self._blocks is None:
                self._stored.file.write(part)  # type: ignore[union-attr]
            elif self._known is None or self._known.frame is None:
                with enough("the layer cannot be compressed"):
                    self._blocks.write(part)
        except BaseException:
            self._await_hash()
            raise

    def _digest(self, part: memoryview) -> None:
        """Hash a part, which another core may have written a moment ago.

        Such memory comes in sooner when it is copied than when it is hashed, which waits for each block of 64 bytes.
        """
        for begin in range(0, len(part), _NEAR_BYTES):
            with part[begin : begin + _NEAR_BYTES] as piece, self._near[: len(piece)] as near:
                near[:] = piece
                self._hash.update(near)

    def cut(self) -> None:
        """Take note of the end of a segment."""
        known = self._known
        if known is None:
            if self._blocks is not None:
                self._blocks.cut(_nothing)
            return
        self._await_hash()
        plain = self._hash.state()  # type: ignore[attr-defined]
        if self._blocks is None:
            known.mark(Mark(plain, plain))
            return
        if known.frame is not None:
            self._blocks.drain()
            known.frame(self._stored.write)
        with enough("the layer cannot be compressed"):
            self._blocks.cut(lambda: known.mark(Mark(plain, self._stored.hash.state())))  # type: ignore[attr-defined]
        known.next()

    def _await_hash(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def finish(self) -> None:
        """End the stream."""
        self._await_hash()
        self.diff_id = f"sha256:{self._hash.hexdigest()}"
        if self._blocks is None:
            self.digest, self.size = self.diff_id, self.uncompressed_size
            return
        with enough("the layer cannot be compressed"):
            self._blocks.finish()
        self.digest, self.size = f"sha256:{self._stored.hash.hexdigest()}", self._stored.size


def _nothing() -> None:
    """Do nothing where a segment is stored."""
