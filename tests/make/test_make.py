"""Layers and images with their dependencies in one file: each made once, in parallel, and only where something changed."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import re
import shutil
import signal
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import assert_nothing_left, assert_said, assert_whole_or_absent, processes, queues, until
from helpers.place import remove
from helpers.stores import Store, files, own, store_of
from helpers.users import COMMAND, HANG, Result, User

from rootless_layer import open_layer
from rootless_layer.cli.board import Board
from rootless_layer.errors import InputError, ScriptError
from rootless_layer.image.read import read_images
from rootless_layer.layer import contents
from rootless_layer.make.events import Done, Failed, Output, Start, Working
from rootless_layer.make.file import load
from rootless_layer.make.graph import Graph, Node, cycles
from rootless_layer.oci.descriptor import sha256
from rootless_layer.progress import Progress

pytestmark = pytest.mark.slow

DIRECTORY = '[defaults.layer]\nview = "directory"\n'


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test: no process, mount, queue or temporary tree, beside outputs or in the cache."""
    user: User | None = request.getfixturevalue("user") if "user" in request.fixturenames else None
    before = queues()
    yield
    if user is not None:
        assert_nothing_left(user, before, patiently=True)
        assert [path for path in user.home.rglob(".rootless-layer-*") if not path.is_relative_to(user.home / "gone")] == []


def write(user: User, text: str, name: str = "make.toml") -> Path:
    """Write a file for make."""
    path = user.home / name
    path.write_text(text)
    return path


def make(user: User, text: str, *words: str | Path, **more: Any) -> Result:
    """Run ``rootless-layer make`` on a file with this text."""
    return user.run([*COMMAND, "make", write(user, text), *words], **more)


def events(user: User, text: str, *words: str | Path, status: int = 0) -> list[dict[str, Any]]:
    """Run it, and give its events."""
    result = make(user, text, "--json", *words)
    assert result.status == status, result.err + result.out
    return [json.loads(line) for line in result.out.splitlines()]


def ends(said: list[dict[str, Any]]) -> dict[str, str]:
    """Say what came of each node: its status, or ``failed``, or ``skipped``."""
    return {each["name"]: each.get("status", each["event"]) for each in said if each["event"] in {"done", "failed", "skipped"}}


# --- what is made ---

CHAIN = """
[defaults.layer]
view = "directory"
source-date-epoch = 7
env = { WHO = "make", WHAT = "layer" }

[layer.files]
copy-to-root = "tree"
output = "files"

[layer.users]
base = "files"
script = ["setup", { text = "echo $WHO $WHAT > data/who" }, { command = ["touch", "data/touched"] }]
run = "chmod 700 data"
env = { WHAT = "users" }
output = "users"

[layer.more]
base = "users"
run = "rm etc/name; cp data/who etc/who"
blob = "derived"
output = "more"

[image.all]
layers = ["more"]
tag = ["all:1", "registry.example/all"]
cmd = ["sh", "-c", "true"]
env = { A = "1" }
expose = [80, "53/udp"]
label = { is = "made" }
config = { User = "me", Env = ["B=2"] }
created = 2026-01-31T12:00:00Z
output = "all"

[image.above]
base = "all"
layers = ["other"]
tag = "above"
config = "config.json"
user = "you"
output = "above.tar"

[layer.other]
run = "mkdir other"
compression = "zstd:1"
"""


def chain(user: User) -> None:
    """Write what that file names."""
    (user.home / "tree/etc").mkdir(parents=True)
    (user.home / "tree/etc/name").write_text("name\n")
    user.script("mkdir data; chown 33:44 data\n", "setup")
    (user.home / "config.json").write_text('{"WorkingDir": "/data"}')


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


def test_an_unchanged_file_is_looked_up(user: User) -> None:
    """When nothing changed nothing is started, and outputs are not touched; what changed is made with what needs it."""
    chain(user)
    make(user, CHAIN)
    before = {path: path.stat() for name in ("files", "more", "all", "above.tar") for path in [user.home / name]}
    said = events(user, CHAIN)
    assert set(ends(said).values()) == {"unchanged"}
    assert [each["event"] for each in said] == ["done"] * 6 + ["end"]
    assert {path: path.stat() for path in before} == before
    assert ends(events(user, CHAIN.replace("chmod 700", "chmod 750"))) == {
        "files": "unchanged", "users": "built", "more": "built", "other": "unchanged", "all": "written", "above": "written",
    }  # fmt: skip


ALONE = """\
import os, subprocess, sys
def refuse(*_words, **_more):
    os.write(2, b"a process was started\\n")
    os._exit(99)
os.fork = os.posix_spawn = subprocess.Popen.__init__ = refuse
from rootless_layer.cli.main import run
run()
"""


def test_a_look_up_starts_no_process(user: User) -> None:
    """An unchanged make starts no process at all; one that has something to do does."""
    chain(user)
    make(user, CHAIN)
    command = [COMMAND[0], "-c", ALONE, "make", user.home / "make.toml"]
    looked_up = user.run(command)
    assert (looked_up.status, looked_up.err) == (0, "rootless-layer: 6 unchanged\n")
    remove(user.home / "files")
    assert user.run(command).status == 99


def test_an_output_that_is_not_as_it_was_is_made_again(user: User) -> None:
    """Outputs that are missing, damaged or another's are put in their place again, from the cache."""
    chain(user)
    make(user, CHAIN)
    right = {name: files(user.home / name) for name in ("files", "more", "all")}
    archive = (user.home / "above.tar").read_bytes()
    remove(user.home / "files")
    (user.home / "more/layer.mtree").unlink()
    (user.home / "all/oci-layout").write_text("{}")
    (user.home / "above.tar").write_bytes(b"")
    assert ends(events(user, CHAIN)) == {
        "files": "placed", "users": "unchanged", "more": "placed", "other": "unchanged", "all": "written", "above": "written",
    }  # fmt: skip
    assert {name: files(user.home / name) for name in right} == right
    assert (user.home / "above.tar").read_bytes() == archive


def test_what_gc_removed_is_built_again(user: User) -> None:
    """After gc removed everything, outputs that are still there are kept, and layers are built again."""
    text = DIRECTORY + '[layer.a]\nrun = "mkdir a"\noutput = "a"\n[layer.b]\nbase = "a"\nrun = "rmdir a"\n'
    first = make(user, text).out
    assert user.run([*COMMAND, "cache", "gc", "--keep", "0"]).status == 0
    again = make(user, text)
    assert (again.status, again.out) == (0, first)
    assert "2 built" in again.err


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


SPLIT = (
    DIRECTORY
    + """
[defaults.image]
closure = "store/graph"
store-root = "store"
[layer.top]
run = "echo top > top"
[layer.some]
closure = "some"
store-root = "store"
[image.all]
max-layers = 3
layers = ["top"]
tag = "all:1"
output = "all.tar"
[image.zipped]
compression = "gzip"
uid = 7
layering = "groups.json"
output = "zipped"
[image.above]
base = "some"
layers = ["top"]
output = "above"
[image.nothing]
base = "all"
cmd = "sh"
output = "nothing"
"""
)


def split(user: User) -> Store:
    """Write what that file names."""
    made = own(user.home / "store", {"a": "text", "b": "more", "c": "most", "d": "much"}, {"c": ["a"]})
    (user.home / "some").write_text("".join(f"{made.paths[name]}\n" for name in "ab"))
    (user.home / "groups.json").write_text('[["a", "b"], ["c"]]')
    return made


def test_images_of_a_closure_are_what_the_command_makes(user: User) -> None:
    """An image's closure is split between its base and its layers, as by ``image --closure``; a base's store paths are left out."""
    made = split(user)
    said = events(user, SPLIT, "-j", "3")
    assert ends(said) == {"top": "built", "some": "built"} | dict.fromkeys(("all", "zipped", "above", "nothing"), "written")
    assert user.build("--view", "directory", "--", "sh", "-c", "echo top > top", output="top").status == 0
    some = user.build("--view", "directory", "--closure", "some", "--store-root", "store", output="some-layer")
    assert some.status == 0
    closure = ["image", *made.options]
    for words, output in (
        ([*closure, "--max-layers", "3", "--layer", "top", "-t", "all:1"], "all.tar"),
        ([*closure, "--compression", "gzip", "--uid", "7", "--layering", "groups.json"], "zipped"),
        ([*closure, "--base", "some-layer", "--layer", "top"], "above"),
        (["image", "--base", "all.tar", "--cmd", "sh"], "nothing"),
    ):
        result = user.run([*COMMAND, *words, "-o", f"by-hand-{output}"])
        assert result.status == 0, result.err
        one, other = user.home / output, user.home / f"by-hand-{output}"
        assert one.read_bytes() == other.read_bytes() if output == "all.tar" else files(one) == files(other)
    assert [len(layers(user, name)) for name in ("all.tar", "zipped", "above", "nothing")] == [3, 3, 4, 3]


def layers(user: User, output: str) -> list[dict[str, Any]]:
    """Say what an image's layers are."""
    [described] = json.loads(user.run([*COMMAND, "inspect", "--json", output]).out)
    return list(described["layers"])


def test_an_images_closure_is_looked_up(user: User) -> None:
    """What is there is unchanged; an output that is gone is written of layers that are found, without a look at the store."""
    made = split(user)
    assert events(user, SPLIT)[-1]["written"] == 4
    assert set(ends(events(user, SPLIT)).values()) == {"unchanged"}
    (user.home / "all.tar").unlink()
    for path in made.paths.values():
        shutil.rmtree(f"{made.root}{path}")
        os.mkdir(f"{made.root}{path}")
    said = events(user, SPLIT)
    assert ends(said).pop("all") == "written"
    assert [event["action"] for event in said if event["event"] == "start"] == ["write"]


def test_the_same_closure_twice_is_split_once(user: User) -> None:
    """Of two images with the same closure, one builds its layers, and the other finds them."""
    split(user)
    image_ = 'closure = "store/graph"\nstore-root = "store"\n'
    said = events(user, f"[image.a]\n{image_}cmd = 'a'\n[image.b]\n{image_}cmd = 'b'\n", "-j", "2")
    assert sorted(ends(said).values()) == ["built", "unchanged"]


BROUGHT = (
    DIRECTORY
    + """
[defaults.image]
store-root = "store"
[image.one]
closure = "some"
[image.two]
closure = "others"
[layer.la]
base = "one"
run = "echo a > a"
[layer.lb]
base = "two"
run = "echo b > b"
[layer.both]
base = ["one", "two"]
run = "ls nix/store > seen"
[image.layers]
layers = ["la", "lb"]
output = "layers"
[image.upon-both]
layers = ["both"]
output = "upon-both"
[image.foreign]
layers = ["top", "la"]
output = "foreign"
[image.again]
closure = "some"
layers = ["la"]
output = "again"
"""
)


def test_every_layer_that_is_brought_along_is_there_once(user: User) -> None:
    """Layers of several closures, and of directories, come along with what is built upon them, all of them and each once."""
    made = split(user)
    (user.home / "others").write_text("".join(f"{made.paths[name]}\n" for name in "cd"))
    assert user.build("--view", "directory", "--", "touch", "top", output="top").status == 0
    result = make(user, BROUGHT)
    assert result.status == 0, result.err
    found = {}
    for name in ("layers", "upon-both", "foreign", "again"):
        assert user.run([*COMMAND, "validate", name]).status == 0
        digests = [layer["digest"] for layer in layers(user, name)]
        assert len(set(digests)) == len(digests)
        paths = contents.store_paths(read_images(str(user.home / name), str)[0].image.layers)
        found[name] = len(digests), "".join(sorted(path.name for path in paths))
    assert found == {"layers": (6, "abcd"), "upon-both": (5, "abcd"), "foreign": (4, "ab"), "again": (3, "ab")}
    top = read_images(str(user.home / "upon-both"), str)[0].image.layers[-1]
    [seen] = [member for member in contents.read_contents(top).members if member.entry.path == b"seen"]
    text = "".join(sorted(f"{path.rpartition('/')[2]}\n" for path in made.paths.values()))
    assert seen.digest == sha256(text.encode())


def many(user: User, count: int) -> Store:
    """Make a store of so many small paths."""
    folder = user.home / "many"
    letters = string.digits + string.ascii_lowercase.translate(dict.fromkeys(map(ord, "etou")))
    paths = [f"/nix/store/{one}{other}{'0' * 30}-{one}{other}" for one, other in itertools.product(letters, letters)][:count]
    for path in paths:
        Path(f"{folder}{path}").mkdir(parents=True)
        Path(f"{folder}{path}/file").write_text(path)
    (folder / "graph").write_text("".join(f"{path}\n" for path in paths))
    return store_of(folder, folder / "graph")


def test_more_layers_than_may_be_open_files(user: User) -> None:
    """Each layer that is in use takes a descriptor: the usual limit is raised, and two images share what they have in common."""
    made = many(user, 90)
    image_ = f'closure = "{made.graph}"\nstore-root = "{made.root}"\nmax-layers = 95\n'
    path = write(user, "".join(f"[image.i{number}]\n{image_}cmd = '{number}'\n" for number in range(5)))
    for _ in range(2):
        result = user.run(["prlimit", "--nofile=64:128", *COMMAND, "make", path, "-j", "1"])
        assert result.status == 0, result.err
    assert "5 unchanged" in result.err
    result = user.run(["prlimit", "--nofile=64:128", *COMMAND, "image", *made.options, "--cache", "-o", user.home / "image"])
    assert result.status == 0, result.err


def test_gc_takes_nothing_from_an_image_whose_closure_is_built(user: User) -> None:
    """While gc removes all that is not in use, over and over, what a child has built reaches its parent."""
    made = many(user, 30)
    image_ = f'closure = "{made.graph}"\nstore-root = "{made.root}"\n'
    text = f"{DIRECTORY}[image.a]\n{image_}output = 'a'\n[image.b]\n{image_}cmd = 'b'\n[layer.c]\nrun = 'touch c'\noutput = 'c'\n"
    path = write(user, text)
    collect = f"while test -e go; do {' '.join(COMMAND)} cache gc --keep 0; touch gone; done"
    for _ in range(3):
        (user.home / "go").touch()
        with user.start(["sh", "-c", collect], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            try:
                assert until((user.home / "gone").exists)
                result = user.run([*COMMAND, "make", path, "-j", "2"])
            finally:
                (user.home / "go").unlink()  # it is not killed: what it was removing would be left to the next
        (user.home / "gone").unlink()
        assert result.status == 0, result.err
        assert user.run([*COMMAND, "validate", "a", "c"]).status == 0
        remove(user.home / "a")


def test_a_closure_that_cannot_be_split(user: User) -> None:
    """What is wrong with a closure's options is said before anything is made; what its layers cannot be fails that image alone."""
    split(user)
    wrong = '[image.a]\nclosure = "absent"\n[image.b]\nclosure = "some"\nstore-root = "store"\nlayering = "popular"\ncompression = "gzip:9"'
    assert_said(
        make(user, f"{wrong}\n[layer.top]\nrun = 'true'\n"), 65, "image.a: closure: absent: cannot be read",
        "image.b: layering: popular: cannot be read as JSON", "image.b: .*gzip",
    )  # fmt: skip
    wrong = "[image.a]\nclosure = 'some'\nstore-root = 'store'\nuid = -5\n[image.b]\nclosure = 'gone'\n"
    assert_said(make(user, wrong + "[layer.top]\nrun = 'true'\n"), 65, "image.a: .*-5", "image.b: closure: gone: cannot be read")
    assert_said(
        make(user, "[image.a]\nmax-layers = 3\nuid = 1"), 65, "image.a: max-layers: goes with closure", "image.a: uid: goes"
    )
    assert not (user.home / ".cache").exists()
    text = (
        DIRECTORY + '[layer.top]\nrun = "true"\n[image.a]\nclosure = "some"\nstore-root = "store"\nlayers = "top"\nmax-layers = 1'
    )
    result = make(user, text)
    assert_said(result, 65, "a: of 1 layers, 0 are the base's and 1 are put on top", "max-layers", "1 built, 1 failed")
    shutil.rmtree(user.home / "store/nix/store" / ("b" * 32 + "-b"))
    assert_said(make(user, text.replace("max-layers = 1", "")), 66, "a: .*-b: there is nothing at", "1 unchanged, 1 failed")


# --- in parallel ---

MEET = (
    DIRECTORY
    + """
[layer.one]
timeout = 60
run = "echo one > HOME/one; read word < HOME/two; echo $word > met"
[layer.two]
timeout = 60
run = "read word < HOME/one; echo two > HOME/two; echo $word > met"
"""
)


def test_independent_layers_run_at_the_same_time(user: User) -> None:
    """With -j 2 two scripts that wait for each other both end; with -j 1 one layer starts after another is done."""
    for name in ("one", "two"):
        os.mkfifo(user.home / name)
        os.chmod(user.home / name, 0o666)
    said = events(user, MEET.replace("HOME", str(user.home)), "-j", "2")
    assert ends(said) == {"one": "built", "two": "built"}
    order = [each["event"] for each in events(user, DIRECTORY + '[layer.a]\nrun="true"\n[layer.b]\nrun="mkdir b"\n', "-j", "1")]
    assert [event for event in order if event in {"start", "done"}] == ["start", "done", "start", "done"]


FAILING = (
    DIRECTORY
    + """
[layer.good]
run = "mkdir good"
[layer.bad]
run = "echo WHY >&2; exit 7"
[layer.worse]
base = "good"
run = "exit 9"
[layer.above]
base = "bad"
run = "true"
[image.all]
layers = ["good", "above"]
output = "all"
[image.some]
layers = ["good"]
output = "some"
"""
)


def test_trees_are_read_beside_what_works(user: User) -> None:
    """While a layer is built, a child reads the tree of another and puts up with what it finds: nobody waits, and nobody fails with it."""
    os.mkfifo(user.home / "go")
    os.chmod(user.home / "go", 0o666)
    (user.home / "tree").mkdir()
    for name in ("one", "two"):
        (user.home / "tree" / name).write_text(name)
    (user.home / "loop").mkdir()
    (user.home / "loop/z").symlink_to(".")
    text = (
        DIRECTORY
        + f"""
[layer.waits]
timeout = 60
run = "read word < {user.home}/go; echo $word > word"
[layer.goes]
copy-to-root = "tree"
run = "test -f one; echo on > {user.home}/go"
[layer.fails]
copy-to-root = "loop"
follow-dirlinks = true
"""
    )
    said = events(user, text, "-j", "2", status=66)
    assert ends(said) == {"waits": "built", "goes": "built", "fails": "failed"}
    assert [each["action"] for each in said if each["event"] == "start"] == ["build", "build"]
    assert ends(events(user, text, status=66)) == {"waits": "unchanged", "goes": "unchanged", "fails": "failed"}


def test_a_failure_stops_what_needs_it_only(user: User) -> None:
    """What does not need a failed layer is made; the status is that of the first that failed, and the summary says all."""
    said = events(user, FAILING, "-j", "1", status=7)
    assert ends(said) == {
        "good": "built", "bad": "failed", "worse": "failed", "above": "skipped", "all": "skipped", "some": "written",
    }  # fmt: skip
    assert {each["name"]: each["because"] for each in said if each["event"] == "skipped"} == {"above": "bad", "all": "bad"}
    assert [each["text"] for each in said if each["event"] == "output"] == ["WHY"]
    assert said[-1] == {
        "event": "end", "exitStatus": 7, "built": 1, "written": 1, "failed": 2, "skipped": 2, "placed": 0, "unchanged": 0,
    }  # fmt: skip
    assert not (user.home / "all").exists()
    result = make(user, FAILING, "-j", "2")
    assert_said(
        result, result.status, r"bad\| WHY", "bad: failed with status 7", "bad: run: the script failed with exit status 7",
        "above: not made, because of bad", "2 unchanged, 2 failed, 2 not made",
    )  # fmt: skip
    assert result.status in {7, 9}
    assert [line.split()[0] for line in result.out.splitlines()] == ["good", "some"]


def test_what_cannot_be_looked_up_fails_alone(user: User) -> None:
    """A layer whose tree turns out to be one that cannot be read whole fails, and nothing else does."""
    (user.home / "sparse").mkdir()
    with open(user.home / "sparse/holes", "wb") as file:
        file.truncate(2 << 30)
    text = '[layer.a]\nrun = "true"\n[layer.b]\ncopy-to-root = "sparse"\n[layer.c]\nrun = "mkdir c"\n'
    result = make(user, DIRECTORY + text)
    assert_said(result, 65, "b: failed with status 65", "b: /holes: ", "2 built, 1 failed")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_make_leaves_nothing(user: User, how: signal.Signals) -> None:
    """However make is ended: no process, no temporary tree, no output that is not whole; what was built is kept."""
    text = (
        DIRECTORY
        + """
    [layer.done]
    run = "mkdir done"
    output = "layer"
    [layer.long]
    base = "done"
    run = "echo READY; sleep 1000"
    [layer.longer]
    base = "done"
    run = "echo READY; sleep 1001"
    """
    )
    process = user.start([*COMMAND, "make", write(user, text), "-j", "2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    ready = 0
    while ready < 2:
        line = process.stderr.readline()
        assert line
        ready += b"READY" in line
    process.send_signal(how)
    status = process.wait(HANG)
    process.stderr.close()
    if how != signal.SIGKILL:
        assert status == 128 + how
        assert processes(user) == []
        assert user.leftovers() == []
    assert until(lambda: processes(user) == [])
    assert assert_whole_or_absent(user.home / "layer")
    assert ends(events(user, text, "done")) == {"done": "unchanged"}


# --- what is shown ---

ONE, TWO = Node("one"), Node("two")


def test_a_terminal_has_a_line_for_each_that_is_worked_on() -> None:
    """On a terminal the lines of what is worked on change below what is said for good."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as file:
        board = Board(file, live=True, pause=0)
        for event in (
            Start(ONE, "build"),
            Start(TWO, "build"),
            Output(TWO, "words"),
            Working(ONE, Progress("write", 3 << 20, 9 << 20, entries=5)),
            Done(TWO, "built", "sha256:0"),
        ):
            board(event)
        board.end()
        said = ""
        while "1 built\r\n" not in said:
            said += os.read(master, 1 << 16).decode()
    os.close(master)
    one = "one  write 3 of 9 MiB"
    lines = [
        [],
        ["one  build"],
        ["one  build", "two  build"],
        ["rootless-layer: two| words", "one  build", "two  build"],
        [one, "two  build"],
        ["rootless-layer: two: built: sha256:0", one],
        ["rootless-layer: 1 built"],
    ]
    up = ["\r", "\r\x1b[1A", "\r\x1b[2A", "\r\x1b[2A", "\r\x1b[2A", "\r\x1b[1A", ""]
    shown = ["".join(f"{line}\r\n" for line in each) for each in lines]
    assert said.split("\x1b[J") == [one + other for one, other in zip(shown, up, strict=True)]


def test_elsewhere_there_are_plain_lines() -> None:
    """Where there is no terminal each thing is said once, in a line of its own; quietly only failures and scripts' words."""
    for quiet, expected in ((False, ["one: build", "one| words", "one: failed with status 3", "one: why", "1 failed"]),
                            (True, ["one| words", "one: failed with status 3", "one: why", "1 failed"])):  # fmt: skip
        file = io.StringIO()
        board = Board(file, quiet=quiet)
        for event in (
            Start(ONE, "build"),
            Working(ONE, Progress("run")),
            Output(ONE, "words"),
            Failed(ONE, ScriptError("why", status=3)),
        ):
            board(event)
        board.end()
        assert file.getvalue().splitlines() == [f"rootless-layer: {line}" for line in expected]


# --- bad files ---

BAD = {
    "not TOML": ("[layer", "is not TOML"),
    "nothing": ("", "has no layer and no image"),
    "a table": ("[layers.a]\n[layer.a]", "there is no table 'layers'; did you mean 'layer'?"),
    "no table": ("layer = 3", "layer: is a table of tables"),
    "no inner table": ("[layer]\na = 3", "layer.a: is a table"),
    "a key": ("[layer.a]\nscripts = 'x'", "layer.a: there is no key 'scripts'; did you mean 'script'?"),
    "an image's key": ("[image.a]\nclosures = 'x'", "image.a: there is no key 'closures'; did you mean 'closure'?"),
    "a name": ("[layer.'a/b']", "layer.'a/b': is no name"),
    "one name for two": ("[layer.a]\n[image.a]", "image.a: a layer has this name as well"),
    "a number": ("[layer.a]\nuid = '0'", "layer.a: uid: is a whole number, and not '0'"),
    "a flag": ("[layer.a]\nkeep-dirlinks = 1", "layer.a: keep-dirlinks: is true or false, and not 1"),
    "a string": ("[layer.a]\nrun = ['x']", 'layer.a: run: is a string, and not ["x"]'),
    "a list": ("[layer.a]\nclosure = [1]", "layer.a: closure: is a string or a list of strings"),
    "a choice": ("[layer.a]\nview = 'chroot'", "layer.a: view: is one of root, directory, and not 'chroot'"),
    "a script": ("[layer.a]\nscript = { file = 'x' }", "layer.a: script: is the path of a script"),
    "a variable": ("[layer.a]\nenv = ['A']", "layer.a: env: is a table of strings, or a list of NAME=VALUE"),
    "a number as variable": ("[layer.a]\nenv = { A = 1 }", "layer.a: env: is a table of strings: write numbers in quotes"),
    "a port": ("[image.a]\nexpose = true", "image.a: expose: is a port"),
    "a config": ("[image.a]\nconfig = 1", "image.a: config: is a table, or the path of a JSON file"),
    "a NUL": ('[layer.a]\nrun = "\\u0000"', "layer.a: run: holds a NUL"),
    "a default": ("[defaults.layer]\nviews = 'root'\n[layer.a]", "defaults.layer: there is no key 'views'; did you mean 'view'?"),
    "a default output": ("[defaults.layer]\noutput = 'o'\n[layer.a]", "defaults.layer: output: is each one's own"),
    "a default kind": ("[defaults.layers]\n[layer.a]", "defaults: there is no kind 'layers'; did you mean 'layer'?"),
    "a base": ("[layer.bash]\n[layer.b]\nbase = 'bsh'", "layer.b: base: there is no layer, image or file 'bsh'; did you mean 'bash'?"),
    "a layer": ("[layer.a]\n[image.b]\nlayers = ['c']", "image.b: layers: there is no layer or directory 'c'; there are: a"),
    "an image as layer": ("[image.a]\n[image.b]\nlayers = ['a']", "image.b: layers: a is an image: name it as base"),
    "a cycle": ("[layer.a]\nbase = 'b'\n[layer.b]\nbase = 'c'\n[layer.c]\nbase = 'a'", "a cycle: a needs b needs c needs a"),
    "a loop": ("[image.a]\nbase = 'a'", "a cycle: a needs a"),
    "a tag": ("[image.a]\ntag = 'A:1'", "image.a: tag: 'A:1' is not the name of an image"),
    "a tag twice": ("[image.a]\ntag = ['a', 'a:latest']", "image.a: tag: a:latest is there twice"),
    "another's tag": ("[image.a]\ntag = 'x:1'\n[image.b]\ntag = 'x:1'", "image.b: tag: image.a has x:1 as well"),
    "another's output": ("[layer.a]\noutput = 'o'\n[image.b]\noutput = './x/../o'", "image.b: output: ./x/../o is the output of layer.a"),
    "an output in another": ("[layer.a]\noutput = 'o'\n[layer.b]\noutput = 'o/b'", "layer.b: output: o/b lies within, or holds, the output of layer.a"),
    "stdout": ("[image.a]\noutput = '-'", "image.a: output: '-' is no place of a file"),
}  # fmt: skip


EVERYTHING = """
[layer.a]
copy-to-root = ["gone", "make.toml", "within/b"]
rootfs-listing = "listing"
output = "no/where"
script = ["lost"]
uid = -1
gid = -2
compression = "gzip:²"
store-path = "/nix/store/a"
[layer.b]
base = ["make.toml", "nothing"]
tools = ["t1", "t2"]
rootfs = "root"
output = "full"
timeout = 0
source-date-epoch = -4
[layer.c]
base = "d"
output = "within"
[layer.d]
base = "c"
[image.e]
base = "full"
layers = ["full", "a"]
output = "full/mine"
closure = ["c1", "c2"]
[image.unasked]
closure = "c3"
"""
EVERY_FAULT = """
layer.b: base | a cycle: c needs d needs c | image.e: output | image.e: base | image.e: layers | there is no target 'absent'; there are: a, b, c, d, e, unasked
layer.a: copy-to-root | layer.a: copy-to-root | layer.a: rootfs-listing | layer.a: output | layer.a: script | layer.a: uid
layer.a: gid | layer.a: compression | layer.a: store-path | layer.b: base | layer.b: tools | layer.b: tools | layer.b: rootfs
layer.b: output | layer.b: timeout | layer.b: source-date-epoch | image.e: layers | image.e: closure | image.e: closure | image.e: base | image.e: output
image.e: base | image.e: layers
"""


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, what: str) -> None:
    """Each fault has a message that names the file, the place in it and the value at fault."""
    text, problem = BAD[what]
    path = tmp_path / "make.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert any(said.startswith(f"{path}: ") and problem in said for said in caught.value.problems), caught.value.problems


def test_an_output_named_as_a_base_is_named_by_its_node(tmp_path: Path) -> None:
    """A base that is the output of a node would be read before it is made: the node is to be named."""
    (tmp_path / "o").mkdir()
    (tmp_path / "make.toml").write_text("[layer.a]\noutput = 'o'\n[layer.b]\nbase = './o'")
    with pytest.raises(InputError, match=r"layer\.b: base: \./o is the output of layer\.a: name that instead"):
        load(str(tmp_path / "make.toml"))


def test_all_problems_come_at_once(user: User) -> None:
    """Everything that is wrong with a file is said in one go, what it names included, and nothing is made."""
    wrong = "\n".join(text for name, (text, _) in BAD.items() if name == "a cycle") + "\n[layer.x]\nuid = '0'\nvew = 1\n"
    result = make(user, wrong)
    assert_said(result, 65, "a cycle", "uid: is a whole number", "there is no key 'vew'; did you mean 'view'?")
    text = '[layer.a]\nclosure = "no"\nscript = ["gone", "lost"]\ncompression = "lz4"\n[image.b]\nconfig = { Foo = 1 }\ncreated = "then"'
    result = make(user, text)
    assert_said(
        result, 65, "layer.a: closure: no: cannot be read", "layer.a: script: gone: the", "layer.a: script: lost: the",
        "layer.a: compression: lz4", "image.b: config: there is no property 'Foo'", "image.b: created: 'then' is not a time",
    )  # fmt: skip
    assert_said(make(user, "[layer.bash]", "bsh", "x"), 65, "no target 'bsh'; did you mean 'bash'", "no target 'x'")
    (user.home / "full").mkdir()
    (user.home / "full/mine").write_text("mine\n")
    result = make(user, EVERYTHING, "a", "b", "c", "e", "absent")
    said = [line.partition("make.toml: ")[2] for line in result.err.splitlines() if "make.toml: " in line]
    expected = [fault.strip() for fault in EVERY_FAULT.strip().replace("\n", "|").split("|")]
    assert sorted(": ".join(line.split(": ")[:2]) for line in said) == sorted(expected)
    assert result.status == 65
    assert not (user.home / ".cache").exists()


def test_every_knot_has_its_cycle() -> None:
    """Cycles that have nothing to do with one another are all found; a graph without any has none."""
    assert cycles({"a": ["b"], "b": ["a"], "c": ["d", "a"], "d": ["c"], "e": ["a"]}) == [["a", "b", "a"], ["c", "d", "c"]]
    assert cycles({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}) == []


def test_nodes_come_after_what_they_need() -> None:
    """A long chain is put in order without recursion."""
    nodes = {str(number): Node(str(number), needs=(str(number + 1),) if number < 5000 else ()) for number in range(5001)}
    assert [node.name for node in Graph(nodes).select(["0"])] == [str(number) for number in range(5000, -1, -1)]
