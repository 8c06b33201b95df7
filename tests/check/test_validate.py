"""Every claim of an image or a layer is computed again: what is true passes, and each kind of damage is named."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import CLOSED, assert_said
from helpers.images import (
    BAD_LAYERS,
    DIRECTORY,
    FILE,
    LAYER,
    LINK,
    LOWER,
    ODD_LAYERS,
    UPPER,
    Change,
    Made,
    check,
    docker_archive,
    no_spool,
    notes,
    problems,
    put,
    sha256,
    tar,
)
from helpers.place import remove
from helpers.users import COMMAND, User, make_user
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer.check.diff import compare
from rootless_layer.check.inspect import inspect
from rootless_layer.check.validate import validate
from rootless_layer.cli.statuses import INVALID
from rootless_layer.errors import InputError, RootlessLayerError
from rootless_layer.image.read import read_images
from rootless_layer.oci.findings import Findings
from rootless_layer.oci.reference import REF_NAME

# --- what is whole passes ---


def test_a_whole_layout_has_no_problem(folder: Path) -> None:
    """A layout with whiteouts, links and a history passes, without a note, and all of it was looked at."""
    made = Made(folder / "layout").write()
    found = check(made.folder)
    assert found == Findings((), (), 1, 2, 8)
    assert found.valid
    assert check(made.archive(folder / "archive.tar")) == found


@pytest.fixture(scope="module")
def built(shared: Path) -> Iterator[Path]:
    """Layers of ours and what is made of them: stored and derived, in every form of an image."""
    user = make_user(shared, "somebody")
    tree = user.home / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/name").write_text("name")
    (tree / "etc/name").chmod(0o4755)
    (tree / "etc/odd \\\n").write_text("x" * 300_000)
    (tree / "etc/link").symlink_to("name")
    for name, options in {"plain": [], "gzip": ["--compression", "gzip"], "zstd": ["--compression", "zstd"]}.items():
        assert user.build("--copy-to-root", tree, "--uid", "7", *options, output=name).status == 0
    assert (
        user.build("--copy-to-root", tree, "--uid", "7", "--compression", "gzip", "--blob", "derived", output="derived").status
        == 0
    )
    layers = [word for name in ("plain", "gzip", "derived") for word in ("--layer", user.home / name)]
    for name, kind in (("layout", "layout"), ("a.tar", "archive"), ("docker.tar", "docker-archive")):
        assert user.run([*COMMAND, "image", *layers, "-t", "a:1", "-f", kind, "-o", user.home / name]).status == 0
    (user.home / "a.tar.gz").write_bytes(gzip.compress((user.home / "a.tar").read_bytes()))
    yield user.home
    remove(user.home)


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


# --- documents ---


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
    "manifest without version": ("manifest", put("schemaVersion", to=...), "schemaVersion: is required"),
    "manifest that says it is an index": ("manifest", put("mediaType", to=LAYER), "mediaType: .* is not that of such"),
    "manifest without config": ("manifest", put("config", to=...), "config: is required"),
    "manifest without layers": ("manifest", put("layers", to=...), "layers: is required"),
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
    "index without manifests": ("index", put("manifests", to=...), "index.json: manifests: is required"),
    "another platform": ("index", put("manifests", 0, "platform", "architecture", to="arm64"), "the index says 'arm64'"),
    "half a platform": ("index", put("manifests", 0, "platform", "os", to=...), r"manifests\[0\].platform.os: is required"),
    "a manifest's size": ("index", put("manifests", 0, "size", to=1), "should have 1, says index.json"),
    "a manifest that is not there": ("index", put("manifests", 0, "digest", to=sha256(b"")), "is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_wrong_is_named(folder: Path, name: str) -> None:
    """Each property that is missing, of a wrong type or untrue is a problem, however well the digests fit."""
    document, change, expected = DOCUMENTS[name]
    made = Made(folder / "layout", change={document: change}).write()
    found = problems(made.folder)
    assert re.search(expected, found), found
    assert problems(made.archive(folder / "archive.tar")) == found


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
    assert "is not here: an image for another platform" in notes(folder)
    index["manifests"] = [absent]
    (made.folder / "index.json").write_text(json.dumps(index))
    assert "is missing" in problems(folder)


# --- files ---


def flip(path: Path) -> None:
    """Change a byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[:-9])


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
    found = problems(folder)
    assert re.search(expected, found), found


def test_all_that_is_wrong_is_listed(folder: Path) -> None:
    """One problem does not hide the next: documents, blobs and what is in the layers are all looked at."""
    lower = tar(("a", FILE), ("a/x", FILE), ("b", LINK, "c"))
    made = Made(folder, [lower, UPPER], {"config": put("os", to=1), "manifest": put("schemaVersion", to=3)}).write()
    flip(made.folder / "oci-layout")
    made.layer(1).unlink()
    found = problems(folder)
    for expected in ("oci-layout: ", "os: ", "schemaVersion: ", "/a is not a directory", "/b: the hard link's", "is missing"):
        assert expected in found
    assert len(found.splitlines()) >= 6


def test_what_the_archive_has_twice(folder: Path) -> None:
    """A file that is in the archive twice is a problem."""
    made = Made(folder / "layout").write()
    path = made.archive(folder / "archive.tar")
    with tarfile.open(path, "a") as archive:
        archive.add(made.folder / "index.json", "./index.json")
    assert "index.json: is in the archive more than once" in problems(path)


def test_an_archive_that_ends_early_is_an_error(folder: Path) -> None:
    """An archive that was cut off within a file cannot be looked into, and says so."""
    path = Made(folder / "layout").write().archive(folder / "archive.tar")
    os.truncate(path, 3000)
    with pytest.raises(RootlessLayerError, match=r"archive\.tar"):
        check(path)


# --- a docker-archive ---


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


# --- what a layer holds ---


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_layer_that_no_reader_should_take(folder: Path, name: str) -> None:
    """What would be unpacked differently by different readers, or not at all, is a problem that names the path."""
    layer, expected = BAD_LAYERS[name]
    made = Made(folder, [LOWER, layer]).write()
    found = problems(folder)
    assert re.search(expected, found), found
    assert made.layer(1).name in found


@pytest.mark.parametrize("name", ODD_LAYERS)
def test_what_is_allowed_and_odd_is_a_note(folder: Path, name: str) -> None:
    """What readers take, and a person may want to know, is a note and no problem."""
    layer, expected = ODD_LAYERS[name]
    Made(folder, [LOWER, layer]).write()
    assert problems(folder) == ""
    assert expected in notes(folder)


@pytest.mark.parametrize(
    "layer",
    [
        tar(("./", DIRECTORY), ("./etc/", DIRECTORY), ("./etc/x", FILE, b"x")),
        tar(("etc/x", FILE), (".wh.old", FILE), ("etc/.wh.a", FILE), ("etc/.wh..wh..opq", FILE)),
        tar((".wh.etc", FILE), ("etc", DIRECTORY), ("etc/x", FILE)),
        tar(("ü" * 120, FILE, b"x"), ("y" * 200, LINK, "ü" * 120)),
        tar(("x", FILE, b"x", {"pax_headers": {"SCHILY.xattr.user.a": "b"}})),
        tar(("x", tarfile.CHRTYPE, b"", {"devmajor": 1, "devminor": 3}), ("y", tarfile.FIFOTYPE)),
        tar(),
    ],
)
def test_what_any_reader_takes_is_not_even_a_note(folder: Path, layer: bytes) -> None:
    """Names with a dot before, whiteouts in any order, long names, attributes and devices are as they should be."""
    Made(folder, [LOWER, layer]).write()
    assert check(folder).problems == ()
    assert check(folder).notes == ()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (lambda data: gzip.compress(data)[:-4], "blobs/sha256/"),
        (lambda data: gzip.compress(data)[:-8] + bytes(8), "blobs/sha256/"),
        (lambda data: gzip.compress(data) + b"garbage", "blobs/sha256/"),
        (lambda data: gzip.compress(data[:1536]) + gzip.compress(data[1536:]), ""),
    ],
)
def test_a_compressed_layer_that_is_damaged(folder: Path, stored: Callable[[bytes], bytes], expected: str) -> None:
    """A gzip stream that ends early, or has a wrong checksum, is a problem even where the digest fits; two members are none."""
    Made(folder, stored=stored).write()
    found = problems(folder)
    assert bool(found) == bool(expected), found
    assert expected in found


def test_several_images_share_what_was_read(folder: Path) -> None:
    """A layer that two images have is read once; what is wrong with it is said once."""
    bad = tar(("x", LINK, "none"))
    made = Made(folder, [bad]).write()
    first = json.loads((folder / "index.json").read_text())
    made.change["config"] = put("author", to="another")
    made.write()
    second = json.loads((folder / "index.json").read_text())
    first["manifests"] += second["manifests"]
    (folder / "index.json").write_text(json.dumps(first))
    found = check(folder)
    assert (found.images, found.layers, len(found.problems)) == (2, 1, 1)


# --- a layer's directory ---


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


# --- whatever stands in it ---


def survive(path: Path) -> None:
    """Look at something in every way: there are findings, or an error of ours, and nothing else."""
    look: list[Callable[[], object]] = [
        lambda: validate(str(path), no_spool).to_json(),
        lambda: [(one.to_json(listed=True), list(one.lines(listed=True))) for one in inspect(str(path), no_spool)],
        lambda: [list(compare(one.image, one.image).lines()) for one in read_images(str(path), no_spool)],
    ]
    for each in look:
        try:
            each()
        except RootlessLayerError as error:
            assert str(error)


MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=12), st.integers(0, 600)), min_size=1, max_size=3
)


def edited(data: bytes, edits: list[tuple[float, bytes, int]]) -> bytes:
    """Replace runs of bytes by others."""
    for place, new, gone in edits:
        at = int(place * len(data))
        data = data[:at] + new + data[at + (len(new) if gone < 300 else gone) :]
    return data


@MANY
@given(edits=EDITS)
def test_mutated_archives(folder: Path, edits: list[tuple[float, bytes, int]]) -> None:
    """Whatever bytes of an archive are others, there are findings or errors that name it, and no traceback."""
    source = folder / "source"
    if not source.exists():
        Made(source, stored=lambda data: data, media_type=LAYER).write().archive(folder / "good.tar")
    path = folder / "bad.tar"
    path.write_bytes(edited((folder / "good.tar").read_bytes(), edits))
    survive(path)


@MANY
@given(edits=EDITS)
def test_mutated_layers(shared: Path, edits: list[tuple[float, bytes, int]]) -> None:
    """Whatever stands in a layer whose digests are right, there are findings or errors."""
    with tempfile.TemporaryDirectory(dir=shared) as name:
        Made(Path(name), [LOWER, edited(UPPER, edits)], stored=lambda data: data, media_type=LAYER).write()
        survive(Path(name))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just("sha256:" + "0" * 64),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of everything in a document."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


@MANY
@given(document=st.sampled_from(["config", "manifest", "index"]), place=st.integers(0, 99), value=JSON)
def test_mutated_documents(shared: Path, document: str, place: int, value: Any) -> None:
    """Whatever stands in a document whose digests are right, there are findings or errors."""

    def change(given: Any) -> None:
        there = list(places(given))
        put(*there[place % len(there)], to=copy.deepcopy(value))(given)

    with tempfile.TemporaryDirectory(dir=shared) as name:
        Made(Path(name), change={document: change}).write()
        survive(Path(name))


@MANY
@given(kind=st.sampled_from(["gzip", "derived"]), edits=EDITS, place=st.integers(0, 99), value=JSON, form=st.booleans())
def test_mutated_directories(
    shared: Path, built: Path, kind: str, edits: list[tuple[float, bytes, int]], place: int, value: Any, *, form: bool
) -> None:
    """Whatever stands in ``layer.json`` or the listing, there are findings or errors."""
    with tempfile.TemporaryDirectory(dir=shared) as name:
        folder = Path(name, "layer")
        shutil.copytree(built / kind, folder)
        said = json.loads((folder / "layer.json").read_text())
        if form:
            there = list(places(said))
            put(*there[place % len(there)], to=value)(said)
            (folder / "layer.json").write_text(json.dumps(said))
        else:
            file = folder / "layer.mtree"
            file.write_bytes(edited(file.read_bytes(), edits))
        survive(folder)
