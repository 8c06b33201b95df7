"""The work of ``rootless-layer make``, loaded when there is some."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import attrs
import click

from rootless_layer.cache.place import cache_directory
from rootless_layer.cache.targets import Targets
from rootless_layer.image.open import Foreign
from rootless_layer.image.spool import Spool
from rootless_layer.make.faults import Faults
from rootless_layer.make.file import read
from rootless_layer.make.maker import Maker
from rootless_layer.make.preflight import Preflight
from rootless_layer.make.resolve import Recipes, format_of
from rootless_layer.make.screen import Screen
from rootless_layer.options.image import ImageOptions
from rootless_layer.registry.name import is_registry
from rootless_layer.system.fork import abandon, await_children, cores
from rootless_layer.system.namespaces import adopt_orphans

from .board import Board, Lines
from .failure import terminal_for_a_shell
from .made import of_images, say_made
from .say import give
from .values import check_epoch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.make.chain import Made
    from rootless_layer.make.graph import Graph, Node


@attrs.frozen(kw_only=True, slots=True)
class Wanted:
    """How the targets of a file are to be made: as the options of ``make`` say."""

    jobs: int | None = None
    arg: tuple[tuple[str, str], ...] = ()
    refresh: tuple[str, ...] = ()
    no_cache: bool = False
    dry_run: bool = False
    explain: bool = False
    on_failure: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False


def make_targets(file: str, targets: Sequence[str], wanted: Wanted) -> None:
    """Make the targets of a file, all of it where none is named, and tell how far each is."""
    if wanted.on_failure:
        with terminal_for_a_shell():
            pass  # each of those that work opens its own
    check_epoch()  # what is wrong with the variable is no fault of the file's
    faults = Faults(file)
    graph = read(file, faults, dict(wanted.arg))
    for problem in graph.unknown(targets):
        faults.add("", problem)
    nodes = graph.select(targets)
    cache = cache_directory()
    refreshed = graph.above(_refreshed(graph, nodes, wanted))
    record = partial(Targets.within(cache).of, os.path.realpath(file))
    begun = os.getcwd()
    os.chdir(os.path.dirname(file) or ".")
    outputs = [output for node in graph.nodes.values() if (output := node.options.output)]
    adopt_orphans()  # what tidies up after a child that was killed is waited for
    at_once = wanted.jobs or cores()
    board = Board.on_stderr(quiet=wanted.quiet, explain=wanted.explain, verbose=wanted.verbose)
    lines = Lines(sys.stdout)
    try:
        with contextlib.ExitStack() as stack:
            foreign = Foreign(stack.enter_context(Spool("nothing can be unpacked there")))
            specs, splittings = Recipes(faults, outputs, cache).read(nodes)
            Preflight(faults, foreign).check(nodes, specs)
            faults.check()
            show = lines if wanted.as_json else board
            dry = wanted.dry_run
            maker = Maker(
                specs, splittings, cache, at_once, Screen(show), stack, foreign, record, refreshed, dry, bool(wanted.on_failure)
            )
            status = maker.make(nodes)
        if wanted.as_json:
            lines.end(status)
        else:
            board.end()
            give(f"{name} {maker.made[name].digest}" for name in targets or graph.nodes if name in maker.made)
            for name in board.written:
                _tell_written(graph.nodes[name], maker.made[name], begun, wanted)
    except BrokenPipeError:  # those that still work are ended
        abandon()
        raise
    await_children()
    if status:
        raise click.exceptions.Exit(status)


def _tell_written(node: Node, made: Made, begun: str, wanted: Wanted) -> None:
    """Tell of an output, by its path from where the command was ``begun``."""
    options, image = node.options, made.image
    if image is None or not isinstance(options, ImageOptions) or not options.output:
        return
    output = options.output
    told = output if is_registry(output) else os.path.relpath(output, begun)
    say_made(of_images([image], output, format_of(options), told), quiet=wanted.quiet, verbose=wanted.verbose)


def _refreshed(graph: Graph, nodes: Sequence[Node], wanted: Wanted) -> list[str]:
    """Give the targets that are to be made anew; raises :class:`click.UsageError` for one that is not made at all."""
    names = {node.name for node in nodes}
    if wanted.no_cache:
        return [*names]
    problems = graph.unknown(wanted.refresh)
    problems += [f"{name}: is no target of these, and none of them needs it" for name in wanted.refresh
                 if name in graph.nodes and name not in names]  # fmt: skip
    if problems:
        raise click.BadParameter("\n".join(problems), param_hint="--refresh")
    return [*wanted.refresh]
