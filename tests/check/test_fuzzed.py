"""What fuzzing the readers found, each as a case: headers that no program writes, and listings that none of ours is."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from helpers.layers import as_layer

from rootless_layer.check.blob import read_blob
from rootless_layer.errors import InputError
from rootless_layer.image import derived
from rootless_layer.layer.blob import Piece, open_layer
from rootless_layer.layer.contents import read_contents
from rootless_layer.oci.descriptor import MEDIA_TYPES
from rootless_layer.oci.findings import Finder
from rootless_layer.tar.decompression import decompressed
from rootless_layer.tar.unpack import unpack_tar
from rootless_layer.tree.mtree import lines, read
from rootless_layer.tree.tree import Entry, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

MODE, TYPE, MAJOR, MINOR = slice(100, 108), slice(156, 157), slice(329, 337), slice(337, 345)


def header(*changes: tuple[slice, bytes], format_: int = tarfile.USTAR_FORMAT) -> bytes:
    """Make a tar of one entry without data, ``x``, whose header has other bytes in some fields, and a right checksum."""
    made = bytearray(tarfile.TarInfo("x").tobuf(format_))
    for field, data in changes:
        made[field] = data.ljust(field.stop - field.start, b"\0")
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made) + bytes(1024)


@pytest.mark.parametrize(
    "changes",
    [
        [(MODE, b"\xff" * 8)],
        [(MODE, b"\x80\0\0\0\xff\xff\xff\xff")],
        [(MODE, b"0177777"), (TYPE, b"N")],
        [(MODE, b"0140644"), (TYPE, b"N")],
        [(MODE, b"0120777"), (TYPE, b"M")],
    ],
    ids=["below nothing", "more than 16 bits", "type bits that are none", "a socket's", "a link's without a target"],
)
def test_modes_that_no_tar_has(tmp_path: Path, changes: Sequence[tuple[slice, bytes]]) -> None:
    """An entry whose mode or typeflag is none is a regular file, for a root filesystem as for a base, and is written again."""
    (tmp_path / "x.tar").write_bytes(header(*changes, format_=tarfile.GNU_FORMAT))
    [entry] = unpack_tar(str(tmp_path / "x.tar"), str(tmp_path / "spool"), 1)
    [member] = read_contents(as_layer(tmp_path / "x.tar")).members
    assert stat.S_IFMT(entry.mode) == stat.S_IFMT(member.entry.mode) == stat.S_IFREG
    assert entry.mode == member.entry.mode
    assert len(list(lines(Tree.of([entry]), files=None))) == 3


@pytest.mark.parametrize("field", [MAJOR, MINOR])
def test_devices_that_linux_cannot_have(tmp_path: Path, field: slice) -> None:
    """A device whose numbers are too large for the kernel is an error that names it: its listing could not be read back."""
    (tmp_path / "x.tar").write_bytes(header((TYPE, b"3"), (field, b"7777777")))
    with pytest.raises(InputError, match=r"x\.tar: /x: it is a device .* which Linux cannot have"):
        unpack_tar(str(tmp_path / "x.tar"), str(tmp_path / "spool"), 1)


@pytest.mark.parametrize(
    "line",
    [
        "./x type=char mode=0644 uid=0 gid=0 time=1.0 device=native,1",
        "./x type=char mode=0644 uid=0 gid=0 time=1.0 device=native",
        "./x type=char mode=0644 uid=0 gid=0 time=1.0 device=native,99999999999,3",
        "./x type=file mode=777777777777777777777777 uid=0 gid=0 time=1.0 size=0",
        "./x type=file mode=100644 uid=0 gid=0 time=1.0 size=0",
        "./x type=file mode=-1 uid=0 gid=0 time=1.0 size=0",
        "./x type=file mode=0644 uid=0 gid=0 time=1.0 size=0 contents=a\\000b",
        "./x\0 type=file mode=0644 uid=0 gid=0 time=1.0 size=0",
        "./x type=link mode=0777 uid=0 gid=0 time=1.0 link=a\\000",
    ],
)
def test_lines_of_no_listing(line: str) -> None:
    """A device without its numbers or with others than there are, a mode that is none, and a NUL are errors that name the line."""
    with pytest.raises(InputError, match="name: line 2 is not one of a layer's listing"):
        read([b"#mtree\n", f"{line}\n".encode()], b"/", "name")


def test_a_nul_in_a_listing() -> None:
    """No file has such a name, so that the error names the line."""
    with pytest.raises(InputError, match=r"name: line 1"):
        read([b"./a\\000b type=file mode=0644 uid=0 gid=0 time=1.0 size=0\n"], b"/", "name")


def test_an_attributes_name_in_a_listing() -> None:
    """Whatever bytes an attribute's name has, a comma among them, a layer's listing gives it back."""
    entry = Entry(
        path=b"d",
        mode=stat.S_IFDIR | 0o755,
        xattrs=tuple(sorted((b"user." + bytes((byte,)), b",=") for byte in range(1, 256) if byte != ord("="))),
    )
    assert read(lines(Tree.of([entry]), files=None), b"/", "name")[-1] == entry


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_listing_of_no_name(tmp_path: Path, name: str) -> None:
    """A layer.json whose listing cannot be the name of a file is an error that names it."""
    said = {
        "mediaType": MEDIA_TYPES["none"], "digest": f"sha256:{'0' * 64}", "size": 1, "diffId": f"sha256:{'0' * 64}",
        "uncompressedSize": 1, "entries": 1, "blob": "derived", "listing": name, "madeFrom": {"level": 0},
    }  # fmt: skip
    (tmp_path / "layer.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/layer.json: does not describe a layer")):
        open_layer(str(tmp_path))
    with pytest.raises(ValueError, match=r"codec|listing"):  # which whoever reads image.json tells as a damaged one
        derived._layer(said | {"level": 0}, str(tmp_path))


SKIPPABLE = b"\x50\x2a\x4d\x18\5\0\0\0hello"
GZIP, ZSTD = gzip.compress(b"data" * 9), zstandard.ZstdCompressor().compress(b"data" * 9)


@pytest.mark.parametrize(
    "data", [GZIP, ZSTD, SKIPPABLE + ZSTD, SKIPPABLE * 2 + ZSTD + SKIPPABLE], ids=["gzip", "zstd", "one", "more"]
)
def test_frames_that_say_nothing(tmp_path: Path, data: bytes) -> None:
    """What a reader is to skip before compressed data hides none of it."""
    (tmp_path / "blob").write_bytes(data)
    assert b"".join(decompressed(str(tmp_path / "blob"))) == b"data" * 9


def test_members_of_a_gzip_file(tmp_path: Path) -> None:
    """They are one stream, whatever their sizes are."""
    parts = [b"", b"a", bytes(5 << 20), os.urandom(3 << 20), b"b"]
    (tmp_path / "blob").write_bytes(b"".join(map(gzip.compress, parts)))
    assert b"".join(decompressed(str(tmp_path / "blob"))) == b"".join(parts)


BEHIND = {
    "zeros": (GZIP + bytes(512), "has 512 bytes behind"),
    "other bytes": (GZIP + b"garbage", "has 7 bytes behind"),
    "one byte": (GZIP + b"\x1f", "has 1 bytes behind"),
    "half a member": (GZIP + GZIP[:15], "ends in the middle"),
    "no end": (GZIP[:-3], "ends in the middle"),
    "lz4": (b"\x04\x22\x4d\x18" + bytes(20), "lz4"),
    "lz4 behind what is skipped": (SKIPPABLE + b"\x04\x22\x4d\x18" + bytes(20), "lz4"),
}


@pytest.mark.parametrize(("data", "said"), BEHIND.values(), ids=BEHIND)
def test_what_stands_behind_compressed_data(tmp_path: Path, data: bytes, said: str) -> None:
    """Engines refuse all that is no gzip member, so that it is an error that says how much there is; validate names it."""
    (tmp_path / "blob").write_bytes(data)
    with pytest.raises(InputError, match=f"blob: .*{said}"):
        list(decompressed(str(tmp_path / "blob")))
    finder = Finder()
    read_blob(Piece(str(tmp_path / "blob"), len(data)), "layer", finder)
    assert said in " ".join(map(str, finder.problems))
