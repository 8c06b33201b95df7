"""``rootless-layer build``."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import attrs
import click

from rootless_layer.cache.place import cache_directory, cache_to_leave_out
from rootless_layer.oci.descriptor import Platform
from rootless_layer.options.inputs import Inputs
from rootless_layer.options.layer import LayerOptions, check_something
from rootless_layer.options.option import of_command
from rootless_layer.system.temporary import Temporary
from rootless_layer.tree.ls import facts, listing

from .command import Strict, check_different
from .options import of_table, told
from .progress import Shower
from .say import give
from .values import as_written, check_epoch

if TYPE_CHECKING:
    from rootless_layer.image.image import Image
    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.tree.base import Base


@click.command(cls=Strict)
@of_table(LayerOptions)
def build(**given: Any) -> None:  # noqa: ANN401 - click's own values
    """Build a layer from a closure, trees or a root filesystem, and scripts.

    The scripts run as root, as far as they can tell. The layer is the same, byte for byte,
    whoever builds it: DIR gets layer.json, the listing layer.mtree, and blobs/sha256/.
    """
    from rootless_layer.cache.build import build_cached  # noqa: PLC0415 - not for --help
    from rootless_layer.layer.build import build_layer  # noqa: PLC0415 - as above

    options = of_command(LayerOptions, given)
    output = options.output or ""
    if output == "-":
        message = "a layer is a directory, so it cannot go to stdout; `image --layer DIR -o -` writes an archive to a pipe"
        raise click.BadParameter(message, param_hint="--output")
    check_different(options.base, "--base")
    cache = cache_directory() if options.cache else None  # a plain build needs none
    show, spec = Shower(quiet=options.quiet), _spec(options)  # what is wrong is said before a base is unpacked
    with Temporary() as temporary, contextlib.ExitStack() as stack:  # one janitor for all that is made below
        stack.callback(show.end)
        below = _base_image(options, stack) if options.base else None

        def base() -> Base | None:
            if below is None:
                return None
            from rootless_layer.cache.bases import open_base  # noqa: PLC0415 - upon a base only

            return open_base(below, cache_directory(), temporary, most_bytes=options.most_bytes, progress=show)

        if cache is not None:
            chain_id = None if below is None else below.chain_id
            layer = build_cached(
                spec, output, cache, chain_id=chain_id, open_base=base, stage=options.stage, blob=options.blob, progress=show,
                on_output=show.words,
            )  # fmt: skip
        else:
            whole = attrs.evolve(spec.apart_from(output, caches=cache_to_leave_out()), base=base())
            layer = build_layer(whole, output, stage=options.stage, blob=options.blob, progress=show, on_output=show.words)
    if options.as_json:
        said = layer.to_json()
        if options.as_list:
            said |= {"list": [facts(entry) for entry in layer.tree]}
        give([json.dumps(said, indent=2, sort_keys=True)])
    elif options.as_list:
        give(listing(layer.tree))
    elif not options.quiet:
        give([layer.descriptor.digest])


def _spec(options: LayerOptions) -> LayerSpec:
    if options.source_date_epoch is None:
        check_epoch()
    spec = Inputs().layer(options, told(LayerOptions))
    assert spec is not None  # noqa: S101 - or a fault was raised
    with as_written():
        check_something(spec, options)
    return spec


def _base_image(options: LayerOptions, stack: contextlib.ExitStack) -> Image:
    """Read what a layer is to be built upon: an image, and the layers of others on top of it."""
    from rootless_layer.image.open import open_image  # noqa: PLC0415 - upon a base only
    from rootless_layer.image.spool import Spool  # noqa: PLC0415 - as above

    wanted = options.platform or Platform.host()
    spool = stack.enter_context(Spool())
    image, *others = [open_image(given, wanted, spool) for given in options.base]
    return image.append(*(layer for other in others for layer in other.layers))
