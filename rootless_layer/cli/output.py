"""What ``image`` and ``merge`` write, and how they tell it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rootless_layer.image.index import referrers, top_digest
from rootless_layer.image.signing import check_signer, sign
from rootless_layer.image.write import check_target, write_images
from rootless_layer.options.image import check_written
from rootless_layer.options.output import image_format
from rootless_layer.progress import Progress
from rootless_layer.registry.name import is_registry

from .made import of_images, say_made
from .say import check_stdout, give, give_json
from .values import as_written
from .versioned import versioned

if TYPE_CHECKING:
    from rootless_layer.image.format import Format
    from rootless_layer.image.read import NamedImage
    from rootless_layer.options.image import ImageOptions

    from .progress import Shower


def format_of(options: ImageOptions) -> Format:
    """Give the format that is asked for, or follows from the output's name."""
    with as_written("--output"):
        return image_format(options.output or "", options.format)


def check_output(options: ImageOptions) -> None:
    """Refuse an output to which nothing can be written, before any work."""
    output, kind = options.output or "", format_of(options)
    with as_written():
        check_written(options)
        if options.sign_by is not None:
            check_signer(options.sign_by)
    if output == "-" and kind == "layout":
        message = "an image layout is a directory, so it cannot go to stdout"
        raise click.BadParameter(message, param_hint="--format")
    if output == "-" and options.as_json:
        message = "stdout takes the archive or the JSON, not both"
        raise click.BadParameter(message, param_hint="--json")
    if output == "-":
        check_stdout()
    else:
        check_target(output, kind)


def write(images: list[NamedImage], options: ImageOptions, show: Shower, *, several_platforms: bool) -> None:
    """Write images, and tell what was written."""
    output = options.output or ""
    stream = sys.stdout.buffer if output == "-" else None
    try:
        kind = format_of(options)
        for each in referrers(images, several_platforms=several_platforms) if kind == "docker-archive" else ():
            show(Progress("check", note=f"{each.digest} is left out: a docker-archive has no manifest that it is attached to"))
        written = write_images(images, output, kind, several_platforms=several_platforms, stream=stream, progress=show)
    finally:
        show.finish()
    if options.sign_by is not None:
        sign(options.sign_by, output, top_digest(images, several_platforms=several_platforms))
    if options.as_json:
        known = {"known": show.known, "layersFound": show.found} if options.cache else {}
        give_json([versioned(_described(stored, _digest(stored, output)) | known) for stored in written])
    elif output != "-" and not options.quiet:
        give(_digest(stored, output) for stored in written)
    if output != "-":
        say_made(of_images([stored.image for stored in written], output, kind), quiet=options.quiet, verbose=options.verbose)


def _digest(stored: NamedImage, output: str) -> str:
    return stored.image.pushed.digest if is_registry(output) else stored.image.manifest_digest


def _described(stored: NamedImage, digest: str) -> dict[str, object]:
    return {
        "manifestDigest": digest,
        "names": list(stored.names),
        "platform": str(stored.image.platform),
        "layers": [layer.descriptor.to_json() | {"diffId": layer.diff_id} for layer in stored.image.layers],
    }
