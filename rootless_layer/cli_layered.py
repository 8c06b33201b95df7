"""The command's part for closures: ``rootless-layer image --closure``, layers made of store paths on the way to an image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from .cli_written import as_written
from .fields import MOST_LAYERS
from .terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager, ExitStack

    from .blob import LayerBlob
    from .progress import Progress

_OPTIONS = (
    click.option(
        "--closure",
        "closures",
        multiple=True,
        metavar="FILE|DIR",
        help="Store paths, in any form that `build --closure` reads: split into layers, between the base and --layer.",
    ),
    click.option("--store-root", default="/", metavar="DIR", help="Where the store lies, as in `nix --store DIR`."),
    click.option(
        "--max-layers",
        type=click.IntRange(1),
        metavar="N",
        help=f"How many layers the image may have with a --closure, the base's and --layer's too.  [default: {MOST_LAYERS}]",
    ),
    click.option(
        "--layering",
        metavar="popularity|size|FILE",
        help="How the closure is split; FILE is JSON, a list of groups of store paths and name patterns, or nixpkgs'"
        " layeringPipeline.  [default: popularity]",
    ),
    click.option("--compression", metavar="KIND[:LEVEL]", help="The closure's layers: as in build.  [default: none]"),
    click.option("--source-date-epoch", type=int, metavar="SECONDS", help="As in build, for the closure."),
    click.option("--uid", type=int, help="Who owns the closure's files.  [default: 0]"),
    click.option("--gid", type=int, help="Which group owns them.  [default: 0]"),
    click.option(
        "--cache/--no-cache",
        "cached",
        default=None,
        help="Take the closure's layers from the cache, and keep there those that are not.  [default: no-cache]",
    ),
)
_ONLY_WITH = ("max_layers", "layering", "compression", "source_date_epoch", "uid", "gid", "cached")


def with_closure(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that :func:`closure_layers` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def parse_compression(text: str) -> Any:  # noqa: ANN401 - imported late
    """Read KIND or KIND:LEVEL."""
    from .spec import Compression  # noqa: PLC0415 - for a quick --help

    kind, _, level = text.partition(":")
    if level and not (level.isascii() and level.isdecimal()):
        raise click.BadParameter(f"{text}: write it as KIND or KIND:LEVEL", param_hint="--compression")
    with as_written("--compression"):
        return Compression(kind, int(level) if level else -1)  # type: ignore[arg-type]


def environment_epoch() -> int:
    """Read the variable SOURCE_DATE_EPOCH, 1 where there is none."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "1")
    if not (text.isascii() and text.isdecimal()):
        raise click.BadParameter(f"{printable(text)}: is not a number of seconds", param_hint="SOURCE_DATE_EPOCH")
    return int(text)


def closure_layers(  # noqa: PLR0913 - it is called from one place
    options: Mapping[str, Any],
    below: Sequence[LayerBlob],
    above: int,
    folder: AbstractContextManager[str],
    *,
    stack: ExitStack,
    progress: Callable[[Progress], None],
) -> tuple[LayerBlob, ...]:
    """Make layers of the closure that the options name, for an image with layers ``below`` and so many ``above``.

    ``folder`` gives the directory to which their blobs go, or nothing where they are derived;
    those that come from the cache stay there until the ``stack`` unwinds.
    Raises what :meth:`.Splitting.specs` and :func:`.build_layers` do.
    """
    if not options["closures"]:
        for name in _ONLY_WITH:
            if options[name] is not None:
                said = "cache" if name == "cached" else name.replace("_", "-")
                raise click.UsageError(f"--{said} goes with --closure, and none is given")
        return ()
    from .closure import load_closure  # noqa: PLC0415
    from .layered import Splitting, make_layers, read_strategy  # noqa: PLC0415
    from .spec import LayerSpec  # noqa: PLC0415

    root = os.path.abspath(options["store_root"])
    first, *others = [load_closure(source, store_root=root) for source in options["closures"]]
    closure = first.merge(*others)
    epoch = options["source_date_epoch"]
    specs = Splitting(
        closure,
        options["max_layers"] or MOST_LAYERS,
        read_strategy(options["layering"] or "popularity", closure),
        LayerSpec(
            epoch=environment_epoch() if epoch is None else epoch,
            uid=options["uid"] or 0,
            gid=options["gid"] or 0,
            compression=parse_compression(options["compression"] or "none"),
        ),
    ).specs(below, above)
    if not options["cached"]:
        with folder as place:
            return make_layers(specs, place, progress)
    from .cache import LayerCache  # noqa: PLC0415
    from .lookup import Holder, hold_layers  # noqa: PLC0415
    from .snapshot import cache_directory  # noqa: PLC0415

    return hold_layers(specs, Holder(LayerCache.within(cache_directory()), stack), progress)
