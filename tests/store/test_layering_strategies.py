"""Closures are split by popularity, by size and by a list, as nixpkgs splits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from helpers.effort import patient
from helpers.layering import closure, closure_of_edges, closures, needed, shown, store_path
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import InputError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.layering import ByList, BySize, Group, ReferenceGraph, popularity, split


@pytest.mark.parametrize(
    ("edges", "alone", "counts", "order"),
    [
        ("A-B B-C C-D D-F C-E B-E E-F A-G", "", "A1 B2 C3 D4 E5 F9 G2", "F E D C B G A"),
        ("foo-bar foo-baz bar-baz baz-tux", "", "foo1 bar2 baz4 tux6", "tux baz bar foo"),
        (
            "Root1-A A-B A-D D-E B-D B-F Root2-B Root3-C",
            "X",
            "E11 D8 F7 B5 A2 C2 Root11 Root21 Root31 X1",
            "E D F B A C Root1 Root2 Root3 X",
        ),
        ("Root1-A A-B", "Root2", "B3 A2 Root11 Root21", "B A Root1 Root2"),
        ("", "b a c", "a1 b1 c1", "a b c"),
    ],
)
def test_popularity_of_the_examples_of_nixpkgs(edges: str, alone: str, counts: str, order: str) -> None:
    """nixpkgs' own examples give the counts and the order that they give there."""
    found = closure_of_edges(edges, alone)
    graph = ReferenceGraph.of(found)
    ranks = popularity(graph)
    assert {f"{graph.names[number].name}{count}" for number, count in ranks.items()} == set(counts.split())
    assert shown(split(found, 100)) == order.split()


@patient
@given(closures())
def test_popularity_is_what_expanded_trees_have(found: Closure) -> None:
    """A path's popularity is the number of ways from a root to the path, or to what needs it."""
    roots = set(found.paths).difference(*found.references.values())
    expected: Counter[StorePath] = Counter()
    ways = [(root,) for root in sorted(roots)]
    for way in ways:
        expected.update(needed(found, way[-1]))
        ways += [(*way, reference) for reference in found.references[way[-1]]]
    graph = ReferenceGraph.of(found)
    assert {graph.names[number]: count for number, count in popularity(graph).items()} == expected


def test_more_ways_than_could_be_walked() -> None:
    """Counts of hundreds of bits are exact: each step of this ladder doubles the ways."""
    height = 300
    found = closure({f"{side}{step}": [f"L{step + 1}", f"R{step + 1}"] for step in range(height) for side in "LR"})
    graph = ReferenceGraph.of(found)
    ranks = popularity(graph)
    for number, path in enumerate(graph.names):
        assert ranks[number] == 3 * 2 ** int(path.name[1:]) - 2


@patient
@given(closures(), st.integers(1, 12))
def test_the_most_popular_are_alone(found: Closure, most: int) -> None:
    """All groups but the last have a path each; none later is more popular; as many as allowed are made."""
    graph = ReferenceGraph.of(found)
    ranks = {graph.names[number]: count for number, count in popularity(graph).items()}
    groups = split(found, most)
    assert len(groups) == min(most, len(found.paths))
    assert all(len(group) == 1 for group in groups[:-1])
    for lower, higher in pairwise(groups):
        assert min(ranks[path] for path in lower) >= max(ranks[path] for path in higher)


def test_equally_popular_paths_are_in_the_order_of_nixpkgs() -> None:
    """Names are compared with the dash after them, so that ``a+b`` is before ``a``, and ``a-1`` after it."""
    assert shown(split(closure_of_edges("", "a a-1 a+b b a.c"), 9)) == ["a+b", "a", "a-1", "a.c", "b"]


def sized(found: Closure, sizes: str) -> BySize:
    """Make the strategy from names with their sizes."""
    return BySize({store_path(name): int(size) for name, _, size in (item.partition("=") for item in sizes.split())})


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, ["a b c d e f g"]),
        (2, ["c f g", "a b d e"]),
        (3, ["c f g", "a b d e"]),
        (4, ["f", "b d e", "c g", "a"]),
        (5, ["f", "e", "b d", "c g", "a"]),
        (6, ["f", "g", "e", "b d", "c", "a"]),
        (7, ["f", "d", "g", "e", "b", "c", "a"]),
        (99, ["f", "d", "g", "e", "b", "c", "a"]),
    ],
)
def test_sizes_by_hand(most: int, expected: list[str]) -> None:
    """The biggest path leads what it needs, what two lead is apart, and so is what nobody leads."""
    found = closure_of_edges("a-b a-c b-d b-e c-f c-g b-f a-d")
    assert shown(split(found, most, sized(found, "a=1 b=50 c=100 d=3 e=5 f=2 g=4"))) == expected


@patient
@given(closures(), st.integers(1, 9), st.data())
def test_paths_with_the_same_leaders_share_a_layer(found: Closure, most: int, data: st.DataObject) -> None:
    """The layers are those of the most leaders, from the biggest on, that make no more layers than allowed."""
    sizes = {path: data.draw(st.integers(0, 5)) for path in found.paths}
    below = {path: needed(found, path) for path in found.paths}

    def layers(leaders: Sequence[StorePath]) -> set[Group]:
        """Group the paths as nixpkgs does, by the nearest leaders: those through which no other leads."""
        by_leaders: dict[frozenset[StorePath], list[StorePath]] = {}
        for path in found.paths:
            those = {leader for leader in leaders if path in below[leader]}
            near = frozenset(one for one in those if not any(other in below[one] for other in those - {one}))
            by_leaders.setdefault(near, []).append(path)
        return set(map(tuple, by_leaders.values()))

    biggest = sorted(found.paths, key=lambda path: (sizes[path], path), reverse=True)
    expected = layers([])
    for count in range(1, len(biggest) + 1):
        if len(more := layers(biggest[:count])) > most:
            break
        expected = more
    groups = split(found, most, BySize(sizes))
    assert set(groups) == expected
    closure_sizes = [sum(sizes[path] for path in needed(found, *group)) for group in groups]
    assert closure_sizes == sorted(closure_sizes)


def test_of_equally_big_paths_the_later_leads() -> None:
    """The order of the paths decides, not who needs whom."""
    found = closure_of_edges("a-b b-c c-d")
    last = found.paths[-1]
    leads, others = needed(found, last), set(found.paths) - needed(found, last)
    assert [set(group) for group in split(found, 2, BySize(dict.fromkeys(found.paths, 7)))] == [leads, others]
    assert last.name not in "ad"  # else this shows nothing


def test_sizes_not_given() -> None:
    """All paths without a size are named in one error, and sizes of others do no harm."""
    found = closure_of_edges("A-B A-C")
    with pytest.raises(InputError) as caught:
        split(found, 3, sized(found, "B=1 Z=2"))
    assert set(caught.value.problems) == {f"{store_path(name).path}: its size is not given" for name in "AC"}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], ["bash bash-dev glibc perl"]),
        ([["perl"]], ["perl", "bash bash-dev glibc"]),
        ([["glibc"], ["bash*", "perl"]], ["glibc", "bash bash-dev perl"]),
        ([["*"], ["bash"]], ["bash bash-dev glibc perl"]),
        ([["nothing", "BASH"], ["?erl"]], ["perl", "bash bash-dev glibc"]),
        ([["bash*"], ["/bash-dev"]], ["bash", "bash-dev", "glibc perl"]),
        ([["/perl", "/perl", "perl"], [], ["[bg]*"]], ["perl", "bash bash-dev glibc"]),
        ([["bash"]], ["bash", "bash-dev glibc perl"]),
    ],
)
def test_lists(groups: list[list[str]], expected: list[str]) -> None:
    """Paths named outright go where they are named, others to the first pattern, and the rest is on top."""
    found = closure_of_edges("bash-glibc perl-glibc", "bash-dev")
    entries = [[store_path(entry[1:]).path if entry.startswith("/") else entry for entry in group] for group in groups]
    assert shown(split(found, 5, ByList(entries))) == expected


def test_all_wrong_entries_of_a_list_are_named() -> None:
    """Each unknown path and each path in two groups is told at once, with its group."""
    found = closure_of_edges("A-B")
    a, b, c = (store_path(name).path for name in "ABC")
    with pytest.raises(InputError) as caught:
        split(found, 9, ByList([[a, c], [b, a, "none", f"{b}/bin"], ["/"]]))
    assert caught.value.problems == (
        f"group 1: {c} is not in the closure",
        f"group 2: {a} is in group 1",
        f"group 2: {b}/bin is not in the closure",
        "group 3: / is not in the closure",
    )


def test_a_list_of_too_many_groups() -> None:
    """A list is taken as it is, or not at all; empty groups do not count."""
    found = closure_of_edges("A-B A-C")
    with pytest.raises(InputError, match="the groups make 3 layers with the rest, but there may be at most 2"):
        split(found, 2, ByList([["A"], ["B"]]))
    assert shown(split(found, 2, ByList([["A"], ["Z"], ["B", "C"]]))) == ["A", "B C"]
