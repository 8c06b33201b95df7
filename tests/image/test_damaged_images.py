"""Damaged images are refused, or changed in nothing that counts."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import assert_nothing_left, assert_said
from helpers.bad_images import attempt, refused
from helpers.effort import DAY, PATIENT, examples
from helpers.image_commands import image
from helpers.image_layouts import blob_of, old_docker_archive, tar_of
from helpers.place import remove
from helpers.users import User, good, make_user
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def archives(shared: Path) -> Iterator[dict[str, bytes]]:
    """Images of two layers, as archives of each form."""
    user = make_user(shared, "somebody")
    base = old_docker_archive(user.home / "old.tar", [tar_of(a=b"a" * 600), tar_of(b=b"b"), tar_of(a=b"a" * 600)], "base:1")
    words = ["--base", base, "--platform", "linux/amd64", "-t", "base:1"]
    for kind in ("archive", "docker-archive"):
        good(image(user, *words, "-f", kind, output=kind))
    made = {"old": base.read_bytes(), **{kind: (user.home / kind).read_bytes() for kind in ("archive", "docker-archive")}}
    yield made | {"gzip": gzip.compress(made["archive"], mtime=0)}
    remove(user.home)


KINDS = ("archive", "docker-archive", "old", "gzip")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_archives(users: list[User], archives: dict[str, bytes], kind: str) -> None:
    """An archive that ends early is an error that names it, or ends behind all that there is of the image."""
    user, whole = users[0], archives[kind]
    path = user.home / "cut"
    path.write_bytes(whole)
    expected, error = attempt(path, user.home / "work")
    assert error is None
    lengths = [*range(0, len(whole), max(1, len(whole) // 60)), *(len(whole) - n for n in (1, 2, 8, 512, 1024, 1536, 2048))]
    outcomes = {}
    for length in lengths:
        path.write_bytes(whole[:length])
        digest, error = attempt(path, user.home / "work")
        assert error is not None or digest == expected
        outcomes[length] = error
    assert all(error is not None for length, error in outcomes.items() if length < len(whole) - 5 * 512)
    for length in (0, 1, 511, len(whole) // 2, int(len(whole) * 0.8)):
        path.write_bytes(whole[:length])
        refused(user, path)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes(users: list[User], archives: dict[str, bytes], kind: str) -> None:
    """A byte that changed in a layer or a document is an error, or changes nothing of the image."""
    user, whole = users[0], archives[kind]
    path = user.home / "flipped"
    path.write_bytes(whole)
    expected, _ = attempt(path, user.home / "work")
    positions = [position for position, byte in enumerate(whole) if byte]
    for position in random.Random(DAY).sample(positions, min(len(positions), examples(250))):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        digest, error = attempt(path, user.home / "work")
        # The config of an old docker-archive is not named by its digest: only what it is for may be another.
        assert error is not None or digest == expected or kind == "old", position


def test_a_changed_blob_in_a_layout(user: User, small: list[str]) -> None:
    """A layout or a layer's directory whose blob is not what its digest says is refused, although it would be linked: 65."""
    tree = Path(small[1]).parent / "two-tree"
    layer = user.build("--copy-to-root", tree, "--compression", "gzip").layer
    good(image(user, "--layer", user.home / "layer", "--platform", "linux/amd64"))
    blob = blob_of(user.home / "image", layer["digest"])
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)  # it is a link of the layer's own
    for words in ((), ("-f", "archive"), ("-f", "docker-archive")):
        result = image(user, "--layer", user.home / "layer", *words, output="refused")
        assert_said(result, 65, re.escape(str(blob_of(user.home / "layer", layer["digest"]))))
        result = image(user, "--base", user.home / "image", "--platform", "linux/amd64", *words, output="refused")
        assert_said(result, 65, re.escape(str(blob)))
        assert not (user.home / "refused").exists()
    blob.write_bytes(data[:-1])
    assert_said(image(user, "--layer", user.home / "layer", output="refused"), 65, "should hold")
    refused(user, user.home / "image", "should have")
    blob.unlink()
    refused(user, user.home / "image", "missing")
    assert_nothing_left(user)


def test_what_is_wrong_within_a_compressed_archive(users: list[User], archives: dict[str, bytes]) -> None:
    """A layer that is damaged in an archive that was compressed as a whole is told by the archive's name."""
    user, whole = users[-1], archives["archive"]
    position = whole.index(b"a" * 600)
    (user.home / "base.tar.gz").write_bytes(gzip.compress(whole[:position] + b"b" + whole[position + 1 :]))
    refused(user, user.home / "base.tar.gz", "the layer is sha256:")
    (user.home / "base.tar.gz").write_bytes(gzip.compress(whole[: position + 10]))
    refused(user, user.home / "base.tar.gz")


EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "drop", "insert", "copy"]),
        st.binary(min_size=1, max_size=16),
    ),
    min_size=1,
    max_size=6,
)


@given(kind=st.sampled_from(KINDS), edits=EDITS)
@settings(max_examples=examples(150), deadline=None, suppress_health_check=PATIENT)
def test_mutated_archives(
    tmp_path_factory: pytest.TempPathFactory, archives: dict[str, bytes], kind: str, edits: list[Any]
) -> None:
    """However an archive is mutilated, an image comes of it that is true, or an error of this package's."""
    data = bytearray(archives[kind])
    filled = [position for position, byte in enumerate(data) if byte]
    for where, what, some in edits:
        position = min(filled[int(where * len(filled))], len(data))
        if what == "flip":
            data[position : position + len(some)] = some
        elif what == "cut":
            del data[position:]
        elif what == "drop":
            del data[position : position + 512 * some[0]]
        elif what == "insert":
            data[position:position] = some
        else:
            data += data[position : position + 512 * some[0]]
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    (folder / "image").write_bytes(data)
    attempt(folder / "image", folder / "work")
