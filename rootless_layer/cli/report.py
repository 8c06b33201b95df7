"""``rootless-layer report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rootless_layer.terminal import sized

from .command import Strict
from .registries import of_registries
from .say import give, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.check.inspect import Inspection
    from rootless_layer.image.spool import Spool
    from rootless_layer.sbom.files import FileLists

_MOST = 2
_PAGE = "the page of a report"


@click.command(cls=Strict)
@click.argument("subjects", nargs=-1, required=True, metavar="IMAGE|DIR...")
@click.option("-o", "--output", required=True, metavar="FILE", help="The page; - for stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@of_registries
def report(subjects: Sequence[str], output: str, *, quiet: bool) -> None:
    """Write a page about an image or a layer: its layers, its files by size, and data that stands twice.

    The page is one HTML file, which needs no network. Of two images it says what a machine that has the first one
    pulls for the second. Each is an image layout, an archive, a name in a registry, PATH#NAME, or a layer's directory.
    """
    from rootless_layer.check.report import page, titles  # noqa: PLC0415 - not for --help
    from rootless_layer.image.spool import Spool  # noqa: PLC0415 - as above
    from rootless_layer.sbom.files import FileLists  # noqa: PLC0415 - as above
    from rootless_layer.system.replace import check_file_replaceable, file_aside  # noqa: PLC0415 - as above
    from rootless_layer.system.temporary import Temporary  # noqa: PLC0415 - as above

    target = Path(os.path.realpath(output))
    if output != "-":
        check_file_replaceable(target, _PAGE)
    lists = FileLists()
    with Spool() as spool:
        found = [(given, one) for given in subjects for one in _looked(given, spool, lists)]
        if len(found) > _MOST:
            message = f"a page is about one image or two, and these are {len(found)}: name one of several by PATH#NAME"
            raise click.UsageError(message)
        text = page(list(zip(titles(found), (one for _, one in found), strict=True)), lists)
    if output == "-":
        give([text.removesuffix("\n")])
        return
    with Temporary() as temporary, file_aside(target, temporary, _PAGE) as file:
        file.write(text.encode())
    if not quiet:
        say(f"{output}: {sized(os.path.getsize(output))}; a browser shows it")


def _looked(given: str, spool: Spool, lists: FileLists) -> list[Inspection]:
    from rootless_layer.check.inspect import inspect  # noqa: PLC0415 - not for --help
    from rootless_layer.oci.reference import path_and_name  # noqa: PLC0415 - as above

    path, name = path_and_name(given)
    return inspect(path, spool, name, lists.keep)
