"""Closures are read right from every form that Nix gives, and never by half."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.closure_forms import FORMS, GUIX, A, B, Graph, closure, graphs, load, problems, records, registration
from helpers.effort import patient
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer.errors import ClosureError
from rootless_layer.store.read import load_closure


@pytest.mark.parametrize("form", FORMS)
@patient
@given(graph=graphs())
def test_every_form_is_read_back(form: str, graph: Graph) -> None:
    """A graph written in any form of Nix's and loaded again is the same graph."""
    assert load(FORMS[form](graph)) == closure(graph)


@patient
@given(graph=graphs(), end=st.sampled_from(["", "\n"]))
def test_a_list_of_paths_is_read_back(graph: Graph, end: str) -> None:
    """A list of paths has them without references, whether a newline ends it or not."""
    text = "\n".join(graph) + end * bool(graph)
    assert load(text) == closure({path: [] for path in graph})


@patient
@given(graph=graphs())
def test_a_closure_info_is_read_back(graph: Graph) -> None:
    """The directory that closureInfo makes has the graph of its registration."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "registration").write_text(registration(graph))
        Path(directory, "store-paths").write_text("".join(f"{path}\n" for path in graph))
        assert load_closure(Path(directory)) == closure(graph)


def test_store_root_is_kept(tmp_path: Path) -> None:
    """The store root given to a loader is that of the closure."""
    (tmp_path / "list").write_text(A)
    assert load_closure(tmp_path / "list", store_root=tmp_path).store_root == str(tmp_path)
    assert load_closure(tmp_path / "list", store_root="here").store_root == f"{Path.cwd()}/here"
    with pytest.raises(ClosureError, match="absolute"):
        load_closure(tmp_path / "list", store_root="")


def test_what_nix_2_26_and_2_34_print() -> None:
    """What path-info of Nix 2.26.3 and 2.34.8 printed is read, shortened only here."""
    entry = {"ca": None, "deriver": None, "narHash": "sha256-xT=", "narSize": 328}
    short_a, short_b = A.rpartition("/")[2], B.rpartition("/")[2]
    newest = {
        "info": {
            short_a: {
                **entry,
                "references": [short_a],
                "storeDir": "/nix/store",
                "version": 2,
            },
            short_b: {
                **entry,
                "references": [short_a],
                "storeDir": "/nix/store",
                "version": 2,
            },
        },
        "storeDir": "/nix/store",
        "version": 2,
    }
    older = {A: {**entry, "references": [A]}, B: {**entry, "references": [A]}}
    expected = closure({A: [], B: [A]})
    assert load(json.dumps(newest)) == load(json.dumps(older)) == expected
    for gone in (
        {A: None},
        {"info": {short_a: None}, "storeDir": "/nix/store", "version": 2},
    ):
        [problem] = problems(json.dumps(gone))
        assert problem.endswith(f"{short_a}' is not in the store: build it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x\ny\n", ["line 1: 'x' begins none of the known forms"]),
        ("5", ["line 1: '5' begins none of the known forms"]),
        ("\n", ["line 1: '' begins none of the known forms"]),
        (f"{A}\nx\n{B}/bin\n", ["line 2: 'x' is", f"line 3: '{B}/bin' is"]),
        (f"{A}\n\n", ["line 2: '' is not a store path"]),
        (f"{A}\r\n", [f"line 1: '{A}\\r' is"]),
        (f"{A}\u2028x\n", [f"line 1: '{A}\\u2028x' is"]),
        (f"{A}\n\n-1\n", ["line 3: '-1' references, but 0 lines left"]),
        (f"{A}\n\n2\n{B}\n", ["line 3: '2' references, but 1 lines left"]),
        (f"{A}\n\n0\n{B}\n\nx\n", ["line 6: 'x' references, but 0 lines left"]),
        (f"{A}\n\n{'9' * 5000}\n", ["line 3: '999"]),
        (f"{A}\n\n1\n{B[:-1]}", ["line 4: is cut short: no newline ends it"]),
        (f"{A}\n\n1\n{B}\n{B}\n", ["line 5: the record that begins here is cut short"]),
        (f"{A}\n\n1\nx\ny\n\n0\n", ["line 4: 'x' is", "line 5: 'y' is"]),
        (
            f"{A}\nsha256:0\n99\n\n",
            ["line 1: the record that begins here is cut short"],
        ),
        (f"{A}\nsha256:0\n99\n\n1\n", ["line 5: '1' references, but 0 lines left"]),
        (f"{A}\n{GUIX}\n", ["paths of several stores: /gnu/store, /nix/store"]),
        (f"{A}\n{GUIX}\nx", ["line 3: 'x' is", "paths of several stores"]),
        ("[", ["cannot be read: "]),
        ('{"a": 1} x', ["cannot be read: "]),
        ("[" * 100_000, ["cannot be read: "]),
        (f"[{'9' * 5000}]", ["cannot be read: "]),
        (
            "[5, null]",
            ["entry 1: 5 has no list of references", "entry 2: None is not in"],
        ),
        (f'["{A}"]', [f"entry 1: '{A}' has no list of references"]),
        (
            f'[{{"path": "{A}", "valid": false}}]',
            [f"entry 1: '{A}' is not in the store"],
        ),
        (f'[{{"path": "{A}"}}]', [f"entry 1: '{A}' has no list of references"]),
        (
            f'[{{"path": "{A}", "references": {{}}}}]',
            [f"entry 1: '{A}' has no list of"],
        ),
        ('[{"references": []}]', ["entry 1: None is not a store path"]),
        (
            '[{"path": 1, "references": [2]}]',
            ["entry 1: 1 is not", "entry 1: 2 is not"],
        ),
        (
            f'{{"{A[11:]}": {{"references": []}}}}',
            [f"entry 1: '{A[11:]}' is not a store"],
        ),
        (
            '{"info": {"x": {"references": []}}, "storeDir": 1}',
            ["entry 1: '1/x' is not a"],
        ),
        ('{"graph": [], "closure": []}', ["holds 2 references graphs: give just one"]),
        ('{"a": []}', ["holds 0 references graphs: give just one"]),
        ('{"graph": [], "exportReferencesGraph": {"x": 1}}', ["holds 0 references"]),
        ('{"a": 1}', ["entry 1: 'a' has no list of references"]),
    ],
)
def test_every_problem_is_named(text: str, expected: list[str]) -> None:
    """Each problem of a file is told with its place and its value, all in one error."""
    found = problems(text)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)
        assert len(problem) < 500


def test_error_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    """Each problem begins with the file, and the hint says what to give instead."""
    (tmp_path / "graph").write_text("one")
    with pytest.raises(ClosureError) as caught:
        load_closure(tmp_path / "graph")
    assert caught.value.problems[0].startswith(f"{tmp_path}/graph: line 1: 'one'")
    assert "exportReferencesGraph" in caught.value.hint


@pytest.mark.parametrize("data", [b"\x7fELF\x02", b"/nix/\xff", b"\xff\xfe[\0", b"\0" * 9])
def test_binary_files(data: bytes) -> None:
    """A binary file is one problem."""
    assert len(problems(data)) == 1


@pytest.mark.parametrize("name", ["missing", "file/below", "nul\0", "x" * 300, "loop"])
def test_unreadable_files(tmp_path: Path, name: str) -> None:
    """A file which cannot be opened is a ClosureError that names it."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ClosureError, match="cannot be read"):
        load_closure(tmp_path / name)


def test_directory_of_something_else(tmp_path: Path) -> None:
    """A directory that closureInfo did not make misses both files."""
    with pytest.raises(ClosureError) as caught:
        load_closure(tmp_path)
    missing = [problem.partition(":")[0] for problem in caught.value.problems]
    assert missing == [f"{tmp_path}/store-paths", f"{tmp_path}/registration"]


keys = ["path", "references", "valid", "info", "storeDir", "exportReferencesGraph"]
keys += ["graph", "closure", "/", A, B, A[11:]]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([A, B, A[11:], "x"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(keys), inner),
)
line_values = st.sampled_from([A, B, f"{A}/x", GUIX, "", "0", "1", "-1", "2", "sha256:0", "\0"])
graph_files = st.builds(lambda form, graph: FORMS[form](graph), st.sampled_from(list(FORMS)), graphs())


@settings(patient, max_examples=300)
@given(
    st.text()
    | st.binary()
    | st.binary().map(lambda data: A.encode() + b"\n" + data)
    | json_values.map(json.dumps)
    | st.lists(line_values).map("\n".join)
    | st.builds(
        lambda text, at, more: text[:at] + more + text[at:],
        graph_files,
        st.integers(0),
        st.text(),
    )
    | st.builds(lambda text, at: text[:at], graph_files, st.integers(0, 500))
)
def test_anything_is_a_closure_or_a_closure_error(data: bytes | str) -> None:
    """Whatever a file holds, it is read, or refused with a ClosureError."""
    try:
        loaded = load(data)
    except ClosureError:
        return
    assert load("\n".join(path.path for path in loaded.paths)).paths == loaded.paths


@pytest.mark.parametrize("write", [records, registration])
@patient
@given(graph=graphs().filter(bool), data=st.data())
def test_a_cut_graph_is_not_taken_for_whole(write: Callable[[Graph], str], graph: Graph, data: st.DataObject) -> None:
    """A cut file is refused, or it ends after a record, or it is only a first path."""
    text = write(graph)
    cut = data.draw(st.integers(0, len(text) - 1).map(lambda length: text[:length]))
    items = list(graph.items())
    ends = [write(dict(items[:number])) for number in range(len(items))]
    if cut in ends or cut in f"{items[0][0]}\n":
        return
    with pytest.raises(ClosureError):
        load(cut)
