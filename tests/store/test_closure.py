"""Closures are whole, of one store, and values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.closure_forms import GUIX, A, B, C, Graph, closure, load

from rootless_layer.errors import ClosureError, MissingClosureError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.read import closure_of_paths


def test_closure_is_an_immutable_value() -> None:
    """A closure is ordered, equal and hashable by its graph, and cannot be changed."""
    one, other = closure({A: [B], B: []}), closure({B: [], A: [B]})
    assert one == other
    assert hash(one) == hash(other)
    assert one.paths == tuple(one.references) == (StorePath(A), StorePath(B))
    assert tuple(other.references) == one.paths
    assert one != closure({A: [], B: []})
    assert one != closure({A: [B], B: []}, "/elsewhere")
    with pytest.raises(TypeError):
        one.references[StorePath(C)] = frozenset()  # type: ignore[index]


def test_closure_copies_its_graph() -> None:
    """Changing the mapping afterwards does not change the closure made of it."""
    graph: dict[StorePath, frozenset[StorePath]] = {StorePath(A): frozenset()}
    made = Closure(graph)
    graph.clear()
    assert made.paths == (StorePath(A),)


def test_self_references_are_dropped() -> None:
    """A path that refers to itself, as Nix records it, does not in a closure."""
    assert closure({A: [A, B], B: [B]}) == closure({A: [B], B: []})


def test_location() -> None:
    """A store path lies under the store root, whose slashes at the end do not count."""
    assert closure({A: []}).location(StorePath(A)) == A
    assert closure({A: []}, "/chroot/").location(StorePath(A)) == f"/chroot{A}"
    assert closure({A: []}, "//").store_root == "/"


@pytest.mark.parametrize("root", ["", "relative", "./x", "/x\0"])
def test_store_root_is_absolute(root: str) -> None:
    """A store root which depends on the working directory, or cannot be, is refused."""
    with pytest.raises(ClosureError, match="is not an absolute path"):
        Closure(store_root=root)


def test_store_dir() -> None:
    """The store directory is that of all paths, and Nix's own where there is none."""
    assert closure({GUIX: []}).store_dir == "/gnu/store"
    assert Closure().store_dir == "/nix/store"


@pytest.mark.parametrize("graph", [{A: [], GUIX: []}, {A: [GUIX]}])
def test_one_store(graph: Graph) -> None:
    """A closure over two stores cannot be made, nor by a reference."""
    with pytest.raises(ClosureError, match=r"several stores: /gnu/store, /nix/store"):
        closure(graph)


def test_merge() -> None:
    """Merging unites paths and references, and an empty closure is of every root."""
    merged = closure({A: [B]}, "/r").merge(closure({A: [C], B: []}, "/r"), Closure())
    assert merged == closure({A: [B, C], B: []}, "/r")
    assert Closure().merge() == Closure()
    assert Closure().merge(closure({A: []}, "/r")) == closure({A: []}, "/r")


@pytest.mark.parametrize("other", [closure({B: []}, "/r"), closure({GUIX: []})])
def test_merge_of_several_stores(other: Closure) -> None:
    """Closures of several store roots or store directories do not merge."""
    with pytest.raises(ClosureError, match="several"):
        closure({A: []}).merge(other)


def test_check_names_every_problem(tmp_path: Path) -> None:
    """One error lists every missing path and every reference out of the closure."""
    (tmp_path / C[1:]).parent.mkdir(parents=True)
    (tmp_path / C[1:]).symlink_to("/nowhere")
    with pytest.raises(ClosureError) as caught:
        closure({A: [B, C], B: [], C: [GUIX.replace("gnu", "nix") + "x"]}, str(tmp_path)).check()
    assert caught.value.problems == (
        f"{A}: there is nothing at '{tmp_path}{A}'",
        f"{B}: there is nothing at '{tmp_path}{B}'",
        f"{C}: refers to {C}x, not given",
    )
    assert "closure" in caught.value.hint
    assert "--store-root" in caught.value.hint


def test_check_counts_what_is_many(tmp_path: Path) -> None:
    """A store that is not where it is looked for is one line, however many its paths are; references stay few as well."""
    with pytest.raises(MissingClosureError) as caught:
        closure({f"{A}-{number}": [] for number in range(9)}, str(tmp_path)).check()
    assert caught.value.problems == (f"9 of 9 store paths are not there: {A}-0, {A}-1, {A}-2 and others",)
    (tmp_path / A[1:]).mkdir(parents=True)
    with pytest.raises(ClosureError) as caught:
        closure({A: [f"{A}-{number}" for number in range(9)]}, str(tmp_path)).check()
    assert len(caught.value.problems) == 4
    assert "--store-root" not in caught.value.hint


def test_check_takes_a_dangling_link_for_there(tmp_path: Path) -> None:
    """A store path that is a symbolic link to nothing on this machine is there."""
    (tmp_path / A[1:]).parent.mkdir(parents=True)
    (tmp_path / A[1:]).symlink_to(B)
    closure({A: []}, str(tmp_path)).check()


def test_closure_of_paths() -> None:
    """Paths alone make a closure without references, once each."""
    made = closure_of_paths(iter([B, A, B]), store_root="/r")
    assert made == closure({A: [], B: []}, "/r")


def test_closure_of_paths_names_every_problem() -> None:
    """Every malformed path is named in one error."""
    with pytest.raises(ClosureError) as caught:
        closure_of_paths(["x", A, "y"])
    assert [problem.split()[0] for problem in caught.value.problems] == ["'x'", "'y'"]


def test_sizes_are_of_the_paths_that_they_are_given_for(tmp_path: Path) -> None:
    """A size that is none, as 0 is for Nix, counts as not given; sizes are kept by a merge and by a part, and decide no equality."""
    given = [{"path": A, "narSize": 7, "references": []}, {"path": B, "narSize": 0, "references": [A]}]
    given += [{"path": C, "narSize": size, "references": []} for size in (None, True, "5", -1, 1.5)]
    loaded = load(json.dumps(given))
    assert loaded.sizes == {StorePath(A): 7}
    assert loaded == closure({A: [], B: [A], C: []})
    merged = closure({B: []}).merge(loaded)
    assert (merged.sizes, merged.only([StorePath(B)]).sizes) == ({StorePath(A): 7}, {})
    assert merged.only([StorePath(A), StorePath(B)]) == closure({A: [], B: [A]})
    with pytest.raises(TypeError):
        loaded.sizes[StorePath(B)] = 1  # type: ignore[index]
