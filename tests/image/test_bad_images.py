"""Images whose documents are wrong are refused, and reach nothing of the machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.aftermath import CLOSED, assert_said
from helpers.bad_images import NO_JSON, attempt, refused
from helpers.effort import DAY, EVERY
from helpers.image_commands import image
from helpers.image_layouts import BASE, blob_of, config_of, layout_of, manifest_of, put, tar_of
from helpers.images import sha256
from helpers.users import User

pytestmark = pytest.mark.slow

ODD_VALUES = [
    None,
    [],
    {},
    0,
    -1,
    1.5,
    "",
    "text",
    True,
    [None],
    [[]],
    {"a": None},
    10**30,
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "\ud800",
]


@pytest.mark.parametrize("name", ["index.json", "manifest.json", "manifest", "config"])
def test_documents_that_are_none(users: list[User], name: str) -> None:
    """A document that is no JSON or another value than it should be is an error that names the image."""
    user = users[-1]
    for number, data in enumerate(NO_JSON):
        top = user.home / f"{name}-{number}"
        if name == "manifest.json":
            top.mkdir()
            (top / name).write_bytes(data)
        else:
            layout_of(top, BASE, [tar_of(a=b"a")])
            row = put(top, data, "config.v1+json" if name == "config" else "manifest.v1+json")
            if name == "config":
                row = put(top, json.dumps(manifest_of(top) | {"config": row}).encode(), "manifest.v1+json")
            index = json.dumps({"schemaVersion": 2, "manifests": [row]}).encode()
            (top / "index.json").write_bytes(data if name == "index.json" else index)
        assert attempt(top, user.home / "work")[1] is not None, data[:20]
        if number % 5 == 0:
            refused(user, top)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the place of every value within a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Give a JSON value with another value at a place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def odd_values(document: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Give each place of a document with odd values for it: a third of them, another one on each day."""
    for number, path in enumerate(places(document)):
        for value in ODD_VALUES if EVERY else ODD_VALUES[(number + DAY) % 3 :: 3]:
            yield path, value


def test_values_of_the_wrong_kind(users: list[User]) -> None:
    """Whatever stands for any value of any document, an image comes of it that is true, or an error that names the base."""
    user = users[-1]
    top = user.home / "layout"
    layers = [tar_of(a=b"a")]
    layout_of(top, BASE, layers)
    index = json.loads((top / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "a:1"}
    manifest, config = manifest_of(top), config_of(top)
    docker = [{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}]
    archive = user.home / "docker"
    archive.mkdir()
    (archive / "layer.tar").write_bytes(layers[0])
    for path, value in odd_values(config):
        row = put(top, json.dumps(replaced(config, path, value)).encode(), "config.v1+json")
        row = put(top, json.dumps(manifest | {"config": row}).encode(), "manifest.v1+json")
        (top / "index.json").write_text(json.dumps(index | {"manifests": [row]}))
        attempt(top, user.home / "work")
    for path, value in odd_values(manifest):
        row = put(top, json.dumps(replaced(manifest, path, value)).encode(), "manifest.v1+json")
        (top / "index.json").write_text(json.dumps(index | {"manifests": [row]}))
        attempt(top, user.home / "work")
    for path, value in odd_values(index):
        (top / "index.json").write_text(json.dumps(replaced(index, path, value)))
        attempt(top, user.home / "work")
    (archive / "config.json").write_text(json.dumps(config))
    for path, value in odd_values(docker):
        (archive / "manifest.json").write_text(json.dumps(replaced(docker, path, value)))
        attempt(archive, user.home / "work")


def test_counts_that_do_not_agree(users: list[User], small: list[str]) -> None:
    """A manifest with more or fewer layers than its config has diff IDs is refused: 65."""
    user = users[-1]
    layer = tar_of(a=b"a")
    for number, diff_ids in enumerate(([], [sha256(layer)] * 2, ["sha256:" + "0" * 63], ["md5:" + "0" * 32], None)):
        top = layout_of(user.home / f"base{number}", {**BASE, "rootfs": {"type": "layers"}, "x": number}, [layer])
        row = put(top, json.dumps({**BASE, "rootfs": {"diff_ids": diff_ids}}).encode(), "config.v1+json")
        row = put(top, json.dumps(manifest_of(top) | {"config": row}).encode(), "manifest.v1+json")
        (top / "index.json").write_text(json.dumps({"manifests": [row]}))
        refused(user, top, "diff IDs|diff_ids")


@pytest.mark.parametrize("what", ["config", "layer", "gzip layer"])
def test_a_docker_archive_that_contradicts_itself(users: list[User], what: str) -> None:
    """A config that is not what its name says, or a layer that is not what its diff ID says, is refused."""
    user = users[-1]
    layer, other = tar_of(a=b"a"), tar_of(a=b"b")
    config = json.dumps({**BASE, "rootfs": {"diff_ids": [sha256(layer if what == "config" else other)]}}).encode()
    name = hashlib.sha256(b"other" if what == "config" else config).hexdigest() + ".json"
    rows = json.dumps([{"Config": name, "Layers": ["layer.tar"]}]).encode()
    data = gzip.compress(layer) if what == "gzip layer" else layer
    path = user.home / "docker.tar"
    path.write_bytes(tar_of(**{name: config, "layer.tar": data, "manifest.json": rows}))
    refused(user, path, status=65)


@pytest.mark.parametrize(
    "name", ["/{}", "../../../../../../../../..{}", "a/../../../../../../../..{}", "link", "hard", "folder/layer.tar"]
)
def test_no_name_in_an_archive_reaches_the_machine(user: User, name: str) -> None:
    """Names that are absolute or go up, and links that lead out of an archive, name nothing of this machine."""
    outside = user.home / "outside"
    outside.mkdir()
    (outside / "layer.tar").write_bytes(tar_of(secret=b"secret"))
    given_ = name.format(outside / "layer.tar")
    config = {**BASE, "rootfs": {"diff_ids": [sha256((outside / "layer.tar").read_bytes())]}}
    made = io.BytesIO(
        tar_of(
            **{
                "config.json": json.dumps(config).encode(),
                "manifest.json": json.dumps([{"Config": "config.json", "Layers": [given_]}]).encode(),
            }
        )
    )
    with tarfile.open(fileobj=made, mode="a") as archive:
        for link, kind, target in (
            ("link", tarfile.SYMTYPE, outside / "layer.tar"),
            ("hard", tarfile.LNKTYPE, outside / "layer.tar"),
            ("folder", tarfile.SYMTYPE, outside),
        ):
            info = tarfile.TarInfo(link)
            info.type, info.linkname = kind, str(target)
            archive.addfile(info)
    (user.home / "image.tar").write_bytes(made.getvalue())
    refused(user, user.home / "image.tar", "missing")
    folder = user.home / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "manifest.json").write_text(json.dumps([{"Config": "config.json", "Layers": [given_]}]))
    refused(user, folder, "missing")


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "index.json", "layer", "config"])
def test_no_link_leads_out_of_a_layout(user: User, name: str) -> None:
    """A link within a layout is not followed, whatever part of it is one."""
    top = layout_of(user.home / "layout", BASE, [tar_of(a=b"a")])
    path = top / name
    if name in {"layer", "config"}:
        manifest = manifest_of(top)
        path = blob_of(top, (manifest["layers"][0] if name == "layer" else manifest["config"])["digest"])
    path.rename(user.home / "outside")
    path.symlink_to(user.home / "outside")
    refused(user, top)


def test_sizes_below_nothing(users: list[User]) -> None:
    """A header that says less than nothing, which would be read again and again, is an error."""
    user = users[-1]
    for number, kind in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        info = tarfile.TarInfo("index.json")
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        if kind == tarfile.GNU_FORMAT:
            header[124:136] = (-1024).to_bytes(12, "big", signed=True)
        else:
            info.pax_headers = {"size": "-1536"}
            header = bytearray(info.tobuf(tarfile.PAX_FORMAT))
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header[:512])
        (user.home / f"{number}.tar").write_bytes(bytes(header) + bytes(1024))
        refused(user, user.home / f"{number}.tar")


def test_indexes_without_end(users: list[User]) -> None:
    """Indexes that list one another a hundred million times are refused, and so are those that are nested deep."""
    user = users[-1]
    for times, levels in ((100, 4), (1, 8)):
        top = layout_of(user.home / f"layout{levels}", BASE, [])
        rows = json.loads((top / "index.json").read_bytes())["manifests"]
        for _ in range(levels):
            rows = [put(top, json.dumps({"manifests": rows}).encode(), "index.v1+json")] * times
        (top / "index.json").write_text(json.dumps({"manifests": rows}))
        refused(user, top, "too deep|too much")


def test_what_is_no_image(users: list[User]) -> None:
    """Nothing, a directory with something else, a device and a file of zeros are refused, each by its name."""
    user = users[-1]
    (user.home / "empty").mkdir()
    (user.home / "zeros").write_bytes(bytes(10240))
    (user.home / "text").write_text("text")
    (user.home / "text.gz").write_bytes(gzip.compress(b"text"))
    (user.home / "cut.gz").write_bytes(gzip.compress(os.urandom(1000))[:500])
    os.mkfifo(user.home / "fifo")
    for name in ("absent", "empty", "zeros", "text", "text.gz", "cut.gz", "fifo"):
        if not name.startswith("text."):
            refused(user, user.home / name, status=66 if name == "absent" else 65)
    assert_said(image(user, "--base", user.home / "text.gz", output="refused"), 65, "tar archive")
    refused(user, "/dev/null")
    if user.name != "root":
        (user.home / "text").chmod(0)
        refused(user, user.home / "text", CLOSED, status=66)
