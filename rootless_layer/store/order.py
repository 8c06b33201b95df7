"""In which order store paths stand in a layer: a change leaves as many of the first ones as can be."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from rootless_layer.errors import ClosureError

from .layering import ReferenceGraph

if TYPE_CHECKING:
    from .closure import Closure, StorePath


_KEPT = 8
"""The orders of so many closures are kept: the layers of a file often have one closure."""


@functools.lru_cache(_KEPT)
def needed_first(closure: Closure) -> tuple[StorePath, ...]:
    """Give the paths of a closure by their height: first those that need no other, then those that need only such, and so on.

    So a path stands behind all that it needs. Equally high ones are in the order of their names, then of their digests: a path
    that was built again stays about where it was. What needs a path has no say in its place: a path that is added, or goes,
    moves no other. (By the number of those that need it, one more application would move most of them.)
    Where references go in a circle, which Nix forbids, the order is that of the paths.
    """
    try:
        graph = ReferenceGraph.of(closure)
    except ClosureError:
        return closure.paths
    heights: dict[int, int] = {}
    for number, references in graph.nodes.items():
        heights[number] = 1 + max((heights[other] for other in references), default=0)
    ranks = {graph.names[number]: height for number, height in heights.items()}
    return tuple(sorted(ranks, key=lambda path: (ranks[path], path.name, path.path)))
