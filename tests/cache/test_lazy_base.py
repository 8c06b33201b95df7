"""A base that is opened late: a layer of the cache needs no tree below it, and is the same as one that was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless_layer import Layer, LayerSpec, Progress, build_layer
from rootless_layer.cache.bases import base_upon
from rootless_layer.cache.key import layer_key
from rootless_layer.plan.base import LazyBase
from rootless_layer.tree.base import Base
from rootless_layer.tree.tree import Tree


@pytest.fixture
def below(tmp_path: Path) -> Layer:
    """Give a layer to build upon, one that is derived."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("below")
    return build_layer(LayerSpec(copy_to_root=[tmp_path / "tree"]), tmp_path / "below", blob="derived")


def above(tmp_path: Path, base: Base | LazyBase) -> LayerSpec:
    """Order a layer upon a base."""
    (tmp_path / "more").mkdir(exist_ok=True)
    (tmp_path / "more/other").write_text("above")
    return LayerSpec(base=base, copy_to_root=[tmp_path / "more"])


def test_a_base_is_opened_once() -> None:
    """The tree stays open; the chain ID is known before, and whoever asks for the tree does not see which base it is."""
    opened: list[object] = []

    def tree(progress: object) -> Base:
        opened.append(progress)
        return Base.of(Tree.of([]), "sha256:x")

    base = LazyBase("sha256:x", tree)
    spec = LayerSpec(base=base)
    assert (spec.base, base.chain_id, opened) == (base, "sha256:x", [])
    assert layer_key(spec) == layer_key(LayerSpec(base=Base.of(Tree.of([]), "sha256:x"))) != layer_key(LayerSpec())
    assert opened == []
    assert spec.below is spec.below is base.open(print)
    assert len(opened) == 1
    assert {spec, LayerSpec(base=LazyBase("sha256:x", tree))} == {LayerSpec(base=Base.of(Tree.of([]), "sha256:x"))}
    with pytest.raises(AttributeError):
        base.chain_id = ""  # type: ignore[misc]


def test_a_base_is_opened_only_for_a_layer_that_is_built(tmp_path: Path, below: Layer) -> None:
    """Built without a cache, built for the cache and found there: one layer; what is found leaves the base closed."""
    said: list[Progress] = []
    base = base_upon([below.opened()], tmp_path / "bases")
    built = [
        build_layer(above(tmp_path, base), tmp_path / "plain", progress=said.append),
        build_layer(above(tmp_path, base), tmp_path / "cached", cache=tmp_path / "cache"),
        build_layer(above(tmp_path, LazyBase(base.chain_id, pytest.fail)), tmp_path / "found", cache=tmp_path / "cache"),
    ]
    assert [step.note for step in said if step.stage == "unpack" and step.note] == ["unpacking layer 1 of 1, once"]
    assert [entry.path for entry in built[0].tree] == [b"", b"other"]
    for layer in built[1:]:
        assert layer.to_json() == built[0].to_json()
    assert built[0].made_from["base"] == below.diff_id == base.chain_id


def test_derived_layers_are_shown_in_their_places(tmp_path: Path, below: Layer) -> None:
    """Where that is asked for, nothing of them is unpacked; the layer above is the same."""
    unpacked = build_layer(above(tmp_path, base_upon([below.opened()], tmp_path / "bases")), tmp_path / "unpacked")
    shown = build_layer(above(tmp_path, base_upon([below.opened()], tmp_path / "no", in_place=True)), tmp_path / "shown")
    assert shown.to_json() == unpacked.to_json()
    assert not (tmp_path / "no").exists()
