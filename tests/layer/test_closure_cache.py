"""The layers of a closure come from the cache: the same bytes, and only what is new is built."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from helpers.aftermath import assert_nothing_left, assert_said
from helpers.image_commands import digests, image_json
from helpers.stores import Store, own
from helpers.users import COMMAND, User

from rootless_layer.check.validate import validate

pytestmark = pytest.mark.slow

MOST = 6


def cached_layers(user: User) -> dict[str, int]:
    """Give the layers in the user's cache, each with the time when its files were written."""
    folder = user.home / ".cache/rootless-layer/layers"
    return {name: (folder / name / "layer.json").stat().st_mtime_ns for name in os.listdir(folder)}


def without_data(made: Store) -> None:
    """Take away all that is in a store's paths."""
    for path in made.paths.values():
        shutil.rmtree(f"{made.root}{path}")
        os.mkdir(f"{made.root}{path}")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_layers_from_the_cache_are_those_without(user: User, compression: str) -> None:
    """With --cache, whether the layers are built or found, every form has the bytes it has without; what is found is not read."""
    made = own(user.home / "store", {"a": "text", "b": "more" * 100_000, "c": "most"}, {"c": ["a"]})
    words = [*made.options, "--max-layers", "3", "--compression", compression]

    def outputs(*more: str) -> list[bytes | dict[str, bytes]]:
        """Give an image in all forms."""
        found: list[bytes | dict[str, bytes]] = []
        for kind in ("layout", "archive", "docker-archive"):
            assert len(digests(image_json(user, *words, *more, "-f", kind))) == 3
            there = user.home / "image"
            if kind == "layout":
                found.append({str(path.relative_to(there)): path.read_bytes() for path in there.rglob("*") if path.is_file()})
                shutil.rmtree(there)
            else:
                found.append(there.read_bytes())
                there.unlink()
        return found

    plain, built = outputs(), outputs("--cache")
    before = cached_layers(user)
    without_data(made)
    assert plain == built == outputs("--cache")
    assert cached_layers(user) == before
    assert len(before) == 3
    assert_nothing_left(user)


def test_only_what_is_new_is_built(users: list[User]) -> None:
    """Images that share store paths share their layers in the cache: with one more path, one more layer is there."""
    user = users[-1]
    names = {"a": "text", "b": "more"}
    made = own(user.home / "store", names, {"b": ["a"]})
    first = digests(image_json(user, *made.options, "--max-layers", "5", "--cache"))
    before = cached_layers(user)
    shutil.rmtree(user.home / "store")
    more = own(user.home / "store", names | {"c": "most"}, {"b": ["a"], "c": ["a"]})
    second = digests(image_json(user, *more.options, "--max-layers", "5", "--cache"))
    assert (len(first), len(second), set(first) - set(second)) == (2, 3, set())
    after = cached_layers(user)
    assert len(after) == 3
    assert before.items() <= after.items()


def test_a_damaged_layer_in_the_cache_is_built_again(users: list[User]) -> None:
    """A blob that was changed or is gone is noticed, and its layer built again; the others are found."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more"}, {})
    words = [*made.options, "--max-layers", "2", "--cache"]
    right = digests(image_json(user, *words))
    before = cached_layers(user)
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes() + b"\0")):
        [blob] = [path for path in (user.home / ".cache").rglob("*") if path.name == right[0].removeprefix("sha256:")]
        damage(blob)
        assert digests(image_json(user, *words)) == right
        assert validate(str(user.home / "image"), lambda: "").problems == ()
    after = cached_layers(user)
    assert after.keys() == before.keys()
    assert len(after.items() & before.items()) == 1


def test_a_layout_has_the_modes_of_the_umask(users: list[User]) -> None:
    """What the cache has of another umask's time is copied into a layout, and else linked."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text"}, {})
    for umask, name in ((0o077, "first"), (0o022, "second"), (0o077, "third")):
        command = [*COMMAND, "image", *made.options, "--cache", "-o", user.home / name]
        assert user.run(["sh", "-c", f'umask {umask:03o}; exec "$@"', "-", *command]).status == 0
    found = [
        {oct(path.stat().st_mode & 0o777) for path in (user.home / name / "blobs/sha256").iterdir()}
        for name in ("first", "second", "third")
    ]
    assert found == [{"0o600"}, {"0o644"}, {"0o600"}]
    links = [max(path.stat().st_nlink for path in (user.home / name / "blobs/sha256").iterdir()) for name in ("second", "third")]
    assert links == [1, 3]


def test_gc_leaves_the_layers_of_an_image_that_is_written(users: list[User]) -> None:
    """While a slow reader takes a stream, gc removes none of its layers; afterwards it does."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text", "b": "more" * (1 << 20)}, {})
    words = [*COMMAND, "image", *made.options, "--max-layers", "2", "--cache", "-o", "-"]
    collect = [*COMMAND, "cache", "gc", "--keep", "0", "--json"]
    with user.start(words, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        begin = started.stdout.read(1000)
        said = json.loads(user.run(collect).out)
        assert (len(said["inUse"]), said["removed"]) == (2, [])
        stream = begin + started.stdout.read()
        assert started.wait() == 0
    assert b"manifest.json" in stream
    said = json.loads(user.run(collect).out)
    assert (said["inUse"], len(said["removed"])) == ([], 2)


def test_several_at_once_share_a_cache(users: list[User], store: Store) -> None:
    """Commands that build the same layers at the same time all end well, with one entry for each layer."""
    user = users[-1]
    words = [*COMMAND, "image", *store.options, "--max-layers", str(MOST), "--cache", "--json", "-o"]
    started = [user.start([*words, user.home / f"image-{number}"], stdout=subprocess.PIPE) for number in range(3)]
    said = [json.loads(process.communicate()[0])[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert all(one.pop("layersFound") <= MOST and one.pop("known") >= 0 for one in said)  # as it happened to be there
    assert said == [said[0]] * 3
    assert len(cached_layers(user)) == MOST
    for number in range(3):
        assert validate(str(user.home / f"image-{number}"), lambda: "").problems == ()
    assert_nothing_left(user)


def test_a_cache_that_cannot_be_written(users: list[User]) -> None:
    """Where the cache has no place the command says so, and what to do: 73."""
    user = users[-1]
    made = own(user.home / "store", {"a": "text"}, {})
    (user.home / "file").touch()
    result = image_json(user, *made.options, "--cache", env={"ROOTLESS_LAYER_CACHE": f"{user.home}/file"})
    assert_said(result, 73, "the cache cannot be written", "ROOTLESS_LAYER_CACHE")
    assert not (user.home / "image").exists()
    assert_nothing_left(user)
