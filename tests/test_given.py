"""What the library takes: a value of the wrong type is an InputError that names the parameter, before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless_layer import (
    Base,
    ByList,
    Closure,
    Compression,
    LayerSpec,
    RootlessLayerError,
    Script,
    Tree,
    build_cached,
    build_layer,
    build_layers,
    closure_of_paths,
    export_images,
    load_closure,
    open_layer,
    read_images,
    read_strategy,
)
from rootless_layer.errors import InputError
from rootless_layer.store.layering import split

ANY: Any = None
TREE = "/nix/store/00000000000000000000000000000001-a"


def test_a_spec_may_be_hashed_and_takes_what_is_iterable() -> None:
    """Lists become tuples and paths strings; equal specs hash alike, whatever order their variables were given in."""
    one = LayerSpec(contents=[Path("/a"), "b"], scripts=[Script.text("x")], rootfs=Path("/r"), environment={"A": "1", "B": "2"})
    two = LayerSpec(contents=("/a", "b"), scripts=(Script.text("x"),), rootfs="/r", environment={"B": "2", "A": "1"})
    assert (one.contents, one.rootfs, one.scripts) == (("/a", "b"), "/r", (Script("script", b"x"),))
    assert one == two
    assert len({one, two, LayerSpec()}) == 2
    based = [LayerSpec(base=Base.of(Tree.of([]), chain_id), closure=closure_of_paths([TREE])) for chain_id in ("a", "a", "b")]
    assert len(set(based)) == 2
    assert list(one.environment.items()) == [("A", "1"), ("B", "2")]
    given = {"A": "1"}
    spec = LayerSpec(environment=given)
    given["A"] = "2"
    assert spec.environment == {"A": "1"}
    assert Script.command(["sh", "-c"]).arguments == ("sh", "-c")


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    **{
        f"{field}={value!r}": (lambda field=field, value=value: LayerSpec(**{field: value}), field)
        for field, values in {
            "base": ["x"],
            "closure": ["/a", [TREE]],
            "tools": [["x"]],
            "contents": ["/a/b", b"/a", Path("/a"), None, {"/a": 1}, [""], [None], ["/a\0"], [["/a"]]],
            "rootfs": ["", "/a\0b", 3, b"/a"],
            "rootfs_listing": ["", 3],
            "scripts": ["x", Script.text("x"), ["x"], None],
            "view": ["rot", None, ["root"]],
            "environment": [{"": "x"}, {"A=": "x"}, {"A": 1}, {"A": "\0"}, [("A", "b")], {1: "x"}, None],
            "timeout": [0, -1, float("nan"), float("inf"), "3", True],
            "writable_closure": ["no", 1, None],
            "link": ["soft"],
            "keep_dirlinks": [1],
            "follow_dirlinks": ["yes"],
            "conflict": ["none"],
            "uid": ["0", -1, 2**32 - 1, 2**32, True, 1.0, None],
            "gid": ["0", -1, 2**32 - 1],
            "epoch": ["1", -1, 2**63, 1.5, False],
            "compression": ["gzip", None],
        }.items()
        for value in values
    },
    "level": (lambda: Compression("gzip", "2"), "level"),  # type: ignore[arg-type]
    "half a level": (lambda: Compression("gzip", 1.5), "level"),  # type: ignore[arg-type]
    "kind": (lambda: Compression(["gzip"]), "gzip"),  # type: ignore[arg-type]
    "a script of nothing": (lambda: Script("x"), "x"),
    "a script without a program": (lambda: Script("x", None, ("",)), "x"),
    "a command of nothing": (lambda: Script.command([]), "command"),
    "a command that is a string": (lambda: Script.command("true"), "arguments"),
    "an argument": (lambda: Script.command(["echo", 1]), r"arguments\[1\]"),  # type: ignore[list-item]
    "an argument with a NUL": (lambda: Script("x", b"", ("a\0b",)), r"arguments\[0\]"),
    "a script's text": (lambda: Script("x", "text"), "data"),  # type: ignore[arg-type]
    "bytes as a text": (lambda: Script.text(b"text"), "text"),  # type: ignore[arg-type]
    "a script's path": (lambda: Script.file(""), "path"),
    "a script's name": (lambda: Script(None, b""), "name"),  # type: ignore[arg-type]
    "stage": (lambda: build_layer(LayerSpec(), "/no/such/out", stage="bnd"), "stage"),  # type: ignore[arg-type]
    "blob": (lambda: build_layer(LayerSpec(), "/no/such/out", blob="stord"), "blob"),  # type: ignore[arg-type]
    "spec": (lambda: build_layer({}, "/no/such/out"), "spec"),  # type: ignore[arg-type]
    "output": (lambda: build_layer(LayerSpec(), ""), "output"),
    "cached blob": (lambda: build_cached(LayerSpec(), "/no/such/out", "/no/cache", blob="x"), "blob"),  # type: ignore[arg-type]
    "cache": (lambda: build_cached(LayerSpec(), "/no/such/out", ""), "cache"),
    "layers' blob": (lambda: build_layers(Closure(), 3, "/no/such/out", blob="x"), "blob"),  # type: ignore[arg-type]
    "layers' closure": (lambda: build_layers("graph", 3, "/no/such/out"), "closure"),  # type: ignore[arg-type]
    "most": (lambda: split(Closure(), "3"), "most"),  # type: ignore[arg-type]
    "format": (lambda: export_images([], "/no/such/out", "oci"), "kind"),  # type: ignore[arg-type]
    "image output": (lambda: export_images([], "", "archive"), "output"),
    "store paths": (lambda: closure_of_paths(TREE), "paths"),
    "graph": (lambda: load_closure(3), "source"),  # type: ignore[arg-type]
    "store root": (lambda: Closure({}, 3), "store_root"),  # type: ignore[arg-type]
    "layer": (lambda: open_layer(""), "folder"),
    "images": (lambda: read_images("", ANY), "path"),
    "strategy": (lambda: read_strategy(ANY, Closure()), "name"),
    "groups": (lambda: ByList("abc"), "groups"),
    "group": (lambda: ByList(["abc"]), r"groups\[0\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_by_name(case: str) -> None:
    """The message names the parameter; nothing is made, and no other kind of error comes out."""
    attempt, name = WRONG[case]
    with pytest.raises(InputError, match=name) as caught:
        attempt()
    assert isinstance(caught.value, RootlessLayerError)
    assert len(str(caught.value)) < 300
