"""Random trees: what another reader finds in a tree's layer is that tree."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec, Script, build_layer
from rootless_layer.plan.spec import View

pytestmark = pytest.mark.slow

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..") and not name.startswith(b".wh.")
)
NODES = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), st.integers(0, 0o7777), st.binary(max_size=600)),
        st.tuples(st.just("link"), st.just(0o777), st.binary(min_size=1, max_size=120).filter(lambda text: b"\0" not in text)),
    ),
    lambda below: st.tuples(st.just("directory"), st.integers(0, 0o7777), st.dictionaries(NAMES, below, max_size=5)),
    max_leaves=12,
)
TREES = st.dictionaries(NAMES, NODES, max_size=6)
RANDOM = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Node = tuple[str, int, Any]


def grow(folder: bytes, tree: Mapping[bytes, Node]) -> None:
    """Make a tree on disk."""
    for name, (kind, mode, content) in tree.items():
        path = folder + b"/" + name
        if kind == "link":
            os.symlink(content, path)
            continue
        if kind == "directory":
            os.mkdir(path)
            grow(path, content)
        else:
            with open(path, "wb") as file:
                file.write(content)
        # The builder must be able to read it; a directory gets its owner's write bit in the layer.
        os.chmod(path, mode | (0o700 if kind == "directory" else 0o400))


def flatten(tree: Mapping[bytes, Node], above: bytes = b"") -> dict[bytes, tuple[object, ...]]:
    """Give what the layer of a tree must hold, by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name, (kind, mode, content) in tree.items():
        if kind == "directory":
            found[above + name] = (kind, mode | 0o700, b"")
            found |= flatten(content, above + name + b"/")
        else:
            found[above + name] = (kind, mode | 0o400, content)
    return found


def read_blob(blob: bytes) -> dict[bytes, tuple[object, ...]]:
    """Read a layer by Python's tarfile: kind, mode, data by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(blob), encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            assert (member.uid, member.gid, member.mtime, member.uname, member.gname) == (0, 0, 1, "", "")
            name = os.fsencode(member.name)
            assert name not in found
            if member.issym():
                found[name] = ("link", 0o777, os.fsencode(member.linkname))
            elif member.isdir():
                found[name] = ("directory", member.mode, b"")
            else:
                file = tar.extractfile(member)
                assert file is not None
                found[name] = ("file", member.mode, file.read())
    return found


def build_tree(folder: Path, tree: Mapping[bytes, Node], scripts: tuple[Script, ...] = (), view: View = "directory") -> bytes:
    """Build a tree's layer through the library, and give its bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        content = f"{work}/content"
        os.mkdir(content)
        grow(os.fsencode(content), tree)
        layer = build_layer(LayerSpec(copy_to_root=(content,), scripts=scripts, view=view), f"{work}/layer")
        blob: Path = Path(work) / "layer/blobs/sha256" / layer.descriptor.digest.removeprefix("sha256:")
        return blob.read_bytes()


@settings(RANDOM, max_examples=examples(60))
@given(tree=TREES)
def test_the_layer_is_the_tree(tree: dict[bytes, Node], memory: Path) -> None:
    """For any tree, what another reader finds in the layer is that tree, and no more."""
    assert read_blob(build_tree(memory, tree)) == flatten(tree)


@settings(RANDOM, max_examples=examples(15))
@given(tree=TREES)
def test_any_tree_survives_the_script_true(tree: dict[bytes, Node], memory: Path) -> None:
    """For any tree, staging and scanning it gives the same bytes as leaving both out."""
    assert build_tree(memory, tree, (Script.text("true"),)) == build_tree(memory, tree)
