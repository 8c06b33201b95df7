"""Closures are split into few layers: each path once, always alike, and few layers change with a package."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from helpers.effort import patient
from helpers.layering import closure, closures, needed, random_closure, shown, store_path, strategies
from helpers.place import HERE
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import ClosureError, InputError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.layering import ByList, ByPopularity, BySize, Group, split
from rootless_layer.store.layering_pipeline import Pipeline


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
        "from helpers.layering import *\n"
        "from rootless_layer.store.layering import BySize, split\n"
        "from rootless_layer.store.layering_pipeline import Pipeline\n"
        "found, sizes = random_closure(1, 80)\n"
        "every = [*strategies(found), BySize(dict.fromkeys(sizes, 0)), Pipeline([['split_every', 7]])]\n"
        "print([split(found, 20, strategy) for strategy in every])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, HERE],
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
