"""Closures are read right from every form that Nix gives, and never by half."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer.errors import ClosureError, MissingClosureError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.nar_size import nar_sizes
from rootless_layer.store.read import closure_of_paths, load_closure

if TYPE_CHECKING:
    from collections.abc import Callable

    Graph = dict[str, list[str]]

A = "/nix/store/7l2a4vd7ggk7mk80ya2zdh940m1lf9h0-a"
B = "/nix/store/ipm92mjvz1w93ivyh212n0r8p19q00vy-b-1.0"
C = "/nix/store/cs88p2hnci9msivdfw652b2wr4cm8lwh-c"
GUIX = "/gnu/store/cs88p2hnci9msivdfw652b2wr4cm8lwh-c"


def closure(graph: Graph, store_root: str = "/") -> Closure:
    """Make the closure that ``graph`` means, without any parser."""
    references = {StorePath(p): map(StorePath, refs) for p, refs in graph.items()}
    return Closure({path: frozenset(refs) for path, refs in references.items()}, store_root)


def load(data: bytes | str) -> Closure:
    """Load ``data`` from a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)
        file.flush()
        return load_closure(file.name)


def problems(data: bytes | str) -> list[str]:
    """Load ``data``, which must fail, and give its problems without the file's name."""
    with pytest.raises(ClosureError) as caught:
        load(data)
    return [problem.partition(": ")[2] for problem in caught.value.problems]


# Store paths


@pytest.mark.parametrize(
    ("path", "store_dir", "digest", "name"),
    [
        (A, "/nix/store", "7l2a4vd7ggk7mk80ya2zdh940m1lf9h0", "a"),
        (f"/s/{'0' * 32}-{'x' * 211}", "/s", "0" * 32, "x" * 211),
        (f"/home/me/.s/{'z' * 32}-.a+b_c?d=e-", "/home/me/.s", "z" * 32, ".a+b_c?d=e-"),
    ],
)
def test_parts(path: str, store_dir: str, digest: str, name: str) -> None:
    """A store path is its store's directory, and a base of digest, dash and name."""
    parsed = StorePath.parse(path)
    assert (parsed.store_dir, parsed.digest, parsed.name) == (store_dir, digest, name)
    assert parsed.base == f"{digest}-{name}"
    assert parsed.path == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "relative",
        A[1:],
        f"{A}/",
        f"{A}\n",
        f" {A}",
        f"/{A}",
        f"{A}\0",
        "/nix/store/",
        "/nix/store/short-name",
        f"/{'0' * 32}-no-store-directory",
        f"/nix/store/{'0' * 32}",
        f"/nix/store/{'0' * 32}-",
        f"/nix/store/{'0' * 31}-x",
        f"/nix/store/{'0' * 33}-x",
        f"/nix/store/{'E' * 32}-x",
        f"/nix/store/{'0' * 32}-{'x' * 212}",
        f"/nix/store/{'0' * 32}-\u00e9",
        f"/nix/../store/{'0' * 32}-x",
        f"/nix/./store/{'0' * 32}-x",
        f"/nix//store/{'0' * 32}-x",
        f"/nix\n/store/{'0' * 32}-x",
        f"/nix\ud800/store/{'0' * 32}-x",
        *(f"/nix/store/{letter * 32}-x" for letter in "eotu"),
    ],
)
def test_malformed_paths(text: str) -> None:
    """What is not exactly one store path is refused, and quoted in the message."""
    with pytest.raises(ClosureError, match="is not a store path") as caught:
        StorePath.parse(text)
    assert str(caught.value).startswith(repr(text)[:50])


@pytest.mark.parametrize("inside", [f"{A}/bin/sh", f"{A}/", f"{A}{B}", f"{A}/\n\0"])
def test_path_inside(inside: str) -> None:
    """A path inside a store path is no store path; the message names the outer one."""
    with pytest.raises(ClosureError, match=f"give {A}$"):
        StorePath.parse(inside)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (A, A),
        (f"{A}/", A),
        (f"{A}/bin/sh", A),
        (f"{A}/new\nline\0", A),
        (f"{A}/lib/../bin", A),
        (f"{A}/../{B.rpartition('/')[2]}/bin", B),
        (f"/{A}//x", A),
        (f"/nix/./store/../store{A.removeprefix('/nix/store')}", A),
        (f"{A}{B}", A),
        (f"/chroot{A}/bin", f"/chroot{A}"),
        ("/nix/store", None),
        ("/nix/store/.links/abc", None),
        (f"{A}/../x", None),
        (f"{A}\u00e9", None),
        (f"{A}{'x' * 211}", None),
        (A[1:], None),
        ("", None),
    ],
)
def test_containing(path: str, found: str | None) -> None:
    """The store path around a path is found by the text, ``..`` resolved."""
    store_path = StorePath.containing(path)
    assert (store_path.path if store_path else None) == found


def test_path_is_a_frozen_ordered_value() -> None:
    """Store paths are ordered by path, hashable, and cannot be changed."""
    assert sorted([StorePath(B), StorePath(A)]) == [StorePath(A), StorePath(B)]
    assert len({StorePath(A), StorePath(A)}) == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        StorePath(A).path = B  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(StorePath(A))) == StorePath(A)


# Closures


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


# Forms: each writes what Nix writes


def records(graph: Graph, *head: str, deriver: str = "") -> str:
    """Write the text of exportReferencesGraph, or a registration with a ``head``."""
    lines = ([path, *head, deriver, str(len(references)), *references] for path, references in graph.items())
    return "".join(f"{line}\n" for record in lines for line in record)


def registration(graph: Graph) -> str:
    """Write what closureInfo writes into its file ``registration``."""
    return records(graph, "sha256:1smd2f9wf12pcav5xaa0ykyj56ixnn3fjiyz0msgbv4fxyar1kw2", "99")


def dump(graph: Graph) -> str:
    """Write what ``nix-store --dump-db`` writes."""
    return records(graph, "c539e0" * 10 + "abcd", "12345678901234", deriver=f"{A}.drv")


def listing(graph: Graph) -> list[dict[str, Any]]:
    """Give the list of ``__structuredAttrs`` and of ``nix path-info --json`` 2.8."""
    return [{"path": path, "narHash": "sha256-x", "narSize": 1, "references": references} for path, references in graph.items()]


def structured(graph: Graph) -> str:
    """Write an ``.attrs.json``."""
    asked = {"exportReferencesGraph": {"what": list(graph)}, "patches": [], "n": 1}
    return json.dumps({"builder": A, **asked, "what": listing(graph), "outputs": {"out": B}})


def keyed(graph: Graph, **more: str) -> dict[str, dict[str, Any]]:
    """Give what ``nix path-info --json`` 2.19 and later gives."""
    return {path: {"narSize": 1, "references": references, **more} for path, references in graph.items()}


def second(graph: Graph) -> dict[str, Any]:
    """Give what ``nix path-info --json --json-format 2`` gives."""
    store_dir = next((path.rpartition("/")[0] for path in graph), "/nix/store")
    short = {path.rpartition("/")[2]: [ref.rpartition("/")[2] for ref in references]
             for path, references in graph.items()}  # fmt: skip
    info = keyed(short, storeDir=store_dir)
    return {"info": info, "storeDir": store_dir, "version": 2}


FORMS: dict[str, Callable[[Graph], str]] = {
    "exportReferencesGraph": records,
    "with derivers": lambda graph: records(graph, deriver=f"{B}.drv"),
    "registration": registration,
    "dump-db": dump,
    "list": lambda graph: json.dumps(listing(graph)),
    "list under a key": lambda graph: json.dumps({"graph": listing(graph)}),
    "attrs": structured,
    "object": lambda graph: json.dumps(keyed(graph), indent=1),
    "format 1": lambda graph: "\n" + json.dumps(keyed(graph, storeDir="/nix/store")),
    "format 2": lambda graph: json.dumps(second(graph)),
    "info of format 2": lambda graph: json.dumps(second(graph)["info"]),
}

patient = settings(deadline=None)  # a busy machine proves nothing
digests = st.text("0123456789abcdfghijklmnpqrsvwxyz", min_size=32, max_size=32)
names = st.text("0123456789ABCXYZabcxyz+._?=-", min_size=1, max_size=211)
store_paths = st.builds("/nix/store/{}-{}".format, digests, names)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph which is whole, may have cycles, and may have self references."""
    paths = draw(st.lists(store_paths, max_size=6, unique=True))
    some = st.lists(st.sampled_from(paths), unique=True) if paths else st.just([])
    return {path: draw(some) for path in paths}


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


# Bad input


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


@patient
@given(st.text() | st.just(A).flatmap(lambda path: st.text().map(lambda more: path + more)))
def test_any_text_is_a_path_or_a_closure_error(text: str) -> None:
    """A text is a store path exactly if the store path that contains it is the text."""
    found = StorePath.containing(text)
    try:
        parsed = StorePath.parse(text)
    except ClosureError:
        assert found is None or found.path != text
    else:
        assert parsed == found


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


# The real Nix


EXPRESSION = """
let
  boot = builtins.path { path = ./boot; name = "boot"; };
  run = name: script: attributes: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "${boot}/bin/busybox";
    args = [ "sh" "-ec" "PATH=${boot}/bin; ${script}" ];
  } // attributes);
  low = run "low" "echo ${boot} $out > $out" { };
in rec {
  top = run "top" "busybox mkdir -p $out/a/b; echo ${low} > $out/low; busybox ln -s ../low $out/a/link; cd $out/a; echo x > exec; busybox chmod 755 exec" { };
  graph = run "graph" "busybox cp graph $out" {
    exportReferencesGraph = [ "graph" top ];
  };
  attributes = run "attributes" ''
    cd $NIX_BUILD_TOP
    busybox cp .attrs.json $(busybox grep -o '/nix/store/[^/"]*-attributes' .attrs.json)
  '' { __structuredAttrs = true; exportReferencesGraph.what = [ top ]; };
}
"""
SETTINGS = """
experimental-features = nix-command
substituters =
sandbox = true
sandbox-fallback = false
sandbox-paths =
build-users-group =
"""


@attrs.frozen
class Nix:
    """The installed Nix, with a store below ``root`` in which a closure was built."""

    root: Path
    outputs: dict[str, str] = attrs.field(factory=dict)

    def run(self, program: str, *arguments: str, given: str = "") -> str:
        """Run a program of Nix on the store; give what it prints."""
        return subprocess.run(
            [program, "--store", self.root / "store", *arguments],
            cwd=self.root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "NIX_CONFIG": SETTINGS,
            },
            input=given,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def file(self, output: str) -> Path:
        """Give where an output lies on this machine."""
        return Path(f"{self.root}/store{self.outputs[output]}")


@pytest.fixture(scope="session")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """Build a closure, and the files that Nix gives to a builder for it."""
    nix = Nix(tmp_path_factory.mktemp("nix"))
    (nix.root / "boot/bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", nix.root / "boot/bin/busybox")
    (nix.root / "default.nix").write_text(EXPRESSION)
    for name in ("top", "graph", "attributes"):
        nix.outputs[name] = nix.run("nix-build", "--no-out-link", "-A", name).strip()
    return nix


def expected_of(nix: Nix) -> Closure:
    """Ask Nix's database, a question for each path, what the closure of top is."""
    graph = {
        path: nix.run("nix-store", "-q", "--references", path).split()
        for path in nix.run("nix-store", "-qR", nix.outputs["top"]).split()
    }
    assert len(graph) == 3
    return closure(graph, f"{nix.root}/store")


def printed(nix: Nix, directory: Path, *command: str) -> Path:
    """Keep what a program of Nix prints in a file."""
    (directory / "printed").write_text(nix.run(*command))
    return directory / "printed"


def test_real_references_graph(nix: Nix) -> None:
    """The file of exportReferencesGraph has the closure as Nix's database has it."""
    loaded = load_closure(nix.file("graph"), store_root=nix.root / "store")
    assert loaded == expected_of(nix)
    loaded.check()


def test_real_structured_attributes(nix: Nix) -> None:
    """The .attrs.json of a builder has the closure, under whatever name it got."""
    loaded = load_closure(nix.file("attributes"), store_root=nix.root / "store")
    assert loaded == expected_of(nix)


def test_real_path_info(nix: Nix, tmp_path: Path) -> None:
    """``nix path-info --json -r`` has the closure; without -r its check fails."""
    command = ("nix", "path-info", "--json", nix.outputs["top"])
    whole = load_closure(printed(nix, tmp_path, *command, "-r"), store_root=nix.root / "store")
    assert whole == expected_of(nix)
    alone = load_closure(printed(nix, tmp_path, *command), store_root=nix.root / "store")
    with pytest.raises(ClosureError, match="-low, not given"):
        alone.check()
    assert alone.merge(whole) == whole


def test_real_dump_db(nix: Nix, tmp_path: Path) -> None:
    """``nix-store --dump-db`` has the closure, and what it adds is read over."""
    paths = nix.run("nix-store", "-qR", nix.outputs["top"]).split()
    dumped = printed(nix, tmp_path, "nix-store", "--dump-db", *paths)
    assert load_closure(dumped, store_root=nix.root / "store") == expected_of(nix)


def test_real_sizes(nix: Nix, tmp_path: Path) -> None:
    """Each form that has sizes gives Nix's; for a form without, they are reckoned from the disk to the same byte."""
    paths = nix.run("nix-store", "-qR", nix.outputs["top"]).split()
    sizes = {StorePath(path): int(nix.run("nix-store", "-q", "--size", path)) for path in paths}
    dumped = printed(nix, tmp_path, "nix-store", "--dump-db", *paths)
    assert load_closure(dumped).sizes == sizes
    assert load_closure(nix.file("attributes")).sizes == sizes
    assert load_closure(printed(nix, tmp_path, "nix", "path-info", "--json", "-r", nix.outputs["top"])).sizes == sizes
    without = load_closure(nix.file("graph"), store_root=nix.root / "store")
    assert without.sizes == {}
    assert nar_sizes(without) == sizes


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


def test_real_list(nix: Nix, tmp_path: Path) -> None:
    """``nix-store -qR`` has the paths of the closure."""
    listed = printed(nix, tmp_path, "nix-store", "-qR", nix.outputs["top"])
    loaded = load_closure(listed, store_root=nix.root / "store")
    assert loaded.paths == expected_of(nix).paths
    loaded.check()


def test_real_file_without_references(nix: Nix, tmp_path: Path) -> None:
    """A file added to a store is a closure of one path."""
    (tmp_path / "a+b=c?.txt").write_text("data")
    added = nix.run("nix-store", "--add", str(tmp_path / "a+b=c?.txt")).strip()
    info = printed(nix, tmp_path, "nix", "path-info", "--json", "-r", added)
    loaded = load_closure(info, store_root=nix.root / "store")
    assert loaded == closure({added: []}, f"{nix.root}/store")
    assert Path(loaded.location(loaded.paths[0])).read_text() == "data"


def test_real_path_that_is_not_valid(nix: Nix, tmp_path: Path) -> None:
    """A path which the store lacks is a problem, not a path without references."""
    info = printed(nix, tmp_path, "nix", "path-info", "--json", A)
    with pytest.raises(ClosureError, match="is not in the store: build it"):
        load_closure(info)


def test_real_load_db(tmp_path: Path) -> None:
    """What these tests write as a dump, Nix registers as the same graph."""
    (tmp_path / "store").mkdir()
    nix = Nix(tmp_path)
    nix.run("nix-store", "--load-db", given=dump({A: [A, C], B: [A], C: []}))
    assert nix.run("nix-store", "-qR", B).split() == [C, A, B]
    assert set(nix.run("nix-store", "-q", "--references", A).split()) == {A, C}
