"""From the tar stream to the blob: digests, and the codecs.

A :class:`BlobWriter` takes the stream a part at a time. The diff ID is of the stream
itself, the digest of what is stored; both are computed while the bytes pass, beside the
compression and the writing.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError
from rootless_layer.system.fork import cores, uninterrupted
from rootless_layer.system.machine import enough

if TYPE_CHECKING:
    from types import TracebackType


Kind = Literal["none", "gzip", "zstd"]

_LEVELS = {"none": (0, 0, 0), "gzip": (0, 2, 3), "zstd": (1, 3, 19)}
"""Lowest, default and highest level; gzip's are ISA-L's."""
_LEVEL = re.compile("[0-9]{1,4}")
# Both codecs' bytes depend on how the stream is cut, so it is always cut like this.
_BLOCK = 1 << 20
_MOST_THREADS = 8


def _default_level(kind: object) -> int:
    return _LEVELS[kind][1] if isinstance(kind, str) and kind in _LEVELS else 0


@attrs.frozen(slots=True)
class Compression:
    """How a blob is stored: a kind, and a level of that kind (by default the kind's own)."""

    kind: Kind = "none"
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
        """Read ``KIND`` or ``KIND:LEVEL``; raises :class:`InputError`."""
        kind, colon, level = given.text("compression", text).partition(":")
        if colon and not _LEVEL.fullmatch(level):
            message = f"{text!r} is not a compression: write it as KIND or KIND:LEVEL"
            raise InputError(message)
        return cls(kind, int(level)) if colon else cls(kind)  # type: ignore[arg-type]


def _threads() -> int:
    return max(1, min(cores(), _MOST_THREADS))


class _Stored:
    """The end of the pipe: counts and hashes what is stored, and writes it if there is a file.

    What goes wrong with the file is kept for :meth:`check`: a codec's thread might die of it, or wait for ever.
    """

    def __init__(self, file: BinaryIO | None) -> None:
        self.file = file
        self.size = 0
        self.hash = hashlib.sha256()
        self.failed: Exception | None = None

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        if self.failed is None:
            try:
                if self.file is not None:
                    self.file.write(data)
            except Exception as error:  # noqa: BLE001 - it is raised by check()
                self.failed = error
        self.hash.update(data)
        self.size += len(data)
        return len(data)

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def flush(self) -> None:
        """Do nothing: the file is flushed by whoever opened it."""


def _codec(compression: Compression, stored: _Stored) -> Any:  # noqa: ANN401 - two libraries' own types
    if compression.kind == "gzip":
        from isal.igzip_threaded import _ThreadedGzipWriter  # noqa: PLC0415 - slow to import; see below

        # The public open() puts a buffer in between, that cuts the stream elsewhere.
        return _ThreadedGzipWriter(stored, "wb", level=compression.level, threads=_threads(), block_size=_BLOCK)
    import zstandard  # noqa: PLC0415 - slow to import

    # Small jobs with little overlap leave no core idle, for two per cent more bytes.
    parameters = zstandard.ZstdCompressionParameters.from_level(
        compression.level, threads=_threads(), job_size=2 * _BLOCK, overlap_log=1, write_content_size=False
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    return compressor.stream_writer(stored, closefd=False)  # type: ignore[arg-type]


class BlobWriter:
    """Makes a blob of a tar stream, and its digests.

    Another thread hashes a part. Where ``parts_last``, what is written stays as it is until
    the next part is, or :meth:`finish` is called: then nobody waits for that thread before.

    After :meth:`finish`: ``diff_id`` and ``digest`` (``sha256:…``), ``uncompressed_size``
    and ``size`` in bytes. Without a ``file`` nothing is kept of the bytes. What keeps the
    file from being written comes as :class:`OSError`.
    """

    diff_id: str
    digest: str
    size: int

    def __init__(self, compression: Compression, file: BinaryIO | None, *, parts_last: bool = False) -> None:
        """Begin a blob that goes to ``file``, if there is one."""
        self.uncompressed_size = 0
        self._hash = hashlib.sha256()
        self._stored = _Stored(file)
        self._compression = compression
        self._parts_last = parts_last
        self._codec: Any = None
        self._pending = bytearray()
        # The thread starts with the first part: producers are forked before that.
        self._pool = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the threads."""
        self._pool.shutdown()
        if self._codec is not None and hasattr(self._codec, "stop") and not self._codec.closed:
            with contextlib.suppress(Exception):  # the error that counts is known
                self._codec.close()  # mere stop(), amidst work, may leave its threads waiting for each other

    def write(self, part: memoryview) -> None:
        """Take the next part of the stream."""
        self.uncompressed_size += len(part)
        kind = self._compression.kind
        if kind == "none" and self._stored.file is None:
            self._hash.update(part)
            return
        self._await_hash()
        if not part:
            return
        with uninterrupted(), enough("the layer cannot be hashed"):  # until it is known that the thread holds the part
            self._hashing = self._pool.submit(self._hash.update, part)
        try:  # this may take as long as a reader likes, and be interrupted
            if kind == "none":
                self._stored.file.write(part)  # type: ignore[union-attr]
            else:
                with enough("the layer cannot be compressed"):
                    self._compress(part)
                self._stored.check()
        except BaseException:
            self._await_hash()
            raise
        if not self._parts_last:
            self._await_hash()

    def _await_hash(self) -> None:
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def _compress(self, part: memoryview) -> None:
        if self._codec is None:
            self._codec = _codec(self._compression, self._stored)
        position = 0
        if self._pending:
            position = _BLOCK - len(self._pending)
            self._pending += part[:position]
            if len(self._pending) < _BLOCK:
                return
            self._codec.write(bytes(self._pending))
            self._pending.clear()
        while len(part) - position >= _BLOCK:
            self._codec.write(part[position : position + _BLOCK])
            position += _BLOCK
        self._pending += part[position:]

    def finish(self) -> None:
        """End the stream."""
        self._await_hash()
        self.diff_id = f"sha256:{self._hash.hexdigest()}"
        if self._compression.kind == "none":
            self.digest, self.size = self.diff_id, self.uncompressed_size
            return
        with enough("the layer cannot be compressed"):
            if self._codec is None:
                self._codec = _codec(self._compression, self._stored)
            if self._pending:
                self._codec.write(bytes(self._pending))
            self._codec.close()
        self._stored.check()
        self.digest, self.size = f"sha256:{self._stored.hash.hexdigest()}", self._stored.size
