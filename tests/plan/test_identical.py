"""The closure's files of the same bytes as hard links of one, whatever the inodes of the store are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import assert_said
from helpers.image_commands import digests, image_json
from helpers.stores import own
from helpers.users import COMMAND, User

from rootless_layer import LayerSpec, closure_of_paths
from rootless_layer.errors import SourceError
from rootless_layer.plan import identical
from rootless_layer.plan.plan import plan
from rootless_layer.tree.tree import Tree

ONE, OTHER, THIRD = (f"/nix/store/{letter * 32}-{letter}" for letter in "abc")
LONG = "long" * 10_000
FILES = {
    ONE: {"same": "text", "empty": "", "long": LONG + "1", "tool": "run"},
    OTHER: {"again": "text", "empty": "", "long": LONG + "1", "like": LONG + "2", "tool": "run"},
    THIRD: {"again": "text", "like": LONG + "3"},
}


def store(top: Path) -> LayerSpec:
    """Write the store paths; one file can be executed in one path only, and one is older in another."""
    for path, files in FILES.items():
        for name, text in files.items():
            file = Path(f"{top}{path}/{name}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            os.utime(file, (1, 1))
    Path(f"{top}{OTHER}/tool").chmod(0o755)
    os.utime(Path(f"{top}{THIRD}/again"), (0, 0))
    return LayerSpec(closure=closure_of_paths(list(FILES), top), link_identical=True)


def links(tree: Tree) -> dict[str, str]:
    """Give what is a hard link of what, by the ends of paths."""
    return {os.fsdecode(entry.path)[43:]: os.fsdecode(entry.link)[43:] for entry in tree if entry.link is not None}


def test_what_is_the_same_is_one_file(tmp_path: Path) -> None:
    """Bytes, mode and time have to be the same; the first path carries the file, and what is empty stays alone."""
    spec = store(tmp_path)
    tree = plan(spec).tree
    assert links(tree) == {"b/again": "a/same", "b/long": "a/long"}
    assert links(plan(attrs.evolve(spec, link_identical=False)).tree) == {}
    assert [entry.path for entry in tree.archived()][-2:] == [os.fsencode(f"{OTHER}/{name}")[1:] for name in ("again", "long")]


def test_the_inodes_of_the_store_do_not_count(tmp_path: Path) -> None:
    """A store of which `nix-store --optimise` has made one file of all that is the same gives the same tree."""
    plain = plan(store(tmp_path / "plain")).tree
    spec = store(tmp_path / "optimised")
    for name, first in links(plain).items():
        folder = tmp_path / "optimised/nix/store"
        target = folder / f"{name[0] * 32}-{name}"
        target.unlink()
        target.hardlink_to(folder / f"{first[0] * 32}-{first}")
    assert links(plan(spec).tree) == links(plain)


def test_links_of_contents_lead_to_the_carrier(tmp_path: Path) -> None:
    """A root file that stood for a store file stands for the one that is left."""
    spec = attrs.evolve(store(tmp_path), copy_to_root=(OTHER,))
    entries = plan(spec).tree.entries
    assert entries[b"again"].link == entries[os.fsencode(OTHER)[1:] + b"/again"].link == os.fsencode(ONE)[1:] + b"/same"
    assert entries[b"like"].link == os.fsencode(OTHER)[1:] + b"/like"


def test_a_file_has_no_more_names_than_a_file_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind so many names another file of the same bytes stands, which the next ones are links of."""
    monkeypatch.setattr(identical, "MOST_NAMES", 3)
    place = Path(f"{tmp_path}{ONE}")
    place.mkdir(parents=True)
    for name in "pqrstuv":
        (place / name).write_text(LONG)
        os.utime(place / name, (1, 1))
    tree = plan(LayerSpec(closure=closure_of_paths([ONE], tmp_path), link_identical=True)).tree
    assert links(tree) == {"a/q": "a/p", "a/r": "a/p", "a/t": "a/s", "a/u": "a/s"}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Which of them is compared is in the message."""
    spec = store(tmp_path)
    planned = plan(attrs.evolve(spec, link_identical=False))
    Path(f"{tmp_path}{OTHER}/again").write_text("test")
    with pytest.raises(SourceError, match=r"b/again: changed"):
        planned.linked(spec, planned.tree)
    Path(f"{tmp_path}{OTHER}/again").unlink()
    with pytest.raises(SourceError, match="b/again"):
        planned.linked(spec, planned.tree)


def test_layers_with_and_without_a_script(user: User) -> None:
    """A script that does nothing changes nothing; one that may change the store finds no links; images have them by layer."""
    made = own(user.home / "store", {"a": LONG, "b": LONG, "c": "other"}, {"b": ["a"]})
    words = [*made.options, "--link-identical"]
    plain = user.build(*words, output="plain")
    assert plain.status == 0, plain.err
    scripted = user.build(*words, "--view", "directory", "--", "sh", "-c", "true", output="scripted")
    assert plain.layer["digest"] == scripted.layer["digest"]
    assert (
        user.build(*words, "--closure-writable", "--view", "directory", "--", "sh", "-c", "true", output="writable").layer[
            "digest"
        ]
        == (user.build(*made.options, output="whole").layer["digest"])
    )
    sizes = [(user.home / name / "layer.mtree").read_bytes().count(b"#link=") for name in ("plain", "whole")]
    assert sizes == [1, 0]
    [one] = digests(image_json(user, *words, "--max-layers", "1"))
    assert one == plain.layer["digest"]
    assert_said(user.run([*COMMAND, "validate", user.home / "image"]), 0)
    shutil.rmtree(user.home / "image")
    apart = digests(image_json(user, *words, "--max-layers", "3"))
    assert len(apart) == 3
    shutil.rmtree(user.home / "image")
    assert digests(image_json(user, *made.options, "--max-layers", "3")) == apart
