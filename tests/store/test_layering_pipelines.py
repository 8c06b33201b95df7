"""Closures are split by pipelines of steps, as nixpkgs splits them; wrong steps are named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers.effort import patient
from helpers.layering import closure_of_edges, closures, data_of, needed, pipelines, shown, store_path
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import InputError
from rootless_layer.store.closure import Closure
from rootless_layer.store.layering import split
from rootless_layer.store.layering_pipeline import Pipeline

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
