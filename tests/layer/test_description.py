"""``layer.json``, read: each value in it is looked at, and an error names the file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rootless_layer.errors import InputError
from rootless_layer.layer.description import Description
from rootless_layer.oci.descriptor import MEDIA_TYPES

DIGEST = f"sha256:{'0' * 64}"
SAID: dict[str, Any] = {
    "mediaType": MEDIA_TYPES["zstd"], "digest": DIGEST, "size": 7, "diffId": DIGEST, "uncompressedSize": 10240, "entries": 2,
    "blob": "derived", "listing": "layer.mtree", "madeFrom": {"epoch": 1, "level": 3, "base": DIGEST},
}  # fmt: skip


def test_what_is_written_is_read() -> None:
    """All of it comes back; only a derived layer's level counts."""
    read = Description.parse(json.dumps(SAID).encode(), "there/layer.json")
    assert read.to_json() == SAID | {"version": 1}
    assert (read.level, read.text("base")) == (3, DIGEST)
    stored = Description.parse(json.dumps(SAID | {"blob": "stored", "madeFrom": {}}).encode(), "there/layer.json")
    assert (stored.level, stored.text("base")) == (None, "")


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("value", [..., None, [], -1, "x\0", {"level": "3"}, {"level": 99}], ids=str)
def test_what_is_wrong_is_said(name: str, value: object) -> None:
    """A value that is missing, of another kind or out of bounds."""
    said = {other: each for other, each in SAID.items() if other != name} | ({} if value is ... else {name: value})
    with pytest.raises(InputError, match=r"^there/layer\.json: does not describe a layer: ."):
        Description.parse(json.dumps(said).encode(), "there/layer.json")


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800"], ids=ascii)
def test_a_listing_lies_beside_its_description(name: str) -> None:
    """Its name is that of a file in the directory."""
    with pytest.raises(InputError, match=r"^there/layer\.json: does not describe a layer: ."):
        Description.parse(json.dumps(SAID | {"listing": name}).encode(), "there/layer.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000], ids=lambda data: str(data[:4]))
def test_what_is_no_description(data: bytes) -> None:
    """No JSON, or none that is an object."""
    with pytest.raises(InputError, match=r"^there/layer\.json: does not describe a layer: ."):
        Description.parse(data, "there/layer.json")
