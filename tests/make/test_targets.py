"""Layers and images of one file: each made once, byte for byte as the commands make it."""

from __future__ import annotations

import json
import os
import re

import pytest
from helpers.make import CHAIN, DIRECTORY, chain, ends, events, make, write
from helpers.stores import files
from helpers.users import COMMAND, User

from rootless_layer import open_layer

pytestmark = pytest.mark.slow


def test_a_chain_is_what_the_commands_make_of_it(user: User) -> None:
    """Layers of a file, and images, are byte for byte those of build and image, and so are their descriptions."""
    chain(user)
    result = make(user, CHAIN, "-j", "2")
    assert result.status == 0, result.err
    options = ["--view", "directory", "--source-date-epoch", "7", "--env", "WHO=make"]
    by_hand: list[tuple[str, list[str]]] = [
        ("files", ["--copy-to-root", "tree", "--env", "WHAT=layer"]),
        ("users", ["--base", "files-2", "--script", "setup", "--script", "text", "--script", "touch", "--script", "run",
                   "--env", "WHAT=users"]),
        ("more", ["--base", "files-2", "--base", "users-2", "--script", "run", "--env", "WHAT=layer", "--blob", "derived"]),
    ]  # fmt: skip
    user.script("echo $WHO $WHAT > data/who", "text")
    user.script("touch data/touched", "touch")
    for name, words in by_hand:
        user.script("chmod 700 data" if name == "users" else "rm etc/name; cp data/who etc/who", "run")
        assert user.build(*options, *words, output=f"{name}-2").status == 0
        one, other = files(user.home / name), files(user.home / f"{name}-2")
        described = [json.loads(each.pop("layer.json")[1]) for each in (one, other)]
        for each in described:
            for script in each["madeFrom"].get("scripts", ()):
                script.clear()  # named, and for a command said, in another way
        assert described[0] == described[1]
        assert one == other
    assert user.build("--view", "directory", "--source-date-epoch", "1", "--compression", "zstd:1", "--", "mkdir", "other",
                      output="other-2").status == 0  # fmt: skip
    common = [*COMMAND, "image", "--layer"]
    first = user.run([
        *common, "files-2", "--layer", "users-2", "--layer", "more-2", "-t", "all:1", "-t", "registry.example/all",
        "--config", '{"User": "me", "Env": ["B=2"]}', "--env", "A=1", "--cmd", '["sh", "-c", "true"]', "--expose", "80",
        "--expose", "53/udp", "--label", "is=made", "--created", "2026-01-31T12:00:00Z", "-o", "all-2",
    ])  # fmt: skip
    assert first.status == 0, first.err
    assert files(user.home / "all") == files(user.home / "all-2")


def test_an_image_upon_an_image(user: User) -> None:
    """An image of the file is another's base, with its config; an archive is what the command writes."""
    chain(user)
    assert make(user, CHAIN, "above").status == 0
    assert (
        user.build("--view", "directory", "--source-date-epoch", "7", "--compression", "zstd:1", "--", "mkdir", "other").status
        == 0
    )
    result = user.run([
        *COMMAND, "image", "--base", "all#all:1", "--layer", "layer", "-t", "above", "--config", "config.json", "--user", "you",
        "-o", "above-2.tar",
    ])  # fmt: skip
    assert result.status == 0, result.err
    assert (user.home / "above.tar").read_bytes() == (user.home / "above-2.tar").read_bytes()
    assert user.run([*COMMAND, "validate", "above.tar", "all", "more"]).status == 0


def test_root_and_anybody_make_the_same(users: list[User]) -> None:
    """What is printed, the digests of all targets, does not depend on who makes them, nor on how many at a time."""
    said = set()
    for number, user in enumerate(users):
        chain(user)
        said.add(make(user, CHAIN, "-q", "-j", str(number + 1)).out)
    assert len(said) == 1
    assert re.fullmatch("(?:[a-z]+ sha256:[0-9a-f]{64}\n){6}", said.pop())


DIAMOND = (
    DIRECTORY
    + """
[layer.bottom]
run = "echo bottom > bottom"
[layer.left]
base = "bottom"
run = "cp bottom left"
[layer.right]
base = ["bottom"]
run = "cp bottom right"
[layer.top]
base = ["left", "right"]
run = "cat bottom left right > top"
[image.whole]
layers = ["left", "top"]
output = "whole"
"""
)


def test_a_diamond(user: User) -> None:
    """What two layers are built upon is below a third once; each is built after what it needs, and once."""
    said = events(user, DIAMOND, "-j", "4")
    assert ends(said) == dict.fromkeys(("bottom", "left", "right", "top"), "built") | {"whole": "written"}
    started = [each["name"] for each in said if each["event"] == "start"]
    assert [started[0], sorted(started[1:3]), *started[3:]] == ["bottom", ["left", "right"], "top", "whole"]
    digests = {each["name"]: each["digest"] for each in said if each["event"] == "done"}
    index = json.loads((user.home / "whole/index.json").read_text())
    manifest = json.loads((user.home / "whole/blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    assert [layer["digest"] for layer in manifest["layers"]] == [digests[name] for name in ("bottom", "left", "right", "top")]


def test_a_layer_that_brings_back_what_another_had(user: User) -> None:
    """A layer with the same bytes as one below is not taken for it: what it is built upon counts."""
    steps = {"one": "echo 1 > file", "two": "echo 2 > file", "three": "echo 1 > file"}
    text = DIRECTORY + '[image.all]\nlayers = ["two", "three"]\noutput = "all"\n'
    for below, (name, run) in zip(("", "one", "two"), steps.items(), strict=True):
        text += f'[layer.{name}]\nrun = "{run}"\n' + (f'base = "{below}"\n' if below else "")
    said = events(user, text)
    digests = {each["name"]: each["digest"] for each in said if each["event"] == "done"}
    assert digests["one"] == digests["three"] != digests["two"]
    listed = json.loads(user.run([*COMMAND, "inspect", "--json", "all"]).out)
    assert [layer["digest"] for layer in listed[0]["layers"]] == [digests[name] for name in steps]


def test_the_same_layer_twice_is_built_once(user: User) -> None:
    """Two names for the same layer take one build."""
    said = events(user, DIRECTORY + '[layer.a]\nrun = "mkdir a"\n[layer.b]\nrun = "mkdir a"\n', "-j", "2")
    assert sorted(ends(said).values()) == ["built", "unchanged"]


def test_an_image_without_an_output_is_named(user: User) -> None:
    """Nothing is written of it, which is said, unless it is there for another."""
    images = '[image.below]\nlayers = "a"\n[image.a1]\nbase = "below"\n'
    said = events(user, DIRECTORY + '[layer.a]\nrun = "mkdir a"\n' + images)
    noted = [each["name"] for each in said if "no output" in each.get("note", "")]
    assert noted == ["a1"]


def test_targets_are_made_with_what_they_need(user: User) -> None:
    """Of a file only the targets are made, and what they need; only they are printed."""
    result = make(user, DIAMOND, "right", "left")
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()] == ["right", "left"]
    assert "3 built" in result.err
    assert not (user.home / "whole").exists()


def test_paths_are_relative_to_the_file(user: User) -> None:
    """The working directory does not matter."""
    chain(user)
    write(user, CHAIN)
    (user.home / "elsewhere").mkdir()
    if user.is_root or os.geteuid() != 0:
        assert user.run([*COMMAND, "make", "../make.toml", "files"], cwd=user.home / "elsewhere").status == 0
        assert open_layer(str(user.home / "files")).descriptor.size > 0
