"""A tree kept as rows of numbers is the tree that entries would make, in its listing and in its archive."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec
from rootless_layer.errors import SourceError, UnrepresentableError
from rootless_layer.plan.plan import plan
from rootless_layer.plan.spec import Script
from rootless_layer.tar.parallel import serialise
from rootless_layer.tree import mtree
from rootless_layer.tree.compact import CompactTree
from rootless_layer.tree.table import Rows, Table
from rootless_layer.tree.tree import Entry, Tree
from rootless_layer.tree.walk import listings, walk

NAMES = st.sampled_from(("a", "a-", "a.b", "a0", "aa", "b", "b c", "ä", "\udcff"))
"""Some go on where another ends, with what stands before and after a slash."""
TREES = st.recursive(
    st.one_of(st.binary(max_size=3), st.sampled_from(("a", "../b"))),
    lambda below: st.dictionaries(NAMES, below, max_size=5),
    max_leaves=20,
).filter(lambda made: isinstance(made, dict) and made)


def write(top: Path, made: object) -> None:
    """Write a tree: a dictionary is a directory, a text a link's target, bytes a file's."""
    if isinstance(made, dict):
        top.mkdir(exist_ok=True)
        for name, below in made.items():
            write(top / name, below)
    elif isinstance(made, str):
        top.symlink_to(made)
    else:
        assert isinstance(made, bytes)
        top.write_bytes(made)
        top.chmod(0o755 if len(made) > 1 else 0o644)
        os.utime(top, (0, len(made) * 50))


def both(spec: LayerSpec) -> tuple[Tree, Tree]:
    """Plan a layer as rows, and as entries, as those with a script are."""
    compact, whole = plan(spec).tree, plan(attrs.evolve(spec, scripts=(Script("true", b"true"),))).tree
    assert isinstance(compact, CompactTree)
    assert not isinstance(whole, CompactTree)
    return compact, whole


def tar_of(tree: Tree) -> bytes:
    """Give a tree's tar."""
    parts: list[bytes] = []
    serialise(tree.archived(), lambda part: parts.append(bytes(part)), processes=0)
    return b"".join(parts)


def without_stamps(entries: list[Entry]) -> list[Entry]:
    """Leave out the stamps of directories, which rows do not have."""
    return [attrs.evolve(entry, stamp=None) if entry.is_dir else entry for entry in entries]


@settings(max_examples=60, deadline=None)
@given(TREES, st.sampled_from((1, 75, 10_000)))
def test_rows_are_the_entries(made: object, epoch: int) -> None:
    """Entries, listing and archive are the same, whatever names there are."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), made)
        compact, whole = both(LayerSpec(copy_to_root=(folder,), source_date_epoch=epoch, uid=5, gid=7))
        assert without_stamps(list(compact)) == without_stamps(list(whole))
        assert list(compact.entries) == sorted(compact.entries) == list(whole.entries)
        for files in (None, b"/elsewhere/", os.fsencode(folder) + b"/"):
            assert b"".join(mtree.lines(compact, files=files)) == b"".join(mtree.lines(whole, files=files))
        assert tar_of(compact) == tar_of(whole)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_listings_are_in_order(made: object) -> None:
    """What a walk finds in any order, listings give in the order of its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), made)
        top = os.fsencode(folder)
        found = [name for listing in listings(top) for name in listing.names]
        assert found == sorted(relative for relative, _, _ in walk(top) if relative)


@pytest.mark.parametrize("count", [3, 300])
def test_some_rows_are_replaced(tmp_path: Path, count: int) -> None:
    """Others stand at their paths, or beside them; the tree that was replaced stays as it was."""
    for number in range(count):
        (tmp_path / f"{number:03}").write_bytes(b"x")
    compact, _ = both(LayerSpec(copy_to_root=(str(tmp_path),)))
    before = list(compact)
    changed = {path: attrs.evolve(entry, mode=0o100600) for path, entry in compact.entries.items() if path}
    changed[b"new"] = attrs.evolve(changed[b"001"], path=b"new")
    replaced = compact.replacing(changed)
    assert dict(replaced.entries) == {b"": compact.entries[b""], **changed}
    assert list(replaced.entries) == sorted(replaced.entries)
    assert list(compact) == before
    assert tar_of(replaced) == tar_of(Tree.of(replaced))


def test_a_second_content_meets_the_first(tmp_path: Path) -> None:
    """What the first gives is there for others: the same file is one, and another in its place is a conflict."""
    for name, data in (("one", b"1"), ("same", b"1"), ("other", b"2")):
        write(tmp_path / name, {"etc": {"file": data}, name: {}})
    compact, whole = both(LayerSpec(copy_to_root=(str(tmp_path / "one"), str(tmp_path / "same"))))
    assert without_stamps(list(compact)) == without_stamps(list(whole))
    assert compact.entries[b"etc/file"].source == os.fsencode(tmp_path / "one/etc/file")
    spec = LayerSpec(copy_to_root=(str(tmp_path / "one"), str(tmp_path / "other")))
    with pytest.raises(Exception, match=r"/etc/file: .*one and .*other give it differently"):
        plan(spec)
    spec = attrs.evolve(spec, conflict="last")  # where links to directories may be merged there are no rows
    chosen, whole = plan(spec).tree, plan(attrs.evolve(spec, scripts=(Script("true", b"true"),))).tree
    assert chosen.entries[b"etc/file"].source == os.fsencode(tmp_path / "other/etc/file")
    assert without_stamps(list(chosen)) == without_stamps(list(whole))


def test_sockets_are_passed_over(tmp_path: Path) -> None:
    """They belong to a process, whatever stands beside them."""
    write(tmp_path, {"a": b"1", "c": b"2"})
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "b"))
        compact, whole = both(LayerSpec(copy_to_root=(str(tmp_path),)))
    assert list(compact.entries) == list(whole.entries) == [b"", b"a", b"c"]


def test_names_of_whiteouts_are_refused(tmp_path: Path) -> None:
    """They are in rows as they are among entries."""
    write(tmp_path, {"etc": {".wh.passwd": b""}})
    with pytest.raises(UnrepresentableError, match=r"/etc/\.wh\.passwd"):
        plan(LayerSpec(copy_to_root=(str(tmp_path),)))


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    """A row knows the state that its file was planned in."""
    write(tmp_path, {"file": b"1"})
    tree = plan(LayerSpec(copy_to_root=(str(tmp_path),))).tree
    (tmp_path / "file").write_bytes(b"2")
    os.utime(tmp_path / "file", (0, 51))
    with pytest.raises(SourceError, match="changed while /file was being written"):
        tar_of(tree)


def test_parts_of_a_table_are_tables(tmp_path: Path) -> None:
    """A slice has the rows of its places, and shares the rest."""
    write(tmp_path, {"a": b"1", "b": "a", "c": {"d": b"2"}})
    tree = plan(LayerSpec(copy_to_root=(str(tmp_path),))).tree
    archived = tree.archived()
    assert isinstance(archived, Table)
    assert list(archived[1:3]) == list(archived)[1:3]
    assert list(Table.of(list(archived))) == list(archived)
    assert (b"c/d" in Rows(archived), b"c/e" in Rows(archived)) == (True, False)
