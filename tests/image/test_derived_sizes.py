"""A derived image says of a layer's size that nobody knows it; read back, nobody does."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from rootless_layer.errors import InputError
from rootless_layer.image.derived import read_derived, write_derived
from rootless_layer.image.image import Image
from rootless_layer.layer.blob import LayerBlob, Piece
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor, Platform, sha256

DATA = bytes(1024)


def image(folder: Path, size: int | None) -> Image:
    """Make an image of one stored layer whose tar has so many bytes."""
    (folder / "blob").write_bytes(DATA)
    digest = sha256(DATA)
    blob = LayerBlob(Descriptor(MEDIA_TYPES["gzip"], digest, len(DATA)), digest, Piece(str(folder / "blob"), len(DATA)), size)
    return Image.empty(Platform("linux", "amd64")).append(blob)


@pytest.mark.parametrize(("size", "written"), [(None, -1), (0, 0), (10240, 10240)])
def test_a_size_comes_back(tmp_path: Path, size: int | None, written: int) -> None:
    """Any size is a number in ``image.json``."""
    made = image(tmp_path, size)
    write_derived(made, (), tmp_path)
    assert [layer["uncompressedSize"] for layer in json.loads((tmp_path / "image.json").read_bytes())["layers"]] == [written]
    [layer] = read_derived(str(tmp_path))[0].layers
    assert layer == attrs.evolve(made.layers[0], piece=layer.piece)
    assert layer.uncompressed_size == size


@pytest.mark.parametrize("wrong", ["0", None, []])
def test_a_size_that_is_no_number(tmp_path: Path, wrong: object) -> None:
    """The description is damaged."""
    write_derived(image(tmp_path, 1), (), tmp_path)
    said = json.loads((tmp_path / "image.json").read_bytes())
    said["layers"][0]["uncompressedSize"] = wrong
    (tmp_path / "image.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="does not describe an image"):
        read_derived(str(tmp_path))
