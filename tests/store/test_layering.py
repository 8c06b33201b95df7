"""Closures are split into few layers: each path once, always alike, and as nixpkgs splits them."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer.errors import ClosureError, InputError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.layering import ByList, ByPopularity, BySize, Graph, Group, Strategy, popularity, split
from rootless_layer.store.layering_pipeline import Pipeline

Names = Mapping[str, Iterable[str]]
patient = settings(deadline=None)


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
    return [ByPopularity(), BySize(sizes), ByList([[named[0]], named[1:]] if named else []), Pipeline(steps)]


# Whatever the strategy


@patient
@given(closures(), st.integers(3, 12))
def test_every_path_is_in_one_group(found: Closure, most: int) -> None:
    """Each path is in one group, groups are ordered, not empty, and not more than allowed."""
    for strategy in strategies(found):
        groups = split(found, most, strategy)
        assert sorted(path for group in groups for path in group) == list(found.paths)
        assert all(groups)
        assert all(list(group) == sorted(group) for group in groups)
        assert len(groups) <= most


@patient
@given(closures(), st.integers(3, 12), st.randoms(use_true_random=False))
def test_the_order_of_listing_does_not_matter(found: Closure, most: int, chance: random.Random) -> None:
    """The same closure, its paths given in another order, is split alike."""
    items = [(path, chance.sample(sorted(references), len(references))) for path, references in found.references.items()]
    chance.shuffle(items)
    again = Closure({path: frozenset(references) for path, references in items})
    for strategy in strategies(found):
        assert split(again, most, strategy) == split(found, most, strategy)


def test_the_hash_seed_does_not_matter() -> None:
    """The same closure is split alike in interpreters with different hash seeds."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_layering import *\n"
        "found, sizes = random_closure(1, 80)\n"
        "every = [*strategies(found), BySize(dict.fromkeys(sizes, 0)), Pipeline([['split_every', 7]])]\n"
        "print([split(found, 20, strategy) for strategy in every])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, Path(__file__).parent],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in range(4)
    }
    assert len(said) == 1


@pytest.mark.parametrize("most", [0, -1])
def test_less_than_one_layer(most: int) -> None:
    """A closure cannot be split into no layers, even an empty one."""
    for found in (closure({}), closure({"A": "B"})):
        with pytest.raises(InputError, match=f"at most {most} layers: allow 1 or more"):
            split(found, most)


def test_an_empty_closure_has_no_layers() -> None:
    """Where nothing is, no strategy makes a layer."""
    for strategy in strategies(closure({})):
        assert split(closure({}), 5, strategy) == ()


def test_one_layer_has_all() -> None:
    """At most one layer is one layer, whatever the strategy."""
    found, sizes = random_closure(0, 20)
    for strategy in (ByPopularity(), BySize(sizes), ByList([["*"]]), Pipeline([["popularity_contest"]])):
        assert split(found, 1, strategy) == (found.paths,)


def test_a_cycle_is_named() -> None:
    """Paths that need each other, which Nix forbids, are an error that shows them; self references are not."""
    with pytest.raises(ClosureError, match="in a cycle: ") as caught:
        split(closure({"A": "B", "B": "C", "C": "DF", "D": "B", "E": "A"}), 5)
    circle = [path.rpartition("-")[2] for path in str(caught.value).partition(": ")[2].split(" -> ")]
    assert "".join(circle) in {"BCDB", "CDBC", "DBCD"}
    assert shown(split(closure({"A": "AB", "B": "B"}), 5)) == ["B", "A"]


def test_references_to_paths_not_given() -> None:
    """A reference to what the closure does not have counts for nothing."""
    found = Closure({store_path("A"): frozenset({store_path("B")}), store_path("C"): frozenset({store_path("A")})})
    for strategy in strategies(found):
        assert sorted(path for group in split(found, 5, strategy) for path in group) == list(found.paths)


def test_a_deep_closure() -> None:
    """No recursion: a chain longer than Python's stack is split."""
    names = [f"P{number:04}" for number in range(2000)]
    found = closure({user: [reference] for user, reference in pairwise(names)})
    assert shown(split(found, 4))[:3] == ["P1999", "P1998", "P1997"]
    assert len(split(found, 4, BySize({path: int(path.name[1:]) for path in found.paths}))) == 4
    assert shown(split(found, 4, Pipeline([["subcomponent_in", [store_path("P0001").path]]])))[0] == "P0000 P0001"


# By popularity


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
    graph = Graph.of(found)
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
    graph = Graph.of(found)
    assert {graph.names[number]: count for number, count in popularity(graph).items()} == expected


def test_more_ways_than_could_be_walked() -> None:
    """Counts of hundreds of bits are exact: each step of this ladder doubles the ways."""
    height = 300
    found = closure({f"{side}{step}": [f"L{step + 1}", f"R{step + 1}"] for step in range(height) for side in "LR"})
    graph = Graph.of(found)
    ranks = popularity(graph)
    for number, path in enumerate(graph.names):
        assert ranks[number] == 3 * 2 ** int(path.name[1:]) - 2


@patient
@given(closures(), st.integers(1, 12))
def test_the_most_popular_are_alone(found: Closure, most: int) -> None:
    """All groups but the last have a path each; none later is more popular; as many as allowed are made."""
    graph = Graph.of(found)
    ranks = {graph.names[number]: count for number, count in popularity(graph).items()}
    groups = split(found, most)
    assert len(groups) == min(most, len(found.paths))
    assert all(len(group) == 1 for group in groups[:-1])
    for lower, higher in pairwise(groups):
        assert min(ranks[path] for path in lower) >= max(ranks[path] for path in higher)


def test_equally_popular_paths_are_in_the_order_of_nixpkgs() -> None:
    """Names are compared with the dash after them, so that ``a+b`` is before ``a``, and ``a-1`` after it."""
    assert shown(split(closure_of_edges("", "a a-1 a+b b a.c"), 9)) == ["a+b", "a", "a-1", "a.c", "b"]


# By size


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


# By a list


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


# Pipelines


SPLIT = "Root1-A A-B A-D D-E B-D B-F Root2-B Root3-C"
REACH = "Root1-A A-B A-C B-D B-E Root2-B Root3-C"
PIPED = "Root1-A A-B A-C B-D B-E E-F B-G Root2-B Root3-C"
FLAT = "A-C B-C B-D"


@pytest.mark.parametrize(
    ("edges", "alone", "pipeline", "expected"),
    [
        # split_paths_test.py
        (SPLIT, "X", [["split_paths", []]], ["A B C D E F Root1 Root2 Root3 X"]),
        (SPLIT, "X", [["split_paths", ["B"]]], ["B F", "D E", "A C Root1 Root2 Root3 X"]),
        (SPLIT, "X", [["split_paths", ["B", "Root3"]]], ["B C F Root3", "D E", "A Root1 Root2 X"]),
        (SPLIT, "X", [["split_paths", ["D"]]], ["D E", "A B C F Root1 Root2 Root3 X"]),
        ("", "", [["split_paths", ["B"]]], []),
        # subcomponent_test.py
        (REACH, "", [["subcomponent_out", []]], ["A B C D E Root1 Root2 Root3"]),
        (REACH, "", [["subcomponent_out", ["B"]]], ["B D E", "A C Root1 Root2 Root3"]),
        (REACH, "", [["subcomponent_out", ["B", "Root3"]]], ["B C D E Root3", "A Root1 Root2"]),
        (REACH, "", [["subcomponent_in", ["B"]]], ["A B Root1 Root2", "C D E Root3"]),
        (REACH, "", [["subcomponent_in", ["B", "Root3"]]], ["A B Root1 Root2 Root3", "C D E"]),
        # flatten_references_graph_test.py and __main___test.py
        (FLAT, "", [["split_paths", ["B"]]], ["B D", "C", "A"]),
        (FLAT, "", [["split_paths", ["B"]], ["over", "main", ["subcomponent_in", ["B"]]]], ["B", "D", "C", "A"]),
        ("B-C B-D", "", [["split_paths", ["B"]]], ["B C D"]),
        ("A-B A-C B-C", "", [["split_paths", ["B"]]], ["B", "C", "A"]),
        # pipe_test.py
        (
            PIPED,
            "",
            [
                ["split_paths", ["B"]],
                ["over", "main", ["pipe", [["subcomponent_in", ["B"]], ["over", "rest", ["popularity_contest"]]]]],
                ["flatten"],
                ["map", ["remove_paths", "Root3"]],
                ["limit_layers", 5],
            ],
            ["B", "F", "D", "E", "A C G Root1 Root2"],
        ),
        ("Root1-A A-B", "Root2", [["popularity_contest"], ["limit_layers", 3]], ["B", "A", "Root1 Root2"]),
        ("Root1-A A-B", "Root2", [["popularity_contest"], ["reverse"], ["limit_layers", 3]], ["Root2", "Root1", "A B"]),
        # What their tests do not have
        (SPLIT, "", [["split_paths", [{"children_of": "A"}]]], ["B D E F", "A C Root1 Root2 Root3"]),
        (SPLIT, "", [["split_paths", [{"children_of": ["D", "Z"]}, "Root3"]]], ["C E Root3", "A B D F Root1 Root2"]),
        (SPLIT, "", [["split_paths", ["Z"]], ["over", "main", ["popularity_contest"]]], ["A B C D E F Root1 Root2 Root3"]),
        ("A-B", "", [["split_paths", ["A"]]], ["A B"]),
        ("A-B C-B", "", [["split_paths", ["A", "C"]]], ["A B C"]),
        (FLAT, "", [["remove_paths", ["C", "Z"]], ["popularity_contest"]], ["D", "A", "B"]),
        (FLAT, "", [["popularity_contest"], ["map", ["popularity_contest"]]], ["C", "D", "A", "B"]),
        (
            SPLIT,
            "",
            [["split_paths", ["D"]], ["over", "rest", ["popularity_contest"]], ["flatten"], ["limit_layers", 3]],
            ["D E", "F", "A B C Root1 Root2 Root3"],
        ),
        (
            "A-B B-C C-D",
            "",
            [["popularity_contest"], ["reverse"], ["limit_layers", 1], ["map", ["split_every", 1]]],
            ["D", "C", "B", "A"],
        ),
        ("A-B B-C C-D", "", [["split_every", 3]], ["B C D", "A"]),
        (FLAT, "", [["split_every", 1], ["limit_layers", 1], ["map", ["popularity_contest"]]], ["A", "B", "C", "D"]),
        (FLAT, "", [], ["A B C D"]),
    ],
)
def test_pipelines_of_nixpkgs(edges: str, alone: str, pipeline: list[Any], expected: list[str]) -> None:
    """The steps give what the tests of nixpkgs' flattenReferencesGraph have for them, and what it gives where they have nothing."""
    steps = json.loads(json.dumps(data_of(pipeline)))
    assert shown(split(closure_of_edges(edges, alone), 127, Pipeline(steps))) == expected


@patient
@given(closures(), pipelines(), st.integers(1, 12))
def test_pipelines_lose_nothing(found: Closure, pipeline: list[Any], most: int) -> None:
    """Where no step removes paths, every path is in one group, of as many as allowed at most."""
    groups = split(found, most, Pipeline(data_of(pipeline)))
    assert sorted(path for group in groups for path in group) == list(found.paths)
    assert len(groups) <= most
    assert all(groups)


@patient
@given(closures(), st.integers(1, 9))
def test_the_pipeline_of_the_default_strategy(found: Closure, most: int) -> None:
    """What nixpkgs does without a pipeline is a pipeline as well."""
    assert split(found, 99, Pipeline([["popularity_contest"], ["limit_layers", most]])) == split(found, most)


@patient
@given(closures(), st.sets(st.integers(0, 9)))
def test_parts_of_split_paths(found: Closure, chosen: set[int]) -> None:
    """``main`` is what is needed only through the paths, ``common`` what is needed in other ways, too; the rest is the rest."""
    paths = {path for path in found.paths if int(path.name[1:]) in chosen}
    roots = set(found.paths).difference(*found.references.values())
    cut = Closure({path: references - paths for path, references in found.references.items()})
    without, below = needed(cut, *(roots - paths)), needed(found, *paths)
    expected = [below - without, below & without, without - below]
    groups = split(found, 9, Pipeline([["split_paths", [path.path for path in sorted(paths)]]]))
    assert [set(group) for group in groups] == [part for part in expected if part]


A = store_path("A").path


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("popularity_contest", ["pipeline: 'popularity_contest' is not a list of steps"]),
        (
            [["popular"], ["flatten", 1], 5, []],
            ['step 1: ["popular"] is', 'step 2: ["flatten", 1] is', "step 3: 5 is", "step 4: [] is"],
        ),
        ([["limit_layers", 0], ["limit_layers", "5"], ["split_every", True]], ["step 1: ", "step 2: ", "step 3: "]),
        ([["over", "top", ["flatten"]]], ['step 1: ["over", "top", ["flatten"]] is not a step, or not with these arguments']),
        ([["over", "main", ["pipe", [["no"]]]]], ['step 1, over main, pipe, step 1: ["no"] is not a step']),
        ([["map", "reverse"]], ["step 1, map: 'reverse' is not a step"]),
        (
            [["remove_paths", [A, "hello", f"{A}/bin", 5]]],
            [f"step 1, remove_paths: {text} is" for text in ("'hello'", f"'{A}/bin'", "5")],
        ),
        ([["split_paths", [{"parents_of": A}]]], ["step 1, split_paths: {'parents_of': "]),
        ([["split_paths", [{"children_of": A, "x": 1}]]], ["step 1, split_paths: {'children_of': "]),
    ],
)
def test_every_wrong_step_is_named(pipeline: Any, expected: list[str]) -> None:
    """All steps that there are not, and all wrong arguments, are in one error, with their places, before any graph is."""
    with pytest.raises(InputError) as caught:
        Pipeline(pipeline)
    assert len(caught.value.problems) == len(expected)
    for problem, start in zip(caught.value.problems, expected, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ([["limit_layers", 3]], "step 1, limit_layers: takes a list, but gets a graph"),
        ([["popularity_contest"], ["split_every", 2]], "step 2, split_every: takes a graph, but gets a list"),
        ([["split_paths", [A]], ["reverse"]], "step 2, reverse: takes a list, but gets named parts"),
        (
            [["popularity_contest"], ["map", ["over", "main", ["flatten"]]]],
            "step 2, map, over: takes named parts, but gets a graph",
        ),
        (
            [["popularity_contest"], ["map", ["split_every", 1]], ["limit_layers", 1]],
            "step 3, limit_layers: takes a list of graphs, but gets a list in it",
        ),
    ],
)
def test_steps_that_do_not_fit(pipeline: list[Any], expected: str) -> None:
    """A step that gets what it does not take says where it is, what it takes, and what it got."""
    with pytest.raises(InputError) as caught:
        split(closure_of_edges("A-B"), 5, Pipeline(pipeline))
    assert caught.value.problems[0].startswith(expected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([A, "main", "rest", "flatten", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["children_of", "x"]), inner)
        | st.builds(
            lambda name, rest: [name, *rest],
            st.sampled_from(["map", "over", "pipe", "split_paths", "flatten", "reverse"]),
            st.lists(inner, max_size=2),
        )
    ),
)


@patient
@given(json_values, closures(4))
def test_any_json_is_a_pipeline_or_an_input_error(data: Any, found: Closure) -> None:
    """Whatever a pipeline is given as, it splits the closure, or it is refused."""
    try:
        groups = split(found, 5, Pipeline(data))
    except InputError as error:
        assert error.problems
        return
    assert sorted(path for group in groups for path in group) == list(found.paths)


def test_steps_nested_too_deep() -> None:
    """Steps in steps without end are an error, not a crash."""
    steps: list[Any] = ["flatten"]
    for _ in range(500):
        steps = ["map", steps]
    with pytest.raises(InputError, match="nested too deep"):
        Pipeline([steps])


def test_a_pipeline_is_a_value() -> None:
    """Pipelines of the same steps are equal."""
    assert Pipeline([["flatten"]]) == Pipeline([["flatten"]])
    assert Pipeline([["flatten"]]) != Pipeline([["reverse"]])


# Stability


def changed(before: Sequence[Group], after: Sequence[Group]) -> int:
    """Count the layers that somebody who has the old image must fetch for the new one."""
    return len(set(after) - set(before))


def with_leaf(found: Closure, references: Iterable[StorePath]) -> Closure:
    """Add a package that nothing in the closure refers to."""
    return Closure({**found.references, store_path("leaf"): frozenset(references)})


@patient
@given(closures(), st.integers(1, 12), st.data())
def test_a_leaf_changes_few_popular_layers(found: Closure, most: int, data: st.DataObject) -> None:
    """A new package changes the last layer, and one for each path of its closure that had no layer of its own, at most."""
    leaf = store_path("leaf")
    after = with_leaf(found, data.draw(st.sets(st.sampled_from(found.paths)) if found.paths else st.just(set())))
    groups = split(found, most)
    alone = {group[0] for group in groups if len(group) == 1}
    assert changed(groups, split(after, most)) <= 1 + len(needed(after, leaf) - alone)


@patient
@given(closures(), st.data())
def test_the_smallest_leaf_changes_one_layer_by_size(inner: Closure, data: st.DataObject) -> None:
    """Where some path has no leader, as an image's own small root, a smaller package changes the layer of those only."""
    sizes = {path: data.draw(st.integers(2, 5)) for path in inner.paths} | {store_path("top"): 1, store_path("leaf"): 0}
    found = Closure({**inner.references, store_path("top"): frozenset(inner.paths)})
    after = with_leaf(found, data.draw(st.sets(st.sampled_from(found.paths))))
    most = data.draw(st.integers(1, max(1, len(inner.paths))))
    before, later = split(found, most, BySize(sizes)), split(after, most, BySize(sizes))
    assert changed(before, later) == 1
    assert any({store_path("top"), store_path("leaf")} <= set(group) for group in later)


@patient
@given(closures(), st.data())
def test_a_leaf_changes_one_listed_layer(found: Closure, data: st.DataObject) -> None:
    """A package that a list does not name changes the last layer only."""
    after = with_leaf(found, data.draw(st.sets(st.sampled_from(found.paths)) if found.paths else st.just(set())))
    by_list = ByList([["P[0-2]"], ["P[3-5]"]])
    assert changed(split(found, 3, by_list), split(after, 3, by_list)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_leaves_of_closures_such_as_images_have(seed: int) -> None:
    """Of 30 packages added to 300 paths in 60 layers, each changes less than 2 layers by popularity, and 3 by size, on average."""
    found, sizes = random_closure(seed, 300)
    chance = random.Random(seed)
    counts: dict[str, list[int]] = {"popularity": [], "size": []}
    before = {"popularity": split(found, 60), "size": split(found, 60, BySize(sizes))}
    for _ in range(30):
        after = with_leaf(found, chance.sample(found.paths, 4))
        bigger = {**sizes, store_path("leaf"): int(chance.lognormvariate(10, 2))}
        counts["popularity"].append(changed(before["popularity"], split(after, 60)))
        counts["size"].append(changed(before["size"], split(after, 60, BySize(bigger))))
    assert sum(counts["popularity"]) / 30 < 2
    assert sum(counts["size"]) / 30 < 3
