"""The command's part for images: ``rootless-layer image`` and ``merge``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.errors import InputError
from rootless_layer.options.output import image_format
from rootless_layer.system.machine import unwritable

from .closure import closure_layers, with_closure
from .command import Strict, check_different
from .config import created_at, flags, read_config
from .progress import Shower
from .say import check_stdout, give, give_json
from .values import as_written, platform_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rootless_layer.image.image import Image
    from rootless_layer.image.read import Stored
    from rootless_layer.image.write import Format
    from rootless_layer.progress import Report
    from rootless_layer.tree.base import Base as LayerBase

_OUTPUT = (
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="Write it there; - is stdout. A layout replaces a layout, an archive any file.",
    ),
    click.option(
        "-f",
        "--format",
        "kind",
        type=click.Choice(["layout", "archive", "docker-archive"]),
        help="An image layout (a directory), one archive for docker, podman and skopeo, or a docker-archive"
        " of the old shape.  [default: an archive for - and *.tar, else a layout]",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print what was written: digests, names, platforms."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
)


def _with_output(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OUTPUT):
        command = option(command)
    return command


@click.command(cls=Strict)
@click.option(
    "--base",
    metavar="IMAGE",
    help="Build upon this: an image layout, an archive or a layer's directory; PATH#NAME for one of several.",
)
@with_closure
@click.option("--layer", "layers", multiple=True, metavar="DIR", help="Put this layer on top, as `build -o` made it; repeatable.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME:TAG", help="Name the image; repeatable.")
@click.option(
    "--config", "configs", multiple=True, metavar="JSON|FILE", help="Properties of the image-spec's config; repeatable."
)
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Set a variable; repeatable.")
@click.option("--entrypoint", metavar="JSON|WORD", help="A JSON list, or the one word of it, without blanks.")
@click.option("--cmd", metavar="JSON|WORD", help="A JSON list, or the one word of it, without blanks.")
@click.option("--user", metavar="USER[:GROUP]", help="Whom the container runs as.")
@click.option("--workdir", metavar="DIR", help="Where it runs.")
@click.option("--expose", multiple=True, metavar="PORT[-PORT][/PROTOCOL]", help="A port that it listens on; repeatable.")
@click.option("--volume", "volumes", multiple=True, metavar="DIR", help="Where data is kept; repeatable.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; repeatable.")
@click.option("--stop-signal", metavar="SIGNAL", help="What ends it.")
@click.option("--author", default="", metavar="TEXT", help="Who is responsible for the image.")
@click.option(
    "--created",
    metavar="TIME",
    help="RFC 3339, seconds since 1970, or `now`.  [default: SOURCE_DATE_EPOCH, else 1 second after 1970]",
)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="What it is for.  [default: the base's, else this machine's]")
@_with_output
def image(**options: Any) -> None:  # noqa: ANN401 - click's own values
    """Put an image together from a base and layers that were built apart."""
    from rootless_layer.image.image import BY_CLOSURE, Image  # noqa: PLC0415
    from rootless_layer.image.open import open_image  # noqa: PLC0415
    from rootless_layer.image.read import Stored  # noqa: PLC0415
    from rootless_layer.layer.blob import open_layer  # noqa: PLC0415 - for a quick --help
    from rootless_layer.oci.config import check_config  # noqa: PLC0415
    from rootless_layer.oci.descriptor import Platform  # noqa: PLC0415
    from rootless_layer.oci.reference import tag_of  # noqa: PLC0415

    check_different(options["layers"], "--layer")
    configs, flagged = [*map(read_config, options["configs"])], flags(options)
    try:
        check_config(*configs)
    except InputError:
        check_config(*configs, flagged)  # all that is wrong at once
    with as_written():
        check_config(flagged)
        Image.empty(Platform.host()).configured({}, author=options["author"])
    with as_written("--tag"):
        names = tuple(dict.fromkeys(tag_of(name) for name in options["tags"]))
    platform = platform_of(options["platform"])
    created = created_at(options["created"])
    if not (options["base"] or options["closures"] or options["layers"]):
        message = "there is nothing to make an image of: name a base, a closure or a layer"
        raise click.UsageError(message)
    _check_output(options)
    show = Shower(quiet=options["quiet"])
    with spooling() as spool, contextlib.ExitStack() as stack:
        made = (
            open_image(options["base"], platform or Platform.host(), spool)
            if options["base"]
            else Image.empty(platform or Platform.host())
        )
        own = [open_layer(layer) for layer in options["layers"]]
        for layer in closure_layers(options, made.layers, len(own), _place(options, spool, stack), stack=stack, progress=show):
            made = made.append(layer, created=created, created_by=BY_CLOSURE)
        for layer in own:
            made = made.append(layer, created=created)
        new = None if options["base"] else platform
        for changes in (*configs, flagged):
            made = made.configured(changes)
        made = made.configured({}, created=created, platform=new, author=options["author"])
        _write([Stored(made, names)], options, show, several_platforms=False)


@click.command(cls=Strict)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--index", "name", metavar="NAME:TAG", help="They are one image for several platforms, of this name.")
@_with_output
def merge(images: Sequence[str], name: str | None, **options: Any) -> None:  # noqa: ANN401 - click's own values
    """Put several images with their names into one layout or archive."""
    from rootless_layer.image.read import Stored, is_named, read_images  # noqa: PLC0415
    from rootless_layer.oci.reference import path_and_name, tag_of  # noqa: PLC0415

    check_different(images, "IMAGE...")
    _check_output(options)
    with as_written("--index"):
        name = tag_of(name) if name else name
    with spooling() as spool:
        found: list[Stored] = []
        holders: dict[str, tuple[str, str]] = {}
        for path in images:
            where, wanted = path_and_name(path)
            there = read_images(where, spool)
            chosen = [stored for stored in there if not wanted or is_named(stored, wanted)]
            if not chosen:
                message = f"{where}: holds no image" + (f" of the name {wanted}" if wanted else "")
                names = ", ".join(name for stored in there for name in stored.names)
                raise InputError(message, hint=f"There is: {names}." if names else "")
            found += chosen
            if name:
                for stored in chosen:
                    _check_platform(path, stored, holders)
        if name:  # an image that has several names is there for each of them
            different = {stored.image.manifest_digest: stored.image for stored in found}
            found = [Stored(image, (name,)) for image in different.values()]
        _write(found, options, Shower(quiet=options["quiet"]), several_platforms=bool(name))


def _check_platform(path: str, stored: Stored, holders: dict[str, tuple[str, str]]) -> None:
    """Raise :class:`InputError` for the second image for a platform, with where both are; note the first."""
    digest, platform = stored.image.manifest_digest, str(stored.image.platform)
    other, its = holders.setdefault(platform, (path, digest))
    if its != digest:
        both = f"{path} and {other}: both are" if path != other else f"{path}: holds several images that are"
        message = f"{both} for {platform}"
        raise InputError(message, hint="An index has one image for a platform: leave one out, or name one as PATH#NAME.")


@contextlib.contextmanager
def _place(options: Mapping[str, Any], spool: Callable[[], str], stack: contextlib.ExitStack) -> Iterator[str]:
    """Give the directory to which the blobs of a closure's layers go; where they are made again as they stream, nothing.

    Into a layout they are linked; and nothing is compressed twice. Whatever keeps them from being
    written is raised as :class:`OutputError`.
    """
    from rootless_layer.system.replace import writing  # noqa: PLC0415
    from rootless_layer.system.temporary import Temporary  # noqa: PLC0415

    if _kind(options) == "layout":
        target = Path(os.path.realpath(options["output"]))
        with writing(target):
            yield stack.enter_context(Temporary()).make(str(target.parent), ".rootless-layer-")
    elif options["compression"] is None or options["compression"].kind == "none":
        yield ""
    else:
        place = spool()
        with _spooled(os.path.dirname(place)):
            os.mkdir(place)
            os.chmod(place, 0o700)  # whatever the umask is
            yield place


@contextlib.contextmanager
def _spooled(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(error, place, "nothing can be written there", hint="Set TMPDIR to a directory that is there.") from error


def _kind(options: Mapping[str, Any]) -> Format:
    """Give the format that is asked for, or follows from the output's name."""
    with as_written("--output"):
        return image_format(options["output"], options["kind"])


@contextlib.contextmanager
def spooling() -> Iterator[Callable[[], str]]:
    """Give what names new files for what has to be decompressed; they go in the end."""
    from rootless_layer.system.temporary import Temporary  # noqa: PLC0415

    with Temporary() as temporary:
        folder: list[str] = []

        def new() -> str:
            if not folder:
                place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as build does
                with _spooled(place):
                    folder.append(temporary.make(place, "rootless-layer-"))
            return f"{folder[0]}/{len(os.listdir(folder[0]))}"

        yield new


def base_image(given: Sequence[str], platform: str | None, stack: contextlib.ExitStack) -> Image:
    """Read what a layer is to be built upon, the lowest first; it is there until the stack unwinds."""
    from rootless_layer.image.open import open_image  # noqa: PLC0415
    from rootless_layer.oci.descriptor import Platform  # noqa: PLC0415

    wanted = platform_of(platform) or Platform.host()
    spool = stack.enter_context(spooling())
    image: Image = open_image(given[0], wanted, spool)
    for more in given[1:]:
        for layer in open_image(more, wanted, spool).layers:
            image = image.append(layer)
    return image


def find_base(image: Image, stack: contextlib.ExitStack, progress: Report, *, most_bytes: int | None) -> LayerBase:
    """Open what a layer is to be built upon; it is there until the stack unwinds."""
    from rootless_layer.cache.bases import open_base  # noqa: PLC0415
    from rootless_layer.cache.place import cache_directory  # noqa: PLC0415
    from rootless_layer.system.temporary import Temporary  # noqa: PLC0415
    from rootless_layer.tar.decompression import MOST_BYTES  # noqa: PLC0415

    temporary = stack.enter_context(Temporary())
    return open_base(image, cache_directory(), temporary, most_bytes=most_bytes or MOST_BYTES, progress=progress)


def _check_output(options: Mapping[str, Any]) -> None:
    """Refuse an output to which nothing can be written, before any work."""
    from rootless_layer.image.write import check_target  # noqa: PLC0415 - for a quick --help

    output, kind = options["output"], _kind(options)
    if output == "-" and kind == "layout":
        message = "an image layout is a directory, so it cannot go to stdout"
        raise click.BadParameter(message, param_hint="--format")
    if output == "-" and options["as_json"]:
        message = "stdout takes the archive or the JSON, not both"
        raise click.BadParameter(message, param_hint="--json")
    if output == "-":
        check_stdout()
    else:
        check_target(output, kind)


def _write(images: list[Stored], options: Mapping[str, Any], show: Shower, *, several_platforms: bool) -> None:
    from rootless_layer.image.write import export_images  # noqa: PLC0415

    output, kind = options["output"], _kind(options)
    stream = sys.stdout.buffer if output == "-" else None
    try:
        export_images(images, output, kind, several_platforms=several_platforms, stream=stream, progress=show)
    finally:
        show.end()
    if options["as_json"]:
        give_json([_described(stored) for stored in images])
    elif output != "-" and not options["quiet"]:
        give(stored.image.manifest_digest for stored in images)


def _described(stored: Stored) -> dict[str, object]:
    return {
        "manifestDigest": stored.image.manifest_digest,
        "names": list(stored.names),
        "platform": str(stored.image.platform),
        "layers": [layer.descriptor.to_json() | {"diffId": layer.diff_id} for layer in stored.image.layers],
    }
