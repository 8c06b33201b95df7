"""Directories of layers: each claim of their description and listing is compared with the blob, or with its sources."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.aftermath import CLOSED, assert_said
from helpers.damage import flip
from helpers.images import LAYER, Change, Made, check, problems, put, sha256
from helpers.users import COMMAND, User


def described(change: Change) -> Callable[[Path], None]:
    """Make the change of ``layer.json``."""

    def apply(folder: Path) -> None:
        said = json.loads((folder / "layer.json").read_text())
        change(said)
        (folder / "layer.json").write_text(json.dumps(said))

    return apply


def listed(old: bytes, new: bytes) -> Callable[[Path], None]:
    """Make the change of the listing."""

    def apply(folder: Path) -> None:
        data = (folder / "layer.mtree").read_bytes()
        assert old in data
        (folder / "layer.mtree").write_bytes(data.replace(old, new, 1))

    return apply


def blob_of(folder: Path) -> Path:
    """Say where the blob is."""
    return next((folder / "blobs/sha256").iterdir())


NAME_LINE = b"./etc/name type=file mode=4755 uid=7"


DIRECTORIES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "not JSON": ("plain", lambda folder: (folder / "layer.json").write_text("{"), "layer.json: is not JSON"),
    "a list": ("plain", lambda folder: (folder / "layer.json").write_text("[]"), "is an object"),
    "no digest": ("plain", described(put("digest", to=...)), "digest: is required"),
    "another digest": ("plain", described(put("digest", to=sha256(b""))), "blobs/sha256/e3b0.*: is missing"),
    "a digest that leaves": ("plain", described(put("digest", to="sha256:../x")), "is not a sha256 digest"),
    "another size": ("gzip", described(put("size", to=3)), "should have 3"),
    "another diff ID": ("gzip", described(put("diffId", to=sha256(b""))), "its diff ID is .*, and should be sha256:e3b0"),
    "another size unpacked": ("gzip", described(put("uncompressedSize", to=3)), "uncompressedSize: is 3"),
    "another count": ("gzip", described(put("entries", to=3)), "entries: is 3, and the listing has 5"),
    "another media type": ("gzip", described(put("mediaType", to=LAYER)), "says not compressed, and the bytes are gzip"),
    "an unknown media type": ("gzip", described(put("mediaType", to="x/y")), "'x/y' is not that of a layer"),
    "another kind": ("gzip", described(put("blob", to="lost")), "'stored' or 'derived'"),
    "a listing elsewhere": ("gzip", described(put("listing", to="../x")), "listing: '../x' is no file beside"),
    "no origin": ("gzip", described(put("madeFrom", to=...)), "madeFrom: is required"),
    "a blob with another byte": ("zstd", lambda folder: flip(blob_of(folder)), "should be sha256:"),
    "no blob": ("zstd", lambda folder: blob_of(folder).unlink(), "is missing"),
    "a listing that is none": ("plain", lambda folder: (folder / "layer.mtree").write_text("x\n"), "layer.mtree: line 1"),
    "another mode": ("plain", listed(b"mode=4755", b"mode=0755"), "the listing: /etc/name: mode is 100755, .* 104755"),
    "another owner": ("plain", listed(NAME_LINE, NAME_LINE[:-1] + b"8"), "/etc/name: uid is 8, and in the layer 7"),
    "another time": ("plain", listed(b"time=1.0", b"time=2.0"), "mtime is 2, and in the layer 1"),
    "another type": ("plain", listed(b"./etc type=dir", b"./etc type=fifo"), "/etc: mode is 10755"),
    "another file's size": ("plain", listed(b"size=4", b"size=5"), "/etc/name: size is 5, and in the layer 4"),
    "another target": ("plain", listed(b"link=name", b"link=nane"), "/etc/link: target is nane, and in the layer name"),
    "a link that is none": ("plain", listed(b"./etc/name", b"#link=./etc\n./etc/name"), "/etc/name: link is etc"),
    "an attribute that is none": ("plain", listed(b"./etc/name", b"#xattr=user.a,Yg==\n./etc/name"), "/etc/name: xattrs is"),
    "a path twice": ("plain", listed(b"./etc type=dir", b"./etc/name type=file mode=0644 uid=0 gid=0 time=1.0\n./etc type=dir"),
                     "the listing: /etc/name: occurs twice"),
    "a path that is another": ("plain", listed(b"./etc/name", b"./etc/mane"), "/etc/mane: is not in the layer"),
    "a path that is not listed": ("plain", listed(b"./etc/name", b"./etc/mane"), "/etc/name: is in the layer, and not"),
    "a derived digest": ("derived", described(put("digest", to=sha256(b""))), "the layer is sha256:.*, and should be sha256:e3b0"),
    "a derived diff ID": ("derived", described(put("diffId", to=sha256(b""))), "the layer is sha256:.*, and should be sha256:e3b0"),
    "a derived size": ("derived", described(put("size", to=3)), "and should be .* of 3"),
    "a derived mode": ("derived", listed(b"mode=4755", b"mode=0755"), "the layer is sha256:"),
    "no source": ("derived", listed(b"tree/etc/name", b"tree/etc/none"), "tree/etc/none"),
    "another source": ("derived", listed(b"tree/etc/name", b"plain/layer.json"), "layer.json|the layer is"),
    "a derived listing that is none": ("derived", listed(b"uid=", b"owner="), "layer.mtree: line"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_layers_directory_that_is_wrong(built: Path, folder: Path, name: str) -> None:
    """Each claim of ``layer.json`` and of the listing is compared with the blob, or with what it is made of again."""
    kind, change, expected = DIRECTORIES[name]
    made = folder / "layer"
    shutil.copytree(built / kind, made)
    assert check(made).problems == ()
    change(made)
    found = problems(made)
    assert re.search(expected, found), found


def test_a_source_that_changed_is_found(user: User) -> None:
    """A derived layer whose source has other bytes is not valid any more, and the file is named."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "a").write_text("before")
    assert user.build("--copy-to-root", tree, "--blob", "derived").status == 0
    assert user.run([*COMMAND, "validate", user.home / "layer"]).status == 0
    (tree / "a").write_text("behind")
    assert_said(user.run([*COMMAND, "validate", user.home / "layer"]), 65, "the layer is sha256:")


def test_a_blob_that_may_not_be_read(user: User, folder: Path) -> None:
    """Of a blob that this user may not read nothing is known: 66, and it is named; root reads it."""
    made = Made(folder / "layout").write()
    made.layer(0).chmod(0)
    done = user.run([*COMMAND, "validate", made.folder])
    if user.is_root:
        assert done.status == 0
    else:
        assert_said(done, 66, made.layer(0).name, CLOSED)


def test_a_layer_upon_a_base_is_not_blamed_for_it(user: User) -> None:
    """Of a layer that was built upon a base the lower layers are not here: its whiteouts are no fault, nor a note."""
    tree = user.home / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/a").write_text("a")
    user.script("#!/bin/sh\nrm d/a\necho b > d/b\n")
    assert user.build("--copy-to-root", tree, output="lower").status == 0
    cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    options = ["--base", user.home / "lower", "--view", "directory", "--script", user.home / "script"]
    built = user.build(*options, output="upper", env=cache)
    assert built.status == 0, built.err
    done = user.run([*COMMAND, "validate", user.home / "upper"])
    assert (done.status, done.err) == (0, "")
    both = ["--layer", user.home / "lower", "--layer", user.home / "upper"]
    assert user.run([*COMMAND, "image", *both, "-o", user.home / "image"]).status == 0
    done = user.run([*COMMAND, "validate", user.home / "image"])
    assert (done.status, done.err) == (0, "")
