"""Chains of layers: what an image brings along, and which layers of a chain are not there yet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.image.image import Image
from rootless_layer.layer.blob import LayerBlob, Piece
from rootless_layer.make.chain import Placed, missing, placed
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor, Platform, chain_ids, sha256


def blob(name: str) -> LayerBlob:
    """Make a layer whose bytes are its name."""
    digest = sha256(name.encode())
    return LayerBlob(Descriptor(MEDIA_TYPES["none"], digest, len(name)), digest, Piece(name, len(name)))


def image(names: str) -> Image:
    """Make an image of layers, a letter each, the lowest first."""
    return Image.empty(Platform("linux", "amd64")).append(*map(blob, names))


def chain(names: str) -> tuple[Placed, ...]:
    """Make the chain of an image."""
    return tuple(placed(image(names)))


def named(layers: list[Placed]) -> str:
    """Give the names of layers."""
    return "".join(each.layer.piece.path for each in layers if each.layer.piece is not None)


def test_an_images_layers_have_its_chain_ids() -> None:
    """Each layer has the chain ID that it has in the image, the lowest first; a lone layer's is its diff ID."""
    found = placed(image("abc"))
    assert named(found) == "abc"
    assert [each.chain_id for each in found] == chain_ids(sha256(name.encode()) for name in "abc")
    assert found[0].chain_id == found[0].layer.diff_id
    assert placed(image("")) == []


@pytest.mark.parametrize(
    ("there", "brought", "left"),
    [
        ("", "abc", "abc"), ("ab", "abc", "c"), ("abc", "ab", ""), ("ab", "ab", ""), ("ab", "acd", "cd"), ("ba", "ab", "ab"),
        ("aba", "ab", ""), ("ab", "aba", "a"), ("b", "ab", "ab"),
    ],
)  # fmt: skip
def test_what_two_chains_share_is_missing_once(there: str, brought: str, left: str) -> None:
    """Layers count as there when they are upon the same ones; the same bytes upon others are another layer."""
    assert named(missing(chain(there), chain(brought))) == left


def test_a_layer_without_a_chain_is_always_missing() -> None:
    """Where nothing is known of what a layer was built upon, it is not taken for another without one."""
    unknown = Placed(blob("a"))
    assert missing([unknown], [unknown]) == [unknown]
    assert missing([*chain("a"), unknown], [Placed(blob("b")), *chain("a")]) == [Placed(blob("b"))]


@given(*[st.text("abc", max_size=4)] * 2)
def test_chains_put_together_hold_each_layer_once(one: str, other: str) -> None:
    """What is there and what is missing are all of both chains, in order, and nothing is missing any more."""
    there, brought = [*chain(one)], chain(other)
    both = [*there, *missing(there, brought)]
    assert both[: len(there)] == there
    assert {each.chain_id for each in both} == {each.chain_id for each in (*there, *brought)}
    assert len({each.chain_id for each in both}) == len(both)
    assert missing(both, brought) == []
