"""Layers one upon the other, as nodes of a graph bring them along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rootless_layer.oci.run_config import NONE, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
    """A node that is made: the digest of its blob or manifest, the layers up to it, the lowest first, and its image.

    ``run_config`` is what scripts take that run upon it.
    """

    digest: str
    chain: tuple[Placed, ...]
    image: Image | None = None
    run_config: RunConfig = NONE


def placed(image: Image) -> list[Placed]:
    """Give an image's layers."""
    return [Placed(layer, chain_id) for layer, chain_id in zip(image.layers, image.chain_ids, strict=True)]


def missing(there: Sequence[Placed], chain: Sequence[Placed]) -> list[Placed]:
    """Give the layers of a chain that are not there: two may be built upon the same ones."""
    known = {each.chain_id for each in there} - {""}
    return [each for each in chain if each.chain_id not in known]


def stacked(names: Iterable[str], made: Mapping[str, Made], read: Callable[[str], Image]) -> tuple[list[Placed], RunConfig]:
    """Put nodes, by their names, and images that ``read`` gives one upon the other: give their layers, each of a node's once.

    The second value is what scripts take of the config of the uppermost that says anything.
    """
    chain: list[Placed] = []
    said = NONE
    for name in names:
        if name in made:
            chain += missing(chain, made[name].chain)
            said = made[name].run_config or said
        else:
            image = read(name)
            chain += placed(image)
            said = image.run_config or said
    return chain, said
