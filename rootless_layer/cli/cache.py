"""The command's part for the cache: ``rootless-layer cache``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import click

from rootless_layer.cache.place import cache_directory
from rootless_layer.cache.room import DEFAULT, VARIABLE, contents, parse_limit, using
from rootless_layer.cache.upkeep import collect
from rootless_layer.cache.upkeep import verify as verified
from rootless_layer.terminal import counted

from .command import Strict
from .help import Verbs
from .say import give, give_json, say
from .statuses import INVALID
from .values import as_written, cache_limit

if TYPE_CHECKING:
    from rootless_layer.cache.room import Kept


@click.group(cls=Verbs)
def cache() -> None:
    """List what is kept between builds, remove some of it, or check it.

    It lies in ROOTLESS_LAYER_CACHE, else in the user's cache directory: layers by the digest of
    all that decides them, and base images unpacked, by chain ID. Where something is added and it
    holds more than ROOTLESS_LAYER_CACHE_SIZE (20G, or none for no limit), what was not used for
    longest goes.
    """


_as_json = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@cache.command("ls", cls=Strict)
@_as_json
def list_(*, as_json: bool) -> None:
    """List what is in the cache, the last used first."""
    place = cache_directory()
    with using(place):
        found = contents(place)
    if as_json:
        give_json([kept.to_json() for kept in found])
        return
    give(_line(kept) for kept in found)
    most = cache_limit()
    total = f"{len(found)} in all, {counted(sum(kept.size for kept in found), 'byte')}"
    say(f"{total}; the limit is {'none' if most is None else counted(most, 'byte')}")


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
@click.pass_context
def gc(context: click.Context, keep: int | None, *, as_json: bool) -> None:
    """Remove what killed builds left, and what was not used for longest, until the rest fits.

    What a running build uses stays. Where something may not be removed, the status is 73.
    """
    done = collect(cache_directory(), keep)
    if as_json:
        give_json({
            "removed": [kept.to_json() for kept in done.removed],
            "inUse": [kept.to_json() for kept in done.used],
            "refused": [kept.to_json() | {"problem": error.problems[0]} for kept, error in done.refused],
        })  # fmt: skip
    else:
        give(map(_line, done.removed))
    for _, error in done.refused:
        say(*error.problems)
    if not as_json:
        stay = f"; {len(done.used)} more are in use" if done.used else ""
        say(f"removed {len(done.removed)}, {counted(sum(kept.size for kept in done.removed), 'byte')}{stay}")
    if done.refused:
        _, last = done.refused[-1]
        say(last.hint)
        context.exit(last.exit_code)


@cache.command(cls=Strict)
@_as_json
@click.pass_context
def verify(context: click.Context, *, as_json: bool) -> None:
    """Read every layer in the cache, and drop those that are not what their digests say: 65.

    Unpacked bases are compared with what they were, by names, kinds, sizes and times.
    """
    right, wrong = verified(cache_directory())
    if as_json:
        said = {
            "right": [kept.to_json() for kept in right],
            "dropped": [kept.to_json() | {"problem": problem} for kept, problem in wrong],
        }
        give_json(said)
    for kept, problem in wrong:
        say(f"{kept.path}: dropped: {problem}")
    if not as_json:
        say(f"{len(right)} right, {len(wrong)} dropped")
    if wrong:
        context.exit(INVALID)


def _line(kept: Kept) -> str:
    used = dt.datetime.fromtimestamp(kept.used, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{kept.kind:<8} {kept.size:>12} {used} {kept.digest or '-':<71} {kept.path}"
