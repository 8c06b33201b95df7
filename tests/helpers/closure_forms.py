"""Closures of store paths, and every form in which Nix writes them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from rootless_layer.errors import ClosureError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.read import load_closure

Graph = dict[str, list[str]]
"""The paths that each path refers to."""

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
digests = st.text("0123456789abcdfghijklmnpqrsvwxyz", min_size=32, max_size=32)
names = st.text("0123456789ABCXYZabcxyz+._?=-", min_size=1, max_size=211)
store_paths = st.builds("/nix/store/{}-{}".format, digests, names)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph which is whole, may have cycles, and may have self references."""
    paths = draw(st.lists(store_paths, max_size=6, unique=True))
    some = st.lists(st.sampled_from(paths), unique=True) if paths else st.just([])
    return {path: draw(some) for path in paths}
