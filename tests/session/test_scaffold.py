"""A scaffold is whole before a tree is staged, and a staged tree changes no more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rootless_layer.errors import SourceError, UnavailableError
from rootless_layer.plan.plan import Plan
from rootless_layer.plan.spec import LayerSpec, Script
from rootless_layer.session.scaffold import Ground, Scaffold, script_name
from rootless_layer.session.session import Session
from rootless_layer.session.stage import stage
from rootless_layer.store.closure import Closure
from rootless_layer.tree.tree import Entry, Tree

ROOT = Entry(path=b"", mode=stat.S_IFDIR | 0o755)
SPEC = LayerSpec(scripts=(Script("first", data=b"true\n"), Script("second", arguments=("true",))), view="root")


def session(work: Path, isolation: str) -> Session:
    """Give a session that no process stands behind: what a scaffold asks of one is known without."""
    library = work / "library"
    library.write_bytes(b"a library")
    return Session(str(work), None, ("", str(library)), isolation=isolation, fallback="no namespaces")


@pytest.mark.parametrize(
    ("view", "isolation", "script"),
    [
        ("root", "namespaces", "/.rootless-layer/script-0"),
        ("root", "chroot", "/.rootless-layer/script-0"),
        ("root", "none", "/.rootless-layer/script-0"),
        ("directory", "namespaces", "/tmp/.rootless-layer/script-0"),
        ("directory", "chroot", "{work}/script-0"),
        ("directory", "none", "{work}/script-0"),
    ],
)
def test_the_files_are_where_the_view_shows_them(tmp_path: Path, view: str, isolation: str, script: str) -> None:
    """Each script with text has a file, and nothing else is shown beside the tree: the library is the recorder's alone."""
    scaffold = Scaffold.of(LayerSpec(scripts=SPEC.scripts, view=view), session(tmp_path, isolation))
    assert scaffold.seen == {script_name(0): script.format(work=tmp_path).encode()}


@pytest.mark.parametrize("isolation", ["namespaces", "chroot"])
def test_a_staged_tree_has_the_whole_scaffold_and_changes_no_more(tmp_path: Path, isolation: str) -> None:
    """What is given has the script's file in it, and nothing can be put in later."""
    scaffold = Scaffold.of(SPEC, session(tmp_path, isolation))
    staged = stage(Plan(Tree.of([ROOT])), scaffold, "copy", work=os.fsencode(tmp_path), writable_store=False)
    top = tmp_path / "tree"
    own = {b".rootless-layer/script-0"}
    assert {path for path in staged.scaffold if path.startswith(b".rootless-layer/")} == own
    assert [Path(os.fsdecode(staged.scaffold[path] or b"")).read_bytes() for path in own] == [b"true\n"]
    assert (top / ".rootless-layer/script-0").read_bytes() == (b"" if isolation == "namespaces" else b"true\n")
    assert os.readlink(top / "dev/stdin") == "/proc/self/fd/0"
    for kept in (staged.stamps, staged.rows, staged.placed, staged.points, staged.private, staged.scaffold, staged.files):
        with pytest.raises(TypeError):
            kept[b"later"] = None


def test_tools_need_mounts(tmp_path: Path) -> None:
    """Where nothing can be mounted, that is said before anything is staged."""
    spec = LayerSpec(scripts=SPEC.scripts, view="root", tools=Closure())
    with pytest.raises(UnavailableError, match="tools are mounted, and nothing can be mounted here: no namespaces"):
        Scaffold.of(spec, session(tmp_path, "chroot"))
    assert [path.name for path in tmp_path.iterdir()] == ["library"]


@pytest.mark.parametrize("path", [b"proc", b".rootless-layer"])
def test_what_is_in_the_way_is_named(tmp_path: Path, path: bytes) -> None:
    """A file where the view needs a directory of its own is a fault of the sources."""
    scaffold = Scaffold.of(SPEC, session(tmp_path, "namespaces"))
    ground = Ground(os.fsencode(tmp_path), {path: Entry(path=path, mode=stat.S_IFREG | 0o644)}, {}, lambda _: None)
    with pytest.raises(SourceError, match="needs a directory of its own there"):
        scaffold.put_up(ground)
