"""Play updates over a closure: how many bytes of layers are to be pushed, or pulled, by each way to split it.

python scripts/bench_layering.py GRAPH STORE-ROOT LAYERS prints JSON: by the rule, by the update, bytes before compression. An
update gives a path and all that need it other digests, as Nix does; a leaf is what nothing needs, a middle library what at
most a quarter of the closure does. Of several paths of a kind the mean counts.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rootless_layer import Balanced, ByPopularity, BySize, Closure, StorePath, load_closure, split
from rootless_layer.store.layering import ReferenceGraph, limit, popularity
from rootless_layer.store.nar_size import nar_sizes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from rootless_layer import Strategy

Layers = frozenset[frozenset[StorePath]]
_MIDDLE = 4


class Nix2container:
    """nix2container's rule: a layer for each of the first paths in some order, and one for the rest.

    The order is that of popularity, equally popular ones by their paths from the last on, or with ``sizes`` that of the sizes
    (its closure/popularity.go and ``--sort-by nar-size``).
    """

    def __init__(self, sizes: Mapping[StorePath, int] | None = None) -> None:
        """Take popularity, or sizes."""
        self.sizes = sizes

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give the parts."""
        names = graph.names
        if self.sizes is None:
            ranks = popularity(graph)
            order = sorted(ranks, key=lambda number: (ranks[number], names[number].path), reverse=True)
        else:
            sizes = self.sizes
            order = sorted(graph.nodes, key=lambda number: (-sizes[names[number]], names[number].path))
        return limit((graph.only([number]) for number in order), most)


def moved(old: Layers, new: Layers, sizes: Mapping[StorePath, int], changed: Collection[StorePath] = ()) -> int:
    """Count the bytes of the layers that are not among the old ones, or hold a path that changed."""
    others = {layer for layer in new if layer not in old or not layer.isdisjoint(changed)}
    return sum(sizes[path] for layer in others for path in layer)


def play(closure: Closure, sizes: Mapping[StorePath, int], most: int, strategy: Strategy) -> dict[str, float]:
    """Play all updates for one strategy."""

    def layers(of: Closure) -> Layers:
        return frozenset(map(frozenset, split(of, most, strategy)))

    def without(path: StorePath) -> Closure:
        return closure.only([other for other in closure.paths if other != path])

    graph = ReferenceGraph.of(closure)
    needing = {graph.names[number]: {graph.names[each] for each in graph.above([number])} for number in graph.nodes}
    leaves = [path for path, others in needing.items() if len(others) == 1]
    middle = [path for path, others in needing.items() if 1 < len(others) <= len(needing) / _MIDDLE]
    most_needed = max(needing, key=lambda path: (len(needing[path]), path))
    whole = layers(closure)
    less = {path: layers(without(path)) for path in leaves}
    return {
        "a leaf": _mean([moved(whole, whole, sizes, needing[path]) for path in leaves]),
        "a middle library": _mean([moved(whole, whole, sizes, needing[path]) for path in middle]),
        "the C library": moved(whole, whole, sizes, needing[most_needed]),
        "a package more": _mean([moved(less[path], whole, sizes) for path in leaves]),
        "a package less": _mean([moved(whole, less[path], sizes) for path in leaves]),
    }


def _mean(numbers: Sequence[int]) -> float:
    return sum(numbers) / max(len(numbers), 1)


def main() -> None:
    """Read the arguments, play, print."""
    graph, root, most = sys.argv[1:]
    closure = load_closure(graph, store_root=root)
    sizes = nar_sizes(closure)
    rules: dict[str, Strategy] = {
        "balanced": Balanced(sizes),
        "popularity": ByPopularity(),
        "size": BySize(sizes),
        "nix2container": Nix2container(),
        "nix2container, nar-size": Nix2container(sizes),
    }
    print(json.dumps({name: play(closure, sizes, int(most), rule) for name, rule in rules.items()}, indent=2))


if __name__ == "__main__":
    main()
