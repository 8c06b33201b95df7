"""What the library takes: a value of the wrong type is an InputError that names the parameter, before anything is done."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from rootless_layer import (
    Base,
    ByList,
    Closure,
    Compression,
    Image,
    LayerSpec,
    RootlessLayerError,
    Script,
    StorePath,
    Tree,
    build_layer,
    build_layers,
    closure_of_paths,
    load_closure,
    open_layer,
)
from rootless_layer.cache.bases import open_base
from rootless_layer.cache.build import build_cached
from rootless_layer.errors import InputError, ScriptError
from rootless_layer.image.read import read_images
from rootless_layer.image.write import write_images
from rootless_layer.layer.of_closure import read_strategy
from rootless_layer.plan.base import LazyBase
from rootless_layer.store.layering import split

ANY: Any = None
TREE = "/nix/store/00000000000000000000000000000001-a"


def test_a_spec_may_be_hashed_and_takes_what_is_iterable() -> None:
    """Lists become tuples and paths strings; equal specs hash alike, whatever order their variables were given in."""
    one = LayerSpec(
        copy_to_root=[Path("/a"), "b"], scripts=[Script.text("x")], rootfs=Path("/r"), environment={"A": "1", "B": "2"}
    )
    two = LayerSpec(copy_to_root=("/a", "b"), scripts=(Script.text("x"),), rootfs="/r", environment={"B": "2", "A": "1"})
    assert (one.copy_to_root, one.rootfs, one.scripts) == (("/a", "b"), "/r", (Script("script", b"x"),))
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


class ByBytes:
    """A path of bytes."""

    def __fspath__(self) -> bytes:
        """Give it."""
        return b"/a"

    def __repr__(self) -> str:
        """Name it the same in each process."""
        return "ByBytes()"


def cached(**more: Any) -> object:
    """Build what cannot be built."""
    return build_cached(LayerSpec(), "/no/such/out", "/no/cache", **more)


EMPTY = Image(b"{}")
PATH = StorePath(TREE)

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    **{
        f"{field}={value!r}": (lambda field=field, value=value: LayerSpec(**{field: value}), field)
        for field, values in {
            "base": ["x"],
            "closure": ["/a", [TREE]],
            "tools": [["x"]],
            "copy_to_root": [
                "/a/b",
                b"/a",
                Path("/a"),
                None,
                {"/a": 1},
                [""],
                [None],
                ["/a\0"],
                [["/a"]],
                ["/\ud800"],
                [ByBytes()],
            ],
            "rootfs": ["", "/a\0b", 3, b"/a"],
            "rootfs_listing": ["", 3],
            "scripts": ["x", Script.text("x"), ["x"], None],
            "view": ["rot", None, ["root"]],
            "environment": [{"": "x"}, {"A=": "x"}, {"A": 1}, {"A": "\0"}, [("A", "b")], {1: "x"}, None],
            "timeout": [0, -1, float("nan"), float("inf"), "3", True, 10**400],
            "closure_writable": ["no", 1, None],
            "link": ["soft"],
            "keep_dirlinks": [1],
            "follow_dirlinks": ["yes"],
            "conflict": ["none"],
            "uid": ["0", -1, 2**32 - 1, 2**32, True, 1.0, None],
            "gid": ["0", -1, 2**32 - 1],
            "source_date_epoch": ["1", -1, 2**63, 1.5, False],
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
    "max_layers": (lambda: split(Closure(), "3"), "max_layers"),  # type: ignore[arg-type]
    "format": (lambda: write_images([], "/no/such/out", "oci"), "kind"),  # type: ignore[arg-type]
    "image output": (lambda: write_images([], "", "archive"), "output"),
    "store paths": (lambda: closure_of_paths(TREE), "paths"),
    "graph": (lambda: load_closure(3), "source"),  # type: ignore[arg-type]
    "store root": (lambda: Closure({}, 3), "store_root"),  # type: ignore[arg-type]
    "layer": (lambda: open_layer(""), "folder"),
    "images": (lambda: read_images("", ANY), "path"),
    "strategy": (lambda: read_strategy(ANY, Closure()), "name"),
    "a strategy's closure": (lambda: read_strategy("size", ANY), "closure"),
    "layers' strategy": (lambda: build_layers(Closure(), 3, "/no/such/out", strategy=cast("Any", "popularity")), "strategy"),
    "layers' times": (lambda: build_layers(Closure(), 3, "/no/such/out", set_times=ANY), "set_times"),
    "references": (lambda: Closure(ANY), "references"),
    "a reference": (lambda: Closure({PATH: ["x"]}), "references"),  # type: ignore[list-item]
    "references of a string": (lambda: Closure({TREE: []}), "references"),  # type: ignore[dict-item]
    "sizes": (lambda: Closure({}, "/", ANY), "sizes"),
    "a size": (lambda: Closure({PATH: []}, "/", {PATH: "3"}), "sizes"),  # type: ignore[dict-item]
    "a root of bytes": (lambda: Closure({}, ByBytes()), "store_root"),  # type: ignore[arg-type]
    "a closure of bytes": (lambda: load_closure(ByBytes()), "source"),  # type: ignore[arg-type]
    "merged": (lambda: Closure().merge("x"), "others"),  # type: ignore[arg-type]
    "located": (lambda: Closure().location(TREE), "path"),  # type: ignore[arg-type]
    "only": (lambda: Closure().only([TREE]), "paths"),  # type: ignore[list-item]
    "only a string": (lambda: Closure().only(TREE), "paths"),  # type: ignore[arg-type]
    "containing": (lambda: StorePath.containing(ANY), "path"),
    "compression": (lambda: Compression.parse(ANY), "compression"),
    "apart": (lambda: LayerSpec().apart_from(ANY), "outputs"),
    "caches": (lambda: LayerSpec().apart_from(caches=ANY), "caches"),
    "a base's image": (lambda: open_base(ANY, "/no/cache", ANY), "image"),
    "a base's temporary": (lambda: open_base(EMPTY, "/no/cache", ANY), "temporary"),
    "exported": (lambda: write_images(ANY, "/no/such/out", "archive"), "images"),
    "an image by itself": (lambda: write_images([EMPTY], "/no/such/out", "archive"), "images"),  # type: ignore[list-item]
    "stream": (lambda: write_images([], "-", "archive", stream=ANY or 3), "stream"),
    "progress": (lambda: build_layer(LayerSpec(), "/no/such/out", progress=ANY or 5), "progress"),
    "cached progress": (lambda: cached(progress=5), "progress"),
    "chain ID": (lambda: LazyBase(ANY or b"x", ANY), "chain_id"),
    "a base that is no function": (lambda: LazyBase("", ANY or 3), "open"),
    "platform": (lambda: Image.empty(ANY), "platform"),
    "created": (lambda: EMPTY.with_created(["x"]), "created"),  # type: ignore[arg-type]
    "changes": (lambda: EMPTY.configured(ANY), "changes"),
    "appended": (lambda: EMPTY.append(ANY), "layers"),
    "a config": (lambda: Image(b"nope").described, "config"),
    "a config of text": (lambda: Image("{}"), "config"),  # type: ignore[arg-type]
    "spool": (lambda: read_images("/no/such/image", ANY), "spool"),
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


def test_an_image_of_an_empty_config_may_be_configured() -> None:
    """What a config does not have is added to it."""
    assert EMPTY.configured({}).described["rootfs"] == {"type": "layers", "diff_ids": []}


def test_values_and_errors_can_be_copied_and_pickled() -> None:
    """A copy of a spec or a closure is equal to it, in whatever way it is made; of an error all is kept."""
    spec = LayerSpec(closure=Closure({PATH: ()}, "/", {PATH: 3}), environment={"A": "1"})
    for copied in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert copied == spec
        assert copied.closure.sizes == {PATH: 3}
    error = ScriptError("a", "b", status=3, hint="c")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(again), str(again), again.problems, again.status) == (ScriptError, "a\nb\nc", ("a", "b"), 3)
