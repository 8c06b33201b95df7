"""From the tar stream to the blob: digests, and the codecs.

A :class:`BlobWriter` takes the stream a part at a time. The diff ID is of the stream
itself, the digest of what is stored; both are computed while the bytes pass, beside the
compression and the writing.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .child import uninterrupted

if TYPE_CHECKING:
    from types import TracebackType

    from .spec import Compression

# Both codecs' bytes depend on how the stream is cut, so it is always cut like this.
_BLOCK = 1 << 20
_MOST_THREADS = 8


def _threads() -> int:
    return max(1, min(os.cpu_count() or 1, _MOST_THREADS))


class _Stored:
    """The end of the pipe: counts and hashes what is stored, and writes it if there is a file."""

    def __init__(self, file: BinaryIO | None) -> None:
        self.file = file
        self.size = 0
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        if self.file is not None:
            self.file.write(data)
        self.hash.update(data)
        self.size += len(data)
        return len(data)

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

    After :meth:`finish`: ``diff_id`` and ``digest`` (``sha256:…``), ``uncompressed_size``
    and ``size`` in bytes. Without a ``file`` nothing is kept of the bytes. What keeps the
    file from being written comes as :class:`OSError`.
    """

    diff_id: str
    digest: str
    size: int

    def __init__(self, compression: Compression, file: BinaryIO | None) -> None:
        """Begin a blob that goes to ``file``, if there is one."""
        self.uncompressed_size = 0
        self._hash = hashlib.sha256()
        self._stored = _Stored(file)
        self._compression = compression
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
            self._codec.stop()

    def write(self, part: memoryview) -> None:
        """Take the next part of the stream."""
        self.uncompressed_size += len(part)
        kind = self._compression.kind
        if kind == "none" and self._stored.file is None:
            self._hash.update(part)
            return
        with uninterrupted():  # the thread that hashes holds the part
            self._take(part, kind)

    def _take(self, part: memoryview, kind: str) -> None:
        hashing = self._pool.submit(self._hash.update, part)
        try:
            if kind == "none":
                self._stored.file.write(part)  # type: ignore[union-attr]
            else:
                self._compress(part)
        finally:
            hashing.result()

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
        self.diff_id = f"sha256:{self._hash.hexdigest()}"
        if self._compression.kind == "none":
            self.digest, self.size = self.diff_id, self.uncompressed_size
            return
        if self._codec is None:
            self._codec = _codec(self._compression, self._stored)
        if self._pending:
            self._codec.write(bytes(self._pending))
        self._codec.close()
        self.digest, self.size = f"sha256:{self._stored.hash.hexdigest()}", self._stored.size
