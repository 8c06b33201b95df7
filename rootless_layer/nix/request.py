"""What a derivation asks for: its attributes as a :class:`LayerSpec`, or as the parts of an image."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.time import parse_time, rfc3339
from rootless_layer.plan.spec import LayerSpec, Script
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.read import load_closure
from rootless_layer.tar.compression import Compression

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rootless_layer.plan.spec import Blob, Stage

    from .attributes import Attributes


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
    platform: str = ""
    stage: Stage = "auto"
    blob: Blob = "derived"


@attrs.frozen(kw_only=True, slots=True)
class ImageRequest:
    """An image that a derivation asks for.

    ``base`` is what it is built upon (``base_name`` chooses one of several). ``layers``
    are directories of layers, or derived images whose layers are meant. The store paths of
    ``closure`` that none of them has are split into at most ``most`` layers, of which the
    base and ``counted`` more take their share; they go below ``layers``.
    ``steps`` is a ``layeringPipeline``.
    """

    output: str
    name: str
    tag: str
    base: str = ""
    base_name: str = ""
    layers: tuple[str, ...] = ()
    closure: Closure | None = None
    most: int = 100
    counted: int = 0
    steps: list[Any] | None = None
    uid: int = 0
    gid: int = 0
    allow_sparse: bool = False
    epoch: int = 1
    config: dict[str, Any] = attrs.field(factory=dict)
    created: str = "1970-01-01T00:00:01Z"
    architecture: str = ""


def layer_request(attributes: Attributes, rootfs: str = "") -> LayerRequest:
    """Read a layer's attributes, which begin with ``layer``.

    ``rootfs`` is a root filesystem that the build itself has made. Raises
    :class:`InputError` and :class:`ClosureError`, with all that is wrong.
    """
    read = attributes
    tools = _closure(read, "layerTools")
    left = tuple(name for name in read.graphs if name not in read.words("layerTools"))
    closure = _closure(read, "layerClosure", left)
    left_out = read.words("layerWithout")
    given = {
        "closure": None if closure is None else without(closure, left_out),
        "tools": tools,
        "contents": tuple(read.words("layerContents")),
        "rootfs": read.text("layerRootfs") or rootfs or None,
        "rootfs_listing": read.text("layerRootfsListing") or None,
        "scripts": tuple(_scripts(read)),
        "view": read.one_of("layerView", ("root", "directory"), "root"),
        "environment": {name: str(value) for name, value in read.table("layerEnvironment").items()},
        "timeout": read.seconds("layerTimeout"),
        "writable_closure": read.flag("layerClosureWritable"),
        "allow_sparse": read.flag("layerAllowSparse"),
        "link": read.one_of("layerLink", ("hard", "symbolic", "copy"), "hard"),
        "keep_dirlinks": read.flag("layerKeepDirlinks"),
        "follow_dirlinks": read.flag("layerFollowDirlinks"),
        "conflict": read.one_of("layerConflict", ("error", "first", "last"), "error"),
        "uid": read.number("layerUid", 0),
        "gid": read.number("layerGid", 0),
        "epoch": _seconds(read, "layerEpoch"),
        "compression": _compression(read, "layerCompression"),
    }
    found = {
        "bases": tuple(read.words("layerBases")),
        "below": tuple(read.words("layerBelow")),
        "platform": read.text("layerPlatform"),
        "stage": read.one_of("layerStage", ("auto", "bind", "hardlink", "copy"), "auto"),
        "blob": read.one_of("layerBlob", ("stored", "derived"), "derived"),
    }
    spec = _made(read, LayerSpec, given)
    read.check("layer")
    assert spec is not None  # noqa: S101 - or the check has raised
    return LayerRequest(spec=spec, output=read.out, **found)


def image_request(attributes: Attributes) -> ImageRequest:
    """Read an image's attributes, which begin with ``image``; raises as :func:`layer_request`."""
    read = attributes
    closure = _closure(read, "imageClosure")
    left_out = read.words("imageWithout")
    steps = read.json("imageLayeringPipeline")
    if steps is not None and not isinstance(steps, list):
        read.blame("imageLayeringPipeline", f"{steps!r:.80} is not a list of steps")
    name = read.text("imageName").lower()
    request = ImageRequest(
        output=read.out,
        name=name,
        tag=read.text("imageTag") or output_hash(read.out),
        base=read.text("imageBase"),
        base_name=_base_name(read.text("imageBaseName"), read.text("imageBaseTag")),
        layers=tuple(read.words("imageLayers")),
        closure=None if closure is None else without(closure, left_out),
        most=read.number("imageMaxLayers", 100),
        counted=read.number("imageCountedLayers", 0),
        steps=steps,
        uid=read.number("imageUid", 0),
        gid=read.number("imageGid", 0),
        allow_sparse=read.flag("imageAllowSparse"),
        epoch=_seconds(read, "imageEpoch"),
        config=read.table("imageConfig"),
        created=rfc3339(_moment(read, "imageCreated")),
        architecture=read.text("imageArchitecture"),
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


def _closure(read: Attributes, name: str, default: tuple[str, ...] = ()) -> Closure | None:
    found: list[Closure] = []
    for file in read.graph_files(name, default):
        try:
            found.append(load_closure(file))
        except InputError as error:
            read.note(error)
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


def _scripts(read: Attributes) -> Iterable[Script]:
    for path in read.words("layerScripts"):
        with _noting(read):
            # By its name alone: its path in the layer's description would make a reference of it.
            stored = StorePath.containing(path) if path.startswith("/") else None
            yield attrs.evolve(Script.file(path), name=stored.name if stored else path)
    if text := read.text("layerScript"):
        yield Script.text(text, "layerScript")
    if command := read.words("layerCommand"):
        with _noting(read):
            yield Script.command(command)


@contextmanager
def _noting(read: Attributes) -> Iterator[None]:
    """Note what is wrong, and go on."""
    try:
        yield
    except InputError as error:
        read.note(error)


def _seconds(read: Attributes, name: str) -> int:
    """Read a time in seconds since 1970."""
    return int(_moment(read, name).timestamp())


def _moment(read: Attributes, name: str) -> dt.datetime:
    """Read a time as nixpkgs takes it: RFC 3339, seconds since 1970 (after an ``@`` or not), or ``now``."""
    text = read.text(name, "1")
    try:
        return parse_time(text.removeprefix("@") if text[1:].isdecimal() else text)
    except InputError as error:
        read.blame(name, str(error))
        return dt.datetime.fromtimestamp(1, dt.UTC)


def _compression(read: Attributes, name: str) -> Compression:
    kind, colon, level = read.text(name, "none").partition(":")
    try:
        return Compression.parse({"gz": "gzip"}.get(kind, kind) + colon + level)
    except InputError as error:
        read.blame(name, str(error))
        return Compression()


def _made(read: Attributes, kind: type[LayerSpec], given: dict[str, Any]) -> LayerSpec | None:
    with _noting(read):
        return kind(**given)
    return None
