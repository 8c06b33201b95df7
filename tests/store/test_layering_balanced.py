"""Balanced layers: the biggest paths alone, the others by their names; what changes is little."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer import Balanced, BySize, split
from rootless_layer.errors import InputError
from rootless_layer.store.closure import Closure, StorePath

LETTERS = "0123456789abcdfghijklmnpqrsvwxyz"


def path(number: int, version: int = 0) -> StorePath:
    """Give the path of a package of some version."""
    digest = LETTERS[number // 32] + LETTERS[number % 32] + LETTERS[version] * 30
    return StorePath(f"/nix/store/{digest}-package{number}-1.{version}")


def layers(closure: Closure, sizes: Mapping[StorePath, int], most: int) -> set[frozenset[StorePath]]:
    """Split a closure into layers."""
    return {frozenset(group) for group in split(closure, most, Balanced(sizes))}


@given(st.lists(st.integers(1, 1 << 30), max_size=60), st.integers(1, 30))
def test_every_path_is_in_one_layer(given_sizes: list[int], most: int) -> None:
    """No more layers than allowed, each path once, and the biggest ones alone."""
    sizes = {path(number): size for number, size in enumerate(given_sizes)}
    groups = split(Closure({one: [path(0)] for one in sizes}), most, Balanced(sizes))
    assert sorted(one for group in groups for one in group) == sorted(sizes)
    assert len(groups) <= most
    alone = len(sizes) if len(sizes) <= most else most - max(most // 4, 1)
    biggest = sorted(sizes, key=lambda one: (-sizes[one], one.name, one.path))[:alone]
    assert {(one,) for one in biggest} <= set(groups)


@given(st.lists(st.integers(1, 1 << 30), min_size=12, max_size=60), st.data())
def test_an_update_changes_the_layers_of_what_changed(given_sizes: list[int], data: st.DataObject) -> None:
    """A path of a new version is where the old one was, and with a path that comes two layers more change at the most."""
    sizes = {path(number): size for number, size in enumerate(given_sizes)}
    before = layers(Closure(dict.fromkeys(sizes, ())), sizes, 12)
    number = data.draw(st.integers(0, len(sizes) - 1))
    old, new = path(number), path(number, 1)
    updated = {new if one == old else one: size for one, size in sizes.items()}
    after = layers(Closure(dict.fromkeys(updated, ())), updated, 12)
    assert after == {frozenset(new if one == old else one for one in layer) for layer in before}
    more = sizes | {path(len(sizes)): data.draw(st.integers(1, 1 << 30))}
    assert len(layers(Closure(dict.fromkeys(more, ())), more, 12) - before) <= 3


def test_what_changes_seldom_is_below() -> None:
    """A layer stands above those that fewer paths can change."""
    sizes = {path(number): 1 + number for number in range(5)}
    closure = Closure({path(0): [path(1)], path(1): [path(2)], path(2): [], path(3): [], path(4): [path(0), path(3)]})
    assert split(closure, 5, Balanced(sizes)) == tuple((path(number),) for number in (2, 3, 1, 0, 4))


def test_an_update_costs_less_than_by_popularity() -> None:
    """Over a made closure, an update of a leaf moves a tenth of what it moves by popularity, and no more than by size."""
    sizes = {path(number): 1000 + 37 * number % 500 * 1000 for number in range(300)}
    graph = {path(number): [path(other) for other in {number // 2, number // 3} if other < number] for number in range(300)}
    closure = Closure(graph)

    def moved(groups: tuple[tuple[StorePath, ...], ...]) -> int:
        leaves = set(graph).difference(*graph.values())
        return sum(sum(sizes[one] for one in group) for leaf in leaves for group in groups if leaf in group)

    found = moved(split(closure, 100, Balanced(sizes)))
    assert found * 10 <= moved(split(closure, 100))
    assert found <= moved(split(closure, 100, BySize(sizes)))


def test_a_path_without_a_size() -> None:
    """What has no size cannot be placed."""
    with pytest.raises(InputError, match="its size is not given"):
        split(Closure({path(0): ()}), 5, Balanced({}))
