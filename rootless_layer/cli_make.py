"""The command's part for graphs: ``rootless-layer make``."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from .cli_help import Verb
from .cli_say import give

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(cls=Verb, context_settings={"show_default": True})
@click.argument("file", metavar="FILE.toml")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="How many to work on at a time.  [default: the cores]")
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
    from .board import Board, Lines  # noqa: PLC0415 - for a quick --help
    from .child import abandon, await_children  # noqa: PLC0415
    from .make import Maker  # noqa: PLC0415
    from .makefile import load  # noqa: PLC0415
    from .namespace import adopt_orphans  # noqa: PLC0415
    from .recipe import Recipes  # noqa: PLC0415
    from .snapshot import cache_directory  # noqa: PLC0415

    graph = load(file)
    nodes = graph.select(targets)
    cache = cache_directory()
    os.chdir(os.path.dirname(file) or ".")
    specs, splittings = Recipes().read(nodes)
    adopt_orphans()  # what tidies up after a child that was killed is waited for
    cores = jobs or len(os.sched_getaffinity(0))
    board = Board.on_stderr(quiet=quiet)
    lines = Lines(sys.stdout)
    try:
        with contextlib.ExitStack() as stack:
            maker = Maker(specs, splittings, cache, cores, lines if as_json else board, stack, int if as_json else board.tick)
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
