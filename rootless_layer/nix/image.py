"""An image that a derivation asks for, put together of its layers and of its closure's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.image.admission import admit
from rootless_layer.image.assemble import assemble
from rootless_layer.image.derived import write_derived
from rootless_layer.image.image import Image, Origin
from rootless_layer.image.open import open_fitting
from rootless_layer.image.read import NamedImage
from rootless_layer.layer.contents import store_paths
from rootless_layer.layer.made import DERIVED_IMAGE, IMAGE_JSON, LAYERS
from rootless_layer.layer.of_closure import build_layers, layers_left
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import tag_of
from rootless_layer.sbom.documents import attachment
from rootless_layer.sbom.inventory import take_stock
from rootless_layer.store.closure import Closure
from rootless_layer.store.layering import POPULAR, BySize
from rootless_layer.store.layering_pipeline import Pipeline
from rootless_layer.store.nar_size import nar_sizes
from rootless_layer.system.replace import aside, check_replaceable, writing
from rootless_layer.terminal import quoted

from .request import without

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rootless_layer.image.format import BillForm
    from rootless_layer.image.referrers import Attachment
    from rootless_layer.image.spool import Spool
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.store.layering import Strategy
    from rootless_layer.system.temporary import Temporary

    from .request import ImageRequest


def write_image(request: ImageRequest, target: Path, temporary: Temporary, spool: Spool, tell: Callable[[str], object]) -> Image:
    """Put the image together, and write it as a derived image, whole or not at all.

    ``spool`` names new files for what has to be decompressed; ``tell`` is
    :func:`rootless_layer.image.admission.admit`'s. Raises
    :class:`InputError` for what cannot be put together, and what reading and splitting
    raise.
    """
    check_replaceable(target, DERIVED_IMAGE)
    names = (tag_of(f"{request.name}:{request.tag}"),) if request.name else ()
    base = _base(request, spool)
    below = Image.empty(Platform.host()) if base is None else base
    above = [layer for path in request.layers for layer in open_fitting(path, Platform.host(), spool).layers]
    with aside(target, temporary, DERIVED_IMAGE) as folder, writing(target):
        closure = () if request.closure is None else _closure_layers(request, request.closure, below.layers, above, folder)
        stage: dict[str, str] = {}
        if not below.origin.name and _is_derived(request.base):  # a stage of this image, which nobody else has
            stage, below = dict(below.annotations), attrs.evolve(below, origin=Origin())
        image = assemble(
            below, closure, above, (request.config,), created=request.created, platform=_platform(request, below.platform),
            closure_by="rootless-layer nix-image", annotations=stage | request.annotations,
        )  # fmt: skip
        if request.unknown:
            image = image.extended(request.unknown)
            for name in request.unknown:
                tell(f"warning: config: neither the image-spec nor docker has a property {quoted(name)}; it is kept")
        admit([NamedImage(image, names)], tell)
        attached = () if request.sbom is None else (_bill(image, names, request.sbom, request.sbom_closure, tell),)
        write_derived(image, names, folder, passing=spool.folder, attached=attached)
    return image


def _bill(
    image: Image, names: tuple[str, ...], form: BillForm, closure: Closure | None, tell: Callable[[str], object]
) -> Attachment:
    bill = take_stock(image, names[0] if names else "", closure or Closure())
    for path, why in bill.unread.items():
        tell(f"{path}: {why}")
    return attachment(bill, form)


def _base(request: ImageRequest, spool: Spool) -> Image | None:
    if not request.base:
        return None
    platform = Platform.parse(f"linux/{request.architecture}") if request.architecture else Platform.host()
    image = open_fitting(request.base, platform, spool, request.base_name)
    return image if request.inherit_config else image.with_variables_only()


def _is_derived(path: str) -> bool:
    return os.path.isfile(os.path.join(path, IMAGE_JSON))


def _platform(request: ImageRequest, there: Platform) -> Platform | None:
    if not request.architecture or there.architecture == request.architecture:
        return None
    return Platform.parse(f"linux/{request.architecture}")


def _closure_layers(
    request: ImageRequest, closure: Closure, below: tuple[LayerBlob, ...], above: list[LayerBlob], folder: Path
) -> tuple[LayerBlob, ...]:
    there = store_paths((*below, *above), closure.store_dir)
    closure = without(closure, (path.path for path in there))
    if not closure.paths:
        return ()
    if request.one_layer:
        return _built(request, closure, 1, POPULAR, folder)
    if request.steps is not None:
        return _built(request, closure, len(closure.paths), Pipeline(request.steps), folder)
    taken = len(below) + len(above) + request.reserved
    by = f" {taken} are taken by the base and what is put on top"
    left = layers_left(request.most, taken, by, hint="Allow more with maxLayers.")
    return _built(request, closure, left, BySize(nar_sizes(closure)), folder)


def _built(request: ImageRequest, closure: Closure, most: int, strategy: Strategy, folder: Path) -> tuple[LayerBlob, ...]:
    return build_layers(
        closure, most, folder / LAYERS, strategy=strategy, source_date_epoch=request.source_date_epoch,
        uid=request.uid, gid=request.gid, uname=request.uname, gname=request.gname, set_times=True,
        allow_sparse=request.allow_sparse, link_identical=request.link_identical,
    )  # fmt: skip
