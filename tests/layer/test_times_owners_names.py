"""Times, owners and names are what was asked for or what they were, and never cut."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from helpers.image_commands import digests as digests_of
from helpers.image_commands import image_json
from helpers.inputs import LARGE_ID, LARGER_ID, tree_with
from helpers.layers import blob_of, infos
from helpers.stores import Store
from helpers.users import User

pytestmark = pytest.mark.slow


def test_later_times_are_clamped(user: User) -> None:
    """Times after --source-date-epoch become it, earlier ones stay, in whole seconds; directories always have it."""
    tree = user.home / "tree"
    (tree / "folder").mkdir(parents=True)
    times = {"early": 1_000_999_999_999, "same": 2_000_000_000_000, "late": 3_000_000_000_000, "before": -1_500_000_000}
    for name, nanoseconds in times.items():
        (tree / name).write_text(name)
        os.utime(tree / name, ns=(nanoseconds, nanoseconds))
    (tree / "link").symlink_to("late")
    os.utime(tree / "link", ns=(times["late"], times["late"]), follow_symlinks=False)
    os.utime(tree / "folder", (5, 5))
    expected = {"early": 1000, "same": 2000, "late": 2000, "before": -2, "link": 2000, "folder": 2000}
    script = ["--view", "directory", "--script", user.script("echo new > new; touch -d @77 old; mkdir made\n")]
    for words, env, more in (
        (["--source-date-epoch", "2000"], {}, {}),
        ([], {"SOURCE_DATE_EPOCH": "2000"}, {}),
        (["--source-date-epoch", "2000"], {"SOURCE_DATE_EPOCH": "5"}, {}),
        (["--source-date-epoch", "2000", *script], {}, {"new": 2000, "old": 77, "made": 2000}),
    ):
        layer = user.build("--copy-to-root", tree, *words, env=env).layer
        found = infos(blob_of(user, layer).read_bytes())
        assert {name: info.mtime for name, info in found.items()} == expected | more
        assert layer["madeFrom"]["epoch"] == 2000
    found = infos(blob_of(user, user.build("--copy-to-root", tree).layer).read_bytes())
    assert {info.mtime for name, info in found.items() if name != "before"} == {1}


@pytest.mark.parametrize("text", ["", "now", "-1", "1.5", "1e3", "9" * 30, "²"])
def test_a_time_that_is_none_is_refused(user: User, text: str) -> None:
    """SOURCE_DATE_EPOCH and the option take whole seconds since 1970, and say so; an empty variable is none."""
    tree = tree_with(user, "1")
    result = user.build("--copy-to-root", tree, env={"SOURCE_DATE_EPOCH": text})
    if text:
        assert result.status in {2, 65}, result.err
        assert text in result.err
    asked = user.build("--copy-to-root", tree, "--source-date-epoch", text)
    assert asked.status in {2, 65}
    assert "Traceback" not in result.err + asked.err


def test_the_owner_of_sources_is_asked_for(user: User, store: Store, accounts: Path) -> None:
    """--uid and --gid own what comes from sources; what a script makes is root's."""
    words = [*store.options, "--copy-to-root", accounts, "--uid", str(LARGE_ID), "--gid", str(LARGER_ID)]
    found = infos(blob_of(user, user.build(*words, "--script", user.script("mkdir /made\necho 1 > /file\n")).layer).read_bytes())
    made = {name: (info.uid, info.gid) for name, info in found.items()}
    assert made.pop("made") == made.pop("file") == (0, 0)
    given = {name: owner for name, owner in made.items() if name not in {"nix", "nix/store", ".", "tmp"}}
    assert set(given.values()) == {(LARGE_ID, LARGER_ID)}


@pytest.mark.parametrize("number", ["-1", "4294967295", "99999999999999999999"])
def test_an_owner_that_is_none_is_refused(user: User, number: str) -> None:
    """Ids go from 0 to 2³² - 2."""
    for option in ("--uid", "--gid"):
        result = user.build(option, number)
        assert result.status in {2, 65}
        assert number in result.err


LONG_NAME = "é" * 100


def test_owners_have_names_where_they_are_given(users: list[User], store: Store, accounts: Path) -> None:
    """--uname and --gname stand beside the numbers of --uid and --gid, and beside no others, whoever builds and however it is stored."""
    digests = set()
    for user in users:
        script = user.script("mkdir /made\nchown 77:78 /made\n")
        words = [*store.options, "--copy-to-root", accounts, "--uid", "77", "--gid", "79", "--script", script]
        named = [*words, "--uname", "app", "--gname", LONG_NAME]
        layer = user.build(*named).layer
        found = infos(blob_of(user, layer).read_bytes())
        assert {(info.uid, info.uname) for info in found.values()} == {(0, ""), (77, "app")}
        assert {(info.gid, info.gname) for info in found.values()} == {(0, ""), (78, ""), (79, LONG_NAME)}
        derived = user.build(*named, "--blob", "derived", output="derived").layer
        assert digests_of(image_json(user, "--layer", user.home / "derived")) == [layer["digest"]]
        assert blob_of(user, layer, "image").read_bytes() == blob_of(user, layer).read_bytes()
        digests |= {layer["digest"], derived["digest"]}
        nameless = user.build(*words, output="nameless").layer
        assert nameless["digest"] not in digests
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["a:b", "tab\t", "a" * 256, "é" * 128])
def test_a_name_of_an_owner_that_is_none_is_refused(user: User, name: str) -> None:
    """A name is at most 255 bytes of what can be printed, without the colon that ends it in a list of accounts."""
    for option in ("--uname", "--gname"):
        result = user.build("--rootfs", ".", option, name)
        assert result.status == 2, result.err
        assert f"{option.removeprefix('--')}: " in result.err


NAMES = [
    b"space in it", b"new\nline", b"tab\tand\x7f", b"not \xff\xfe utf-8", "é名🎈".encode(), b"-dash", b"back\\slash", b"#hash=",
    b"l" * 255, "é".encode() * 127, b"quote'\"`$(x)", b"*?[a]", b"trailing ", b"x\\040", b"@at", b".hidden", b"..dots", b"nl\n",
]  # fmt: skip


def test_any_name_is_kept(user: User) -> None:
    """Names of any bytes come into the layer as they are, from disk and from a script, whatever the locale."""
    tree = os.fsencode(user.home / "tree")
    os.mkdir(tree)
    deep = tree
    for number in range(6):
        deep += b"/" + b"d%d" % number * 60
        os.mkdir(deep)
    for name in NAMES:
        with open(tree + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"not \xff\xfe utf-8", tree + b"/link")
    digests = set()
    words: list[str | Path] = ["--copy-to-root", user.home / "tree"]
    for more in ([], ["--view", "directory", "--", "true"]):
        for locale in ("C", "C.UTF-8", "POSIX"):
            layer = user.build(*words, *more, env={"LC_ALL": locale}).layer
            digests.add(layer["digest"])
    assert len(digests) == 1
    blob = blob_of(user, layer)
    found = infos(blob.read_bytes())
    assert {os.fsencode(name) for name in found} >= {*NAMES, b"link", deep.removeprefix(tree + b"/")}
    assert os.fsencode(found["link"].linkname) == b"not \xff\xfe utf-8"
    for program in ("tar", "bsdtar"):
        folder = user.home / program
        folder.mkdir()
        command = [program, "-xf", blob, "-C", folder]
        subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})
        assert set(os.listdir(os.fsencode(folder))) == set(os.listdir(tree))
        for name in NAMES:
            with open(os.fsencode(folder) + b"/" + name, "rb") as file:
                assert file.read() == name


def test_names_of_sources_are_any_bytes(user: User) -> None:
    """A content's own path may be no text at all; layer.json is still JSON."""
    tree = os.fsencode(user.home) + b"/not \xff utf-8\n"
    os.mkdir(tree)
    with open(tree + b"/file", "wb") as file:
        file.write(b"text")
    result = user.build("--copy-to-root", os.fsdecode(tree))
    assert result.layer["entries"] == 2
    assert json.loads((user.home / "layer/layer.json").read_text()) == result.layer
