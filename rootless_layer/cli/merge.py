"""``rootless-layer merge``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from rootless_layer.errors import InputError
from rootless_layer.image.index import OfIndex
from rootless_layer.image.read import NamedImage, read_all
from rootless_layer.image.spool import Spool
from rootless_layer.oci.reference import path_and_name, tag_of
from rootless_layer.options.image import OUTPUT, ImageOptions
from rootless_layer.options.option import of_command
from rootless_layer.progress import Progress

from .command import Strict, check_different
from .options import of_table
from .output import check_output, write
from .progress import Shower
from .registries import of_registries
from .values import as_written

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(cls=Strict)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--index", "name", metavar="NAME:TAG", help="Make them one image for several platforms, of this name.")
@of_table(ImageOptions, "annotation", "sign-by", *OUTPUT)
@of_registries
def merge(images: Sequence[str], name: str | None, **given: object) -> None:
    """Put several images with their names into one layout or archive."""
    options = of_command(ImageOptions, given)
    check_different(images, "IMAGE...")
    check_output(options)
    with as_written("--index"):
        name = tag_of(name) if name else name
    show = Shower(quiet=options.quiet, verbose=options.verbose)
    with Spool() as spool:
        found: list[NamedImage] = []
        holders: dict[str, tuple[str, str]] = {}
        for path in images:
            where, wanted = path_and_name(path)
            there = read_all(where, spool)
            meant = there.named(wanted).whole()
            own = {} if name else options.annotations
            chosen = [attrs.evolve(stored, image=stored.fitted().with_annotations(own)) for stored in meant.images]
            kept = {each.digest for one in chosen for each in one.referrers if each.subject == one.image.manifest_digest}
            for other in (one for one in meant.others if one.digest not in kept):
                show(Progress("check", note=f"{where}: {other.digest} is left out: {other.what}"))
            if not chosen:
                message = f"{where}: holds no image" + (f" of the name {wanted}" if wanted else "")
                names = ", ".join(name for stored in there.images for name in stored.names)
                raise InputError(message, hint=f"There is: {names}." if names else "")
            found += chosen
            if name:
                for stored in chosen:
                    _check_platform(path, stored, holders)
        if name:  # an image that has several names is there for each of them
            different = {stored.image.content: stored for stored in found}
            said = OfIndex(options.annotations)
            found = [attrs.evolve(stored, names=(name,), of_index=said) for stored in different.values()]
        write(found, options, show, several_platforms=bool(name))


def _check_platform(path: str, stored: NamedImage, holders: dict[str, tuple[str, str]]) -> None:
    """Raise :class:`InputError` for the second image for a platform, with where both are; note the first."""
    digest, platform = stored.image.content, str(stored.image.platform)
    other, its = holders.setdefault(platform, (path, digest))
    if its != digest:
        both = f"{path} and {other}: both are" if path != other else f"{path}: holds several images that are"
        message = f"{both} for {platform}"
        raise InputError(message, hint="An index has one image for a platform: leave one out, or name one as PATH#NAME.")
