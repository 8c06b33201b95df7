"""What an archive's members come to, and what a layer does to a tree: each against the plain way to reckon it."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.tree.changes import Added, Changes, parents


@attrs.frozen
class Thing:
    """Something at a path, told from others by its number."""

    is_dir: bool
    number: int = 0


PATHS = st.sampled_from(
    [b"/".join(p) for p in [(x,) for x in (b"a", b"b")] + [(x, y) for x in (b"a", b"b") for y in (b"a", b"b")]] + [b"a/a/a"]
)
THINGS = st.builds(Thing, st.booleans(), st.integers(0, 9))


def below(path: bytes, other: bytes) -> bool:
    """Say whether another path lies below a path."""
    return other.startswith(path + b"/") or (not path and bool(other))


def test_parents() -> None:
    """The directories that a path is in, from the nearest up to the root."""
    assert list(parents(b"a/b/c")) == [b"a/b", b"a", b""]
    assert list(parents(b"a")) == [b""]
    assert list(parents(b"")) == []


@given(st.lists(st.tuples(PATHS, THINGS), max_size=12))
def test_members_that_take_each_others_places(members: list[tuple[bytes, Thing]]) -> None:
    """As if each member that is no directory removed what was below its path."""
    added: Added[Thing] = Added()
    plain: dict[bytes, Thing] = {}
    for path, thing in members:
        added.add(path, thing)
        if not thing.is_dir:
            plain = {other: there for other, there in plain.items() if not below(path, other)}
        plain[path] = thing
        assert added.get(path) == thing
    assert added.all() == plain
    assert all(added.get(path) == plain.get(path) for path, _ in members)


@given(
    st.dictionaries(PATHS, THINGS, max_size=6), st.dictionaries(PATHS, THINGS, max_size=4),
    st.frozensets(PATHS, max_size=2), st.frozensets(PATHS, max_size=2),
)  # fmt: skip
def test_a_layer_upon_a_tree(
    tree: dict[bytes, Thing], added: dict[bytes, Thing], removed: frozenset[bytes], emptied: frozenset[bytes]
) -> None:
    """As if each whiteout, and each thing that is no directory in a directory's place, took what is below along."""
    tree = {b"": Thing(is_dir=True), **tree}
    plain = dict(tree)
    for path in removed & tree.keys():
        plain = {other: there for other, there in plain.items() if other != path and not below(path, other)}
    for path in (emptied & tree.keys()) | {
        path for path, thing in added.items() if not thing.is_dir and path in tree and tree[path].is_dir
    }:
        plain = {other: there for other, there in plain.items() if not below(path, other)}
    plain |= added
    changes = Changes(added, removed, emptied)
    hidden = changes.hides(tree)
    assert hidden == tree.keys() - plain.keys()
    changes.apply(tree)
    assert tree == plain
