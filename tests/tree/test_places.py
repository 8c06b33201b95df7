"""Outputs, the cache and temporary directories that lie in an input are no part of it: the digest is the same for ever."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.users import COMMAND, User

from rootless_layer import LayerSpec, build_layer
from rootless_layer.cache.build import build_cached
from rootless_layer.cache.key import layer_key
from rootless_layer.errors import OutputError
from rootless_layer.plan.rootfs import read_directory
from rootless_layer.progress import Progress
from rootless_layer.tree.places import Places
from rootless_layer.tree.walk import walk


def tree_at(folder: Path) -> Path:
    """Make a tree, with an empty directory and hard links in it."""
    (folder / "src/empty").mkdir(parents=True)
    (folder / "src/file").write_text("text")
    os.link(folder / "src/file", folder / "src/name")
    (folder / ".rootless-layer-0123456789abcdef.txt").write_text("a file of the user's, in spite of its name")
    return folder


def spec_of(tree: Path, option: str) -> LayerSpec:
    """Give a spec whose input is a tree."""
    return LayerSpec(copy_to_root=(str(tree),)) if option == "contents" else LayerSpec(rootfs=str(tree))


@pytest.mark.parametrize("option", ["contents", "rootfs"])
def test_what_a_build_makes_is_no_part_of_its_input(tmp_path: Path, option: str) -> None:
    """With the output, the cache and what killed builds left in the tree, the layer is that of the tree before there were any."""
    wanted = build_layer(spec_of(tree_at(tmp_path / "pristine"), option), tmp_path / "layer").descriptor.digest
    tree = tree_at(tmp_path / "tree")
    spec = spec_of(tree, option)
    cache = tree / ".made/for it/cache"
    keys = set()
    for _ in range(2):
        notes: list[str] = []

        def note(step: Progress, notes: list[str] = notes) -> None:
            notes += filter(None, [step.note])

        spec = spec.apart_from(tree / "src/cached", tree / "img.tar", caches=(cache,))
        assert build_layer(spec, tree / "out", progress=note).descriptor.digest != ""
        whole = spec.apart_from(tree / "out", caches=(cache,))
        assert build_layer(whole, tree / "out").descriptor.digest == wanted
        delivered = build_cached(whole, tree / "src/cached", cache, progress=note)
        assert delivered.descriptor.digest == wanted
        keys.add(layer_key(whole))
        (tree / "img.tar").write_text("an archive that another target writes")
        for name in (".rootless-layer-0123456789abcdef", "src/rootless-layer-0123456789abcdef"):
            (tree / name).mkdir(exist_ok=True)
            (tree / name / "half").write_text("left by a build that was killed")
    assert len(keys) == 1
    assert any(f"{tree}/out" in note and str(tree) in note.replace(f"{tree}/out", "") for note in notes)
    assert any(str(cache) in note for note in notes)


def test_only_directories_that_are_the_caches_alone_are_left_out(tmp_path: Path) -> None:
    """The directories of a cache's path go while nothing else is in them, before and after it was made; a parent with a file stays."""

    def found() -> set[bytes]:
        return {path for path, _, _ in walk(os.fsencode(tmp_path), left_out=Places().and_((), [tmp_path / "a/b/cache"]))}

    assert found() == {b""}
    (tmp_path / "a/b").mkdir(parents=True)
    assert found() == {b""}
    (tmp_path / "a/b/cache/layers").mkdir(parents=True)
    assert found() == {b""}
    (tmp_path / "a/mine").touch()
    assert found() == {b"", b"a", b"a/mine"}
    (tmp_path / "a/b/mine").touch()
    assert found() == {b"", b"a", b"a/mine", b"a/b", b"a/b/mine"}


def test_an_input_within_the_cache_is_read(tmp_path: Path) -> None:
    """A cache's directory may hold other things, and be an input itself: what the cache keeps there is left out, and no more."""
    key, places = "0a" * 32, Places().and_((), [tmp_path])

    def found(folder: Path) -> set[str]:
        return {os.fsdecode(path) for path, _, _ in walk(os.fsencode(folder), left_out=places)} - {""}

    for name in ("layers", "snapshots", "outputs", "sizes"):
        (tmp_path / name / key).mkdir(parents=True)
        (tmp_path / name / f".rootless-layer-{key[:16]}").mkdir()
    (tmp_path / "mine").mkdir()
    assert found(tmp_path) == {"mine"}
    assert found(tmp_path / "layers") == {key}
    for name in ("layers/x", "sizes/shoes.csv"):
        (tmp_path / name).touch()
    assert found(tmp_path) == {"mine", "layers", "layers/x", "sizes", "sizes/shoes.csv"}
    places = places.and_([tmp_path / "sizes/shoes.csv", tmp_path / "layers"], [])
    assert found(tmp_path) == {"mine"}


def test_the_root_directory_as_an_input() -> None:
    """What is left out of ``/`` is found although its paths begin with two slashes there."""
    walked = walk(b"/", left_out=Places().and_(["/usr", "/etc"], []))
    tops = set(itertools.islice((path for path, _, _ in walked), len(os.listdir("/")) - 1))
    assert tops == {b"", *os.listdir(b"/")} - {b"usr", b"etc"}


def test_places_by_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that has two paths, as with a bind mount, is one: what is left out is found by either, and refused as an input."""
    for name in ("out/blobs", "its/cache/layers", "its/cache/sizes", "src"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    (tmp_path / "bound").symlink_to("tree")  # a path that realpath leaves as it is stands for a bind mount here
    monkeypatch.setattr("rootless_layer.tree.places.os.path.realpath", os.path.abspath)
    places = Places().and_([tmp_path / "bound/out"], [tmp_path / "bound/its/cache"])
    assert {path for path, _, _ in walk(os.fsencode(tmp_path / "tree"), left_out=places)} == {b"", b"src"}
    assert [name for name in ("out/blobs", "its/cache/layers", "its/cache/sizes", "src") if places.holds(str(tmp_path / "tree" / name))] == [
        "out/blobs", "its/cache/layers", "its/cache/sizes",
    ]  # fmt: skip
    assert len(list(places.notes([str(tmp_path / "tree")]))) == 2
    for given in ("tree/out", "tree/out/blobs"):
        with pytest.raises(OutputError, match=f"{tmp_path / given}: .*{tmp_path}/bound/out, which is replaced"):
            places.check([str(tmp_path / given)])


@pytest.mark.parametrize("option", ["contents", "rootfs"])
@pytest.mark.parametrize("given", ["out", "link", "out/blobs", "out/blobs/sha256"])
def test_an_output_does_not_take_an_inputs_place(tmp_path: Path, option: str, given: str) -> None:
    """An input that is the output, or lies in it, would go with the earlier output: that is refused, and both are named."""
    build_layer(LayerSpec(copy_to_root=(str(tree_at(tmp_path / "tree")),)), tmp_path / "out")
    (tmp_path / "link").symlink_to("out")
    before = (tmp_path / "out/layer.json").read_bytes()
    for make in (
        lambda spec: build_layer(spec, tmp_path / "out"),
        lambda spec: build_cached(spec, tmp_path / "out", tmp_path / "cache"),
        lambda spec: build_layer(spec, tmp_path / "link"),
    ):
        with pytest.raises(OutputError, match=f"{tmp_path / given}: .*{tmp_path}/out, which is replaced"):
            make(spec_of(tmp_path / given, option))
    assert (tmp_path / "out/layer.json").read_bytes() == before
    assert not (tmp_path / "cache").exists()


def test_links_to_what_is_left_out_are_not_followed(tmp_path: Path) -> None:
    """A link to the output stays one with follow_dirlinks, before the output is there and after."""
    tree = tree_at(tmp_path / "tree")
    (tree / "latest").symlink_to("out")
    (tree / "kept").symlink_to("cache/layers")
    spec = LayerSpec(copy_to_root=(str(tree),), follow_dirlinks=True).apart_from(caches=(tree / "cache",))
    first = build_layer(spec, tree / "out")
    delivered = [build_cached(spec, tree / "out", tree / "cache").descriptor for _ in range(2)]
    assert {*delivered, build_layer(spec, tree / "out").descriptor} == {first.descriptor}
    assert first.tree.entries[b"latest"].target == b"out"


def test_hard_links_to_what_is_left_out(tmp_path: Path) -> None:
    """A file whose other name is left out is a file with one name."""
    tree = tree_at(tmp_path / "tree")
    (tree / "out").mkdir()
    os.link(tree / "src/file", tree / "out/another")
    spec = LayerSpec(rootfs=str(tree)).apart_from(tree / "out", tree / "src/file")
    found = {entry.path: entry.link for entry in read_directory(str(tree), spec)}
    assert {b"src/name": None}.items() <= found.items()
    assert not found.keys() & {b"src/file", b"out", b"out/another"}


def test_the_command_gives_one_digest_for_ever(user: User) -> None:
    """``build -o out`` of the directory that ``out`` is in: again, with the cache, with another TMPDIR and with a script."""
    tree = tree_at(user.home / "tree")
    (tree / "tmp").mkdir()
    pristine = shutil.copytree(tree, user.home / "pristine")
    if not user.is_root and os.geteuid() == 0:
        for here, folders, _ in os.walk(tree):
            for name in ("", *folders):
                os.chown(os.path.join(here, name), user.home.stat().st_uid, user.home.stat().st_gid)
    wanted = user.build("--copy-to-root", pristine, output="layer").layer["digest"]
    inside = {"TMPDIR": str(tree / "tmp"), "ROOTLESS_LAYER_CACHE": str(tree / "its/cache")}
    for words, env in (
        ([], None), ([], None), (["--cache"], inside), (["--cache"], inside), ([], inside), (["--view", "directory", "--cache"], inside),
    ):  # fmt: skip
        script = ["--", "true"] if "--view" in words else []
        result = user.run([*COMMAND, "build", "--json", *words, "--copy-to-root", ".", "-o", "out", *script], cwd=tree, env=env)
        assert result.status == 0, result.err
        assert json.loads(result.out)["digest"] == wanted, (words, env)
    assert str(tree / "out") in result.err
    refused = user.run([*COMMAND, "build", "--copy-to-root", "out", "-o", "out"], cwd=tree)
    assert refused.status == 73
    assert str(tree / "out") in refused.err


MAKE = """\
[layer.a]
copy-to-root = "."
output = "a"
[layer.b]
rootfs = "."
output = "src/b"
[image.c]
layers = "a"
output = "c.tar"
[image.d]
layers = ["a", "b"]
output = "d"
"""


def test_make_leaves_out_what_all_targets_put_there(user: User) -> None:
    """All outputs of a file and its cache are left out of its trees, whichever targets are made: the second run makes nothing."""
    tree = tree_at(user.home / "tree")
    if not user.is_root and os.geteuid() == 0:
        for path in (tree, tree / "src"):
            os.chown(path, user.home.stat().st_uid, user.home.stat().st_gid)
    (tree / "make.toml").write_text(MAKE)
    env = {"ROOTLESS_LAYER_CACHE": str(tree / "cache")}
    first = user.run([*COMMAND, "make", "make.toml", "a"], cwd=tree, env=env)
    whole = user.run([*COMMAND, "make", "make.toml"], cwd=tree, env=env)
    again = user.run([*COMMAND, "make", "--json", "make.toml"], cwd=tree, env=env)
    assert (first.status, whole.status, again.status) == (0, 0, 0), first.err + whole.err
    assert first.out in whole.out
    ends = [event for event in map(json.loads, again.out.splitlines()) if event["event"] == "done"]
    assert {event["name"]: event["status"] for event in ends if "name" in event} == dict.fromkeys("abcd", "unchanged")
    (tree / "make.toml").write_text(MAKE + '[layer.e]\ncopy-to-root = "src/b/blobs"\n[layer.f]\nrootfs = "a"\n')
    refused = user.run([*COMMAND, "make", "make.toml"], cwd=tree, env=env)
    assert refused.status == 65
    for words in (
        "layer.e: output: src/b/blobs: is an input",
        str(tree / "src/b"),
        "layer.f: output: a: is an input",
        str(tree / "a"),
    ):
        assert words in refused.err
