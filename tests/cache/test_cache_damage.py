"""Entries and snapshots that are damaged: noticed, named, and made again."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.aftermath import assert_said
from helpers.caches import SCRIPT, cached, entries, tidy
from helpers.damage import empty, flip, grow
from helpers.users import User

from rootless_layer import (  # fmt: skip
    LayerSpec,
)
from rootless_layer.cache.key import layer_key
from rootless_layer.cache.layers import LayerCache

pytestmark = pytest.mark.slow

DAMAGES = (grow, flip, empty, Path.unlink)


def test_any_damage_to_an_entry_is_noticed(tmp_path: Path, accounts: Path) -> None:
    """Whatever happens to whichever file of an entry, it is not found any more, and gone."""
    spec, cache = LayerSpec(copy_to_root=(str(accounts),)), LayerCache(tmp_path / "layers")
    key = layer_key(spec)
    cache.build(key, spec).lease.release()
    shutil.copytree(cache.place / key, tmp_path / "kept")
    names = [path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(names) == 5
    for name, damage in itertools.product(names, DAMAGES):
        shutil.rmtree(cache.place / key, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", cache.place / key)
        found = cache.find(key)
        assert found is not None
        found.lease.release()
        damage(cache.place / key / name)
        assert cache.find(key) is None
        assert list(cache.place.iterdir()) == []


def test_a_damaged_entry_is_built_again(user: User, accounts: Path) -> None:
    """When a file of an entry is damaged, also through an output's hard link, the next build is right, and found again."""
    words = ["--copy-to-root", accounts, "--script", user.script(SCRIPT)]
    right = cached(user, *words, output="first").layer
    names = sorted(path.relative_to(user.home / "first") for path in (user.home / "first").rglob("*") if path.is_file())
    for name, damage in zip(names, (flip, grow, empty), strict=True):
        folder = entries(user)[0] if name.name == "layer.json" else user.home / "layer"
        cached(user, *words)
        damage(folder / name)
        again = cached(user, *words)
        assert again.layer == right
        assert "RAN" in again.err
    assert tidy(user, "verify").status == 0
    assert "RAN" not in cached(user, *words).err


def test_verify_finds_what_sizes_and_times_do_not_tell(user: User, accounts: Path) -> None:
    """A blob that changed and looks as before is found by verify, which drops it and ends with 65."""
    cached(user, "--copy-to-root", accounts)
    (entry,) = entries(user)
    blob = next((entry / "blobs/sha256").iterdir())
    before = blob.stat()
    flip(blob)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = tidy(user, "verify", "--json")
    assert_said(result, 65, "dropped", entry.name)
    assert [dropped["path"] for dropped in json.loads(result.out)["dropped"]] == [str(entry)]
    assert entries(user) == []
    assert tidy(user, "verify").status == 0


SNAPSHOT_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file that is gone": (lambda tree: (tree / "etc/passwd").unlink(), "/etc/passwd is missing"),
    "a file that grew": (lambda tree: grow(tree / "etc/group"), "/etc/group is not what it was"),
    "another time": (lambda tree: os.utime(tree / "etc/group", (5, 5)), "/etc/group is not what it was"),
    "another kind": (lambda tree: ((tree / "etc/group").unlink(), (tree / "etc/group").mkdir()), "/etc/group is not what it was"),
    "another target": (lambda tree: ((tree / "link").unlink(), os.symlink("other", tree / "link")), "/link is not what it was"),
    "one more": (lambda tree: (tree / "more").touch(), "/more is not of it"),
    "a whiteout that is gone": (lambda tree: (tree / "hidden").unlink(), "/hidden is missing"),
    "no index": (lambda tree: (tree.parent / "index.json").unlink(), "it cannot be read: "),
}


@pytest.mark.parametrize("damage", sorted(SNAPSHOT_DAMAGE))
def test_verify_looks_at_unpacked_bases(user: User, damage: str) -> None:
    """A snapshot of which a file went or changed is dropped, 65; the next build unpacks it again, and has the same layer."""
    script = "mkdir etc; echo a > etc/passwd; echo b > etc/group; ln -s etc link; echo > hidden; mkfifo fifo; mknod null c 1 3"
    assert user.build("--view", "directory", "--", "sh", "-c", script, output="one").status == 0
    two = user.build(
        "--view", "directory", "--base", user.home / "one", "--", "sh", "-c", "rm hidden; chown 5:6 etc", output="two"
    )
    assert two.status == 0, two.err
    above = ["--view", "directory", "--base", user.home / "one", "--base", user.home / "two", "--", "touch", "etc/new"]
    first = user.build(*above).layer["digest"]
    assert tidy(user, "verify").status == 0
    snapshots = {path.name for path in entries(user, "snapshots")}
    assert len(snapshots) == 2
    change, problem = SNAPSHOT_DAMAGE[damage]
    trees = [path / "tree" for path in entries(user, "snapshots")]
    [tree] = [tree for tree in trees if (tree / "hidden").is_char_device() == ("whiteout" in damage)]
    change(tree)
    for path in tree.rglob("*"):
        os.chown(path, tree.stat().st_uid, -1, follow_symlinks=False)  # the damage is the user's own
    result = tidy(user, "verify")
    assert_said(result, 65, problem, "dropped", "1 dropped")
    assert {path.name for path in entries(user, "snapshots")} == snapshots - {tree.parent.name}
    assert user.build(*above).layer["digest"] == first
    assert {path.name for path in entries(user, "snapshots")} == snapshots
