"""Images of a file with a closure: split into layers, and brought along by what is built upon them."""

from __future__ import annotations

import itertools
import os
import shutil
import string
import subprocess
from pathlib import Path

import pytest
from helpers.aftermath import assert_said, until
from helpers.make import DIRECTORY, SPLIT, ends, events, layers, make, split, write
from helpers.place import remove
from helpers.stores import Store, files, store_of
from helpers.users import COMMAND, User

from rootless_layer.image.read import read_images
from rootless_layer.layer import contents
from rootless_layer.oci.descriptor import sha256

pytestmark = pytest.mark.slow


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
