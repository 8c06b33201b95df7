"""What a layer holds: what no reader should take is a problem, what is odd is a note."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.images import BAD_LAYERS, DIRECTORY, FILE, LINK, LOWER, ODD_LAYERS, Made, check, notes, problems, put, tar, unusual


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_layer_that_no_reader_should_take(folder: Path, name: str) -> None:
    """What would be unpacked differently by different readers, or not at all, is a problem that names the path."""
    layer, expected = BAD_LAYERS[name]
    made = Made(folder, [LOWER, layer]).write()
    found = problems(folder)
    assert re.search(expected, found), found
    assert made.layer(1).name in found


@pytest.mark.parametrize("name", ODD_LAYERS)
def test_what_is_allowed_and_odd_is_a_note(folder: Path, name: str) -> None:
    """What readers take, and a person may want to know, is unusual or a note, and no problem."""
    layer, expected = ODD_LAYERS[name]
    Made(folder, [LOWER, layer]).write()
    assert problems(folder) == ""
    assert expected in unusual(folder) + notes(folder)


@pytest.mark.parametrize(
    "layer",
    [
        tar(("./", DIRECTORY), ("./etc/", DIRECTORY), ("./etc/x", FILE, b"x")),
        tar(("etc/x", FILE), (".wh.old", FILE), ("etc/.wh.a", FILE), ("etc/.wh..wh..opq", FILE)),
        tar((".wh.etc", FILE), ("etc", DIRECTORY), ("etc/x", FILE)),
        tar(("ü" * 120, FILE, b"x"), ("y" * 200, LINK, "ü" * 120)),
        tar(("x", FILE, b"x", {"pax_headers": {"SCHILY.xattr.user.a": "b"}})),
        tar(("x", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3}), ("y", tarfile.FIFOTYPE)),
        tar(),
    ],
)
def test_what_any_reader_takes_is_not_even_a_note(folder: Path, layer: bytes) -> None:
    """Names with a dot before, whiteouts in any order, long names, attributes and devices are as they should be."""
    Made(folder, [LOWER, layer]).write()
    assert check(folder).problems == ()
    assert check(folder).notes == check(folder).unusual == ()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (lambda data: gzip.compress(data)[:-4], "blobs/sha256/"),
        (lambda data: gzip.compress(data)[:-8] + bytes(8), "blobs/sha256/"),
        (lambda data: gzip.compress(data) + b"garbage", "blobs/sha256/"),
        (lambda data: gzip.compress(data[:1536]) + gzip.compress(data[1536:]), ""),
    ],
)
def test_a_compressed_layer_that_is_damaged(folder: Path, stored: Callable[[bytes], bytes], expected: str) -> None:
    """A gzip stream that ends early, or has a wrong checksum, is a problem even where the digest fits; two members are none."""
    Made(folder, stored=stored).write()
    found = problems(folder)
    assert bool(found) == bool(expected), found
    assert expected in found


def test_several_images_share_what_was_read(folder: Path) -> None:
    """A layer that two images have is read once; what is wrong with it is said once."""
    bad = tar(("x", LINK, "none"))
    made = Made(folder, [bad]).write()
    first = json.loads((folder / "index.json").read_text())
    made.change["config"] = put("author", to="another")
    made.write()
    second = json.loads((folder / "index.json").read_text())
    first["manifests"] += second["manifests"]
    (folder / "index.json").write_text(json.dumps(first))
    found = check(folder)
    assert (found.images, found.layers, len(found.problems)) == (2, 1, 1)
