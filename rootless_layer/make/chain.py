"""Layers one upon the other, as nodes of a graph bring them along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.image.image import Image
    from rootless_layer.layer.blob import LayerBlob


@attrs.frozen(slots=True)
class Placed:
    """A layer, and the chain ID that it has upon what it was built upon, wherever else it is put.

    Two layers may have the same bytes, and not mean the same: one may bring back what another
    had, and a third between them changed. What was built upon nothing that is known has none.
    """

    layer: LayerBlob
    chain_id: str = ""


@attrs.frozen(slots=True)
class Made:
    """A node that is made: the digest of its blob or manifest, the layers up to it, the lowest first, and its image."""

    digest: str
    chain: tuple[Placed, ...]
    image: Image | None = None


def placed(image: Image) -> list[Placed]:
    """Give an image's layers."""
    return [Placed(layer, chain_id) for layer, chain_id in zip(image.layers, image.chain_ids, strict=True)]


def missing(there: Sequence[Placed], chain: Sequence[Placed]) -> list[Placed]:
    """Give the layers of a chain that are not there: two may be built upon the same ones."""
    known = {each.chain_id for each in there} - {""}
    return [each for each in chain if each.chain_id not in known]
