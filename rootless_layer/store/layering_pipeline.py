"""The ``layeringPipeline`` of nixpkgs: how a closure is split, as a JSON list of named steps.

Each step is a list of a name and its arguments, as ``dockerTools`` and ``flattenReferencesGraph``
of nixpkgs take it. The first step gets the whole graph, each other one what the step before it
gave: a graph, a list, or named parts (``main``, ``common``, ``rest``). What the last one gives
is flattened: each graph in it is a layer, the first the lowest.

=========================== ================== ==================================================
step                        takes              gives
=========================== ================== ==================================================
``popularity_contest``      a graph            a list: each path by itself, the most popular
                                               first
``split_paths`` PATHS       a graph            ``main``: the paths, and what only they need;
                                               ``common``: what others need as well; ``rest``;
                                               of these, those that are not empty
``subcomponent_out`` PATHS  a graph            ``main``: the paths, and what they need; ``rest``
``subcomponent_in`` PATHS   a graph            ``main``: the paths, and what needs them; ``rest``
``split_every`` COUNT       a graph            a list of graphs with COUNT paths each, a path
                                               after those that it needs
``remove_paths`` PATHS      a graph            the graph without the paths
``over`` PART STEP          named parts        the parts, one of them put through the step
``map`` STEP                a list             the list, each item put through the step
``pipe`` STEPS              what the first     what the last step gives
                            step takes
``flatten``                 anything           a list of the graphs in it
``reverse``                 a list             the list from its end
``limit_layers`` COUNT      a list of graphs   COUNT graphs at most: what is more is merged into
                                               the last
=========================== ================== ==================================================

PATHS is a list of store paths, or one of them alone; what a graph lacks counts for nothing. In
``split_paths`` an item may be ``{"children_of": PATHS}``: all that these refer to.

What differs from nixpkgs: ``over`` a part that ``split_paths`` left out does nothing, where it
was a crash; empty layers are dropped; ``split_every`` does not go by ``narSize``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from rootless_layer.errors import ClosureError, InputError
from rootless_layer.terminal import quoted

from .closure import StorePath
from .layering import ReferenceGraph, by_popularity, limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Value = ReferenceGraph | Sequence["Value"] | Mapping[str, "Value"]  # in fact lists and dicts
    Step = Callable[[Value], Value]
    T = TypeVar("T", ReferenceGraph, list["Value"], dict[str, "Value"])

STEPS = frozenset({
    "popularity_contest", "split_paths", "subcomponent_out", "subcomponent_in", "split_every", "remove_paths", "over", "map",
    "pipe", "flatten", "reverse", "limit_layers",
})  # fmt: skip
"""The names of all steps."""
_PARTS = ("main", "common", "rest")
_KINDS = {ReferenceGraph: "a graph", list: "a list", dict: "named parts"}
_DEEPEST = 100  # levels of steps in steps: each takes a few frames of Python's stack
_HINT = "The steps are those of nixpkgs' layeringPipeline, each a list of its name and its arguments."


@attrs.frozen
class Pipeline:
    """A strategy for :func:`.store.layering.split`: the steps of a ``layeringPipeline``.

    ``steps`` is the list as JSON has it. Raises one InputError for all steps that there are
    not, or that have wrong arguments, each with its place.
    """

    steps: Sequence[object]
    _run: Step = attrs.field(init=False, repr=False, eq=False)

    @_run.default
    def _compile(self) -> Step:
        reader = _StepReader()
        run = reader.pipe((), self.steps)
        if reader.problems:
            raise InputError(*reader.problems, hint=_HINT)
        return run

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:  # noqa: ARG002 - split sees to that
        """Give the graphs that the last step gives, in its order; there may be more than ``most`` of them.

        Raises :class:`InputError` where a step gets what it does not take, as only the ``graph`` tells.
        """
        return _flatten(self._run(graph))


@attrs.define
class _StepReader:
    """Makes functions of steps; gathers the problems, to raise them at once.

    A place is how to get to a step: numbers from 1, and the names of the steps around it.
    """

    problems: list[str] = attrs.field(factory=list)

    def blame(self, place: tuple[str, ...], problem: str) -> None:
        self.problems.append(f"{', '.join(place) or 'pipeline'}: {problem}")

    def pipe(self, place: tuple[str, ...], data: object) -> Step:
        if not isinstance(data, list | tuple):
            self.blame(place, f"{quoted(data)} is not a list of steps")
            return _flatten
        steps = [self.step((*place, f"step {number}"), step) for number, step in enumerate(data, 1)]

        def run(value: Value) -> Value:
            for step in steps:
                value = step(value)
            return value

        return run

    def step(self, place: tuple[str, ...], data: object) -> Step:  # noqa: C901, PLR0911 - a line for each step that there is
        here = (*place, str(data[0])) if isinstance(data, list | tuple) and data else place
        if len(place) > _DEEPEST:
            self.blame(place[:3], "the steps are nested too deep")
            return _flatten
        match data:
            case ["popularity_contest"]:
                return _taking(ReferenceGraph, here, lambda graph: [*by_popularity(graph)])
            case ["split_paths", paths]:
                return self.split_paths(here, paths)
            case ["subcomponent_out" | "subcomponent_in" as name, paths]:
                wanted = self.paths(here, paths)
                reach = ReferenceGraph.below if name == "subcomponent_out" else ReferenceGraph.above
                return _taking(ReferenceGraph, here, lambda graph: _two(graph, reach(graph, graph.find(wanted))))
            case ["split_every", int(count)] if count > 0 and count is not True:
                return _taking(ReferenceGraph, here, lambda graph: _every(count, graph))
            case ["remove_paths", paths]:
                wanted = self.paths(here, paths)
                return _taking(ReferenceGraph, here, lambda graph: graph.only(graph.nodes.keys() - graph.find(wanted)))
            case ["over", str(part), step] if part in _PARTS:
                return _taking(dict, here, _over(part, self.step((*here[:-1], f"over {part}"), step)))
            case ["map", step]:
                each = self.step(here, step)
                return _taking(list, here, lambda items: [each(item) for item in items])
            case ["pipe", steps]:
                return self.pipe(here, steps)
            case ["flatten"]:
                return _flatten
            case ["reverse"]:
                return _taking(list, here, lambda items: items[::-1])
            case ["limit_layers", int(count)] if count > 0 and count is not True:
                return _taking(list, here, lambda items: [*limit(_graphs(here, items), count)])
        self.blame(place, f"{quoted(data)} is not a step, or not with these arguments")
        return _flatten

    def split_paths(self, here: tuple[str, ...], data: object) -> Step:
        items = data if isinstance(data, list | tuple) else [data]
        named: list[object] = []
        parents: frozenset[str] = frozenset()
        for item in items:
            match item:
                case {"children_of": paths, **others} if not others:
                    parents |= self.paths(here, paths)
                case _:
                    named.append(item)
        wanted = self.paths(here, named)

        def split(graph: ReferenceGraph) -> Value:
            chosen = graph.find(wanted).union(*(graph.nodes[number] for number in graph.find(parents)))
            below = graph.below(chosen)
            kept = graph.below(graph.roots - chosen, barred=chosen)
            sets = (below - kept, below & kept, kept - below)
            parts: dict[str, Value] = {part: graph.only(numbers) for part, numbers in zip(_PARTS, sets, strict=True) if numbers}
            return parts or {"rest": graph}

        return _taking(ReferenceGraph, here, split)

    def paths(self, here: tuple[str, ...], data: object) -> frozenset[str]:
        items: Sequence[Any] = data if isinstance(data, list | tuple) else [data]
        found = set()
        for item in items:
            try:
                found.add(StorePath(item).path)  # which looks at its type, too
            except ClosureError as error:
                self.blame(here, str(error))
        return frozenset(found)


def _taking(kind: type[T], here: tuple[str, ...], function: Callable[[T], Value]) -> Step:
    """Make a step of a function that takes one kind of value."""

    def run(value: Value) -> Value:
        if not isinstance(value, kind):
            raise InputError(f"{', '.join(here)}: takes {_KINDS[kind]}, but gets {_KINDS[type(value)]}", hint=_HINT)
        return function(value)

    return run


def _over(part: str, step: Step) -> Callable[[dict[str, Value]], Value]:
    return lambda parts: {name: step(value) if name == part else value for name, value in parts.items()}


def _graphs(here: tuple[str, ...], items: Sequence[Value]) -> Iterator[ReferenceGraph]:
    for item in items:
        if not isinstance(item, ReferenceGraph):
            raise InputError(
                f"{', '.join(here)}: takes a list of graphs, but gets {_KINDS[type(item)]} in it: flatten it", hint=_HINT
            )
        yield item


def _two(graph: ReferenceGraph, main: set[int]) -> Value:
    return {"main": graph.only(main), "rest": graph.only(graph.nodes.keys() - main)}


def _every(count: int, graph: ReferenceGraph) -> Value:
    numbers = list(graph.nodes)
    return [graph.only(numbers[start : start + count]) for start in range(0, len(numbers), count)]


def _flatten(value: Value) -> list[ReferenceGraph]:
    if isinstance(value, ReferenceGraph):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [graph for item in items for graph in _flatten(item)]
