"""The command's part for Nix: what a derivation's builder calls."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from rootless_layer.cache.bases import base_upon
from rootless_layer.cache.place import cache_to_leave_out
from rootless_layer.errors import InputError
from rootless_layer.image.admission import admit
from rootless_layer.image.open import open_fitting
from rootless_layer.image.read import read_images
from rootless_layer.image.spool import Spool
from rootless_layer.image.write import check_target, write_archive
from rootless_layer.layer.build import build_layer
from rootless_layer.layer.contents import store_paths
from rootless_layer.nix.attributes import Attributes
from rootless_layer.nix.image import write_image
from rootless_layer.nix.request import image_request, layer_request, without
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import path_and_name, tag_of
from rootless_layer.system.files import write_all
from rootless_layer.system.replace import file_aside
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar.compression import BlobWriter, Compression
from rootless_layer.tar.decompression import kind_of
from rootless_layer.tar.parallel import serialise

from .command import Strict
from .say import check_stdout, say
from .values import as_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from rootless_layer.nix.request import LayerRequest
    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.progress import Progress
    from rootless_layer.store.closure import Closure
    from rootless_layer.system.files import Sink
    from rootless_layer.tar.compression import CompressionKind
    from rootless_layer.tree.base import Base

_KINDS: dict[str, CompressionKind] = {"none": "none", "gz": "gzip", "zstd": "zstd"}
_quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")


@click.command("nix-build", cls=Strict)
@click.option("--rootfs", metavar="DIR|TAR", help="A root filesystem that the build itself has made, to start from.")
@_quiet
def nix_build(rootfs: str | None, *, quiet: bool) -> None:
    """Be the builder of a derivation that is a layer: Nix calls it.

    What is asked for is read from the derivation's own attributes (structured or not, those
    that begin with `layer`); the layer is put in its output. docs/nix.md lists the attributes.
    """
    request = layer_request(Attributes.of_build(os.environ, os.getcwd()), rootfs or "")
    with contextlib.ExitStack() as stack:
        spec = _as_in_build(request.spec)
        if request.below and spec.closure is not None:
            spec = attrs.evolve(spec, closure=_less(spec.closure, request, stack))
        if request.bases:
            spec = attrs.evolve(spec, base=_base(request.bases, request.platform, request.output, stack))
        spec = spec.apart_from(caches=_own_cache(request.output) or cache_to_leave_out())
        layer = build_layer(spec, request.output, stage=request.stage, blob=request.blob, progress=_teller(quiet=quiet))
    if not quiet:
        say(f"{layer.descriptor.digest} {request.output}")


def _as_in_build(spec: LayerSpec) -> LayerSpec:
    """Have scripts know how many processes of theirs may run at once, which is this machine's to say."""
    cores = os.environ.get("NIX_BUILD_CORES")
    return attrs.evolve(spec, environment={"NIX_BUILD_CORES": cores, **spec.environment}) if cores and spec.scripts else spec


@click.command("nix-image", cls=Strict)
@_quiet
def nix_image(*, quiet: bool) -> None:
    """Be the builder of a derivation that is a derived image: Nix calls it.

    As `nix-build`, by the attributes that begin with `image`. The output says what the image
    is and where its layers are; `image --base` and `nix-archive` make an archive of it.
    """
    request = image_request(Attributes.of_build(os.environ, os.getcwd()))
    with Spool() as spool, Temporary() as temporary:
        image = write_image(request, Path(request.output), temporary, spool, _said(quiet=quiet))
    if not quiet:
        say(f"{image.manifest_digest} {request.output}")


@click.command("nix-archive", cls=Strict)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Write it there; - is stdout.")
@click.option(
    "--compressor",
    type=click.Choice(["none", "gz", "zstd", "last"]),
    default="none",
    show_default=True,
    help="How the archive is compressed as a whole; `last` is as the last of the images is.",
)
@click.option("-t", "--tag", "--repo_tag", metavar="NAME:TAG", help="Name the one image so, whatever its name is.")
def nix_archive(images: Sequence[str], output: str, compressor: str, tag: str | None) -> None:
    """Make one archive of images, for `docker load` and `podman load`."""
    if output == "-":
        check_stdout()
    with as_written("--tag"):
        names = (tag_of(tag),) if tag else ()
    last, _ = path_and_name(images[-1])
    kind = _KINDS.get(compressor) or _kind_of(last)
    with Spool() as spool, _written(output) as file, _compressed(file, kind) as into:
        found = [stored for path in images for stored in read_images(path, spool)]
        if names and len(found) != 1:
            message = f"one image can have that name, and there are {len(found)}"
            raise click.BadParameter(message, param_hint="--tag")
        named = [attrs.evolve(one, image=one.fitted(), names=names or one.names) for one in found]
        admit(named, _said())
        write_archive(named, into)


def _kind_of(path: str) -> CompressionKind:
    """Give how an image is compressed as a whole, where this program writes what is so compressed."""
    found = "none" if os.path.isdir(path) else kind_of(path)
    for kind in _KINDS.values():
        if kind == found:
            return kind
    message = f"{path}: is compressed by {found}, which this program reads and does not write"
    raise InputError(message, hint="Compress it with gzip or zstd, or name a --compressor.")


@click.command("nix-export", cls=Strict)
@click.argument("image", metavar="IMAGE")
@click.option("--name", default="", metavar="NAME:TAG", help="Which of several.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Write it there; - is stdout.")
def nix_export(image: str, name: str, output: str) -> None:
    """Write the files that an image's layers come to, as one tar."""
    if output == "-":
        check_stdout()
    with contextlib.ExitStack() as stack:
        base = _base((f"{image}#{name}" if name else image,), None, output, stack)
        file = stack.enter_context(_written(output))
        serialise(base.with_({}).archived(), lambda part: write_all(file, part))


def _less(closure: Closure, request: LayerRequest, stack: contextlib.ExitStack) -> Closure:
    """Leave out of a closure what the images below have."""
    spool = stack.enter_context(Spool())
    layers = [layer for path in request.below for layer in open_fitting(path, Platform.host(), spool).layers]
    return without(closure, (path.path for path in store_paths(layers, closure.store_dir)))


def _base(given: Sequence[str], wanted: Platform | None, output: str, stack: contextlib.ExitStack) -> Base:
    """Open what a layer is built upon; what is unpacked is kept in the build's directory, the one place that a build has."""
    spool, platform = stack.enter_context(Spool()), wanted or Platform.host()
    images = [open_fitting(path, platform, spool, name) for path, name in map(path_and_name, given)]
    stack.enter_context(Temporary())  # one janitor for all that is made
    [cache] = _own_cache(output) or (None,)
    return base_upon((layer for image in images for layer in image.layers), cache, in_place=True).open()


def _own_cache(output: str) -> tuple[Path, ...]:
    """Give the cache in the build's directory, where this is a build of Nix and no other place was named."""
    top = os.environ.get("NIX_BUILD_TOP")
    own = top and not os.environ.get("ROOTLESS_LAYER_CACHE")
    return (Path(f"{top}/.rootless-layer-cache-{os.path.basename(output)}"),) if own else ()


def _teller(*, quiet: bool) -> Callable[[Progress], object]:
    say = _said(quiet=quiet)

    def tell(progress: Progress) -> None:
        if progress.note:
            say(progress.note)

    return tell


def _said(*, quiet: bool = False) -> Callable[[str], None]:
    """Give what says a note, where any is to be said."""
    return lambda note: None if quiet else click.echo(f"rootless-layer: {note}", err=True)


@contextlib.contextmanager
def _written(output: str) -> Iterator[BinaryIO]:
    """Give a file that takes its place when it is whole."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    check_target(output, "archive")
    with Temporary() as temporary, file_aside(Path(os.path.realpath(output)), temporary) as file:
        yield file


@attrs.frozen(slots=True)
class _Compressor:
    """What looks like a file to write to, and compresses."""

    writer: BlobWriter

    def write(self, data: bytes | memoryview, /) -> int:
        self.writer.write(memoryview(bytes(data)))  # a part of a stream is gone before the writer is done with it
        return len(data)


@contextlib.contextmanager
def _compressed(file: BinaryIO, kind: CompressionKind) -> Iterator[Sink]:
    if kind == "none":
        yield file
        return
    with BlobWriter(Compression(kind), file) as writer:
        yield _Compressor(writer)
        writer.finish()
