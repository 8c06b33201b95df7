"""Images are written where they are wanted, the same every time, or not at all."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.aftermath import FULL, assert_nothing_left, assert_said
from helpers.image_commands import image
from helpers.image_layers import Layers, diff_ids_of
from helpers.image_layouts import assert_layout_true, blob_of, config_of, manifest_of
from helpers.images import sha256
from helpers.small_disk import small_disk
from helpers.stores import fingerprint
from helpers.users import COMMAND, User, good

pytestmark = pytest.mark.slow


def test_stored_blobs_are_linked_into_a_layout(user: User, small: list[str]) -> None:
    """A layout next to the layer's directory has its blob as a hard link: it costs no disk; a derived one is written."""
    tree = Path(small[1]).parent / "two-tree"
    layer = user.build("--copy-to-root", tree).layer
    good(image(user, "--layer", user.home / "layer", "--layer", small[0]))
    assert_layout_true(user.home / "image")
    blob = blob_of(user.home / "image", layer["digest"])
    assert blob.samefile(blob_of(user.home / "layer", layer["digest"]))
    assert blob_of(user.home / "image", manifest_of(user.home / "image")["layers"][1]["digest"]).stat().st_nlink == 1


SURROUNDINGS: list[dict[str, str]] = [
    {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "1"},
    {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "2", "LANG": "tr_TR.UTF-8"},
]


def test_everybody_makes_the_same_bytes(users: list[User], small: list[str]) -> None:
    """Root and somebody, with any umask, locale, time zone and directory, write the same image in each format."""
    (users[-1].home / "é").mkdir()
    options = ["--label", "é=ü", "--expose", "80", "--expose", "443", "--created", "2026-01-31T12:00:00", "-t", "a:1"]
    options += [word for folder in small for word in ("--layer", folder)]
    seen: dict[str, set[str]] = {}
    for number, user in enumerate(users + users):
        for kind in ("layout", "archive", "docker-archive"):
            output = f"{kind}-{number}"
            more = {"env": SURROUNDINGS[number % 2], "umask": (0o022, 0o077, 0o777, 0)[number], "cwd": users[-1].home / "é"}
            good(image(user, *options, "-f", kind, output=output, **more))
            path = user.home / output
            files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
            said = [(str(one.relative_to(path)), sha256(one.read_bytes())) for one in files]
            seen.setdefault(kind, set()).add(json.dumps(said))
            assert all(one.stat().st_mode & 0o600 == 0o600 for one in files if one.stat().st_uid != 0 or user.is_root)
    assert {kind: len(made) for kind, made in seen.items()} == {"layout": 1, "archive": 1, "docker-archive": 1}


@pytest.mark.parametrize("kind", ["archive", "docker-archive"])
def test_a_stream_is_the_files_bytes(user: User, made: Layers, kind: str) -> None:
    """What goes to stdout is what the file would hold, and stderr stays empty."""
    good(image(user, *made.options, "-f", kind, output="app.tar"))
    with open(user.home / "streamed", "wb") as file:
        process = user.start([*COMMAND, "image", *made.options, "-f", kind, "-o", "-"], stdout=file, stderr=subprocess.PIPE)
        assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert (user.home / "streamed").read_bytes() == (user.home / "app.tar").read_bytes()


def test_json_says_what_was_written(users: list[User], small: list[str]) -> None:
    """--json gives the digests, names, platforms and layers; without it stdout has the manifest's digest."""
    user = users[-1]
    options = ["--layer", small[1], "-t", "a", "-t", "b:2", "-t", "a:latest", "--platform", "linux/arm/v7"]
    digest = good(image(user, *options)).out.strip()
    said = json.loads(good(image(user, *options, "--json")).out)
    layers = [one | {"diffId": diff_ids_of(small)[1]} for one in manifest_of(user.home / "image")["layers"]]
    assert said == [
        {"version": 1, "manifestDigest": digest, "names": ["a:latest", "b:2"], "platform": "linux/arm/v7", "layers": layers}
    ]
    assert sha256(blob_of(user.home / "image", digest).read_bytes()) == digest


def test_an_earlier_layout_is_replaced(user: User, small: list[str]) -> None:
    """A layout takes the place of an earlier one, even of its own base, and an archive that of a file."""
    good(image(user, "--layer", small[0]))
    good(image(user, "--base", user.home / "image", "--layer", small[1]))
    assert_layout_true(user.home / "image")
    assert config_of(user.home / "image")["rootfs"]["diff_ids"] == diff_ids_of(small)
    good(image(user, "--base", user.home / "image", output="image.tar"))
    good(image(user, "--base", user.home / "image.tar", "--layer", small[1], output="image.tar"))
    good(image(user, "--base", user.home / "image.tar", output="again"))
    assert config_of(user.home / "again")["rootfs"]["diff_ids"] == [*diff_ids_of(small), *diff_ids_of(small)[1:]]
    assert_nothing_left(user)


def test_outputs_that_are_taken(user: User, small: list[str]) -> None:
    """What is no layout is not replaced by one, and a directory or a device not by an archive: 73."""
    (user.home / "full").mkdir()
    (user.home / "full/file").write_text("mine")
    (user.home / "file").write_text("mine")
    os.mkfifo(user.home / "fifo")
    before = fingerprint(user.home / "full")
    for name, kind in (("full", "layout"), ("file", "layout"), ("full", "archive"), ("fifo", "docker-archive"), ("no/such", "archive"),
                       ("no/such", "layout"), ("/dev/null", "archive"), ("file/below", "archive")):  # fmt: skip
        refused_ = image(user, "--layer", small[0], "-f", kind, output=name)
        assert_said(refused_, 73, name, "is not an image layout" if (name, kind) == ("full", "layout") else "")
    assert fingerprint(user.home / "full") == before
    assert (user.home / "file").read_text() == "mine"
    assert stat.S_ISFIFO((user.home / "fifo").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    good(image(user, "--layer", small[0], "-f", "archive", output="file"))
    assert_nothing_left(user)


@pytest.fixture
def tiny(user: User) -> Iterator[Path]:
    """A file system of 1 MiB that is the user's."""
    with small_disk(user, "1m") as folder:
        yield folder


def test_no_room(user: User, tiny: Path) -> None:
    """An image that does not fit, or a base that does not fit unpacked, is an error that names the place: 73."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "random").write_bytes(random.Random(0).randbytes(2 << 20))
    assert user.build("--copy-to-root", tree, "--blob", "derived").status == 0
    for kind in ("layout", "archive", "docker-archive"):
        result = image(user, "--layer", user.home / "layer", "-f", kind, output="tiny/image")
        assert_said(result, 73, FULL, "tiny/image", "[Nn]othing was kept")
        assert os.listdir(tiny) == []
    good(image(user, "--layer", user.home / "layer", output="base.tar"))
    good(user.run(["gzip", "base.tar"]))
    for place in (tiny, user.home / "absent"):
        result = image(user, "--base", user.home / "base.tar.gz", env={"TMPDIR": str(place)})
        assert_said(result, 73, str(place), "TMPDIR")
        assert not (user.home / "image").exists()
    with open("/dev/full", "wb") as full:
        command = [*COMMAND, "image", "--layer", user.home / "layer", "-o", "-"]
        process = user.start(command, stdout=full, stderr=subprocess.PIPE)
        said = process.communicate()[1].decode()
    assert process.returncode == 73
    assert FULL in said
    assert "Traceback" not in said
    assert_nothing_left_but(user, tiny)


def assert_nothing_left_but(user: User, mounted: Path) -> None:
    """Check what :func:`assert_nothing_left` does, where a test has a file system of its own."""
    assert os.listdir(mounted) == []
    assert user.leftovers() == []
