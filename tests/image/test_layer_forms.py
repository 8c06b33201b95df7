"""Layers in every form in which engines take them: of no bytes, in any number of frames and members, with names of any kind."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from helpers.images import DIRECTORY, FILE, LAYER, LINK, LOWER, SYMBOLIC, Made, no_spool, sha256, tar
from helpers.users import COMMAND, User

from rootless_layer.image.read import read_images
from rootless_layer.layer.contents import apply_layers, read_contents

WHOLE = tar(("a", FILE, b"one"), ("b", FILE, b"two" * 1000))
SKIPPED = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"


def frames(data: bytes) -> bytes:
    """Compress each 100 bytes as a frame of its own, with frames between that say nothing."""
    return SKIPPED * 2 + b"".join(zstandard.compress(data[at : at + 100]) + SKIPPED for at in range(0, len(data), 100))


def wide(log: int) -> Callable[[bytes], bytes]:
    """Compress with a window of so many bits, as a stream whose end is not known when it begins."""

    def compress(data: bytes) -> bytes:
        parameters = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=0)
        stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return bytes(stream.compress(data) + stream.flush())

    return compress


FORMS: dict[str, tuple[bytes, Callable[[bytes], bytes], str]] = {
    "no bytes": (b"", bytes, ""),
    "gzip of none": (b"", gzip.compress, "+gzip"),
    "zstd of none": (b"", zstandard.compress, "+zstd"),
    "one block of zeros": (bytes(512), bytes, ""),
    "no end marker": (WHOLE[:-1024], gzip.compress, "+gzip"),
    "an end of many blocks": (WHOLE + bytes(20480), gzip.compress, "+gzip"),
    "gzip members": (
        WHOLE,
        lambda data: b"".join(gzip.compress(data[at : at + 100]) for at in range(0, len(data), 100)),
        "+gzip",
    ),
    "an empty gzip member first": (WHOLE, lambda data: gzip.compress(b"") + gzip.compress(data) + gzip.compress(b""), "+gzip"),
    "zstd frames": (WHOLE, frames, "+zstd"),
    "nothing but skippable frames": (b"", lambda data: SKIPPED * 3 + (zstandard.compress(data) if data else b""), "+zstd"),
    "a window of 256 MiB": (WHOLE, wide(28), "+zstd"),
    "a window of 2 GiB": (WHOLE, wide(31), "+zstd"),
    "gzip called plain": (WHOLE, gzip.compress, ""),
    "plain called gzip": (WHOLE, bytes, "+gzip"),
    "zstd called gzip": (WHOLE, zstandard.compress, "+gzip"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_layer_of_every_form(user: User, folder: Path, name: str) -> None:
    """It is built upon, its files are told, it is written on with the type that its bytes have, and all of it is valid."""
    plain, stored, kind = FORMS[name]
    base = Made(folder / "base", [LOWER, plain], stored=stored, media_type=LAYER + kind).write().folder
    built = user.build("--base", base, "--platform", "linux/amd64", output="layer")
    assert built.status == 0, built.err
    assert user.run([*COMMAND, "validate", base]).status == 0
    made = user.run([*COMMAND, "image", "--base", base, "--platform", "linux/amd64", "-t", "x:1", "-o", user.home / "image"])
    assert made.status == 0, made.err
    checked = user.run([*COMMAND, "validate", user.home / "image"])
    assert checked.status == 0, checked.err
    again = user.run([*COMMAND, "diff", base, user.home / "image", "--platform", "linux/amd64"])
    assert (again.status, again.out) == (0, ""), again.err


LINKED = tar(
    ("usr", DIRECTORY), ("usr/lib", DIRECTORY), ("lib", SYMBOLIC, "usr/lib"), ("abs", SYMBOLIC, "/usr"), ("usr/lib/a", FILE, b"a")
)
NAMES: dict[str, tuple[list[bytes], dict[str, bytes]]] = {
    "up and down": ([tar(("etc", DIRECTORY), ("etc/../srv", FILE, b"1"), ("none/../srv2", FILE, b"2"))], {"srv": b"1", "srv2": b"2"}),
    "absolute": ([tar(("/etc", DIRECTORY), ("//etc/./f", FILE, b"1"), ("/etc/g", LINK, "/etc/f"))], {"etc/f": b"1", "etc/g": b"1"}),
    "a file through a link": ([LINKED, tar(("lib/b", FILE, b"b"), ("abs/lib/c", FILE, b"c"))], {"usr/lib/a": b"a", "usr/lib/b": b"b", "usr/lib/c": b"c"}),
    "a hard link through a link": (
        [LINKED, tar(("d", LINK, "lib/a"), ("abs/e", LINK, "abs/lib/../lib/a"))], {"d": b"a", "usr/e": b"a", "usr/lib/a": b"a"}),
    "a hard link through a link of its own": (
        [tar(("usr", DIRECTORY), ("usr/a", FILE, b"a"), ("l", SYMBOLIC, "usr"), ("b", LINK, "l/a"), ("l/c", LINK, "b"))],
        {"usr/a": b"a", "b": b"a", "usr/c": b"a"}),
    "a link in the place of a directory": (
        [tar(("d/f", FILE, b"1"), ("e", DIRECTORY), ("d", SYMBOLIC, "e"), ("d/g", FILE, b"2"))], {"e/g": b"2"}),
    "a directory in the place of a link": ([LINKED, tar(("lib", DIRECTORY), ("lib/b", FILE, b"b"))], {"lib/b": b"b", "usr/lib/a": b"a"}),
    "a whiteout through a link": ([LINKED, tar(("lib/.wh.a", FILE), ("x", FILE, b"x"))], {"x": b"x"}),
    "a link that is removed first": ([LINKED, tar((".wh.lib", FILE), ("lib/b", FILE, b"b"))], {"lib/b": b"b", "usr/lib/a": b"a"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_where_engines_put_them(user: User, folder: Path, name: str) -> None:
    """A base's files are where podman and docker have them, for a script that is shown them, for inspect and for diff."""
    layers, files = NAMES[name]
    base = Made(folder / "base", layers).write().folder
    text = 'find . -type f ! -name found | sort | while read -r path; do echo "$path $(cat $path)"; done > found\n'
    words = ["--base", base, "--platform", "linux/amd64", "--view", "directory", "--script", user.script(text)]
    built = user.build(*words, output="layer")
    assert built.status == 0, built.err
    with tarfile.open(next((user.home / "layer/blobs/sha256").iterdir())) as archive:
        found = archive.extractfile("found")
        assert found is not None
        assert found.read().decode().splitlines() == sorted(f"./{path} {data.decode()}" for path, data in files.items())
    assert user.run([*COMMAND, "validate", base]).status == 0
    tree = apply_layers(map(read_contents, read_images(str(base), no_spool)[0].image.layers))
    data = {path: member.digest for path, member in tree.items() if member.entry.is_regular}
    assert data == {path.encode(): sha256(data) for path, data in files.items()}
