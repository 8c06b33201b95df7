"""A layer's key: the same for the same layer, and another for another."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.effort import PATIENT, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer import (  # fmt: skip
    Compression,
    LayerSpec,
    Mount,
    Script,
    closure_of_paths,
)
from rootless_layer.cache.key import layer_key
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.run_config import RunConfig
from rootless_layer.plan.base import LazyBase

pytestmark = pytest.mark.slow

ONE, OTHER = (f"/nix/store/{letter * 32}-{letter}" for letter in "ab")


@pytest.fixture(scope="module")
def inputs(shared: Path) -> Path:
    """Trees, archives and a store, to make specs of."""
    top = shared / "key"
    for name in ("tree", "other"):
        (top / name / "etc").mkdir(parents=True)
        (top / name / "etc/name").write_text(name)
    for path in (ONE, OTHER):
        (top / path[1:]).mkdir(parents=True)
    for name in ("tree", "other"):
        with tarfile.open(top / f"{name}.tar", "w") as archive:
            archive.add(top / name, name)
    (top / "listing").write_text("#mtree\n")
    return top


def spec_of(top: Path, values: dict[str, Any]) -> LayerSpec:
    """Make a spec of values that can be drawn."""
    closure = None if values["closure"] is None else closure_of_paths(values["closure"], top)
    tools = None if values["tools"] is None else closure_of_paths(values["tools"], top)
    contents = tuple(str(top / name) for name in values["copy_to_root"])
    rootfs = None if values["rootfs"] is None else str(top / values["rootfs"])
    scripts = tuple(Script("name", data, arguments) for data, arguments in values["scripts"])
    mounts = [
        Mount(type=kind, target=target, source=top / source[0] if source else None)
        for kind, target, *source in filter(None, [values["mounts"]])
    ]
    rest = {
        name: value for name, value in values.items()
        if name not in {"mounts", "closure", "tools", "copy_to_root", "rootfs", "scripts", "blob", "base", "run_config"}
    }  # fmt: skip
    return LayerSpec(
        closure=closure, tools=tools, copy_to_root=contents, rootfs=rootfs, scripts=scripts, mounts=mounts,
        **(rest | {"compression": Compression(*values["compression"]), "environment": dict(values["environment"])}),
    )  # fmt: skip


def key_of(top: Path, values: dict[str, Any]) -> str:
    """Give the key of such a spec."""
    base = None if values["base"] is None else LazyBase(values["base"], pytest.fail, values["run_config"])
    return layer_key(attrs.evolve(spec_of(top, values), base=base), blob=values["blob"])


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "closure": st.sampled_from([None, (ONE,), (OTHER,), (ONE, OTHER)]),
    "copy_to_root": st.sampled_from([(), ("tree",), ("other",), ("tree", "other"), ("other", "tree")]),
    "rootfs": st.sampled_from([None, "tree", "other", "tree.tar", "other.tar"]),
    "scripts": st.lists(st.tuples(st.sampled_from([b"", b"a", b"b"]), st.sampled_from([(), ("x",), ("x", "y")])), max_size=2),
    "environment": st.permutations([("A", "1"), ("B", "2")]).map(tuple) | st.just(()) | st.just((("A", "2"),)),
    "view": st.sampled_from(["root", "directory"]),
    "network": st.sampled_from(["none", "host"]),
    "closure_writable": st.booleans(),
    "link": st.sampled_from(["hard", "symbolic", "copy"]),
    "keep_dirlinks": st.booleans(),
    "follow_dirlinks": st.booleans(),
    "conflict": st.sampled_from(["error", "first", "last"]),
    "tools": st.sampled_from([None, (ONE,), (OTHER,), (ONE, OTHER)]),
    "mounts": st.sampled_from(
        [
            (),
            ("tmpfs", "/a"),
            ("tmpfs", "/b"),
            ("cache", "/a"),
            ("bind", "/a", "tree"),
            ("bind", "/a", "other"),
            ("bind", "/a", "tree.tar"),
        ]
    ),
    "uid": st.integers(0, 3),
    "gid": st.integers(0, 3),
    "uname": st.sampled_from(["", "a", "b"]),
    "gname": st.sampled_from(["", "a", "b"]),
    "source_date_epoch": st.integers(0, 3),
    "tidy": st.booleans(),
    "link_identical": st.booleans(),
    "compression": st.sampled_from([("none", 0), ("gzip", 0), ("gzip", 2), ("zstd", 3), ("zstd", 4)]),
    "blob": st.sampled_from(["stored", "derived"]),
    "platform": st.sampled_from([None, Platform("linux", "amd64"), Platform("linux", "arm64")]),
    "base": st.sampled_from([None, "", "sha256:" + 64 * "a", "sha256:" + 64 * "b"]),
    "run_config": st.sampled_from([RunConfig(), RunConfig((("A", "1"),)), RunConfig(folder="/a"), RunConfig(shell=("a",))]),
    "user": st.sampled_from(["", "1", "1:2", "app"]),
    "workdir": st.sampled_from(["", "a", "/a"]),
    "shell": st.sampled_from([(), ("sh",), ("sh", "-c")]),
}


@settings(max_examples=examples(450), deadline=None, suppress_health_check=PATIENT)
@given(st.fixed_dictionaries(FIELDS), st.data())
def test_the_key_changes_with_any_field(inputs: Path, values: dict[str, Any], data: st.DataObject) -> None:
    """Two specs that differ in one field have two keys, whatever the field is; the same spec has the same key."""
    field = data.draw(st.sampled_from(sorted(FIELDS)))
    changed = values | {field: data.draw(FIELDS[field])}
    same = values[field] == changed[field]
    if field == "run_config":  # which a base has
        same = same or values["base"] is None
    assert (key_of(inputs, values) == key_of(inputs, changed)) == same


def test_every_field_of_a_spec_is_in_the_key_or_known_to_be_no_part_of_a_layer() -> None:
    """A field that somebody adds to LayerSpec has to be thought of in the key."""
    fields = {attribute.name for attribute in LayerSpec.__attrs_attrs__}  # type: ignore[attr-defined]
    assert fields == (FIELDS.keys() - {"blob", "run_config"}) | {
        "timeout",
        "rootfs_listing",
        "allow_sparse",
        "left_out",
        "emulator",
        "ignored",
        "created_by",
        "comment",
        "copies",  # tests/plan/test_copies.py
    }


def test_the_key_does_not_change_with_what_is_no_part_of_a_layer(inputs: Path, tmp_path: Path) -> None:
    """A script's name, the timeout and where a tree lies are in no key of a stored layer; the place is in a derived one's."""
    shutil.copytree(inputs / "tree", tmp_path / "moved")
    one = LayerSpec(copy_to_root=(str(inputs / "tree"),), scripts=(Script.text("a", "one"),))
    two = LayerSpec(copy_to_root=(str(tmp_path / "moved"),), scripts=(Script.text("a", "two"),), timeout=3)
    assert layer_key(one) == layer_key(two)
    assert layer_key(one, blob="derived") != layer_key(two, blob="derived")


def test_the_key_has_what_a_tree_holds(tmp_path: Path) -> None:
    """Bytes, modes, names, links and times up to the epoch count; later times, directories' times and inodes do not."""
    tree = tmp_path / "tree"
    (tree / "folder").mkdir(parents=True)
    file = tree / "folder/file"
    file.write_text("one")
    (tree / "link").symlink_to("folder")
    spec = LayerSpec(copy_to_root=(str(tree),), source_date_epoch=1000)
    keys = [layer_key(spec)]

    def changes() -> bool:
        keys.append(layer_key(spec))
        return keys[-1] != keys[-2]

    os.utime(file, (5000, 5000))
    os.utime(tree / "folder", (7, 7))
    assert not changes()
    file.rename(tree / "other")
    shutil.copy2(tree / "other", file)
    (tree / "other").unlink()
    assert not changes()
    os.utime(file, (7, 7))
    assert changes()
    file.write_text("two")
    os.utime(file, (7, 7))
    assert changes()
    file.chmod(0o600)
    assert changes()
    (tree / "folder").chmod(0o700)
    assert changes()
    (tree / "link").unlink()
    assert changes()
    (tree / "link").symlink_to("file")
    assert changes()
    (tree / "empty").mkdir()
    assert changes()


def test_a_store_paths_key_is_its_name(inputs: Path) -> None:
    """A store path is not read for a stored layer; that a derived layer's was built again is seen."""
    spec = LayerSpec(closure=closure_of_paths([ONE], inputs), copy_to_root=(ONE,))
    stored, derived = layer_key(spec), layer_key(spec, blob="derived")
    (inputs / ONE[1:] / "file").write_text("unseen")
    assert layer_key(spec) == stored
    assert layer_key(spec, blob="derived") != derived
