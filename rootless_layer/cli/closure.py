"""The command's part for closures: ``rootless-layer image --closure``, layers made of store paths on the way to an image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.store.layering import MOST_LAYERS

from .values import COMPRESSION, COUNT, ID, WHOLE, cache_size, epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager, ExitStack

    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.progress import Progress

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
        type=COUNT,
        metavar="N",
        help=f"How many layers the image may have with a --closure, the base's and --layer's too.  [default: {MOST_LAYERS}]",
    ),
    click.option(
        "--layering",
        metavar="popularity|size|FILE",
        help="How the closure is split; FILE is JSON, a list of groups of store paths and name patterns, or nixpkgs'"
        " layeringPipeline.  [default: popularity]",
    ),
    click.option(
        "--compression", type=COMPRESSION, metavar="KIND[:LEVEL]", help="The closure's layers: as in build.  [default: none]"
    ),
    click.option("--source-date-epoch", type=WHOLE, metavar="SECONDS", help="As in build, for the closure."),
    click.option("--uid", type=ID, help="Who owns the closure's files.  [default: 0]"),
    click.option("--gid", type=ID, help="Which group owns them.  [default: 0]"),
    click.option(
        "--allow-sparse", is_flag=True, default=None, help="Write files with more than 1 GiB of holes, every byte of them."
    ),
    click.option(
        "--cache/--no-cache",
        "cached",
        default=None,
        help="Take the closure's layers from the cache, and keep there those that are not.  [default: no-cache]",
    ),
    cache_size,
)
_ONLY_WITH = ("max_layers", "layering", "compression", "source_date_epoch", "uid", "gid", "allow_sparse", "cached")


def with_closure(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that :func:`closure_layers` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


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
    from rootless_layer.layer.of_closure import Splitting, make_layers, read_strategy  # noqa: PLC0415
    from rootless_layer.plan.spec import LayerSpec  # noqa: PLC0415
    from rootless_layer.store.read import load_closure  # noqa: PLC0415
    from rootless_layer.tar.compression import Compression  # noqa: PLC0415

    root = os.path.abspath(options["store_root"])
    first, *others = [load_closure(source, store_root=root) for source in options["closures"]]
    closure = first.merge(*others)
    specs = Splitting(
        closure,
        options["max_layers"] or MOST_LAYERS,
        read_strategy(options["layering"] or "popularity", closure),
        LayerSpec(
            epoch=epoch(options["source_date_epoch"]),
            uid=options["uid"] or 0,
            gid=options["gid"] or 0,
            compression=options["compression"] or Compression(),
            allow_sparse=bool(options["allow_sparse"]),
        ),
    ).specs(below, above)
    if not options["cached"]:
        with folder as place:
            return make_layers(specs, place, progress)
    from rootless_layer.cache.build import Holder, hold_layers  # noqa: PLC0415
    from rootless_layer.cache.layers import LayerCache  # noqa: PLC0415
    from rootless_layer.cache.place import cache_directory  # noqa: PLC0415

    return hold_layers(specs, Holder(LayerCache.within(cache_directory()), stack), progress)
