"""The parts of a key: what is kept of them is small, and tells in what two keys differ, down to the path."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers.caches import cached, entries, tidy
from helpers.users import User
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer import Copy, LayerSpec, Script
from rootless_layer.cache.key import key_of, layer_key
from rootless_layer.cache.parts import MOST_BYTES, Key, Listing, differences, short
from rootless_layer.oci.run_config import RunConfig
from rootless_layer.plan.base import LazyBase

pytestmark = pytest.mark.slow

PATHS = st.lists(st.sampled_from("abc"), min_size=0, max_size=6).map("/".join)
TREES = st.dictionaries(PATHS, st.sampled_from(["0", "1"]))


@given(TREES, st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_a_listing_is_the_same_however_often_it_was_folded(paths: dict[str, str], depths: list[int]) -> None:
    """To put paths together in steps gives what one step gives, which has no deeper path; nothing is lost but detail."""
    stepwise, last = Listing.of(paths), min(depths)
    for depth in sorted(depths, reverse=True):
        stepwise = stepwise.at(depth)
    assert dict(stepwise.paths) == dict(Listing.of(paths).at(last).paths)
    assert all(len(path.rstrip("/").split("/")) <= max(last, 1) for path in stepwise.paths)
    assert bool(stepwise.paths) == bool(paths)


@given(TREES, TREES, st.integers(0, 5), st.integers(0, 5))
def test_folded_listings_differ_as_the_trees_do(old: dict[str, str], new: dict[str, str], one: int, other: int) -> None:
    """Two trees differ in their listings, folded however much, where they differ, and nowhere else."""
    assert (Listing.of(old).at(one).first_difference(Listing.of(new).at(other)) == "") == (old == new)


@given(TREES, TREES)
def test_the_first_path_that_differs_is_named(old: dict[str, str], new: dict[str, str]) -> None:
    """Of whole listings the first path is named that is new, gone or another."""
    said = Listing.of(old).first_difference(Listing.of(new))
    differing = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
    if differing:
        path = differing[0]
        assert said == f"{path or '/'} is {'new' if path not in old else 'gone' if path not in new else 'another'}"


def test_a_large_tree_takes_little_room_and_still_names_the_place() -> None:
    """Of a tree with many paths the directories are kept, and a change names one; the sum of all trees is bounded."""
    paths = {
        f"usr/share/{folder}/{'long' * 9}/{name}": short(f"{folder}{name}".encode()) for folder in range(90) for name in range(90)
    }
    changed = paths | {f"usr/share/7/{'long' * 9}/7": "another"}
    old, new = (Key.of({"contents": [["tree", "1"]]}, {"1": tree, "2": tree}) for tree in (paths, changed))
    assert len(json.dumps(old.to_json())) < 3 * MOST_BYTES
    listings = [key.trees["1"] for key in (old, new)]
    assert listings[0].first_difference(listings[1]).startswith("something in usr/share/7/")
    assert listings[0].first_difference(listings[0]) == ""
    small = Key.of({}, {"1": dict(list(paths.items())[:9])}).trees["1"]
    assert small.first_difference(listings[0]) != ""


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    """A path that is no text goes through the file, as all others do."""
    name = os.fsdecode(b"caf\xe9")
    key = Key.of({"contents": [["tree", "1"]]}, {"1": {name: "1"}})
    folder = tmp_path / key.digest
    folder.mkdir()
    key.write(folder)
    assert Key.read(folder) == key
    for damaged in ("", "{}", "[]", '{"key": 1, "parts": {}, "trees": {"a": 1}}'):
        (folder / "key.json").write_text(damaged)
        assert Key.read(folder) is None
    assert Key.read(tmp_path) is None


def test_in_what_two_specs_differ(tmp_path: Path) -> None:
    """Each part that differs is named, with the first thing in it: a path, a script, a variable, an option."""
    for name, text in (("one", "1"), ("two", "2")):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc/name").write_text(text)
        (tmp_path / name / "etc" / name).write_text("")
        os.utime(tmp_path / name / "etc/name", (0, 0))
    trees = [str(tmp_path / name) for name in ("one", "two")]
    old = key_of(LayerSpec(copy_to_root=(trees[0],), scripts=(Script.text("a"),), environment={"A": "1", "B": "secret"}))
    new = key_of(
        LayerSpec(
            copy_to_root=(trees[1], trees[1]), scripts=(Script.text("b"), Script.command(["c"])), environment={"A": "2"}, uid=3
        )
    )
    assert [str(each) for each in differences(old, new)] == [
        "copy-to-root: the 1. of 2: etc/name is another",
        "script: the 1. of 2: its text is another",
        "env: A is another",
        "uid: 3 instead of 0",
    ]
    assert differences(old, Key.of_json(json.loads(json.dumps(old.to_json())))) == []
    assert "secret" not in json.dumps(old.to_json())


def test_in_what_copies_and_bases_differ(tmp_path: Path) -> None:
    """Of a copy the first path that differs is named, of a base its chain ID, or that its config says another thing."""
    (tmp_path / "tree/sub").mkdir(parents=True)
    copies = (Copy((str(tmp_path / "tree"),), "/srv/"),)
    keys = []
    for text in "12":
        (tmp_path / "tree/sub/file").write_text(text)
        keys.append(key_of(LayerSpec(copies=copies)))
    assert [str(each) for each in differences(*keys)] == ["copy: the 1. of 1, to /srv/: tree: sub/file is another"]
    bases = [
        LazyBase(f"sha256:{letter * 64}", pytest.fail, RunConfig(folder=folder))
        for letter, folder in (("a", ""), ("b", ""), ("b", "/x"))
    ]
    one, two, three = (key_of(LayerSpec(base=base)) for base in bases)
    assert [each.part for each in differences(one, two)] == [each.part for each in differences(two, three)] == ["base"]
    assert "sha256:bbb" in str(differences(one, two)[0])
    assert "config" in str(differences(two, three)[0])
    assert "sha256:aaa" in str(differences(key_of(LayerSpec()), one)[0])


def test_the_digest_is_the_key() -> None:
    """With its parts or without, a layer has one key; what is shown of the parts is no part of it."""
    spec = LayerSpec(scripts=(Script.text("a"),), environment={"A": "1"})
    assert key_of(spec).digest == layer_key(spec) != layer_key(LayerSpec(scripts=(Script.text("a"),), environment={"A": "2"}))


def test_two_entries_are_explained(user: User) -> None:
    """``cache explain`` names the first path that differs, for layers that are named by key, path or digest."""
    (user.home / "tree/etc").mkdir(parents=True)
    digests = []
    for number in range(2):
        (user.home / "tree/etc/name").write_text(f"{number}")
        digests.append(cached(user, "--copy-to-root", "tree").layer["digest"])
    keys = {json.loads((entry / "layer.json").read_text())["digest"]: entry for entry in entries(user)}
    names = [
        (digests[0], digests[1][:16]),
        (keys[digests[0]].name, keys[digests[1]].name[:8]),
        (str(keys[digests[0]]), digests[1]),
    ]
    for one, other in names:
        said = tidy(user, "explain", one, other)
        assert (said.status, said.out) == (0, "copy-to-root: the 1. of 1: etc/name is another\n")
    same = tidy(user, "explain", digests[0], digests[0], "--json")
    assert (same.status, json.loads(same.out)) == (0, [])
    assert not (user.home / "layer/key.json").exists()
    assert tidy(user, "verify").status == 0


def test_what_cannot_be_explained_is_said(user: User) -> None:
    """A name that means no layer or several, and an entry of an earlier version, are faults that name it."""
    for epoch in "12":  # a derived layer and a stored one of the same bytes have two keys
        cached(user, "--source-date-epoch", "7", "--blob", "derived" if epoch == "1" else "stored", "--", "mkdir", "a")
    digest = json.loads((entries(user)[0] / "layer.json").read_text())["digest"]
    several = tidy(user, "explain", digest, digest)
    assert several.status == 65
    assert all(entry.name in several.err for entry in entries(user))
    nothing = tidy(user, "explain", "sha256:" + 64 * "0", "12")
    assert (nothing.status, "sha256:000" in nothing.err) == (65, True)
    (entries(user)[0] / "key.json").unlink()
    early = tidy(user, "explain", *(entry.name for entry in entries(user)))
    assert (early.status, str(entries(user)[0]) in early.err) == (65, True)
