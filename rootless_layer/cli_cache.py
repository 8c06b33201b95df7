"""The command's part for the cache: ``rootless-layer cache``."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from .upkeep import Kept

_DAMAGED = 65


@click.group()
def cache() -> None:
    """List what is kept between builds, remove some of it, or check it.

    It lies in ROOTLESS_LAYER_CACHE, else in the user's cache directory: layers by the digest of
    all that decides them, and base images unpacked, by chain ID.
    """


_as_json = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@cache.command("ls")
@_as_json
def list_(*, as_json: bool) -> None:
    """List what is in the cache, the last used first."""
    from .snapshot import cache_directory  # noqa: PLC0415 - for a quick --help
    from .upkeep import contents  # noqa: PLC0415

    found = contents(cache_directory())
    if as_json:
        click.echo(json.dumps([kept.to_json() for kept in found], indent=2, sort_keys=True))
        return
    for kept in found:
        click.echo(_line(kept))
    click.echo(f"{len(found)} in all, {sum(kept.size for kept in found)} bytes", err=True)


@cache.command()
@click.option("--keep", default="20G", show_default=True, metavar="SIZE", help="What may stay: bytes, or with K, M, G or T.")
@_as_json
def gc(keep: str, *, as_json: bool) -> None:
    """Remove what killed builds left, and what was not used for longest, until the rest fits.

    What a running build uses stays.
    """
    from .snapshot import cache_directory  # noqa: PLC0415
    from .upkeep import collect, parse_size  # noqa: PLC0415

    removed, used = collect(cache_directory(), parse_size(keep))
    if as_json:
        said = {"removed": [kept.to_json() for kept in removed], "inUse": [kept.to_json() for kept in used]}
        click.echo(json.dumps(said, indent=2, sort_keys=True))
        return
    for kept in removed:
        click.echo(_line(kept))
    stay = f"; {len(used)} more are in use" if used else ""
    click.echo(f"removed {len(removed)}, {sum(kept.size for kept in removed)} bytes{stay}", err=True)


@cache.command()
@_as_json
@click.pass_context
def verify(context: click.Context, *, as_json: bool) -> None:
    """Read every layer in the cache, and drop those that are not what their digests say: 65.

    Unpacked bases are compared with what they were, by names, kinds, sizes and times.
    """
    from .snapshot import cache_directory  # noqa: PLC0415
    from .upkeep import verify as verified  # noqa: PLC0415

    right, wrong = verified(cache_directory())
    if as_json:
        said = {
            "right": [kept.to_json() for kept in right],
            "dropped": [kept.to_json() | {"problem": problem} for kept, problem in wrong],
        }
        click.echo(json.dumps(said, indent=2, sort_keys=True))
    for kept, problem in wrong:
        click.echo(f"rootless-layer: {kept.path}: dropped: {problem}", err=True)
    if not as_json:
        click.echo(f"{len(right)} right, {len(wrong)} dropped", err=True)
    if wrong:
        context.exit(_DAMAGED)


def _line(kept: Kept) -> str:
    used = dt.datetime.fromtimestamp(kept.used, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{kept.kind:<8} {kept.size:>12} {used} {kept.digest or '-':<71} {kept.path}"
