"""Layers that are none, or whose sources changed, make no image."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from helpers.aftermath import assert_nothing_left, assert_said
from helpers.bad_images import NO_JSON, refused
from helpers.image_commands import image
from helpers.place import remove
from helpers.users import COMMAND, User, good

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import open_layer

pytestmark = pytest.mark.slow


def test_layers_that_are_none(users: list[User], small: list[str]) -> None:
    """A layer's directory whose description was changed is refused, whatever it says: 65."""
    user = users[-1]
    folder = user.home / "wrong"
    for given_ in small:
        shutil.copytree(given_, folder, dirs_exist_ok=True)
        said = json.loads((folder / "layer.json").read_bytes())
        names = ["mediaType", "digest", "size", "diffId", "uncompressedSize"]
        names += ["listing"] if said["blob"] == "derived" else []
        for number, data in enumerate([*NO_JSON[:4], NO_JSON[-1]]):
            (folder / "layer.json").write_bytes(data)
            if number % 2 == 0:
                assert_said(image(user, "--layer", folder), 65, str(folder))
            with pytest.raises(InputError, match=re.escape(str(folder))):
                open_layer(str(folder))
        for name in names:
            for value in (None, [], {}, -1, 1.5, "../../../etc/passwd", True):
                (folder / "layer.json").write_text(json.dumps(said | {name: value}))
                with pytest.raises(InputError, match=re.escape(str(folder))):
                    open_layer(str(folder))
        remove(folder)
    assert_said(image(user, "--layer", user.home / "absent"), 66, "absent")
    assert not (user.home / "image").exists()


@pytest.mark.parametrize("device", ["native", "native,1", "native,a,b", "native,-1,3", "native,99999999999,3", ""])
def test_devices_that_are_none(users: list[User], device: str) -> None:
    """A derived layer whose listing has a device without its numbers is refused by the listing's name."""
    user = users[-1]
    script = user.script("#!/bin/sh\nmknod null c 1 3\n")
    good(user.build("--view", "directory", "--script", script, "--blob", "derived"))
    listing = user.home / "layer/layer.mtree"
    listing.write_text(listing.read_text().replace("native,1,3", device))
    result = image(user, "--layer", user.home / "layer")
    assert result.status in {65, 66}, result.err
    assert_said(result, result.status, re.escape(str(listing)))
    assert not (user.home / "image").exists()


@pytest.mark.parametrize("change", ["data", "size", "gone", "listing"])
def test_a_source_that_changed_since(user: User, change: str) -> None:
    """A derived layer whose source changed makes no image, and of a stream there is no end: 66."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(3 << 20))
    layer = user.build("--copy-to-root", tree, "--blob", "derived").layer
    if change == "listing":
        path = user.home / "layer/layer.mtree"
        path.write_text(path.read_text().replace("mode=0644", "mode=0600"))
    elif change == "gone":
        (tree / "file").unlink()
    else:
        (tree / "file").write_bytes(b"\1" * ((3 << 20) + (change == "size")))
    named = "layer.mtree" if change in {"listing", "data"} else "tree/file"
    for kind in ("layout", "archive", "docker-archive"):
        result = image(user, "--layer", user.home / "layer", "-f", kind, "-t", "a")
        assert_said(result, 66, re.escape(named))
        assert not (user.home / "image").exists()
        if kind != "layout":
            with open(user.home / "streamed", "wb") as file:
                command = [*COMMAND, "image", "--layer", user.home / "layer", "-f", kind, "-o", "-"]
                process = user.start(command, stdout=file, stderr=subprocess.PIPE, env={"MARK": str(user.home)})
                said = process.communicate()[1].decode()
            assert (process.returncode, named in said, "Traceback" in said) == (66, True, False), said
            assert b"manifest.json" not in (user.home / "streamed").read_bytes()
            refused(user, user.home / "streamed")
    assert layer["uncompressedSize"] > 3 << 20
    assert_nothing_left(user)
