"""Every claim of an image or a layer is computed again: what is true passes, and what is not is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import assert_said
from helpers.damage import flip
from helpers.images import FILE, Made, check, no_spool, tar
from helpers.users import COMMAND, User

from rootless_layer.check.validate import validate
from rootless_layer.cli.statuses import INVALID
from rootless_layer.errors import InputError
from rootless_layer.image.read import read_images
from rootless_layer.oci.findings import Findings
from rootless_layer.oci.reference import REF_NAME


def test_a_whole_layout_has_no_problem(folder: Path) -> None:
    """A layout with whiteouts, links and a history passes, without a note, and all of it was looked at."""
    made = Made(folder / "layout").write()
    found = check(made.folder)
    assert found == Findings((), (), 1, 2, 8)
    assert found.valid
    assert check(made.archive(folder / "archive.tar")) == found


@pytest.mark.parametrize("name", ["plain", "gzip", "zstd", "derived", "layout", "a.tar", "docker.tar", "a.tar.gz"])
def test_what_is_built_here_is_valid(user: User, built: Path, name: str) -> None:
    """Every output of this program passes, for root and for anybody else, and says so on stdout."""
    done = user.run([*COMMAND, "validate", built / name])
    assert (done.status, done.err) == (0, "")
    assert f"{name}: valid" in done.out
    assert user.leftovers() == []


def test_json_says_it_all(user: User, built: Path, folder: Path) -> None:
    """--json gives the findings of each output in turn; problems are on stderr too, and the status is 65."""
    made = Made(folder / "layout").write()
    made.layer(0).write_bytes(b"?")
    done = user.run([*COMMAND, "validate", "--json", built / "gzip", made.folder])
    assert_said(done, 65, f"layout: blobs/sha256/{made.layer(0).name}: .*should have")
    said = json.loads(done.out)
    assert [row["valid"] for row in said] == [True, False]
    assert said[0]["checked"] == {"images": 0, "layers": 1, "entries": 4}
    assert {row["where"] for row in said[1]["problems"]} >= {f"blobs/sha256/{made.layer(0).name}"}


def test_notes_do_not_fail(user: User, folder: Path) -> None:
    """A note is said, unless --quiet, and the status is 0."""
    made = Made(folder / "layout", [tar((".wh.nothing", FILE))]).write()
    done = user.run([*COMMAND, "validate", made.folder])
    assert done.status == 0
    assert "note: " in done.err
    quiet = user.run([*COMMAND, "validate", "-q", made.folder])
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


def test_what_is_no_image_is_an_error(user: User, folder: Path) -> None:
    """A directory without an image, and a path that is not there, are errors that say what to give."""
    for path, status in ((folder, 65), (folder / "absent", 66)):
        done = user.run([*COMMAND, "validate", path])
        assert_said(done, status, str(path), "Give an image layout")
        assert done.out == ""
    made = Made(folder / "layout").write()
    done = user.run([*COMMAND, "validate", "--json", folder / "absent", made.folder])
    assert_said(done, 66, "absent: no such image")
    assert [row["valid"] for row in json.loads(done.out)] == [False, True]


def test_one_image_of_several_is_meant(folder: Path) -> None:
    """PATH#NAME is checked alone, as every other verb reads it; a name that is not there is an error."""

    def change(document: Any) -> None:
        [row] = document["manifests"]
        bad = {**row, "size": 1}
        document["manifests"] = [{**one, "annotations": {REF_NAME: name}} for one, name in ((row, "good:1"), (bad, "bad:1"))]

    made = Made(folder / "layout", change={"index": change}).write()
    for path in (made.folder, made.archive(folder / "archive.tar")):
        assert [validate(f"{path}{name}", no_spool).valid for name in ("", "#good:1", "#bad:1")] == [False, True, False]
        with pytest.raises(InputError, match="no image of the name absent"):
            validate(f"{path}#absent", no_spool)


def test_a_changed_blob_is_one_fault_everywhere(folder: Path) -> None:
    """Whoever reads a blob that is not what its digest says calls the content wrong, 65: validate, and all that copy it."""
    made = Made(folder).write()
    flip(made.layer(0))
    assert not validate(str(folder), no_spool).valid
    layer = read_images(str(folder), no_spool)[0].image.layers[0]
    for read in (layer.copy, layer.copy_plain):
        with pytest.raises(InputError) as caught:
            read(len)
        assert caught.value.exit_code == INVALID
