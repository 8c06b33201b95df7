"""``rootless-layer sbom``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rootless_layer.image.open import open_image
from rootless_layer.image.spool import Spool
from rootless_layer.oci.descriptor import Platform
from rootless_layer.sbom.documents import to_bytes
from rootless_layer.sbom.inventory import take_stock
from rootless_layer.store.closure import Closure
from rootless_layer.store.read import load_closure
from rootless_layer.system.files import write_all
from rootless_layer.system.replace import check_file_replaceable, file_aside
from rootless_layer.system.temporary import Temporary
from rootless_layer.terminal import sized

from .command import Strict
from .made import say_made
from .registries import of_registries
from .say import give, say
from .values import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.image.format import BillForm

_BILL = "a bill of materials"


@click.command(cls=Strict)
@click.argument("subject", metavar="IMAGE|DIR")
@click.option(
    "--format", "form", type=click.Choice(["spdx", "cyclonedx"]), default="spdx", show_default=True,
    help="SPDX 2.3 or CycloneDX 1.6, in JSON.",
)  # fmt: skip
@click.option(
    "--closure", "closures", multiple=True, metavar="FILE|DIR",
    help="Which store paths refer to which, in any form that `build --closure` reads; repeatable.",
)  # fmt: skip
@click.option(
    "--platform", type=PLATFORM, metavar="OS/ARCH[/VARIANT]",
    help="Which of the images.  [default: this machine's]",
)  # fmt: skip
@click.option("-o", "--output", default="-", metavar="FILE", help="Write it there; - is stdout.  [default: -]")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@of_registries
def sbom(  # noqa: PLR0913 - the options
    subject: str, *, form: BillForm, closures: Sequence[str], platform: Platform | None, output: str, quiet: bool
) -> None:
    """Write a bill of materials: the packages and store paths of an image or a layer.

    Each says which layer it came with. Packages are read of the databases of dpkg, apk and rpm, store paths by their names.
    """
    target = Path(output)
    if output != "-":
        check_file_replaceable(target, _BILL)
    known = [load_closure(each) for each in closures] or [Closure()]
    with Spool() as spool:
        image = open_image(subject, platform or Platform.host(), spool)
        bill = take_stock(image, image.origin.name, known[0].merge(*known[1:]))
    if not quiet:
        say(*(f"{path}: {why}" for path, why in bill.unread.items()))
    data = to_bytes(bill, form)
    if output == "-":
        give(data.decode().splitlines())
        return
    with Temporary() as temporary, file_aside(target, temporary, _BILL) as file:
        write_all(file, memoryview(data))
    say_made(f"{output}: {sized(len(data))}", quiet=quiet, verbose=False)
