"""Files of a layout or an archive that are damaged: each is named, and all at once."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.damage import cut, flip
from helpers.images import FILE, LINK, UPPER, Made, check, problems, put, tar, unusual

from rootless_layer.errors import RootlessLayerError

FILES: dict[str, tuple[Callable[[Made], object], str]] = {
    "a blob with another byte": (lambda made: flip(made.layer(0)), "the bytes are sha256:.*, and should be"),
    "a blob cut off": (lambda made: cut(made.layer(0)), r"has \d+ bytes, and should have"),
    "a blob that is away": (lambda made: made.layer(1).unlink(), "is missing, or is no regular file; blobs/sha256/.* refers to it"),
    "a blob that is a link": (lambda made: _link(made.layer(1)), "is missing, or is no regular file"),
    "a blob that is a directory": (lambda made: _folder(made.layer(1)), "is missing, or is no regular file"),
    "no oci-layout": (lambda made: (made.folder / "oci-layout").unlink(), "oci-layout: is missing"),
    "an oci-layout that is not JSON": (lambda made: (made.folder / "oci-layout").write_text("{"), "oci-layout: is not JSON"),
    "an oci-layout of tomorrow": (lambda made: (made.folder / "oci-layout").write_text('{"imageLayoutVersion": "2"}'), "'2'"),
    "an index that is not JSON": (lambda made: (made.folder / "index.json").write_bytes(b"\xff"), "index.json: is not JSON"),
    "an index that is a list": (lambda made: (made.folder / "index.json").write_text("[]"), "the document: is an object, and not"),
    "an index deeper than it can be": (lambda made: (made.folder / "index.json").write_text("[" * 10**6), "is not JSON"),
    "a blob that nothing names, and is another": (
        lambda made: made.layer(0).with_name("0" * 64).write_text("x"), "blobs/sha256/0000.*should be sha256:0000"),
    "a manifest.json beside that is none": (lambda made: (made.folder / "manifest.json").write_text("{}"), "manifest.json: is a list"),
    "a manifest.json of nothing there": (
        lambda made: (made.folder / "manifest.json").write_text('[{"Config": "c.json", "Layers": ["../l"]}]'), "'../l' is missing"),
}  # fmt: skip


TAKEN = {
    "no oci-layout", "an oci-layout that is not JSON", "an oci-layout of tomorrow", "a manifest.json beside that is none",
    "a manifest.json of nothing there",
}  # fmt: skip
"""What engines do not look at, or have something else for."""


def _link(path: Path) -> None:
    path.rename(path.with_name("there"))
    path.symlink_to("there")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_damaged_is_named(folder: Path, name: str) -> None:
    """Each file that is missing, is not what its digest says or is not readable is a problem."""
    change, expected = FILES[name]
    made = Made(folder).write()
    change(made)
    found = unusual(folder) if name in TAKEN else problems(folder)
    assert re.search(expected, found), found
    assert bool(problems(folder)) == (name not in TAKEN)


def test_all_that_is_wrong_is_listed(folder: Path) -> None:
    """One problem does not hide the next: documents, blobs and what is in the layers are all looked at."""
    lower = tar(("a", FILE), ("a/x", FILE), ("b", LINK, "c"))
    made = Made(folder, [lower, UPPER], {"config": put("os", to=1), "manifest": put("schemaVersion", to=3)}).write()
    flip(made.folder / "oci-layout")
    made.layer(1).unlink()
    found = problems(folder)
    for expected in ("os: ", "/a is not a directory", "/b: the hard link's", "is missing"):
        assert expected in found
    assert len(found.splitlines()) >= 4
    assert {one.where for one in check(folder).unusual} >= {"oci-layout"}


def test_what_the_archive_has_twice(folder: Path) -> None:
    """A file that is in the archive twice is unusual; one that is another then is an error, as readers take one or the other."""
    made = Made(folder / "layout").write()
    path = made.archive(folder / "archive.tar")
    with tarfile.open(path, "a") as archive:
        archive.add(made.folder / "index.json", "./index.json")
    assert "index.json: is in the archive more than once" in unusual(path)
    assert problems(path) == ""
    (made.folder / "index.json").write_text("{}")
    with tarfile.open(path, "a") as archive:
        archive.add(made.folder / "index.json", "./index.json")
    with pytest.raises(RootlessLayerError, match=r"index\.json is in it more than once"):
        check(path)


def test_an_archive_that_ends_early_is_an_error(folder: Path) -> None:
    """An archive that was cut off within a file cannot be looked into, and says so."""
    path = Made(folder / "layout").write().archive(folder / "archive.tar")
    os.truncate(path, 3000)
    with pytest.raises(RootlessLayerError, match=r"archive\.tar"):
        check(path)
