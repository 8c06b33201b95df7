"""A blob is the blocks of its segments, one behind the other."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess

import pytest

from rootless_layer.tar.blocks import BLOCK_BYTES
from rootless_layer.tar.compression import BlobWriter, Compression

SEGMENTS = [b"", b"one", bytes(range(256)) * 9000, b"x" * BLOCK_BYTES, b"y" * (2 * BLOCK_BYTES + 1), b"end"]


def blob(kind: str, segments: list[bytes], part: int = 1 << 20) -> tuple[bytes, BlobWriter]:
    """Write segments, a part at a time."""
    file = io.BytesIO()
    with BlobWriter(Compression.parse(kind), file) as writer:
        for segment in segments:
            for begin in range(0, len(segment), part):
                writer.write(memoryview(bytearray(segment[begin : begin + part])))
            writer.cut()
        writer.finish()
    return file.getvalue(), writer


@pytest.mark.parametrize("kind", ["gzip", "gzip:0", "zstd", "zstd:1"])
def test_a_blob_is_the_blobs_of_its_segments(kind: str) -> None:
    """What a segment becomes depends on it alone, and not on how it is cut on its way; other programs read the whole."""
    whole, writer = blob(kind, SEGMENTS)
    assert whole == b"".join(blob(kind, [segment])[0] for segment in SEGMENTS if segment)
    assert whole == blob(kind, SEGMENTS, 65537)[0]
    plain = b"".join(SEGMENTS)
    program = ["gzip", "-dc"] if kind.startswith("gzip") else ["zstd", "-dc"]
    assert subprocess.run(program, input=whole, capture_output=True, check=True).stdout == plain
    if kind.startswith("gzip"):
        assert gzip.decompress(whole) == plain
    assert writer.digest == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert (writer.diff_id, writer.size) == (f"sha256:{hashlib.sha256(plain).hexdigest()}", len(whole))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_nothing_is_one_block(kind: str) -> None:
    """A blob of no bytes can be read by whoever reads its format."""
    whole, _ = blob(kind, [])
    assert whole == blob(kind, [b""])[0]
    program = ["gzip", "-dc"] if kind == "gzip" else ["zstd", "-dc"]
    assert subprocess.run(program, input=whole, capture_output=True, check=True).stdout == b""
