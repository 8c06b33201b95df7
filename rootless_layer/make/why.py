"""Why something of a file is made: in a few words, and in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rootless_layer.cache.parts import Key, differences

if TYPE_CHECKING:
    from pathlib import Path

_MOST_PARTS = 3


@attrs.frozen(slots=True)
class Why:
    """Why a node is made, as ``script changed``, and the details, a line each. Of what is not made it says nothing."""

    text: str = ""
    details: tuple[str, ...] = ()


NO_REASON = Why()

REFRESHED = Why("refreshed")
NEVER = Why("not built before")
GONE = Why("not in the cache any more")


def of_layer(key: Key, last: str, kept: Path) -> Why:
    """Say why a layer is built: what of its key is another than of the ``last`` one, which is or was ``kept``."""
    if not last:
        return NEVER
    if last == key.digest:
        return GONE
    old = Key.read(kept)
    if old is None:
        return Why("changed", ("the layer that it was is not in the cache any more, so that nobody can say in what",))
    found = differences(old, key)
    parts = [each.part for each in found[:_MOST_PARTS]] + ["…"] * (len(found) > _MOST_PARTS)
    return Why(f"{', '.join(parts)} changed", tuple(map(str, found)))


def above(need: str) -> Why:
    """Say of what is built upon a layer that is not there yet, that nobody knows its key before."""
    return Why(f"{need} is made anew", (f"unless {need} comes out as it was",))
