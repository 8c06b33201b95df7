"""Configs, manifests, indexes and docker-archives that are wrong: each fault is named with its place in the document."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.images import LAYER, LOWER, UPPER, Change, Made, docker_archive, no_spool, notes, problems, put, sha256, unusual

from rootless_layer.errors import InputError
from rootless_layer.image.read import read_images

DOCUMENTS: dict[str, tuple[str, Change, str]] = {
    "no architecture": ("config", put("architecture", to=...), "architecture: is required, and missing"),
    "architecture a number": ("config", put("architecture", to=3), "architecture: is a string, and not 3"),
    "no os": ("config", put("os", to=...), "os: is required"),
    "author a list": ("config", put("author", to=["a"]), "author: is a string"),
    "created no time": ("config", put("created", to="yesterday"), "created: 'yesterday' is not a time"),
    "created an impossible time": ("config", put("created", to="2020-02-30T00:00:00Z"), "created: .* is not a time"),
    "no rootfs": ("config", put("rootfs", to=...), "rootfs: is required"),
    "rootfs of another type": ("config", put("rootfs", "type", to="files"), "rootfs.type: is 'layers'"),
    "diff IDs no list": ("config", put("rootfs", "diff_ids", to="x"), "rootfs.diff_ids: is a list"),
    "a diff ID no digest": ("config", put("rootfs", "diff_ids", 0, to="sha256:x"), "rootfs.diff_ids: 'sha256:x' is not a digest"),
    "a diff ID too few": ("config", put("rootfs", "diff_ids", 0, to=...), "there are 1 for 2 layers"),
    "another diff ID": ("config", put("rootfs", "diff_ids", 0, to=sha256(b"")), "its diff ID is .*, and should be sha256:e3b0c44"),
    "history too short": ("config", put("history", 0, to=...), "history: has 1 rows that are no empty layers, for 2 layers"),
    "history of strings": ("config", put("history", 1, to="x"), r"history\[1\]: is an object"),
    "history with a wrong flag": ("config", put("history", 1, "empty_layer", to="yes"), r"history\[1\].empty_layer: is true or false"),
    "history with a wrong time": ("config", put("history", 0, "created", to="now"), r"history\[0\].created: 'now'"),
    "variables no list": ("config", put("config", "Env", to={"A": "b"}), "Env is a list"),
    "a variable without value": ("config", put("config", "Env", to=["A"]), "Env: 'A' is not NAME=VALUE"),
    "a port that is none": ("config", put("config", "ExposedPorts", to={"http": {}}), "ExposedPorts: 'http' is not a port"),
    "a user that is a number": ("config", put("config", "User", to=0), "User is a string"),
    "a property in other case": ("config", put("config", "cmd", to="foo"), "config: 'cmd' is written Cmd"),
    "a property by Go's folding": ("config", put("config", "\u017fhell", to=1), "is written Shell"),
    "what the image is in other case": ("config", put("Architecture", to=5), "'Architecture' is written architecture"),
    "diff IDs in other case": ("config", put("rootfs", "DIFF_IDS", to=7), "rootfs: 'DIFF_IDS' is written diff_ids"),
    "a row in other case": ("config", put("history", 0, "EMPTY_LAYER", to=True), r"history\[0\]: 'EMPTY_LAYER' is written"),
    "docker's version a number": ("config", put("docker_version", to=5), "docker_version: is a string"),
    "docker's size a text": ("config", put("Size", to="x"), "Size: is a number"),
    "docker's size too large": ("config", put("Size", to=2**64), "Size: is a number"),
    "config no object": ("config", put("config", to=[]), "config: is an object"),
    "manifest of version 1": ("manifest", put("schemaVersion", to=1), "schemaVersion: is 2, and not 1"),
    "manifest without version": ("manifest", put("schemaVersion", to=...), "schemaVersion: is 2, and not None"),
    "manifest that says it is an index": ("manifest", put("mediaType", to=LAYER), "mediaType: .* is not that of such"),
    "manifest without config": ("manifest", put("config", to=...), "config: is required"),
    "manifest without layers": ("manifest", put("layers", to=...), "there are 2 for 0 layers"),
    "layers no list": ("manifest", put("layers", to={}), "layers: is a list"),
    "a layer no object": ("manifest", put("layers", 0, to="x"), r"layers\[0\]: is an object"),
    "a layer of no known type": ("manifest", put("layers", 0, "mediaType", to="text/plain"), "'text/plain' is not that of a layer"),
    "no media type at all": ("manifest", put("layers", 0, "mediaType", to="x"), "'x' is not a media type"),
    "a layer of another compression": ("manifest", put("layers", 0, "mediaType", to=LAYER + "+zstd"), "says zstd, .* are gzip"),
    "a layer that is not plain": ("manifest", put("layers", 0, "mediaType", to=LAYER), "says not compressed, .* are gzip"),
    "a layer's size": ("manifest", put("layers", 0, "size", to=7), r"has \d+ bytes, and should have 7"),
    "a size less than nothing": ("manifest", put("layers", 0, "size", to=-7), "size: -7 is less than nothing"),
    "a size that is text": ("manifest", put("layers", 0, "size", to="7"), "size: is a number"),
    "a size that is true": ("manifest", put("layers", 0, "size", to=True), "size: is a number"),
    "a digest that is none": ("manifest", put("layers", 0, "digest", to="sha256:../../x"), "is not a digest"),
    "a digest of nothing there": ("manifest", put("layers", 0, "digest", to=sha256(b"")), "is missing, or is no regular file"),
    "annotations of numbers": ("manifest", put("annotations", to={"a": 1}), "annotations: is an object of strings"),
    "data that is another": ("manifest", put("config", "data", to=base64.b64encode(b"x").decode()), "data: is not what digest"),
    "data that is no base64": ("manifest", put("config", "data", to="?"), "data: is not base64"),
    "layers in other case": ("manifest", put("Layers", to=[]), "'Layers' is written layers"),
    "a digest in other case": ("manifest", put("layers", 0, "Digest", to="x"), r"layers\[0\]: 'Digest' is written digest"),
    "manifests in other case": ("index", put("MANIFESTS", to=[]), "index.json: 'MANIFESTS' is written manifests"),
    "index of version 1": ("index", put("schemaVersion", to=1), "index.json: schemaVersion: is 2"),
    "index of another type": ("index", put("mediaType", to=LAYER), "index.json: mediaType"),
    "index without manifests": ("index", put("manifests", to=...), "lists no image"),
    "another platform": ("index", put("manifests", 0, "platform", "architecture", to="arm64"), "the index says linux/arm64"),
    "half a platform": ("index", put("manifests", 0, "platform", "os", to=...), r"manifests\[0\].platform.os: is required"),
    "a manifest's size": ("index", put("manifests", 0, "size", to=1), "should have 1, says index.json"),
    "a manifest that is not there": ("index", put("manifests", 0, "digest", to=sha256(b"")), "is missing"),
}  # fmt: skip


TAKEN = {
    "no architecture", "no os", "history too short", "manifest of version 1", "manifest without version",
    "a layer of another compression", "a layer that is not plain", "index of version 1", "another platform", "half a platform",
}  # fmt: skip
"""What engines take, so that it is unusual and no problem."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_wrong_is_named(folder: Path, name: str) -> None:
    """Each property that is missing, of a wrong type or untrue is a problem, however well the digests fit."""
    document, change, expected = DOCUMENTS[name]
    made = Made(folder / "layout", change={document: change}).write()
    found = unusual(made.folder) if name in TAKEN else problems(made.folder)
    assert re.search(expected, found), found
    archive = made.archive(folder / "archive.tar")
    assert (unusual(archive) if name in TAKEN else problems(archive)) == found
    assert bool(problems(archive)) == (name not in TAKEN)


@pytest.mark.parametrize(("document", "path"), [("index", "Manifests"), ("manifest", "LAYERS"), ("config", "RootFS")])
def test_names_of_which_engines_read_another_are_not_read(folder: Path, document: str, path: str) -> None:
    """Engines ignore the case of names: of an image that has a name twice for them, no layer is read."""
    made = Made(folder, change={document: put(path, to=[])}).write()
    with pytest.raises(InputError, match=f"'{path}' is written"):
        read_images(str(made.folder), no_spool)


def test_what_the_spec_does_not_know_is_a_note(folder: Path) -> None:
    """Unknown properties are no problem anywhere; where one may be a slip, a note says so."""

    def change(document: Any) -> None:
        document["com.example"] = 1
        document.get("config", {})["Entrypoin"] = ["x"]
        document.get("config", {})["Healthcheck"] = {"Intervall": 1}

    made = Made(folder, change={"config": change, "manifest": put("x", to=1), "index": put("y", to=1)}).write()
    assert problems(folder) == ""
    assert "config.Entrypoin: the image-spec has no such property" in notes(made.folder)
    assert "config.Healthcheck.Intervall: the image-spec has no such property" in notes(made.folder)


def test_a_name_that_stands_twice_in_an_object(folder: Path) -> None:
    """Readers take one or the other, so that it is a problem."""
    made = Made(folder).write()
    index = made.folder / "index.json"
    index.write_text(index.read_text().replace('{"schemaVersion": 2', '{"schemaVersion": 2, "schemaVersion": 2'))
    assert "index.json: an object has 'schemaVersion' twice" in problems(folder)
    with pytest.raises(InputError, match="twice"):
        read_images(str(folder), no_spool)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": "\\ud800"}', "[" * 100_000, '{"a": 1e999}'])
def test_json_that_cannot_be_written_again(folder: Path, text: str) -> None:
    """NaN, half a character and what is nested too deep are refused where an image is read, and problems here."""
    made = Made(folder).write()
    index = made.folder / "index.json"
    index.write_text(index.read_text()[:-1] + f', "more": {text}}}')
    assert "index.json: is not JSON" in problems(folder)
    with pytest.raises(InputError, match="is not JSON"):
        read_images(str(folder), no_spool)


@pytest.mark.parametrize(
    ("document", "change", "expected"),
    [
        ("config", put("os", to="lin\x1b[31mux"), "os: .* is not a word"),
        ("config", put("rootfs", "diff_ids", 0, to="sha512:" + "0" * 128), "is not a digest by sha256"),
        ("config", put("config", "StopSignal", to="SIGFOO"), "StopSignal: 'SIGFOO' is not a signal"),
        ("config", put("config", "WorkingDir", to="srv"), "WorkingDir: 'srv' is not an absolute path"),
        ("config", put("config", "ExposedPorts", to={"99999/tcp": {}}), "'99999/tcp' is not a port"),
        ("config", put("config", "Healthcheck", to={"Test": "true"}), "Healthcheck: Test is a list"),
        ("index", put("manifests", 0, "annotations", to={"org.opencontainers.image.ref.name": "\x1b[2J"}), "is no name"),
    ],
)
def test_what_is_refused_is_not_valid(folder: Path, document: str, change: Change, expected: str) -> None:
    """What ``image`` does not take from a user or a base is a problem in an image, too."""
    Made(folder, change={document: change}).write()
    assert re.search(expected, problems(folder)), problems(folder)


def test_an_attestation_is_no_image(folder: Path) -> None:
    """What buildx adds to each image by default is a note, listed with an unknown platform or without any."""
    made = Made(folder).write()
    index = json.loads((folder / "index.json").read_text())
    statement = made.blob(b"{}", "application/vnd.in-toto+json")
    config = {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}}
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [statement],
        "config": made.blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
    }  # fmt: skip
    row = made.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
    for platform in ({}, {"platform": {"architecture": "unknown", "os": "unknown"}}):
        (folder / "index.json").write_text(json.dumps(index | {"manifests": [*index["manifests"], row | platform]}))
        assert problems(folder) == ""
        assert "is no image, as it is for no platform" in notes(folder) or "is no image, as what it holds is" in notes(folder)


def test_a_platform_that_was_left_out(folder: Path) -> None:
    """Of an image for several platforms ``docker save`` leaves out those that it does not have; one has to be there."""
    made = Made(folder).write()
    index = json.loads((folder / "index.json").read_text())
    absent = index["manifests"][0] | {"digest": sha256(b""), "platform": {"architecture": "s390x", "os": "linux"}}
    index["manifests"].append(absent)
    (folder / "index.json").write_text(json.dumps(index))
    assert problems(folder) == ""
    assert "an image that is not here may be left out" in notes(folder)
    index["manifests"] = [absent]
    (made.folder / "index.json").write_text(json.dumps(index))
    assert "is missing" in problems(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, ""),
        (lambda files: files.pop("2/layer.tar"), "'2/layer.tar' is missing"),
        (lambda files: files.update({"2/layer.tar": LOWER}), "2/layer.tar: its diff ID is"),
        (lambda files: files.update({"2/layer.tar": gzip.compress(UPPER)[:-9]}), "2/layer.tar: "),
        (lambda files: files.update({next(n for n in files if len(n) > 60): b"{}"}), "the bytes are sha256:.*, and should be"),
        (lambda files: files.update({"manifest.json": b"[]"}), "lists no image"),
        (lambda files: files.update({"manifest.json": b"[3]"}), r"manifest.json: \[0\]: is an object"),
        (lambda files: files.update({"manifest.json": b'[{"Layers": ["1/layer.tar"]}]'}), "Config: is required"),
    ],
)
def test_a_docker_archive(folder: Path, change: Callable[[dict[str, bytes]], object], expected: str) -> None:
    """A docker-archive's layers and configs are compared with diff IDs and names."""
    found = problems(docker_archive(folder / "a.tar", change))
    assert re.search(expected, found), found
    assert bool(found) == bool(expected)
