"""The command's part for graphs: ``rootless-layer make``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rootless_layer.options.kinds import COUNT
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.lists import VARIABLES

from .command import Strict
from .failure import on_failure
from .options import of_table
from .registries import of_registries
from .values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(cls=Strict, context_settings={"show_default": True})
@click.argument("file", metavar="FILE.toml")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "-j",
    "--jobs",
    type=Value(COUNT.of_text, COUNT.name),
    metavar="N",
    help="How many to work on at a time.  [default: the cores]",
)
@click.option(
    "--arg",
    multiple=True,
    type=Value(VARIABLES.of_text, VARIABLES.name),
    metavar="NAME=VALUE",
    help="Give a name of [args] this value; repeatable.",
)
@click.option("--refresh", multiple=True, metavar="TARGET", help="Build this target, and what needs it, anew; repeatable.")
@click.option("--no-cache", is_flag=True, help="Build all of the targets anew.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be made, and why, and make nothing.")
@click.option("--explain", is_flag=True, help="Say of each target in detail why it is made.")
@on_failure
@of_table(LayerOptions, "cache-size")
@of_registries
@click.option("--json", "as_json", is_flag=True, help="Print events, a JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and what scripts say.")
@click.option("-v", "--verbose", is_flag=True, help="Say each step with its seconds, and when scripts have said something.")
def make(file: str, targets: Sequence[str], **wanted: Any) -> None:  # noqa: ANN401 - click's own values
    """Make the layers and images of a file, or of those the targets and what they need.

    \b
    [layer.NAME]     has the options of `rootless-layer build` as keys
    [image.NAME]     has those of `rootless-layer image`, and layers = ["NAME", ...]
    [defaults.layer] and [defaults.image] are for all
    [args]           has NAME = VALUE, for ${NAME} in the values; --arg gives others

    base may name layers and images of the file, as layers does. script takes paths, and
    { text = "..." } and { command = [...] }; run is one more script's text. Paths are relative
    to the file. Every layer is kept in the cache, and taken from there when nothing changed.

    stdout gets each target's name and digest. The exit status is that of the first that failed,
    as `rootless-layer build --help` lists them; whatever does not need it is made all the same.
    """  # noqa: D301 - click's own mark
    from .targets import Wanted, make_targets  # noqa: PLC0415 - not for --help

    make_targets(file, targets, Wanted(**wanted))
