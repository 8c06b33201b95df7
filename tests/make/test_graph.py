"""Which targets a file of layers and images needs, in which order, and where they need each other in a circle."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.make.graph import Graph, Node, cycles, unknown_name

NAMES = st.sampled_from("abcdefgh")


def graph(**needs: str) -> Graph:
    """Make a graph of layers: each name with the names that it needs, a letter each."""
    return Graph({name: Node(name, needs=tuple(needed)) for name, needed in needs.items()})


def selected(made: Graph, *targets: str) -> list[str]:
    """Give the names of what is selected."""
    return [node.name for node in made.select(targets)]


def test_a_chain_comes_lowest_first() -> None:
    """What a target needs comes before it, and what it does not need does not come."""
    made = graph(top="m", m="b", b="", other="b")
    assert selected(made, "top") == ["b", "m", "top"]
    assert selected(made, "other") == ["b", "other"]
    assert selected(made, "b") == ["b"]


def test_no_target_is_every_target() -> None:
    """The order is that of the file, but that each comes behind what it needs."""
    assert selected(graph(b="a", a="", c="")) == ["a", "b", "c"]


def test_each_comes_once() -> None:
    """Two that need the same one share it; the order of what one needs is kept."""
    assert selected(graph(top="lr", l="b", r="b", b=""), "top", "r") == ["b", "l", "r", "top"]


def test_unknown_targets_are_said_and_left_out() -> None:
    """A target that is no node is named, with the one that was probably meant."""
    made = graph(server="", redis="")
    assert made.unknown(["sever", "redis", "x"]) == [
        "there is no target 'sever'; did you mean 'server'?",
        "there is no target 'x'; there are: redis, server",
    ]
    assert selected(made, "sever", "redis") == ["redis"]


def test_nothing_is_known() -> None:
    """Of an empty file no name can be meant."""
    assert unknown_name("target", "x", []) == "there is no target 'x'; there are: none"


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4)), st.lists(NAMES, max_size=3))
def test_what_is_needed_comes_first(needs: dict[str, list[str]], targets: list[str]) -> None:
    """Of any graph without a circle: each once, behind all that it needs, and nothing that no target needs."""
    known = {name: tuple(each for each in needed if each < name and each in needs) for name, needed in needs.items()}
    order = selected(Graph({name: Node(name, needs=needed) for name, needed in known.items()}), *targets)
    assert len(order) == len(set(order))
    for number, name in enumerate(order):
        assert set(known[name]) <= set(order[:number])
    wanted = [name for name in targets if name in known] if targets else list(known)
    reached = set(wanted)
    while more := {each for name in reached for each in known[name]} - reached:
        reached |= more
    assert set(order) == reached


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4)))
def test_cycles_are_cycles(needs: dict[str, list[str]]) -> None:
    """Each is a way from a name back to itself; without those ways the rest has an order."""
    found = cycles(needs)
    for ring in found:
        assert ring[0] == ring[-1]
        assert len(set(ring[:-1])) == len(ring) - 1
        assert all(after in needs[name] for name, after in itertools.pairwise(ring))
    left = {name: set(needed) & needs.keys() for name, needed in needs.items()}
    while ready := [name for name, needed in left.items() if not needed]:
        for name in ready:
            del left[name]
        for needed in left.values():
            needed.difference_update(ready)
    assert bool(left) == bool(found)


def test_a_name_that_needs_itself() -> None:
    """The shortest of cycles is one as well."""
    assert cycles({"a": ["a"]}) == [["a", "a"]]
    assert cycles({"a": ["b"], "b": ["c"], "c": ["a"]}) == [["a", "b", "c", "a"]]
    assert cycles({"a": ["b"], "b": []}) == []


def test_every_knot_has_its_cycle() -> None:
    """Cycles that have nothing to do with one another are all found; a graph without any has none."""
    assert cycles({"a": ["b"], "b": ["a"], "c": ["d", "a"], "d": ["c"], "e": ["a"]}) == [["a", "b", "a"], ["c", "d", "c"]]
    assert cycles({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []


def test_nodes_come_after_what_they_need() -> None:
    """A long chain is put in order without recursion."""
    nodes = {str(number): Node(str(number), needs=(str(number + 1),) if number < 5000 else ()) for number in range(5001)}
    assert [node.name for node in Graph(nodes).select(["0"])] == [str(number) for number in range(5000, -1, -1)]
