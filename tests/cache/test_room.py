"""The cache's directory: what is the cache's own there, and what becomes of a cache that may not be written or has no room."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from rootless_layer import Image, LayerSpec, open_layer
from rootless_layer.cache import room
from rootless_layer.cache.bases import open_base
from rootless_layer.cache.build import build_cached
from rootless_layer.cache.key import layer_key
from rootless_layer.cache.layers import LayerCache
from rootless_layer.cache.room import Kept
from rootless_layer.cache.upkeep import collect, verify
from rootless_layer.cli.main import main
from rootless_layer.errors import OutputError
from rootless_layer.oci.descriptor import Platform
from rootless_layer.system.lease import Lease
from rootless_layer.system.temporary import Temporary


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree to make a layer of."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("text")
    return tmp_path / "tree"


FOREIGN = (
    "mine", "sizes/shoes.csv", "outputs/run1/a.json", "layers/mine/x", "layers/.rootless-layer-mine/x",
    "layers/.rootless-layer-0123456789abcdef", "snapshots/keep/x",
    *(f"{folder}/{'a' * 64}/x" for folder in ("layers", "snapshots", "outputs")),
)  # fmt: skip


def test_other_peoples_files_in_the_cache_stay(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not of the cache's own form is neither listed nor removed; what is, goes, and gc says all of it."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE_SIZE", "1")
    own = ("layers/.rootless-layer-00ff00ff00ff00ff/x", f"outputs/{'b' * 64}/made.json", f"layers/{'c' * 64}/cache.json")
    for name in (*FOREIGN, *own):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("{}")
    os.symlink(cache / "layers/mine", cache / "layers" / ("d" * 64))
    assert len(room.list_kept(cache)) == 2
    assert [kept.path.name for kept, _ in verify(cache)[1]] == ["c" * 64]
    digest = build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "out", cache).descriptor.digest
    left = f"sizes/{'e' * 64}"
    (cache / left).write_text("1")
    (entry,) = room.entries(cache)
    done = collect(cache, 0)
    assert {kept.path for kept in done.removed} == {entry.path, (cache / own[1]).parent}
    assert [kept.digest for kept in done.removed if kept.kind == "layer"] == [digest]
    assert (done.used, done.refused, room.list_kept(cache)) == ([], [], [])
    there = {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()}
    assert there == {*FOREIGN}
    assert os.path.islink(cache / "layers" / ("d" * 64))


def test_one_at_a_time_where_the_cache_is_a_link(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache and its directories may be links to a disk with room: nobody else removes or renames there meanwhile, either."""
    cache, places = tmp_path / "cache", {name: tmp_path / f"disk/{name or 'cache'}" for name in ("", "layers", "snapshots")}
    for name, real in places.items():
        real.mkdir(parents=True)
        (cache / name).symlink_to(real)
    held: dict[str, bool] = {}
    rename = os.rename

    def is_held(name: str) -> bool:
        lease = Lease.exclusive(places[name])
        if lease is not None:
            lease.release()
        return lease is None

    def watched(source: Path, target: Path) -> None:
        held["layers"] = held.get("layers", False) or is_held("layers")
        rename(source, target)

    def looked() -> Iterator[Kept]:
        held.update({name: is_held(name) for name in ("", "snapshots")})
        yield from ()

    monkeypatch.setattr(os, "rename", watched)
    build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "layer", cache)
    room.discard(cache, looked())
    assert held == {"layers": True, "": True, "snapshots": True}
    assert not any(map(is_held, places))


@pytest.mark.parametrize("note", ["-999999999999", "1" + "0" * 26, "1_000", " 7 ", "٣", "", "a directory", "a fifo", "a link"])
def test_a_size_is_believed_where_it_is_a_number(tmp_path: Path, tree: Path, note: str) -> None:
    """A note that is no plain number is measured again, and none keeps gc from its work; what a link leads to is not written to."""
    build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "out", tmp_path / "cache")
    (entry,) = room.entries(tmp_path / "cache")
    path = tmp_path / "cache/sizes" / entry.path.name
    path.unlink()
    (tmp_path / "mine").write_text("mine")
    {"a directory": path.mkdir, "a fifo": lambda: os.mkfifo(path), "a link": lambda: path.symlink_to(tmp_path / "mine")}.get(
        note, lambda: path.write_text(note, encoding="utf-8")
    )()
    assert [kept.size for kept in room.entries(tmp_path / "cache")] == [room._measured(entry.path)]
    assert [kept.path for kept in collect(tmp_path / "cache", 0).removed if kept.kind == "layer"] == [entry.path]
    assert os.listdir(tmp_path / "cache/layers") == []
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_gc_says_what_it_may_not_remove(
    tmp_path: Path, tree: Path, number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What this user may not remove is not said to be in use: gc names the path and the next step, and ends with 73."""
    build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "out", tmp_path / "cache")
    (entry,) = room.entries(tmp_path / "cache")

    def refuse(_path: Path, _to: Path) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "rename", refuse)
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert main(["cache", "gc", "--keep", "0"], standalone_mode=False) == 73
    said = capfd.readouterr().err
    for words in (str(entry.path), os.strerror(number), "ROOTLESS_LAYER_CACHE", "removed 0"):
        assert words in said
    assert "in use" not in said
    assert entry.path.exists()


def test_what_cannot_be_renamed_is_removed_where_it_is(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlayfs does not rename a directory of its lower layers: gc and a look-up of what is damaged remove it all the same."""
    cache, spec = LayerCache.within(tmp_path / "cache"), LayerSpec(copy_to_root=(str(tree),))
    key = layer_key(spec)

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    for damaged in (False, True):
        cache.build(key, spec).lease.release()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", refuse)
            patched.setattr(os, "rename", refuse)
            if damaged:
                (cache.place / key / "layer.json").unlink()
                assert cache.find(key) is None
            else:
                assert [kept.path for kept in room.shrink(tmp_path / "cache", 0).removed] == [cache.place / key]
        assert os.listdir(cache.place) == []


def test_a_full_cache_is_said_to_be_full(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a layer does not fit into the cache, that is what is named, and not where half of it was, or -o."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("rootless_layer.system.replace.settle", refuse)
    with pytest.raises(OutputError, match="ROOTLESS_LAYER_CACHE") as caught:
        build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "out", tmp_path / "cache")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{tmp_path}/cache/layers: ")
    assert "-o" not in caught.value.hint
    assert os.listdir(tmp_path / "cache/layers") == []


@pytest.mark.parametrize("home", [None, "", "rel"])
def test_a_machine_without_a_place_for_the_cache(
    tmp_path: Path, tree: Path, home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without HOME and a user of the system's a plain build goes on; what needs the cache says what to set: 73."""
    for name in ("HOME", "XDG_CACHE_HOME", "ROOTLESS_LAYER_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE", "")  # is as good as none
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: {}[""])
    monkeypatch.chdir(tmp_path)
    build = ["build", "-q", "--copy-to-root", str(tree), "-o", "out"]
    assert not main(build, standalone_mode=False)
    (tmp_path / "make.toml").write_text('[layer.a]\ncopy-to-root = "tree"\n')
    for words in (
        [*build, "--cache"],
        [*build[:-1], "new", "--base", "out"],
        ["make", "make.toml"],
        *(["cache", verb] for verb in ("ls", "gc", "verify")),
    ):
        with pytest.raises(OutputError, match="ROOTLESS_LAYER_CACHE"):
            main(words, standalone_mode=False)
    assert sorted(os.listdir(tmp_path)) == ["make.toml", "out", "tree"]


def test_a_cache_that_may_not_be_read_is_named(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done with entries that this user may not open, the path is named, with what to do: 73."""
    cache = tmp_path / "cache"
    build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "out", cache)
    image = Image.empty(Platform.host()).append(open_layer(str(tmp_path / "out")))

    def refuse(path: Path, *_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Lease, "shared", refuse)
    temporary = object.__new__(Temporary)  # nothing is made
    for use in (
        lambda: verify(cache),
        lambda: build_cached(LayerSpec(copy_to_root=(str(tree),)), tmp_path / "again", cache),
        lambda: open_base(image, cache, temporary),
    ):
        with pytest.raises(OutputError, match="ROOTLESS_LAYER_CACHE") as caught:
            use()
        assert all(problem.startswith(f"{cache}/") for problem in caught.value.problems)
