"""The command's part for the cache: ``rootless-layer cache``."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

import click

from rootless_layer.cache.explain import explain as explained
from rootless_layer.cache.named import remove_named
from rootless_layer.cache.place import cache_directory
from rootless_layer.cache.room import DEFAULT, VARIABLE, list_kept, parse_limit, using
from rootless_layer.cache.upkeep import collect
from rootless_layer.cache.upkeep import verify as verified
from rootless_layer.errors import OutputError
from rootless_layer.terminal import counted, sized

from .command import Strict
from .help import Verbs
from .say import give, give_json, say
from .statuses import INVALID
from .values import as_written, cache_limit
from .versioned import versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.cache.room import Kept, Tidied


@click.group(cls=Verbs)
def cache() -> None:
    """List what is kept between builds, remove some of it, or check it.

    It lies in ROOTLESS_LAYER_CACHE, else in the user's cache directory: layers by the digest of
    all that decides them, base images unpacked, by chain ID, and the caches that scripts mount,
    by id. Where something is added and it holds more than ROOTLESS_LAYER_CACHE_SIZE (20G, or none
    for no limit), what was not used for longest goes.
    """


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Say nothing but what is wrong.")


@cache.command("ls", cls=Strict)
@_as_json
def list_(*, as_json: bool) -> None:
    """List what is in the cache, the last used first."""
    place = cache_directory()
    with using(place):
        found = list_kept(place)
    if as_json:
        give_json([versioned(kept.to_json()) for kept in found])
        return
    give([_row("kind", "size", "last used", "name", "path")] if found and sys.stdout.isatty() else [])
    give(map(_line, found))
    most = cache_limit()
    total = f"{counted(len(found), 'entry')}, {sized(sum(kept.size for kept in found))}"
    say(f"{total}; {'there is no limit' if most is None else f'the limit is {sized(most)}'}")


def _kept(_context: click.Context, _param: click.Parameter, given: str | None) -> int | str | None:
    """Read the option, or the variable, each blamed by its own name."""
    if given is None:
        return cache_limit()
    if not given:
        return given  # that an empty one names nothing is said of all options alike
    with as_written("--keep"):
        return parse_limit(given)


@cache.command(cls=Strict)
@click.option(
    "--keep",
    callback=_kept,
    metavar="SIZE",
    help=f"What may stay: bytes, or with K, M, G or T; none is all.  [default: {VARIABLE}, else {DEFAULT}]",
)
@_as_json
@_quiet
@click.pass_context
def gc(context: click.Context, keep: int | None, *, as_json: bool, quiet: bool) -> None:
    """Remove what killed builds left, and what was not used for longest, until the rest fits.

    What a running build uses stays. Where something may not be removed, the status is 73.
    """
    done = collect(cache_directory(), keep)
    _give_removed(done, as_json=as_json, quiet=quiet)
    if not (as_json or quiet):
        stay = f"; what is in use stays: {counted(len(done.used), 'entry')}" if done.used else ""
        freed = sized(sum(kept.size for kept in done.removed))
        say(f"removed {counted(len(done.removed), 'entry')}, {freed}{stay}")
    _end_refused(context, done)


@cache.command(cls=Strict)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_as_json
@_quiet
@click.pass_context
def rm(context: click.Context, names: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Remove layers, unpacked bases and mounted caches by their names.

    Each is named by its key, its path, its digest or its id as `rootless-layer cache ls` lists them; of a key
    and a digest the first digits are enough. A digest means a layer and the base that it was unpacked as, an
    id all mounted caches of this id. What is in use stays: 73.
    """
    done = remove_named(cache_directory(), names)
    _give_removed(done, as_json=as_json, quiet=quiet)
    say(*(f"{kept.path}: is in use, and stays" for kept in done.used))
    _end_refused(context, done)
    if done.used:
        context.exit(OutputError.exit_code)


def _give_removed(done: Tidied, *, as_json: bool, quiet: bool) -> None:
    """Say what was removed, and what was not."""
    if as_json:
        give_json(versioned({
            "removed": [kept.to_json() for kept in done.removed],
            "inUse": [kept.to_json() for kept in done.used],
            "refused": [kept.to_json() | {"problem": error.problems[0]} for kept, error in done.refused],
        }))  # fmt: skip
    elif not quiet:
        give(map(_line, done.removed))
    for _, error in done.refused:
        say(*error.problems)


def _end_refused(context: click.Context, done: Tidied) -> None:
    """End the command where something may not be removed."""
    if done.refused:
        _, last = done.refused[-1]
        say(last.hint)
        context.exit(last.exit_code)


@cache.command(cls=Strict)
@_as_json
@_quiet
@click.pass_context
def verify(context: click.Context, *, as_json: bool, quiet: bool) -> None:
    """Read every layer in the cache, and drop those that are not what their digests say: 65.

    Unpacked bases are compared with what they were, by names, kinds, sizes and times.
    """
    right, wrong = verified(cache_directory())
    if as_json:
        said = {
            "right": [kept.to_json() for kept in right],
            "dropped": [kept.to_json() | {"problem": problem} for kept, problem in wrong],
        }
        give_json(versioned(said))
    for kept, problem in wrong:
        say(f"{kept.path}: dropped: {problem}")
    if not (as_json or quiet):
        say(f"{len(right)} right, {len(wrong)} dropped")
    if wrong:
        context.exit(INVALID)


@cache.command(cls=Strict)
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@_as_json
def explain(old: str, new: str, *, as_json: bool) -> None:
    """Say in what two layers differ by all that decides their bytes, the first part first.

    Each is named by its key, its path or its digest as `rootless-layer cache ls` lists them, of which
    the first digits are enough. Of trees the first path that differs is named.
    """
    found = explained(cache_directory(), old, new)
    if as_json:
        give_json([versioned({"part": each.part, "difference": each.text}) for each in found])
        return
    give(map(str, found))
    if not found:
        say("nothing: both have the same key")


def _line(kept: Kept) -> str:
    size = sized(kept.size) if sys.stdout.isatty() else str(kept.size)
    used = dt.datetime.fromtimestamp(kept.used, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _row(kept.kind, size, used, kept.name or "-", str(kept.path))


def _row(kind: str, size: str, used: str, name: str, path: str) -> str:
    return f"{kind:<8} {size:>12} {used:<20} {name:<71} {path}"
