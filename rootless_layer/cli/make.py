"""The command's part for graphs: ``rootless-layer make``."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from rootless_layer.cache.place import cache_directory
from rootless_layer.image.open import Foreign
from rootless_layer.image.spool import Spool
from rootless_layer.make.faults import Faults
from rootless_layer.make.file import read
from rootless_layer.make.maker import Maker
from rootless_layer.make.preflight import Preflight
from rootless_layer.make.resolve import Recipes
from rootless_layer.options.kinds import COUNT
from rootless_layer.options.layer import LayerOptions
from rootless_layer.system.fork import abandon, await_children, cores
from rootless_layer.system.namespaces import adopt_orphans

from .board import Board, Lines
from .command import Strict
from .options import of_table
from .say import give
from .values import Value, check_epoch

if TYPE_CHECKING:
    from collections.abc import Sequence

JOBS = Value(COUNT.of_text, COUNT.name)


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
@of_table(LayerOptions, "cache-size")
@click.option("--json", "as_json", is_flag=True, help="Print events, a JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors and what scripts say.")
def make(file: str, targets: Sequence[str], jobs: int | None, *, as_json: bool, quiet: bool) -> None:
    """Make the layers and images of a file, or of those the targets and what they need.

    \b
    [layer.NAME]     has the options of `rootless-layer build` as keys
    [image.NAME]     has those of `rootless-layer image`, and layers = ["NAME", ...]
    [defaults.layer] and [defaults.image] are for all

    base may name layers and images of the file, as layers does. script takes paths, and
    { text = "..." } and { command = [...] }; run is one more script's text. Paths are relative
    to the file. Every layer is kept in the cache, and taken from there when nothing changed.

    stdout gets each target's name and digest. The exit status is that of the first that failed,
    as `rootless-layer build --help` lists them; whatever does not need it is made all the same.
    """  # noqa: D301 - click's own mark
    check_epoch()  # what is wrong with the variable is no fault of the file's
    faults = Faults(file)
    graph = read(file, faults)
    for problem in graph.unknown(targets):
        faults.add("", problem)
    nodes = graph.select(targets)
    cache = cache_directory()
    os.chdir(os.path.dirname(file) or ".")
    outputs = [output for node in graph.nodes.values() if (output := node.options.output)]
    adopt_orphans()  # what tidies up after a child that was killed is waited for
    at_once = jobs or cores()
    board = Board.on_stderr(quiet=quiet)
    lines = Lines(sys.stdout)
    try:
        with contextlib.ExitStack() as stack:
            foreign = Foreign(stack.enter_context(Spool("nothing can be unpacked there")))
            specs, splittings = Recipes(faults, outputs, cache).read(nodes)
            Preflight(faults, foreign).check(nodes, specs)
            faults.check()
            maker = Maker(specs, splittings, cache, at_once, lines if as_json else board, stack, foreign)
            status = maker.make(nodes)
        if as_json:
            lines.end(status)
        else:
            board.end()
            give(f"{name} {maker.made[name].digest}" for name in targets or graph.nodes if name in maker.made)
    except BrokenPipeError:  # those that still work are ended
        abandon()
        raise
    await_children()
    if status:
        raise click.exceptions.Exit(status)
