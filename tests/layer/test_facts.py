"""What is said of a layer is true: layer.json, the listing and --list, against the blob as other programs read it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers.images import sha256
from helpers.inputs import LARGE_ID, LARGER_ID, odd
from helpers.layers import blob_of, decompressed, infos
from helpers.users import COMMAND, User

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_layer_json_is_true(user: User, kind: str) -> None:
    """Digests, sizes, media type and number of entries are those of the blob, recomputed with other programs."""
    layer = user.build(*odd(user), "--compression", kind).layer
    assert json.loads((user.home / "layer/layer.json").read_text()) == layer
    assert sorted(path.name for path in (user.home / "layer/blobs/sha256").iterdir()) == [layer["digest"].removeprefix("sha256:")]
    blob = blob_of(user, layer)
    stream = decompressed(blob, kind)
    assert layer["digest"] == sha256(blob.read_bytes())
    assert layer["size"] == blob.stat().st_size
    assert layer["diffId"] == sha256(stream)
    assert layer["uncompressedSize"] == len(stream)
    ending = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[kind]
    assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{ending}"
    assert layer["blob"] == "stored"
    listing = (user.home / "layer" / layer["listing"]).read_bytes()
    listed = [line for line in listing.splitlines() if not line.startswith(b"#")]
    assert layer["entries"] == len(listed)
    assert layer["entries"] - len(infos(stream)) in {0, 1}  # the root is an entry, and not always a member


def long_listing(source: str | Path, where: Path) -> dict[str, tuple[str, ...]]:
    """Read what bsdtar says of an archive or a listing: by name the mode, owner, group, size or device, and target."""
    done = subprocess.run(
        ["bsdtar", "--numeric-owner", "-tvf", str(source)], check=True, capture_output=True, cwd=where,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )  # fmt: skip
    assert done.stderr == b""
    found: dict[str, tuple[str, ...]] = {}
    pattern = re.compile(r"(\S+) +\d+ +(\d+) +(\d+) +(\d+(?:, *\d+)?) +(\w+ +\d+ +[\d:]+) (.*)")
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        match = pattern.fullmatch(line)
        assert match, line
        mode, uid, gid, size, when, rest = match.groups()
        name, _, target = rest.partition(" -> ")
        name, _, link = name.partition(" link to ")
        if link:
            found[os.path.normpath(name)] = found[os.path.normpath(link)]
        else:
            found[os.path.normpath(name)] = (mode, uid, gid, size, when, target)
    return found


def test_the_listing_is_what_the_tar_holds(user: User) -> None:
    """bsdtar reads layer.mtree, and says the same of it as of the blob: names, modes, owners, sizes, types, links, devices."""
    layer = user.build(*odd(user)).layer
    folder = user.home / "layer"
    of_tar = long_listing(blob_of(user, layer), folder)
    of_listing = long_listing("layer.mtree", folder)
    root = of_listing.pop(".")
    assert root[:3] == ("drwxr-xr-x", "0", "0")
    assert of_listing == of_tar
    assert len(of_tar) == len(infos(blob_of(user, layer).read_bytes()))
    assert of_tar["set/uid"][:3] == ("-rws--x--x", "33", "44")
    assert of_tar["null"][3].replace(" ", "") == "1,3"
    assert of_tar["folder/deep"][1:3] == (str(LARGE_ID), str(LARGER_ID))


def test_the_listing_says_what_is_linked_and_attributed(user: User) -> None:
    """What mtree has no word for stands in comments: a hard link's target and the extended attributes."""
    script = user.script("echo 1 > a; ln a b; setfattr -n user.name -v value a; setcap cap_chown=ep a\n")
    user.build("--view", "directory", "--script", script).layer  # noqa: B018 - it must have succeeded
    lines = (user.home / "layer/layer.mtree").read_text().splitlines()
    assert lines[0] == "#mtree"
    linked = next(line for line in lines[lines.index("#link=./a") :] if not line.startswith("#"))
    assert linked.startswith("./b type=file ")
    attributes = [line for line in lines if line.startswith("#xattr=")]
    assert "#xattr=user.name,dmFsdWU=" in attributes
    assert any(line.startswith("#xattr=security.capability,") for line in attributes)


def test_list_is_the_tree_with_owners(user: User) -> None:
    """--list says mode, owner, size or device, path and target of every path, one in each line whatever its name."""
    result = user.run([*COMMAND, "build", *odd(user), "--list", "-o", user.home / "layer"])
    assert result.status == 0
    lines = result.out.splitlines()
    assert len(lines) == json.loads((user.home / "layer/layer.json").read_text())["entries"]
    fields = {words[3]: words for words in (line.split(maxsplit=4) for line in lines)}
    assert fields["/set/uid"][:3] == ["-rws--x--x", "33:44", "4"]
    assert fields["/null"][:3] == ["crw-r--r--", "0:0", "1,3"]
    assert fields["/folder/deep"][1] == f"{LARGE_ID}:{LARGER_ID}"
    assert fields["/folder/deep/symbolic"][4] == "-> ../file"
    assert {fields["/folder/deep/hard"][-1], fields["/folder/file"][-1]} & {"link to /folder/file", "link to /folder/deep/hard"}
