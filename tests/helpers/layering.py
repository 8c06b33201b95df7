"""Closures of names, with strategies to split them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.layering import ByList, ByPopularity, BySize, Group, Strategy
from rootless_layer.store.layering_balanced import Balanced
from rootless_layer.store.layering_pipeline import Pipeline

Names = Mapping[str, Iterable[str]]


def store_path(name: str) -> StorePath:
    """Make a store path, whose digest has nothing to do with the order of names."""
    digest = hashlib.sha256(name.encode()).digest()
    return StorePath(f"/nix/store/{''.join('0123456789abcdfghijklmnpqrsvwxyz'[byte % 32] for byte in digest)}-{name}")


def closure(graph: Names) -> Closure:
    """Make a closure of names; what is only referred to is in it as well."""
    every = {*graph, *(other for others in graph.values() for other in others)}
    return Closure({store_path(name): frozenset(map(store_path, graph.get(name, ()))) for name in every})


def closure_of_edges(edges: str, alone: str = "") -> Closure:
    """Make a closure of ``user-reference`` pairs, and of names without any reference."""
    graph: dict[str, list[str]] = {name: [] for name in alone.split()}
    for user, _, reference in (edge.partition("-") for edge in edges.split()):
        graph.setdefault(user, []).append(reference)
    return closure(graph)


def shown(groups: Sequence[Group]) -> list[str]:
    """Write groups by their names, in the order of names, as the examples have them."""
    return [" ".join(sorted(path.name for path in group)) for group in groups]


def data_of(value: Any) -> Any:
    """Put store paths for the names of a pipeline: what begins with a capital letter."""
    if isinstance(value, str) and value[:1].isupper():
        return store_path(value).path
    if isinstance(value, dict):
        return {key: data_of(item) for key, item in value.items()}
    return [data_of(item) for item in value] if isinstance(value, list) else value


def needed(found: Closure, *paths: StorePath) -> set[StorePath]:
    """Give these paths and all that they need."""
    every, new = set(paths), list(paths)
    while new:
        more = found.references[new.pop()] - every
        every |= more
        new += more
    return every


def random_closure(seed: int, size: int) -> tuple[Closure, dict[StorePath, int]]:
    """Make a closure such as images have: few paths that nearly all need, and few big ones."""
    chance = random.Random(seed)
    names = [f"p{number}-{chance.random()}" for number in range(size)]
    graph = {
        name: {names[int(at * chance.random() ** 2)] for _ in range(chance.randrange(8)) if at} for at, name in enumerate(names)
    }
    return closure(graph), {store_path(name): int(chance.lognormvariate(10, 2)) + 10 for name in names}


@st.composite
def closures(draw: st.DrawFn, most: int = 9) -> Closure:
    """Any small graph without cycles, with some self references."""
    size = draw(st.integers(0, most))
    graph = {f"P{at}": [f"P{other}" for other in draw(st.sets(st.integers(0, at)))] for at in range(size)}
    return closure(graph)


@st.composite
def pipelines(draw: st.DrawFn) -> list[Any]:
    """Pipelines that fit together, whatever the graph, and that remove nothing."""
    paths = st.lists(st.sampled_from([f"P{number}" for number in range(9)]), max_size=3)
    specs = paths | paths.map(lambda names: [{"children_of": names}])
    cut = draw(
        st.builds(lambda name, names: [name, names], st.sampled_from(["subcomponent_in", "subcomponent_out"]), paths)
        | specs.map(lambda items: ["split_paths", items])
    )
    counted = st.integers(1, 5)
    listing = st.just([["popularity_contest"]]) | counted.map(lambda count: [["split_every", count]])
    tail: list[Any] = draw(st.just([]) | st.just([["reverse"]]) | counted.map(lambda count: [["limit_layers", count]]))
    within: list[Any] = draw(listing)
    part = draw(st.sampled_from(["main", "common", "rest"]))
    return [cut, ["over", part, ["pipe", [*within, *tail]]], ["flatten"], ["map", ["pipe", []]], *tail]


def strategies(found: Closure) -> list[Strategy]:
    """Give one strategy of each kind, that fits the closure."""
    sizes = {path: len(path.name) + int(path.digest[0], 36) for path in found.paths}
    named = [path.path for path in found.paths[:2]]
    steps = [["split_paths", named], ["over", "rest", ["popularity_contest"]]]
    return [ByPopularity(), BySize(sizes), Balanced(sizes), ByList([[named[0]], named[1:]] if named else []), Pipeline(steps)]
