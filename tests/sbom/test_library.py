"""Bills of materials by the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.image_layouts import layout_of, tar_of
from helpers.registries import run
from helpers.users import User, good

from rootless_layer import Attachment, NamedImage, bill_of_materials, open_images, write_images
from rootless_layer.errors import InputError

CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": []}}


def test_a_bill_is_attached(somebody: User, folder: Path) -> None:
    """The library's bill is the command's; an image is written with it, and with a file of another kind."""
    made = layout_of(somebody.home / "image", CONFIG, [tar_of(**{"lib/apk/db/installed": b"P:musl\nV:1\n"})])
    bill = bill_of_materials(made, "cyclonedx", name="app")
    assert json.loads(bill.data)["components"][0]["purl"] == "pkg:apk/alpine/musl@1"
    assert (
        json.loads(good(run(somebody, "sbom", made, "--format", "cyclonedx")).out)["components"]
        == json.loads(bill.data)["components"]
    )
    with open_images(made) as (stored,):
        note = Attachment("text/plain", b"a note", "note.txt")
        write_images([NamedImage(stored.image, ("app:1",), attached=(bill, note))], folder / "out")
    listed = json.loads((folder / "out/index.json").read_bytes())["manifests"]
    assert [row.get("artifactType") for row in listed] == [None, bill.media_type, "text/plain"]


@pytest.mark.parametrize("wrong", [{"form": "text"}, {"name": 1}, {"closure": []}, {"platform": "linux/amd64"}])
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    """An error names the parameter."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        bill_of_materials("nothing", **wrong)  # type: ignore[arg-type]
