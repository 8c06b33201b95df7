"""A changeset, put upon its base, gives the tree that it was made for: that is all that a layer has to do."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.layer.changeset import changeset, difference
from rootless_layer.tree.base import Base, Delta
from rootless_layer.tree.changes import Changes
from rootless_layer.tree.tree import WHITEOUT_PREFIX, Entry, Tree

EPOCH = 1_000
NAMES = (b"a", b"b", b"c")
PATHS = [b"/".join(parts) for parts in [(x,) for x in NAMES] + [(x, y) for x in NAMES for y in NAMES]]


def folder(path: bytes, mode: int = 0o755) -> Entry:
    """Make a directory's entry."""
    return Entry(path=path, mode=stat.S_IFDIR | mode, mtime=EPOCH)


def link(path: bytes, target: bytes, uid: int = 0) -> Entry:
    """Make a symbolic link's entry: it has no data that a test would have to write."""
    return Entry(path=path, mode=stat.S_IFLNK | 0o777, target=target, uid=uid, mtime=1)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Draw a tree of a few paths: directories, and links for what is none."""
    entries = {b"": folder(b"", draw(st.sampled_from([0o755, 0o700])))}
    for path in PATHS:
        above = path.rpartition(b"/")[0]
        if above in entries and entries[above].is_dir and draw(st.booleans()):
            made = st.one_of(
                st.builds(folder, st.just(path), st.sampled_from([0o755, 0o1777])),
                st.builds(link, st.just(path), st.sampled_from([b"x", b"y"]), st.integers(0, 1)),
            )
            entries[path] = draw(made)
    return Tree.of(entries.values())


def applied(base: Tree, layer: Tree) -> dict[bytes, Entry]:
    """Put a layer's entries upon a tree, whiteouts read as image-spec has them."""
    added, removed = {}, set()
    for entry in layer:
        above, slash, name = entry.path.rpartition(b"/")
        if name.startswith(WHITEOUT_PREFIX):
            removed.add(above + slash + name.removeprefix(WHITEOUT_PREFIX))
        else:
            added[entry.path] = entry
    tree = dict(base.entries)
    Changes(added, frozenset(removed)).apply(tree)
    return tree


@given(trees(), trees())
def test_it_makes_of_the_base_what_it_was_made_for(below: Tree, above: Tree) -> None:
    """Of any two trees: what is put upon the first is the second, entry for entry."""
    base = Base.of(below)
    made = changeset(base, difference(base, above), EPOCH)
    assert applied(below, made) == dict(above.entries)


@given(trees())
def test_what_is_the_same_is_not_in_it(tree: Tree) -> None:
    """A tree upon itself, made again with the same facts, changes nothing: the root is all that stands there."""
    again = Tree.of([link(e.path, e.target or b"", e.uid) if e.target else folder(e.path, e.mode & 0o7777) for e in tree])
    made = changeset(Base.of(tree), difference(Base.of(tree), again), EPOCH)
    assert list(made.entries) == [b""]
    assert not made.root_stands


def test_its_directories_come_along() -> None:
    """A path brings the directories that it is in, as they are, so that a reader need not guess their modes."""
    below = Tree.of([folder(b""), folder(b"a", 0o700), folder(b"a/b", 0o1777), link(b"a/x", b"y")])
    made = changeset(Base.of(below), Delta({b"a/b/c": link(b"a/b/c", b"x")}), EPOCH)
    assert {path: entry.mode & 0o7777 for path, entry in made.entries.items()} == {
        b"": 0o755, b"a": 0o700, b"a/b": 0o1777, b"a/b/c": 0o777,
    }  # fmt: skip


def test_a_removed_directory_has_one_whiteout() -> None:
    """What goes with it needs none of its own."""
    below = Tree.of([folder(b""), folder(b"a"), folder(b"a/b"), link(b"a/b/c", b"x")])
    above = Tree.of([folder(b"")])
    base = Base.of(below)
    assert sorted(changeset(base, difference(base, above), EPOCH).entries) == [b"", b".wh.a"]


@pytest.mark.parametrize(("time", "kept"), [(EPOCH - 1, EPOCH - 1), (EPOCH, EPOCH), (EPOCH + 5, EPOCH)])
def test_later_times_become_the_epoch(time: int, kept: int) -> None:
    """A file's time is its own up to the epoch; a directory's is the epoch."""
    base = Base.of(Tree.of([folder(b"")]))
    delta = Delta(
        {b"a": Entry(path=b"a", mode=stat.S_IFDIR | 0o755, mtime=time), b"b": Entry(path=b"b", mode=stat.S_IFIFO, mtime=time)}
    )
    made = changeset(base, delta, EPOCH).entries
    assert (made[b"a"].mtime, made[b"b"].mtime) == (EPOCH, kept)
