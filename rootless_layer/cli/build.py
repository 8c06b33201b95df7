"""``rootless-layer build``."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

import attrs
import click

from rootless_layer.cache.place import cache_directory, cache_to_leave_out
from rootless_layer.oci.descriptor import Platform
from rootless_layer.options.inputs import Inputs
from rootless_layer.options.layer import LayerOptions, check_something
from rootless_layer.options.option import of_command
from rootless_layer.system.temporary import Temporary
from rootless_layer.terminal import is_live
from rootless_layer.tree.ls import facts, lines

from .command import Strict, check_different
from .failure import terminal_for_a_shell
from .made import of_layer, say_made
from .options import of_table, told
from .progress import Shower
from .registries import of_registries
from .say import give
from .values import as_written, check_epoch

if TYPE_CHECKING:
    from rootless_layer.plan.base import LazyBase
    from rootless_layer.plan.spec import LayerSpec


@click.command(cls=Strict)
@of_table(LayerOptions)
@of_registries
def build(**given: object) -> None:
    """Build a layer from a closure, trees or a root filesystem, and scripts.

    The scripts run as root, as far as they can tell. The layer is the same, byte for byte,
    whoever builds it: DIR gets layer.json, the listing layer.mtree, and blobs/sha256/.
    """
    from rootless_layer.cache.build import build_cached, build_uncached, mounts_cache  # noqa: PLC0415 - not for --help
    from rootless_layer.layer.build import build_layer  # noqa: PLC0415 - as above

    options = of_command(LayerOptions, given)
    output = options.output or ""
    if output == "-":
        message = "a layer is a directory, so it cannot go to stdout; `image --layer DIR -o -` writes an archive to a pipe"
        raise click.BadParameter(message, param_hint="--output")
    check_different(options.base, "--base")
    cache = cache_directory() if options.cache else None  # a plain build needs none
    spec = _spec(options)  # what is wrong is said before a base is unpacked
    named = options.verbose or (not options.as_json and (len(spec.scripts) > 1 or is_live(sys.stderr)))
    show = Shower(quiet=options.quiet, named=named, verbose=options.verbose)
    with Temporary(), contextlib.ExitStack() as stack:  # one janitor for all that is made below
        stack.callback(show.finish)
        terminal = stack.enter_context(terminal_for_a_shell()) if options.on_failure else None
        if options.base or options.copied:
            spec = _upon(spec, options, stack)
        if cache is not None:
            layer = build_cached(
                spec, output, cache, stage=options.stage, blob=options.blob,
                progress=show, on_output=show.words, on_failure=terminal,
            )  # fmt: skip
        elif spec.scripts and mounts_cache(spec):
            spec, place = spec.apart_from(output, caches=cache_to_leave_out()), cache_directory()
            layer = build_uncached(
                spec, output, place, stage=options.stage, blob=options.blob,
                progress=show, on_output=show.words, on_failure=terminal,
            )  # fmt: skip
        else:
            spec = spec.apart_from(output, caches=cache_to_leave_out())
            layer = build_layer(
                spec, output, stage=options.stage, blob=options.blob, progress=show, on_output=show.words, on_failure=terminal
            )
    if options.as_json:
        said = layer.to_json() | ({"known": show.known} if options.cache else {})
        if options.as_list:
            said |= {"list": [facts(entry) for entry in layer.tree]}
        give([json.dumps(said, indent=2, sort_keys=True)])
    elif options.as_list:
        give(lines(layer.tree))
    elif not options.quiet:
        give([layer.descriptor.digest])
    say_made(of_layer(layer, output, options.base), quiet=options.quiet, verbose=options.verbose)


def _spec(options: LayerOptions) -> LayerSpec:
    if options.source_date_epoch is None:
        check_epoch()
    spec = Inputs().layer(options, told(LayerOptions))
    assert spec is not None  # noqa: S101 - or a fault was raised
    with as_written():
        check_something(spec, options)
    return spec


def _upon(spec: LayerSpec, options: LayerOptions, stack: contextlib.ExitStack) -> LayerSpec:
    """Read what a layer is to be built upon, and the images that files are copied from."""
    from rootless_layer.cache.bases import base_upon  # noqa: PLC0415 - upon a base only
    from rootless_layer.image.admission import check_base  # noqa: PLC0415 - as above
    from rootless_layer.image.image import run_config_of  # noqa: PLC0415 - as above
    from rootless_layer.image.open import open_image  # noqa: PLC0415 - as above
    from rootless_layer.image.spool import Spool  # noqa: PLC0415 - as above

    wanted = options.platform or Platform.host()
    spool = stack.enter_context(Spool())

    def opened(*names: str) -> LazyBase:
        images = [check_base(open_image(given, wanted, spool), given) for given in names]
        layers = [layer for image in images for layer in image.layers]
        return base_upon(layers, cache_directory(), most_bytes=options.most_bytes, run_config=run_config_of(images))

    copied = {name: opened(name) for name in options.copied}
    copies = [attrs.evolve(each.copy, image=copied[each.image]) for each in options.copies_from]
    return attrs.evolve(spec, base=opened(*options.base) if options.base else None, copies=(*spec.copies, *copies))
