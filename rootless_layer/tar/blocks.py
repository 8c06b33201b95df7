"""A stream compressed in blocks, each a frame (zstd) or a member (gzip) of its own, by as many threads as there are cores.

A blob is the blocks one after the other, as both formats allow (RFC 8878, section 3; RFC 1952, section 2.2). A block ends where
it is full, and where a segment of the stream ends. So the blocks of a segment depend on the segment alone.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from rootless_layer.system.fork import cores, uninterrupted

from . import codecs

if TYPE_CHECKING:
    from collections.abc import Callable

    import zstandard

BLOCK_BYTES = 2 << 20
"""As much as the window of zstd's usual levels; smaller blocks are larger in all, larger ones leave cores idle."""
_MOST_THREADS = 8
_GZIP = 31  # zlib's way to ask for gzip, with a window of 32 KiB


def _encoder(kind: str, level: int) -> Callable[[bytes], bytes]:
    """Give what compresses a block, for several threads at once."""
    if kind == "gzip":
        compress = codecs.isal_zlib.compress
        return lambda block: compress(block, level, _GZIP)
    compressors: list[zstandard.ZstdCompressor] = []  # each serves one thread at a time

    def encode(block: bytes) -> bytes:
        compressor = compressors.pop() if compressors else codecs.zstandard.ZstdCompressor(level=level)
        try:
            return compressor.compress(block)
        finally:
            compressors.append(compressor)

    return encode


class Blocks:
    """Compresses what is written, and gives it to ``store`` in order, a block at a time, on the thread that writes."""

    def __init__(self, kind: str, level: int, store: Callable[[bytes], object]) -> None:
        """Begin; no thread is there until the first block is full."""
        self._encode = _encoder(kind, level)
        self._store = store
        self._threads = max(1, min(cores(), _MOST_THREADS))
        self._pool = ThreadPoolExecutor(self._threads)
        self._waiting: deque[Future[bytes] | Callable[[], object]] = deque()
        self._pending = bytearray()
        self._any = False

    def write(self, part: memoryview) -> None:
        """Take the next part of the stream, which is copied."""
        position = 0
        while position < len(part):
            if not self._pending and len(part) - position >= BLOCK_BYTES:
                self._submit(bytes(part[position : position + BLOCK_BYTES]))
                position += BLOCK_BYTES
                continue
            more = part[position : position + BLOCK_BYTES - len(self._pending)]
            self._pending += more
            position += len(more)
            if len(self._pending) == BLOCK_BYTES:
                self._end()

    def cut(self, then: Callable[[], object]) -> None:
        """End a block here; ``then`` is called when all before has been stored."""
        if self._pending:
            self._end()
        self._waiting.append(then)

    def drain(self) -> None:
        """Wait until all blocks that have ended are stored."""
        self._store_until(0)

    def finish(self) -> None:
        """End the stream, which has at least one block."""
        if self._pending or not self._any:
            self._end()
        self.drain()

    def stop(self) -> None:
        """End the threads; what is not stored yet is lost."""
        self._pool.shutdown(cancel_futures=True)

    def _end(self) -> None:
        """End the block that is being gathered."""
        block = bytes(self._pending)
        self._pending.clear()
        self._submit(block)

    def _submit(self, block: bytes) -> None:
        self._any = True
        with uninterrupted():
            self._waiting.append(self._pool.submit(self._encode, block))
        self._store_until(2 * self._threads)

    def _store_until(self, left: int) -> None:
        """Store what is ready, and wait until no more than so many blocks are left."""
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, Future):
                if len(self._waiting) <= left and not first.done():
                    return
                self._store(first.result())
            else:
                first()
            self._waiting.popleft()
