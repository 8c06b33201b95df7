"""An image or a layer as a terminal shows it: a row for each layer, sizes as a person reads them, and the waste in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_layer.terminal import fitted, sized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .inspect import Inspection, LayerReport

_DIGITS = 12
"""As many of a digest as engines show."""
_HEAD = ("layer", "digest", "size", "unpacked", "entries", "changes", "created by")
_TO_THE_RIGHT = {"size", "unpacked", "entries"}


def overview(found: Inspection, columns: int, *, listed: bool = False, waste: bool = False) -> Iterator[str]:
    """Give the lines for a terminal of so many ``columns``, with ``listed`` each path, with ``waste`` all data that is twice.

    The column *changes* counts the paths that a layer adds (``+``), changes (``~``), has again as they were (``=``) and
    removes (``-``), as ``listed`` marks them.
    """
    about = list(found.about())
    yield from about
    yield from [""] if about else []
    yield from (fitted(line, columns) for line in _table([_HEAD, *map(_row, range(len(found.layers)), found.layers)]))
    for number, layer in enumerate(found.layers if listed else ()):
        yield f"layer {number}"
        yield from layer.lines()
    yield _wasted(found, waste=waste)
    yield from found.copy_lines() if waste else ()


def _row(number: int, layer: LayerReport) -> tuple[str, ...]:
    said = layer.described
    counts = (("+", layer.added), ("~", layer.changed), ("=", layer.same), ("-", layer.removed))
    return (
        str(number),
        str(said["digest"]).partition(":")[2][:_DIGITS],
        sized(int(str(said["size"]))),
        sized(int(str(said["uncompressedSize"]))),
        str(layer.entries),
        " ".join(f"{sign}{len(paths)}" for sign, paths in counts if paths),
        str(said["createdBy"]),
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if name in _TO_THE_RIGHT else cell.ljust(width)
            for name, cell, width in zip(rows[0], row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _wasted(found: Inspection, *, waste: bool) -> str:
    within, across = found.wasted["within"], found.wasted["across"]
    if not within + across:
        return "no data stands twice"
    more = "" if waste else "; --waste lists it"
    return f"data twice: {sized(within)} within a layer, {sized(across)} across layers{more}"
