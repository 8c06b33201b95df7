"""An image put together: a base, the layers of a closure, other layers, and properties of the config."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from .image import BY_CLOSURE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.oci.descriptor import Platform

    from .image import Image


def assemble(  # noqa: PLR0913 - all that an image is made of
    base: Image,
    closure: Iterable[LayerBlob],
    layers: Iterable[LayerBlob],
    changes: Iterable[Mapping[str, object]],
    *,
    created: str,
    platform: Platform | None = None,
    author: str = "",
    step: tuple[str, str] | None = None,
    annotations: Mapping[str, str] = MappingProxyType({}),
    closure_by: str = BY_CLOSURE,
) -> Image:
    """Put layers of a closure upon a base, other layers upon those, each lowest first, and merge ``changes`` in their order.

    ``created`` is the time of the image and of each new row of its history, as RFC 3339 writes a time, and
    ``closure_by`` is the maker of the closure's layers in those rows. ``step`` is who made the image of
    these parts, and a comment, for a row of the history. The platform and the author stay the base's where
    none is given; its annotations do not, and ``annotations`` stand beside those that name it.
    Raises :class:`InputError` as :meth:`.Image.configured` and :meth:`.Image.with_author` do.
    """
    image = base.upon().append(*closure, created=created, created_by=closure_by).append(*layers, created=created)
    for each in changes:
        image = image.configured(each)
    image = image.with_created(created)
    if platform is not None:
        image = image.with_platform(platform)
    if step is not None:
        image = image.with_step(created, *step)
    image = image.with_annotations(annotations)
    return image.with_author(author) if author else image
