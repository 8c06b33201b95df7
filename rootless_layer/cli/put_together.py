"""The work of ``rootless-layer image``, loaded when there is some."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

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
from rootless_layer.layer.of_closure import make_layers, plan_layers
from rootless_layer.oci.config import check_config
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import full_name, tag_of
from rootless_layer.oci.time import created as created_at
from rootless_layer.options.image import ImageOptions, check_something, properties_of
from rootless_layer.options.inputs import Inputs, read_document
from rootless_layer.options.option import rows
from rootless_layer.registry.name import is_registry
from rootless_layer.store.closure import Closure
from rootless_layer.system.replace import writing
from rootless_layer.system.temporary import Temporary

from .command import check_different
from .options import told
from .output import check_output, format_of, write
from .progress import Shower
from .say import say
from .values import as_written, check_epoch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless_layer.image.referrers import Attachment
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.of_closure import Splitting


def put_together(options: ImageOptions) -> None:
    """Put an image together and write it, once nothing is wrong with the options; raises as they are told."""
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
    show = Shower(quiet=options.quiet, verbose=options.verbose)
    with Spool() as spool, contextlib.ExitStack() as stack:
        wanted = options.platform or Platform.host()
        base = open_image(options.base, wanted, spool) if options.base else Image.empty(wanted)
        own = [open_layer(layer) for layer in options.layers]
        closure: tuple[LayerBlob, ...] = ()
        if (splitting := _splitting(options)) is not None:
            specs = splitting.specs(base.layers, len(own))
            if options.cache:  # what comes from there is held until the stack unwinds
                closure = hold_layers(specs, Holder(LayerCache.within(cache_directory()), stack), show)
            elif _takes_digests_last(options) and (pending := plan_layers(specs, show)) is not None:
                closure = pending
            else:
                with _place(options, spool, stack) as place:
                    closure = make_layers(specs, place, show)
        made = assemble(
            base, closure, own, (*configs, flagged), created=created, author=options.author, step=options.step,
            annotations=options.annotations,
        )  # fmt: skip
        attached = () if options.sbom is None else (_bill(options, made, names, splitting),)
        write([NamedImage(made, names, attached=attached)], options, show, several_platforms=False)


def _bill(options: ImageOptions, made: Image, names: tuple[str, ...], splitting: Splitting | None) -> Attachment:
    from rootless_layer.sbom.documents import attachment  # noqa: PLC0415 - few want one
    from rootless_layer.sbom.inventory import take_stock  # noqa: PLC0415 - as above

    bill = take_stock(made, full_name(names[0]) if names else "", Closure() if splitting is None else splitting.closure)
    say(*(f"{path}: {why}" for path, why in bill.unread.items()))
    return attachment(bill, options.sbom or "spdx")


def _splitting(options: ImageOptions) -> Splitting | None:
    """Read how the closure is split, where there is one; what goes with one is refused where there is none."""
    if not options.closure:
        for row in rows(ImageOptions):
            if row.with_closure and getattr(options, row.variable) is not None:
                message = f"--{row.name} goes with --closure, and none is given"
                raise click.UsageError(message)
    return Inputs().splitting(options, told(ImageOptions))


def _is_plain(options: ImageOptions) -> bool:
    return options.compression is None or options.compression.kind == "none"


def _takes_digests_last(options: ImageOptions) -> bool:
    """Say whether nothing that is told or written of a layer stands before its bytes."""
    return format_of(options) == "docker-archive" and not is_registry(options.output or "") and _is_plain(options)


@contextlib.contextmanager
def _place(options: ImageOptions, spool: Spool, stack: contextlib.ExitStack) -> Iterator[str]:
    """Give the directory to which the blobs of a closure's layers go; where they are made again as they stream, nothing.

    Into a layout they are linked; and nothing is compressed twice. Whatever keeps them from being
    written is raised as :class:`OutputError`.
    """
    if format_of(options) == "layout" and not is_registry(options.output or ""):
        target = Path(os.path.realpath(options.output or ""))
        with writing(target):
            yield stack.enter_context(Temporary()).make(str(target.parent), ".rootless-layer-")
    elif _is_plain(options):
        yield ""
    else:
        place = spool()
        with spooled(spool.folder):
            os.mkdir(place)
            os.chmod(place, 0o700)  # whatever the umask is
            yield place
