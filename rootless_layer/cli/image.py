"""``rootless-layer image``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.cache.build import Holder, hold_layers
from rootless_layer.cache.layers import LayerCache
from rootless_layer.cache.place import cache_directory
from rootless_layer.errors import InputError
from rootless_layer.image.assemble import assemble
from rootless_layer.image.image import Image
from rootless_layer.image.open import open_image
from rootless_layer.image.read import NamedImage
from rootless_layer.image.spool import Spool, spooled
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.of_closure import make_layers
from rootless_layer.oci.config import check_config
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import tag_of
from rootless_layer.oci.time import created as created_at
from rootless_layer.options.image import ImageOptions, check_something, properties_of
from rootless_layer.options.inputs import Inputs, read_document
from rootless_layer.options.option import of_command, rows
from rootless_layer.system.replace import writing
from rootless_layer.system.temporary import Temporary

from .command import Strict, check_different
from .options import of_table, told
from .output import check_output, format_of, write
from .progress import Shower
from .values import as_written, check_epoch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.of_closure import Splitting
    from rootless_layer.progress import Report


@click.command(cls=Strict)
@of_table(ImageOptions)
def image(**given: Any) -> None:  # noqa: ANN401 - click's own values
    """Put an image together from a base and layers that were built apart."""
    options = of_command(ImageOptions, given)
    check_different(options.layers, "--layer")
    flagged = {name: value for properties in properties_of(options).values() for name, value in properties.items()}
    configs = [*map(read_document, options.documents)]
    try:
        check_config(*configs)
    except InputError:
        check_config(*configs, flagged)  # all that is wrong at once
    with as_written():
        check_config(flagged)
        Image.empty(Platform.host()).with_author(options.author)
    with as_written("--tag"):
        names = tuple(dict.fromkeys(map(tag_of, options.tag)))
    check_epoch()
    created = options.created or created_at(None)
    with as_written():
        check_something(options)
    check_output(options)
    show = Shower(quiet=options.quiet)
    with Spool() as spool, contextlib.ExitStack() as stack:
        wanted = options.platform or Platform.host()
        base = open_image(options.base, wanted, spool) if options.base else Image.empty(wanted)
        own = [open_layer(layer) for layer in options.layers]
        closure: tuple[LayerBlob, ...] = ()
        if (splitting := _splitting(options)) is not None:
            place = _place(options, spool, stack)
            closure = _closure_layers(splitting, (base.layers, len(own)), place, options, stack, show)
        made = assemble(base, closure, own, (*configs, flagged), created=created, author=options.author)
        write([NamedImage(made, names)], options, show, several_platforms=False)


def _splitting(options: ImageOptions) -> Splitting | None:
    """Read how the closure is split, where there is one; what goes with one is refused where there is none."""
    if not options.closure:
        for row in rows(ImageOptions):
            if row.with_closure and getattr(options, row.variable) is not None:
                message = f"--{row.name} goes with --closure, and none is given"
                raise click.UsageError(message)
    return Inputs().splitting(options, told(ImageOptions))


def _closure_layers(  # noqa: PLR0913, PLR0917 - it is called from one place
    splitting: Splitting,
    around: tuple[Sequence[LayerBlob], int],
    folder: contextlib.AbstractContextManager[str],
    options: ImageOptions,
    stack: contextlib.ExitStack,
    progress: Report,
) -> tuple[LayerBlob, ...]:
    """Make layers of a closure, for an image with the layers below them, and so many above, that are ``around``.

    ``folder`` gives the directory to which their blobs go, or nothing where they are derived;
    those that come from the cache stay there until the ``stack`` unwinds.
    """
    specs = splitting.specs(*around)
    if options.cache:
        return hold_layers(specs, Holder(LayerCache.within(cache_directory()), stack), progress)
    with folder as place:
        return make_layers(specs, place, progress)


@contextlib.contextmanager
def _place(options: ImageOptions, spool: Spool, stack: contextlib.ExitStack) -> Iterator[str]:
    """Give the directory to which the blobs of a closure's layers go; where they are made again as they stream, nothing.

    Into a layout they are linked; and nothing is compressed twice. Whatever keeps them from being
    written is raised as :class:`OutputError`.
    """
    if format_of(options) == "layout":
        target = Path(os.path.realpath(options.output or ""))
        with writing(target):
            yield stack.enter_context(Temporary()).make(str(target.parent), ".rootless-layer-")
    elif options.compression is None or options.compression.kind == "none":
        yield ""
    else:
        place = spool()
        with spooled(spool.folder):
            os.mkdir(place)
            os.chmod(place, 0o700)  # whatever the umask is
            yield place
