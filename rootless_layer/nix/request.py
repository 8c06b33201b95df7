"""What a derivation asks for: its attributes as a :class:`LayerSpec`, or as the parts of an image."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.time import created as created_at
from rootless_layer.options.inputs import read_document, spec_fields
from rootless_layer.plan.spec import LayerSpec, Script
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.layering import MOST_LAYERS
from rootless_layer.store.read import load_closure

from .config import read_config
from .table import ImageAttributes, LayerAttributes, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rootless_layer.image.format import BillForm
    from rootless_layer.oci.descriptor import Platform
    from rootless_layer.options.layer import LayerOptions
    from rootless_layer.plan.spec import Blob, Stage

    from .attributes import Attributes

    T = TypeVar("T")


@attrs.frozen(kw_only=True, slots=True)
class LayerRequest:
    """A layer that a derivation asks for.

    ``bases`` are what it is built upon, ``below`` the images whose store paths are left
    out of it; ``platform`` chooses among a base's.
    """

    spec: LayerSpec
    output: str
    bases: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    platform: Platform | None = None
    stage: Stage = "auto"
    blob: Blob = "derived"


@attrs.frozen(kw_only=True, slots=True)
class ImageRequest:
    """An image that a derivation asks for.

    ``base`` is what it is built upon (``base_name`` chooses one of several). ``layers``
    are directories of layers, or derived images whose layers are meant. The store paths of
    ``closure`` that none of them has are split into at most ``most`` layers, of which the
    base and ``reserved`` more take their share; they go below ``layers``.
    ``steps`` is a ``layeringPipeline``; with ``one_layer`` the paths are one layer instead. ``config`` has properties
    that are merged into the base's, of which only the variables are taken without ``inherit_config``; ``unknown``
    has those that no specification knows.
    A bill of materials in the form ``sbom`` has the references of ``sbom_closure``.
    """

    output: str
    name: str
    tag: str
    base: str = ""
    base_name: str = ""
    layers: tuple[str, ...] = ()
    closure: Closure | None = None
    most: int = 100
    reserved: int = 0
    one_layer: bool = False
    steps: Steps | None = None
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    allow_sparse: bool = False
    link_identical: bool = False
    source_date_epoch: int = 1
    config: dict[str, Any] = attrs.field(factory=dict)
    unknown: dict[str, Any] = attrs.field(factory=dict)
    inherit_config: bool = True
    created: str = "1970-01-01T00:00:01Z"
    architecture: str = ""
    annotations: dict[str, str] = attrs.field(factory=dict)
    sbom: BillForm | None = None
    sbom_closure: Closure | None = None


def layer_request(attributes: Attributes, rootfs: str = "") -> LayerRequest:
    """Read a layer's attributes, which begin with ``layer``.

    ``rootfs`` is a root filesystem that the build itself has made. Raises
    :class:`InputError` and :class:`ClosureError`, with all that is wrong.
    """
    read = attributes
    values = read.table("layer", LayerAttributes)
    values["rootfs"] = values["rootfs"] or rootfs or None
    options = LayerAttributes(**values)
    tools = _closure(read, "layerTools", options.tools)
    left = tuple(name for name in read.graphs if name not in options.tools)
    closure = _closure(read, "layerClosure", options.closure or left)
    scripts = tuple(_scripts(read, options))
    fields = spec_fields(options, partial(_attempt, read))
    read.check("layer")
    spec = LayerSpec(
        closure=None if closure is None else without(closure, options.without), tools=tools, scripts=scripts, **fields
    )
    return LayerRequest(
        spec=spec, output=read.out, bases=options.base, below=options.below, platform=options.platform,
        stage=options.stage, blob=options.blob,
    )  # fmt: skip


def image_request(attributes: Attributes) -> ImageRequest:
    """Read an image's attributes, which begin with ``image``; raises as :func:`layer_request`."""
    read = attributes
    options = ImageAttributes(**read.table("image", ImageAttributes))
    closure = _closure(read, "imageClosure", options.closure)
    [config] = options.documents or ({},)
    known, unknown = read_config(read_document(config))
    request = ImageRequest(
        output=read.out,
        name=options.name.lower(),
        tag=options.own_tag or output_hash(read.out),
        base=options.base or "",
        base_name=_base_name(options.base_name, options.base_tag),
        layers=options.layers,
        closure=None if closure is None else without(closure, options.without),
        most=MOST_LAYERS if options.max_layers is None else options.max_layers,
        reserved=options.reserved_layers,
        one_layer=options.one_layer,
        steps=options.layering_pipeline,
        uid=options.uid or 0,
        gid=options.gid or 0,
        uname=options.uname or "",
        gname=options.gname or "",
        allow_sparse=bool(options.allow_sparse),
        link_identical=bool(options.link_identical),
        source_date_epoch=options.source_date_epoch or 0,
        config=known,
        unknown=unknown,
        inherit_config=options.inherit_config,
        created=options.created or created_at(None),
        architecture=options.architecture,
        annotations=options.annotations,
        sbom=options.sbom,
        sbom_closure=_closure(read, "imageSbomClosure", options.sbom_closure) or closure,
    )
    read.check("image")
    return request


def output_hash(out: str) -> str:
    """Give the digest in an output's path, which is an image's tag where nobody gives one."""
    return out.rpartition("/")[2].partition("-")[0]


def _base_name(name: str, tag: str) -> str:
    if name and tag:
        return f"{name}:{tag}"
    return name or tag


def _closure(read: Attributes, name: str, graphs: tuple[str, ...]) -> Closure | None:
    found: list[Closure] = []
    for file in read.graph_files(name, graphs):
        with _noting(read):
            found.append(load_closure(file))
    return found[0].merge(*found[1:]) if found else None


def without(closure: Closure, paths: Iterable[str]) -> Closure:
    """Leave store paths out of a closure, and the references to them."""
    gone = frozenset(paths)
    return attrs.evolve(
        closure,
        references={
            path: frozenset(other for other in others if other.path not in gone)
            for path, others in closure.references.items()
            if path.path not in gone
        },
    )


def _scripts(read: Attributes, options: LayerOptions) -> Iterable[Script]:
    for path in options.script:
        with _noting(read):
            if isinstance(path, str):
                # By its name alone: its path in the layer's description would make a reference of it.
                stored = StorePath.containing(path) if path.startswith("/") else None
                yield attrs.evolve(Script.file(path), name=stored.name if stored else path)
    if options.run:
        yield Script.text(options.run, "layerScript")
    if options.command:
        with _noting(read):
            yield Script.command(options.command)


@contextmanager
def _noting(read: Attributes) -> Iterator[None]:
    """Note what is wrong, and go on."""
    try:
        yield
    except InputError as error:
        read.note(error)


def _attempt(read: Attributes, _name: str, make: Callable[..., T], *given: object) -> T | None:
    """Note what is wrong, and give nothing."""
    with _noting(read):
        return make(*given)
    return None
