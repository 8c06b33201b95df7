"""What a node is built upon: layers of the file, and images and layers that are none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rootless_layer.cache.bases import base_upon
from rootless_layer.image.admission import check_base
from rootless_layer.image.image import Image

from .chain import Made, Placed, placed, stacked
from .resolve import platform_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rootless_layer.image.open import Foreign
    from rootless_layer.oci.descriptor import Platform
    from rootless_layer.options.layer import LayerOptions
    from rootless_layer.plan.base import LazyBase

    from .graph import Node


@attrs.frozen(slots=True)
class Below:
    """Gives what nodes are built upon, once all that they need is ``made``; ``foreign`` reads what is no node."""

    made: Mapping[str, Made]
    foreign: Foreign
    cache: Path

    def of_layer(self, options: LayerOptions, bases: Sequence[str]) -> tuple[LazyBase | None, list[Placed]]:
        """Give what nodes and images come to, put one upon the other, of the file's layers each once; nothing of none."""
        platform = platform_of(options)
        chain, said = stacked(bases, self.made, lambda base: check_base(self.foreign.read(base, platform), base))
        if not bases:
            return None, chain
        layers = (each.layer for each in chain)
        return base_upon(layers, self.cache, most_bytes=options.most_bytes, run_config=said), chain

    def of_image(self, node: Node, name: str | None, platform: Platform) -> tuple[Image | None, list[Placed]]:
        """Give an image's base, where it has one, and the layers of that."""
        if name is None:
            return None, []
        if name not in node.needs:
            image = self.foreign.read(name, platform)
            return image, placed(image)
        made = self.made[name]
        image = made.image or Image.empty(platform).append(*(each.layer for each in made.chain))
        return image, list(made.chain)
