"""Images that are none, and the refusal of them."""

from __future__ import annotations

import io
import itertools
import re
import shutil
from pathlib import Path

from helpers.aftermath import assert_nothing_left, assert_said
from helpers.image_commands import image
from helpers.image_layouts import assert_layout_true
from helpers.users import User

from rootless_layer.errors import RootlessLayerError
from rootless_layer.image.archive import write_docker_archive
from rootless_layer.image.choose import choose
from rootless_layer.image.read import NamedImage, read_images
from rootless_layer.image.write import write_layout
from rootless_layer.oci.descriptor import Platform

NO_JSON: list[bytes] = [
    b"", b"{", b"null", b"[]", b"0", b'"text"', b"true", b"{}", b"[null]", b"[[]]", b"[1]", b"\xff\xfe", b"NaN", b"9" * 5000, b"1e999",
    b"[" * 100_000, b'{"a":' * 100_000,
]  # fmt: skip


def refused(user: User, base: str | Path, *said: str, status: int = 65, words: tuple[str, ...] = ()) -> None:
    """Check that a base is refused with words that name it, and that nothing is left of the attempt."""
    result = image(user, "--base", base, "--platform", "linux/amd64", *words, output="refused")
    assert_said(result, status, re.escape(str(base)), *said)
    assert not (user.home / "refused").exists()
    assert_nothing_left(user)


def attempt(path: Path, folder: Path) -> tuple[str, RootlessLayerError | None]:
    """Build upon a base in this process, to be quick: give the digest of its content, or the error, which names it."""
    shutil.rmtree(folder, ignore_errors=True)  # not by rm(1): it is called hundreds of times
    folder.mkdir()
    numbers = itertools.count()
    try:
        found = read_images(str(path), lambda: f"{folder}/{next(numbers)}")
        base = choose(found, str(path), Platform("linux", "amd64"))
        changed = base.configured({"Env": ["A=1"], "Labels": {"a": "b"}}).with_created("2020-01-01T00:00:00Z")
        (folder / "layout").mkdir()
        write_layout([NamedImage(changed, stored.names) for stored in found[:1]], folder / "layout")
        write_docker_archive([NamedImage(changed)], io.BytesIO())
    except RootlessLayerError as error:
        assert all(str(path) in problem for problem in error.problems), error
        return "", error
    assert_layout_true(folder / "layout")
    return base.content, None
