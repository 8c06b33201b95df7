"""``rootless-layer pull``, ``push`` and ``copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from rootless_layer.errors import InputError
from rootless_layer.image.bring import Fetching
from rootless_layer.image.choose import choose
from rootless_layer.image.index import OfIndex, is_index
from rootless_layer.image.index import referrers as attached_to
from rootless_layer.image.read import read_all
from rootless_layer.image.referrers import read_attachment
from rootless_layer.image.signing import sign
from rootless_layer.image.spool import Spool
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import path_and_name, tag_of
from rootless_layer.options.image import OUTPUT, ImageOptions
from rootless_layer.options.option import of_command
from rootless_layer.progress import Progress
from rootless_layer.registry.name import is_registry

from .command import Strict
from .options import of_table
from .output import check_output, write
from .progress import Shower
from .registries import of_registries, reference_of
from .say import give, give_json
from .values import as_written
from .versioned import versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.image.read import Found, NamedImage
    from rootless_layer.image.referrers import Attachment


_ATTACH = click.option(
    "--attach", multiple=True, metavar="FILE[:TYPE]",
    help="Attach a file to it, such as a bill of materials; TYPE is its media type. Repeatable.",
)  # fmt: skip


@click.command(cls=Strict)
@click.argument("reference", metavar="REFERENCE")
@click.option("--all-platforms", is_flag=True, help="Pull the images for all platforms, as one for several.")
@click.option("--referrers", is_flag=True, help="Pull what is attached to it, too: signatures, bills of materials.")
@of_table(ImageOptions, "platform", "tag", *OUTPUT)
@of_registries
def pull(reference: str, *, all_platforms: bool, referrers: bool, **given: object) -> None:
    """Pull an image from a registry into a layout or archive.

    REFERENCE is docker://[HOST[:PORT]/]NAME[:TAG][@DIGEST].
    """
    options = of_command(ImageOptions, given)
    name = reference_of(reference, "REFERENCE")
    check_output(options)
    if all_platforms and options.platform is not None:
        message = "--platform is one of them: give it or --all-platforms"
        raise click.UsageError(message)
    if referrers and options.format == "docker-archive":
        message = "a docker-archive has no manifest that anything is attached to: leave out --referrers, or write another form"
        raise click.UsageError(message)
    with as_written("--tag"):
        names = tuple(dict.fromkeys(map(tag_of, options.tag))) or ((name.full_name,) if name.full_name else ())
    show = Shower(quiet=options.quiet, verbose=options.verbose)
    with Spool() as spool:
        wanted = None if all_platforms else options.platform or Platform.host()
        found = read_all(reference, spool, Fetching(wanted, progress=show, referrers=referrers))
        if wanted is not None:
            image = choose(found.images, reference, wanted, "", found.others)
            there = next(stored for stored in found.images if stored.digest == image.origin.digest)
            images = [attrs.evolve(there, image=image, names=names, of_index=OfIndex())]
        else:
            images = [attrs.evolve(stored, names=names) for stored in _images(found, reference)]
        several = len(images) > 1 or (all_platforms and options.format != "docker-archive" and is_index(images))
        _tell_left_out(found, images, show, several_platforms=several)
        write(images, options, show, several_platforms=several)


@click.command(cls=Strict)
@click.argument("image", metavar="IMAGE")
@click.argument("reference", metavar="REFERENCE")
@_ATTACH
@of_table(ImageOptions, "sign-by", "json", "quiet", "verbose")
@of_registries
def push(image: str, reference: str, *, attach: Sequence[str], **given: object) -> None:
    """Push an image to a registry, without what is there already.

    IMAGE is an image layout, an archive, a layer's directory, or PATH#NAME for one of several; several platforms are
    pushed as one image. REFERENCE is docker://[HOST[:PORT]/]NAME[:TAG].
    """
    if is_registry(image):
        message = f"{image}: is in a registry: `rootless-layer copy` takes it to another"
        raise click.BadParameter(message, param_hint="IMAGE")
    reference_of(reference, "REFERENCE")
    options = attrs.evolve(of_command(ImageOptions, given), output=reference)
    check_output(options)
    files = _attachments(attach)
    show = Shower(quiet=options.quiet, verbose=options.verbose)
    with Spool() as spool:
        where, name = path_and_name(image)
        there = read_all(where, spool).named(name)
        found = _images(there, image)
        found[0] = attrs.evolve(found[0], attached=(*found[0].attached, *files))
        several = is_index(found, pushed=True)
        _tell_left_out(there, found, show, several_platforms=several)
        write(found, options, show, several_platforms=several)


@click.command(cls=Strict)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option("--referrers", is_flag=True, help="Copy what is attached to it, too: signatures, bills of materials.")
@_ATTACH
@of_table(ImageOptions, "sign-by", "json", "quiet", "verbose")
@of_registries
def copy(source: str, target: str, *, referrers: bool, attach: Sequence[str], **given: object) -> None:
    """Copy an image of a registry to another name or registry: all platforms, every byte as it is.

    SOURCE and TARGET are docker://[HOST[:PORT]/]NAME[:TAG][@DIGEST].
    """
    from rootless_layer.image.push import push_remote  # noqa: PLC0415 - HTTP and TLS
    from rootless_layer.image.remote import read_remote  # noqa: PLC0415 - as above

    options = attrs.evolve(of_command(ImageOptions, given), output=target)
    for each, argument in ((source, "SOURCE"), (target, "TARGET")):
        reference_of(each, argument)
    check_output(options)
    files = _attachments(attach)
    show = Shower(quiet=options.quiet, verbose=options.verbose)
    try:
        with Spool() as spool:
            remote = read_remote(source, spool(), Fetching(referrers=referrers))
            push_remote(remote, target, files, show)
    finally:
        show.finish()
    if options.sign_by is not None:
        sign(options.sign_by, target, remote.top.digest)
    if options.as_json:
        give_json([versioned({"manifestDigest": remote.top.digest, "names": [target]})])
    elif not options.quiet:
        give([remote.top.digest])


def _attachments(given: Sequence[str]) -> tuple[Attachment, ...]:
    """Read the files that are to be attached."""
    with as_written("--attach"):
        return tuple(map(read_attachment, given))


def _tell_left_out(found: Found, images: list[NamedImage], show: Shower, *, several_platforms: bool) -> None:
    """Say of what is attached that it is left out, where the images are others as they are written."""
    kept = {each.digest for each in attached_to(images, several_platforms=several_platforms)}
    for other in found.others:
        if other.referrer is not None and other.digest not in kept:
            show(Progress("check", note=f"{other.digest} is left out: it is attached to {other.referrer.subject}"))


def _images(found: Found, where: str) -> list[NamedImage]:
    """Give each image once, as engines take it; raises :class:`InputError` where there is none."""
    different = {stored.image.identity: stored for stored in found.whole().images}
    if not different:
        message = f"{where}: holds no image"
        raise InputError(message, hint="`rootless-layer inspect` says what there is.")
    return [attrs.evolve(stored, image=stored.image.fitted()) for stored in different.values()]
