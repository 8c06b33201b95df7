"""Links to directories are followed as far as they have an end; the layer and its key agree upon where that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rootless_layer import LayerSpec
from rootless_layer.cache import key
from rootless_layer.cache.key import layer_key
from rootless_layer.errors import SourceError
from rootless_layer.plan.plan import plan


def links(tree: Path, **targets: str) -> None:
    """Make links by their paths, with _ for /, and the directories that they are in."""
    for path, target in targets.items():
        link = tree / path.replace("_", "/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def chain(tree: Path, count: int, *names: str) -> None:
    """Make directories of which each has links, by these names, to the next."""
    for number in range(count):
        (tree / f"d{number}").mkdir(parents=True)
        for name in names:
            (tree / f"d{number}" / name).symlink_to(f"../d{number + 1}")
    (tree / f"d{count}").mkdir()


def outside(tree: Path) -> None:
    """Lead out of the tree, and from there back."""
    links(tree, l=f"{tree}-other")
    links(Path(f"{tree}-other"), back=str(tree))


ENDLESS: dict[str, tuple[Callable[[Path], None], str]] = {
    "itself": (lambda tree: links(tree, z="."), "/z: "),
    "its parent": (lambda tree: links(tree, a_up=".."), "/a/up: "),
    "the root": (lambda tree: links(tree, a_root="/"), "/a/root: "),
    "two to each other": (lambda tree: links(tree, a_x="../b", b_y="../a"), "x/y: |y/x: "),
    "four": (lambda tree: links(tree, a_x="../b", b_y="../a", a_z="../b", b_w="../a"), "/[xz]/[yw]: |/[yw]/[xz]: "),
    "three": (lambda tree: links(tree, a_x="../b", b_y="../c", c_z="../a"), "(/[xyz]){3}: "),
    "through a link": (lambda tree: links(tree, y="x", x_q="../y"), "/[xy]/q: "),
    "out and back": (outside, "/l/back: "),
}
LARGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "too deep": (lambda tree: chain(tree, 45, "l"), "/d[0-9]+(/l){41}: .*40"),
    "too long": (lambda tree: chain(tree, 40, "l" * 120), "longer than 4095"),
    "too many": (lambda tree: chain(tree, 30, "l", "m"), "/[lm]: .*1000"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_links_without_an_end_are_refused(tmp_path: Path, what: str) -> None:
    """A link that leads back, over whatever way, is an error that names it, of the layer and of its key."""
    make, said = ENDLESS[what]
    make(tmp_path / "tree")
    spec = LayerSpec(copy_to_root=(str(tmp_path / "tree"),), follow_dirlinks=True)
    for found in (plan, layer_key):
        with pytest.raises(SourceError, match=said):
            found(spec)
    kept = LayerSpec(copy_to_root=spec.copy_to_root)
    assert plan(kept).tree.entries
    assert layer_key(kept)


@pytest.mark.parametrize("what", LARGE)
def test_links_that_come_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """What has an end, and nobody waits for it or could unpack it, is an error: two links in each of many directories double at each."""
    monkeypatch.setattr("rootless_layer.plan.locate._MOST_FOLLOWED", 1000)
    make, said = LARGE[what]
    make(tmp_path / "tree")
    with pytest.raises(SourceError, match=said):
        plan(LayerSpec(copy_to_root=(str(tmp_path / "tree"),), follow_dirlinks=True))


def test_many_links_to_one_directory_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has an end is followed however often it is met, 40 links deep as well; a link to nothing, or to itself, stays one.

    The key reads what many links lead to once.
    """
    tree = tmp_path / "tree"
    links(tree, nowhere="absent", self="self", one="other", other="one", file="d0/file")
    chain(tree, 39, "l")
    (tree / "d0/file").write_text("data")
    for number in range(300):
        (tree / f"to-{number}").symlink_to("d0")
    spec = LayerSpec(copy_to_root=(str(tree),), follow_dirlinks=True)
    entries = plan(spec).tree.entries
    assert entries[b"to-7" + 39 * b"/l"].is_dir
    assert all(entries[b"to-%d/file" % number].size == 4 for number in range(300))
    assert {name for name, entry in entries.items() if entry.target is not None} == {
        b"nowhere",
        b"self",
        b"one",
        b"other",
        b"file",
    }
    read: list[bytes] = []
    real = key._file
    monkeypatch.setattr("rootless_layer.cache.key._file", lambda path: read.append(path) or real(path))
    before = layer_key(spec)
    assert len(read) == 2
    (tree / "d0/file").write_text("Data")
    assert layer_key(spec) != before
