"""An image that a derivation asks for, put together of its layers and of its closure's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.image.admission import admit
from rootless_layer.image.assemble import assemble
from rootless_layer.image.derived import write_derived
from rootless_layer.image.image import Image
from rootless_layer.image.open import open_fitting
from rootless_layer.image.read import NamedImage
from rootless_layer.layer.contents import store_paths
from rootless_layer.layer.made import DERIVED_IMAGE, LAYERS
from rootless_layer.layer.of_closure import build_layers
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import tag_of
from rootless_layer.store.layering import POPULAR
from rootless_layer.store.layering_pipeline import Pipeline
from rootless_layer.system.replace import aside, check_replaceable, writing

from .request import without

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rootless_layer.image.spool import Spool
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.store.closure import Closure
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
        image = assemble(
            below, closure, above, (request.config,), created=request.created, platform=_platform(request, below.platform),
            closure_by="rootless-layer nix-image",
        )  # fmt: skip
        admit([NamedImage(image, names)], tell)
        write_derived(image, names, folder, passing=spool.folder)
    return image


def _base(request: ImageRequest, spool: Spool) -> Image | None:
    if not request.base:
        return None
    platform = Platform.parse(f"linux/{request.architecture}") if request.architecture else Platform.host()
    return open_fitting(request.base, platform, spool, request.base_name)


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
    used = len(below) + len(above) + request.counted
    if request.steps is not None:
        return _built(request, closure, len(closure.paths), Pipeline(request.steps), folder)
    if used >= request.most:
        message = (
            f"of {request.most} layers {used} are taken by the base and what is put on top: none is left for the store paths"
        )
        raise InputError(message, hint="Allow more with maxLayers.")
    return _built(request, closure, request.most - used, POPULAR, folder)


def _built(request: ImageRequest, closure: Closure, most: int, strategy: Strategy, folder: Path) -> tuple[LayerBlob, ...]:
    return build_layers(
        closure, most, folder / LAYERS, strategy=strategy, source_date_epoch=request.source_date_epoch,
        uid=request.uid, gid=request.gid, set_times=True,
        allow_sparse=request.allow_sparse,
    )  # fmt: skip
