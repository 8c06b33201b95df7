"""Which store paths share a layer: :func:`split`, and the strategies that decide it.

Images share whole layers. So a layer should hold what changes together, and few layers should
change when an image does; but an image may have only so many (overlay2 stops at 128).

- :class:`ByPopularity` is what nixpkgs does by default (``references-by-popularity``);
- :class:`BySize` is nixpkgs' ``docker/auto-layer.py``, which spreads the bytes over the layers;
- ``Balanced``, in a module of its own, keeps the layers that an update changes small;
- :class:`ByList` is for who knows better;
- ``Pipeline``, in a module of its own, is nixpkgs' ``layeringPipeline``.

A strategy sees a :class:`ReferenceGraph`, whose numbering makes each question about who depends on whom
one pass over the paths, and whose order depends on the paths alone: not on the order in which
they were listed, nor on Python's hash seed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from operator import getitem
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer import given
from rootless_layer.errors import ClosureError, InputError

from .closure import StorePath

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .closure import Closure

MOST_LAYERS = 100
"""As many as an image may have by default, as in nixpkgs; overlay2 stops at 128."""

Group = tuple[StorePath, ...]
"""The store paths of one layer, in order, none twice; never empty."""


@attrs.frozen
class ReferenceGraph:
    """Numbered store paths, and which of them refer to which; without cycles.

    ``names`` has the path of each number. ``nodes`` has the numbers that this graph is of, in
    rising order, each with those of the graph that it refers to. A path's number is above those
    of all its references. Parts of a graph keep the numbers.
    """

    names: tuple[StorePath, ...]
    nodes: dict[int, frozenset[int]]

    @classmethod
    def of(cls, closure: Closure) -> ReferenceGraph:
        """Take a closure's paths, and of their references those to paths that it has.

        Raises ClosureError, which shows one, if there is a cycle.
        """
        paths = closure.paths
        places = {path: place for place, path in enumerate(paths)}
        references = [sorted(places[other] for other in closure.references[path] if other in places) for path in paths]
        try:
            order = list(TopologicalSorter(dict(enumerate(references))).static_order())
        except CycleError as error:
            circle = " -> ".join(paths[place].path for place in reversed(error.args[1]))
            raise ClosureError(f"store paths refer to each other in a cycle: {circle}") from None
        numbers = {place: number for number, place in enumerate(order)}
        nodes = {number: frozenset(numbers[other] for other in references[place]) for place, number in numbers.items()}
        return cls(tuple(paths[place] for place in order), nodes)

    @property
    def group(self) -> Group:
        """The paths, in order."""
        return tuple(sorted((self.names[number] for number in self.nodes), key=lambda path: path.path))

    @property
    def roots(self) -> set[int]:
        """The paths to which none refers."""
        return set(self.nodes).difference(*self.nodes.values())

    def find(self, paths: Collection[str]) -> set[int]:
        """Give the numbers of the paths named; a path that is not in the graph has none."""
        return {number for number in self.nodes if self.names[number].path in paths}

    def below(self, numbers: Iterable[int], barred: Collection[int] = frozenset()) -> set[int]:
        """Give these, and all that they need, on ways that lead through nothing ``barred``."""
        found = set(numbers)
        for number in reversed(self.nodes):
            if number in found:
                found.update(self.nodes[number].difference(barred))
        return found

    def above(self, numbers: Iterable[int]) -> set[int]:
        """Give these, and all that need one of them."""
        found = set(numbers)
        for number, references in self.nodes.items():
            if not found.isdisjoint(references):
                found.add(number)
        return found

    def only(self, numbers: Collection[int]) -> ReferenceGraph:
        """Give the part that these paths are, with the references among them."""
        kept = frozenset(numbers)
        return ReferenceGraph(
            self.names, {number: references & kept for number, references in self.nodes.items() if number in kept}
        )


class Strategy(Protocol):
    """Decides which paths share a layer."""

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give disjoint parts of a ``graph``, the lowest layer's first.

        Parts may be empty, and there may be more than ``most`` of them.
        """


def popularity(graph: ReferenceGraph) -> dict[int, int]:
    """Count how popular each path is, as nixpkgs' ``references-by-popularity`` does.

    Imagine every root expanded into a tree, in which a path stands as often as there are ways
    from the roots to it. A path's popularity is the number of places in these trees where it,
    or something that needs it, stands: so it rises with each way and with its length. There
    may be exponentially many places, so they are counted and not made: in a time that grows
    with the square of the number of paths, times the length of the counts.
    """
    places = dict.fromkeys(graph.nodes, 0)
    users = dict.fromkeys(graph.nodes, 0)  # a bit for each path that needs this one, or is it
    for bit, (number, references) in enumerate(reversed(graph.nodes.items())):
        count = places[number] = places[number] or 1  # a root stands in one place
        mask = users[number] = users[number] | 1 << bit
        for other in references:
            places[other] += count
            users[other] |= mask
    # The sum of any eight neighbours' counts is made once, then found by a byte of the mask.
    counts = list(reversed(places.values()))
    sums = [_subset_sums(counts[start : start + 8]) for start in range(0, len(counts), 8)]
    return {
        number: sum(map(getitem, sums, mask.to_bytes(mask.bit_length() + 7 >> 3, "little"))) for number, mask in users.items()
    }


def _subset_sums(counts: Sequence[int]) -> list[int]:
    """Sum each subset; bit N of a place in the list says whether it has ``counts[N]``."""
    sums = [0]
    for count in counts:
        sums += [count + other for other in sums]
    return sums


def by_popularity(graph: ReferenceGraph) -> list[ReferenceGraph]:
    """Give each path as a part of its own, the most popular first.

    Equally popular ones are in the order of their names, then of their digests, compared as one
    text with a dash between them, as in nixpkgs.
    """
    ranks = popularity(graph)
    names = graph.names
    order = sorted(ranks, key=lambda n: (-ranks[n], f"{names[n].name}-{names[n].store_dir}/{names[n].digest}"))
    return [ReferenceGraph(names, {number: frozenset()}) for number in order]


def limit(parts: Iterable[ReferenceGraph], most: int) -> Iterator[ReferenceGraph]:
    """Keep the first ``most`` - 1 parts, and merge the others into one, which may be empty.

    As in nixpkgs' ``limit_layers``, references between the parts merged are forgotten.
    """
    every = iter(parts)
    for _, part in zip(range(most - 1), every, strict=False):
        yield part
    if others := list(every):
        nodes = chain.from_iterable(part.nodes.items() for part in others)
        yield ReferenceGraph(others[0].names, dict(sorted(nodes)))


@attrs.frozen
class ByPopularity:
    """A layer for each of the most popular paths, and a last one for all the others.

    What popularity is, :func:`popularity` says. A path that is added to a closure, and to which
    none there refers, changes the last layer, and at most one more for itself and for each
    path that it needs and that had no layer of its own.
    """

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give ``most`` - 1 parts of one path of the ``graph`` each, then the rest."""
        return limit(by_popularity(graph), most)


@attrs.frozen
class BySize:
    """The biggest paths get layers of their own, and what only they need comes with them.

    As nixpkgs' ``auto-layer.py``: some paths, the biggest, are leaders, of themselves and of all
    that they need. Paths with the same leaders share a layer, and so do those without any.
    There are as many leaders as can be, taken from the biggest on, before the layers would be
    more than allowed. The layers are in the order of the sizes of their closures.

    ``sizes`` has each path's size in bytes, such as its ``narSize``. Of two that are equally
    big the one whose path sorts later leads first. Where some path has no leader, to add one
    that is smaller than all others, and to which none refers, changes that one's layer only.
    """

    sizes: Mapping[StorePath, int]

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give at most ``most`` parts of the ``graph``; raises one :class:`InputError` for all paths without a size."""
        if missing := [path.path for path in graph.group if path not in self.sizes]:
            raise InputError(*(f"{path}: its size is not given" for path in missing))
        sizes = {number: self.sizes[graph.names[number]] for number in graph.nodes}
        below = {}  # a bit for the path, and for each that it needs
        for number, references in graph.nodes.items():
            below[number] = 1 << number
            for other in references:
                below[number] |= below[other]
        layers = {0: sum(1 << number for number in graph.nodes)}  # who leads: who is led, both as bits
        for number in sorted(graph.nodes, key=lambda n: (sizes[n], graph.names[n].path), reverse=True):
            halves = [
                (leaders | bit, members & part)
                for leaders, members in layers.items()
                for bit, part in ((0, ~below[number]), (1 << number, below[number]))
            ]
            more = {leaders: members for leaders, members in halves if members}
            if len(more) > most:
                break
            layers = more
        found = [graph.only([number for number in graph.nodes if members >> number & 1]) for members in layers.values()]

        def closure_size(part: ReferenceGraph) -> tuple[int, int, Group]:
            needed = graph.below(part.nodes)
            return sum(map(sizes.__getitem__, needed)), len(needed), part.group

        return sorted(found, key=closure_size)


def _groups(value: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    groups = (given.several(f"groups[{n}]", group, "strings") for n, group in enumerate(given.several("groups", value, "groups")))
    return tuple(tuple(given.text(f"groups[{n}]", entry) for entry in group) for n, group in enumerate(groups))


@attrs.frozen
class ByList:
    """A layer for each group of a list, in its order, and a last one for what no group names.

    An entry that begins with a slash is a store path. Any other is a pattern for names (what
    follows the digest and its dash), as of a shell: ``*``, ``?``, ``[...]``. A path is in the
    group that has it as an entry, else in the first with a pattern for it. A pattern for
    nothing in the closure is allowed, and a group left without paths makes no layer.
    """

    groups: Sequence[Sequence[str]] = attrs.field(converter=_groups)

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give a part for each group, then the rest.

        Raises one :class:`InputError` for all entries that are paths which the ``graph`` does not have, or
        which another group has as well; or for more layers than ``most``.
        """
        homes: dict[str, int] = {}
        problems = []
        known = {path.path for path in graph.group}
        entries = [(place, entry) for place, group in enumerate(self.groups) for entry in group]
        for place, entry in entries:
            if entry.startswith("/"):
                if entry not in known:
                    problems.append(f"group {place + 1}: {entry} is not in the closure")
                elif homes.setdefault(entry, place) != place:
                    problems.append(f"group {place + 1}: {entry} is in group {homes[entry] + 1}")
        if problems:
            raise InputError(*problems, hint="Name each store path of the closure at most once, or give patterns for names.")
        patterns = [(place, entry) for place, entry in entries if not entry.startswith("/")]
        found: list[list[int]] = [[] for _ in range(len(self.groups) + 1)]
        for number in graph.nodes:
            path = graph.names[number]
            matches = (place for place, pattern in patterns if fnmatchcase(path.name, pattern))
            home = homes.get(path.path)
            found[next(matches, -1) if home is None else home].append(number)
        if (count := sum(map(bool, found))) > most:
            raise InputError(f"the groups make {count} layers with the rest, but there may be at most {most}")
        return [graph.only(numbers) for numbers in found]


POPULAR = ByPopularity()


def split(closure: Closure, max_layers: int, strategy: Strategy = POPULAR) -> tuple[Group, ...]:
    """Split a closure into groups of store paths, a layer each.

    Every path of the closure is in one group (unless the strategy is a pipeline that removes
    it), and no group is empty; so an empty closure has none. Where the strategy gives more
    than ``max_layers``, the last ones become one.

    :param closure: store paths with all that they refer to.
    :param max_layers: how many groups there may be, from 1.
    :param strategy: says which store paths share a group.
    :returns: the groups, the lowest layer's first.
    :raises InputError: for ``max_layers`` less than 1. :class:`ClosureError` is raised for a cycle of references,
        which Nix forbids, and what the strategy raises.
    """
    if given.instance("max_layers", max_layers, int, "a whole number") < 1:
        raise InputError(f"a closure cannot be split into at most {max_layers} layers: allow 1 or more")
    parts = [part for part in strategy.parts(ReferenceGraph.of(closure), max_layers) if part.nodes]
    return tuple(part.group for part in limit(parts, max_layers))
