"""A node's options as the values of the core: a layer's spec, an image's config and layers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

from rootless_layer.image.assemble import assemble
from rootless_layer.image.image import Image
from rootless_layer.oci.config import check_config
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.time import created as created_at
from rootless_layer.options.image import ImageOptions, properties_of
from rootless_layer.options.image import check_something as check_image
from rootless_layer.options.inputs import Inputs, read_document
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.layer import check_something as check_layer
from rootless_layer.options.output import image_format

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from rootless_layer.image.format import Format
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.of_closure import Splitting
    from rootless_layer.options.inputs import Attempt
    from rootless_layer.plan.spec import LayerSpec

    from .faults import Faults
    from .graph import Node


@attrs.define(slots=True)
class Recipes:
    """Reads what nodes name, each closure once; paths are relative to the working directory.

    What is wrong goes to the ``faults``. ``outputs`` and the ``cache`` are left out of the inputs that
    they lie in: all of the file, so that a layer is the same whatever the targets are.
    """

    faults: Faults
    outputs: Sequence[str] = ()
    cache: str | os.PathLike[str] | None = None
    _inputs: Inputs = attrs.field(factory=Inputs)

    def read(self, nodes: Iterable[Node]) -> tuple[dict[str, LayerSpec], dict[str, Splitting]]:
        """Give each layer's spec, without its base, and how each image's closure is split, by name.

        What images say of themselves is checked. What is wrong is added to the faults, and left out.
        """
        specs: dict[str, LayerSpec] = {}
        splittings: dict[str, Splitting] = {}
        for node in nodes:
            attempt: Attempt = partial(self.faults.attempt, f"{node.kind}.{node.name}")
            match node.options:
                case LayerOptions() as options:
                    spec = self._spec(options, attempt, known=bool(node.wrong))
                    if spec is not None and not node.wrong:
                        specs[node.name] = spec
                case options:
                    if not node.wrong:
                        attempt("", check_image, options)
                    _check_properties(options, attempt)
                    if (splitting := self._inputs.splitting(options, attempt)) is not None:
                        splittings[node.name] = splitting
        return specs, splittings

    def _spec(self, options: LayerOptions, attempt: Attempt, *, known: bool) -> LayerSpec | None:
        spec = self._inputs.layer(options, attempt)
        if spec is None:
            return None
        if not known:  # of what is wrong nobody knows what it would be
            attempt("", check_layer, spec, options)
        caches = () if self.cache is None else (self.cache,)
        return attempt("output", partial(spec.apart_from, *self.outputs, caches=caches))


def platform_of(options: LayerOptions | ImageOptions) -> Platform:
    """Give the platform that a node is for: by default this machine's."""
    return options.platform or Platform.host()


def format_of(options: ImageOptions) -> Format:
    """Give the form in which an image is written; raises :class:`InputError` as :func:`image_format` does."""
    return image_format(options.output or "", options.format)


def _check_properties(options: ImageOptions, attempt: Attempt) -> None:
    """Look at all that an image says of itself, a key after the other."""
    for document in options.documents:
        attempt("config", lambda document: check_config(read_document(document)), document)
    for name, properties in properties_of(options).items():
        attempt(name, check_config, properties)


def changes(options: ImageOptions) -> tuple[dict[str, object], ...]:
    """Give what ``config`` says, and over it what the other keys say; raises :class:`InputError`."""
    named = {name: value for properties in properties_of(options).values() for name, value in properties.items()}
    return (*map(read_document, options.documents), named)


def image_of(options: ImageOptions, base: Image | None, closure: Iterable[LayerBlob], layers: Iterable[LayerBlob]) -> Image:
    """Put together the image of a node: layers of its closure and others upon its base, and the properties of its options."""
    below = Image.empty(platform_of(options)) if base is None else base
    when = options.created or created_at(None)
    return assemble(
        below, closure, layers, changes(options), created=when, author=options.author, step=options.step,
        annotations=options.annotations,
    )  # fmt: skip
