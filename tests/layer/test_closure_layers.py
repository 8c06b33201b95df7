"""A closure becomes layers in one call: each path once, always alike, few of them when it changes."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import ABSENT, assert_said
from helpers.image_commands import image_json
from helpers.stores import PACKAGES, Store, make_store, own
from helpers.users import COMMAND, User

from rootless_layer import ByList, BySize, Closure, Compression, Pipeline, StorePath, build_layers, load_closure
from rootless_layer.check.validate import validate
from rootless_layer.errors import InputError, OutputError, UnrepresentableError
from rootless_layer.image.image import Image
from rootless_layer.image.read import NamedImage
from rootless_layer.image.write import Format, write_images
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.contents import store_paths
from rootless_layer.layer.of_closure import Splitting, make_layers, read_strategy
from rootless_layer.oci.descriptor import Platform
from rootless_layer.plan.spec import LayerSpec
from rootless_layer.progress import Progress
from rootless_layer.store.layering import split
from rootless_layer.store.layering_pipeline import STEPS
from rootless_layer.store.nar_size import nar_sizes

pytestmark = pytest.mark.slow

MOST = 6


def listed_paths(folder: Path) -> list[str]:
    """Name the store paths of a layer, from its listing."""
    entries = [line.split()[0].split("/") for line in (folder / "layer.mtree").read_text().splitlines() if line.startswith("./")]
    return sorted({"/" + "/".join(parts[1:4]) for parts in entries if len(parts) > 3})


def test_each_path_is_in_the_layer_that_the_split_says(store: Store, tmp_path: Path) -> None:
    """The layers are in the order of the groups, hold their store paths and nothing else, are derived, and are true."""
    closure = load_closure(store.graph, store_root=store.root)
    layers = build_layers(closure, MOST, tmp_path / "layers")
    groups = split(closure, MOST, read_strategy("balanced", closure))
    names = json.loads((tmp_path / "layers/layers.json").read_bytes())["layers"]
    assert [listed_paths(tmp_path / "layers" / name) for name in names] == [[path.path for path in group] for group in groups]
    said = [json.loads((tmp_path / "layers" / name / "layer.json").read_bytes()) for name in names]
    assert [layer.descriptor.digest for layer in layers] == [one["digest"] for one in said]
    assert [one["madeFrom"]["closure"] for one in said] == [[path.path for path in group] for group in groups]
    assert sorted(os.listdir(tmp_path / "layers")) == [*names, "layers.json"]
    assert {name for one in names for name in os.listdir(tmp_path / "layers" / one)} == {"layer.json", "layer.mtree"}
    assert [problem for name in names for problem in validate(str(tmp_path / "layers" / name), lambda: "").problems] == []


def test_owners_times_and_compression_are_those_asked_for(tmp_path: Path) -> None:
    """``uid``, ``gid``, ``source_date_epoch`` and ``compression`` are as of a layer that is built alone."""
    made = own(tmp_path / "store", {"a": "text", "b": "more"}, {"b": ["a"]})
    closure = load_closure(made.graph, store_root=made.root)
    asked: dict[str, Any] = {"uid": 7, "gid": 8, "source_date_epoch": 5, "compression": Compression("gzip")}
    [one] = build_layers(closure, 1, tmp_path / "layers", **asked)
    assert one.descriptor.media_type.endswith("+gzip")
    listed = (tmp_path / "layers/00/layer.mtree").read_text().splitlines()
    assert all("uid=7 gid=8 time=5.0" in line for line in listed if "/file " in line)
    there = tmp_path / "gzip"
    with open(there, "wb") as file:
        one.copy(file.write)  # which checks the digest
    assert one.plain_size() == len(subprocess.run(["gzip", "-dc", there], check=True, capture_output=True).stdout)


def test_a_path_of_unknown_size_is_measured(store: Store, tmp_path: Path) -> None:
    """A closure splits by size alike, whether its sizes are given, or some, or none."""
    closure = load_closure(store.graph, store_root=store.root)
    assert closure.sizes == {}
    sizes = nar_sizes(closure)
    some = dict(list(sizes.items())[::2])
    splits = [
        split(one, MOST, read_strategy("size", one))
        for one in (closure, *(Closure(closure.references, str(store.root), known) for known in (sizes, some)))
    ]
    assert splits[0] == splits[1] == splits[2] == split(closure, MOST, BySize(sizes))
    assert len(splits[0]) > 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[]", ByList),
        ("[[]]", ByList),
        ('[["a*"], ["/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-a", "flatten"]]', ByList),
        ('[["popularity_contest"]]', Pipeline),
        ('[["flatten"], ["reverse"]]', Pipeline),
        ('[["split_paths", []], ["over", "rest", ["popularity_contest"]]]', Pipeline),
        ('[["popularity_contest"], ["limit_layers", 3]]', Pipeline),
    ],
)
def test_a_files_shape_tells_what_it_is(tmp_path: Path, text: str, kind: type) -> None:
    """A list in which an item begins with a step's name, or is none of strings, is a pipeline; any other is one of groups."""
    (tmp_path / "layering.json").write_text(text)
    assert isinstance(read_strategy(str(tmp_path / "layering.json"), Closure()), kind)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "cannot be read as JSON"),
        ("5", "5 is not a list of steps"),
        ('["flatten"]', "step 1: 'flatten' is not a step"),
        ('[["popularity_contest"], ["limit_layers", 0]]', "step 2: .* is not a step, or not with these"),
        ('[["limit_layer", 3]]', "is not a step"),
        ('[["popularity_contst"], ["reverse"]]', 'step 1: ."popularity_contst". is not a step'),
        (None, ABSENT),
    ],
)
def test_files_that_are_no_layering(tmp_path: Path, text: str | None, problem: str) -> None:
    """What is neither groups nor steps is an error that names the file."""
    path = tmp_path / "layering.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_strategy(str(path), Closure())
    assert str(path) in str(caught.value)


def test_the_steps_are_all_there_are() -> None:
    """Each step by which a pipeline is told from groups is one: a pipeline of it has no fault, or one of its arguments."""
    closure = Closure({StorePath(f"/nix/store/{'a' * 32}-a"): frozenset()})
    arguments: list[list[Any]] = [[], [[]], [1], ["main", ["flatten"]], [["flatten"]]]
    for name in STEPS:
        fitting = []
        for words in arguments:
            try:
                fitting.append(Pipeline([[name, *words]]))
            except InputError:
                continue
        assert fitting, name
    assert split(closure, 3, Pipeline([["popularity_contest"]])) == split(closure, 3)


def test_what_fails_in_a_child_is_raised_here(tmp_path: Path) -> None:
    """What cannot be in a layer is an error of its own kind, though a child process met it; of the output nothing is left."""
    made = own(tmp_path / "store", {"a": "text", "b": "more", "c": "most"}, {"b": ["a"]})
    Path(f"{made.root}{made.paths['b']}/.wh.c").touch()
    closure = load_closure(made.graph, store_root=made.root)
    with pytest.raises(UnrepresentableError, match=r"-b/\.wh\.c: a layer cannot hold"):
        build_layers(closure, 3, tmp_path / "layers")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(OutputError, match="there already"):
        build_layers(closure, 3, tmp_path / "taken")
    assert sorted(os.listdir(tmp_path)) == ["store", "taken"]


def test_a_sparse_giant_in_a_closure_is_named(user: User, tmp_path: Path) -> None:
    """A store path's file with more than 1 GiB of holes is an error in each way to make layers of it; less is written."""
    path = "/nix/store/00000000000000000000000000000001-giant"
    root = user.home / "root"
    (root / path[1:]).mkdir(parents=True)
    (user.home / "graph").write_text(path + "\n")
    with open(root / path[1:] / "holes", "wb") as file:
        file.truncate((1 << 30) + 1)
    closure = load_closure(user.home / "graph", store_root=root)
    with pytest.raises(InputError, match=f"{path}/holes"):
        build_layers(closure, 3, tmp_path / "layers")
    assert Splitting(closure, asked=LayerSpec(allow_sparse=True)).specs((), 0)[0].allow_sparse
    options = ["--closure", user.home / "graph", "--store-root", root]
    for words in ([], ["--compression", "zstd"], ["--cache"]):
        cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
        assert_said(image_json(user, *options, *words, env=cache), 65, f"{path}/holes: ", "--allow-sparse")
    (user.home / "rootless-layer.toml").write_text(
        f'[image.a]\nclosure = "graph"\nstore-root = "{root}"\noutput = "a"\nuid = 3\n'
    )
    assert_said(user.run([*COMMAND, "make", "rootless-layer.toml"], env=cache), 65, f"{path}/holes: ")


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    """Layers take the place of earlier ones, of which none is left."""
    made = own(tmp_path / "store", {"a": "text", "b": "more", "c": "most"}, {})
    closure = load_closure(made.graph, store_root=made.root)
    assert len(build_layers(closure, 3, tmp_path / "layers")) == 3
    assert len(build_layers(closure, 1, tmp_path / "layers")) == 1
    assert sorted(os.listdir(tmp_path / "layers")) == ["00", "layers.json"]


@pytest.mark.parametrize("kind", ["layout", "archive", "docker-archive"])
@pytest.mark.parametrize("folder", ["", "blobs"], ids=["derived", "stored"])
@pytest.mark.parametrize("threads", [False, True], ids=["forks", "threads"])
def test_progress_adds_up(tmp_path: Path, kind: Format, folder: str, *, threads: bool) -> None:
    """What a caller is told rises to the whole, where blobs are linked, copied or made again, and where nothing may fork."""
    made = own(tmp_path / "store", {"a": "text" * 300_000, "b": "more"}, {})
    closure = load_closure(made.graph, store_root=made.root)
    place = str(tmp_path / folder) if folder else ""
    if place:
        os.mkdir(place)
    steps: list[Progress] = []
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    if threads:
        other.start()
    try:
        layers = make_layers(Splitting(closure).specs((), 0), place, steps.append)
        assert {step.stage for step in steps} == {"layers"}
        image_ = Image.empty(Platform.host())
        for layer in layers:
            image_ = image_.append(layer, created="1970-01-01T00:00:01Z")
        steps.clear()
        write_images([NamedImage(image_, ("a:1",))], str(tmp_path / "image"), kind, progress=steps.append)
    finally:
        ended.set()
    whole = sum(layer.descriptor.size for layer in layers)
    assert {(step.stage, step.total) for step in steps} == {("write", whole)}
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == whole
    assert validate(str(tmp_path / "image"), lambda: str(tmp_path / "spool")).problems == ()


def test_store_paths_are_told_by_listing_and_by_tar(users: list[User]) -> None:
    """What a layer's listing says of store paths, its tar says as well; whiteouts of layers above count."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more", "c": "most"}, {})
    assert user.build(*made.options, "--copy-to-root", f"{made.root}{made.paths['a']}", output="one").status == 0
    script = f"rm -r .{made.paths['b']}; mkdir -p nix/store/{'x' * 32}-d nix/store/plain; touch nix/store/{'y' * 32}-f other"
    above = user.build(
        "--base", user.home / "one", "--stage", "copy", "--view", "directory", "--", "sh", "-c", script, output="two"
    )
    assert above.status == 0, above.err
    layers = [open_layer(str(user.home / name)) for name in ("one", "two")]
    assert all(layer.listing for layer in layers)
    for one in (layers, [attrs.evolve(layer, listing="") for layer in layers]):
        assert {path.name for path in store_paths(one[:1])} == {"a", "b", "c"}
        assert {path.name for path in store_paths(one)} == {"a", "c", "d", "f"}


def test_how_many_layers_a_new_leaf_changes(shared: Path, store: Store, tmp_path: Path) -> None:
    """sed, added to a closure in 20 layers, changes the last one by size, and by popularity that and one of a path that it needs."""
    bigger = make_store(shared / "leaf-store", [*PACKAGES, "sed"])
    assert len(set(bigger.paths) - set(store.paths)) == 1
    changed = {}
    for layering in ("popularity", "size"):
        found = []
        for one in (store, bigger):
            closure = load_closure(one.graph, store_root=one.root)
            found.append(build_layers(closure, 20, tmp_path / "layers", strategy=read_strategy(layering, closure)))
        before, after = ({layer.descriptor.digest for layer in layers} for layers in found)
        assert 18 <= len(before) <= 20
        changed[layering] = len(after - before)
    assert changed == {"popularity": 2, "size": 1}
