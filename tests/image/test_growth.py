"""Twice as much to read takes twice the work: what is counted is the lines of this package that run, never seconds."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import rootless_layer
from rootless_layer.cache.bases import open_base
from rootless_layer.check.diff import compare
from rootless_layer.check.inspect import inspect
from rootless_layer.check.validate import validate
from rootless_layer.errors import InputError
from rootless_layer.image.read import read_images
from rootless_layer.image.stored import MOST_READ
from rootless_layer.layer.changeset import changeset
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar.unpack import unpack_tar
from rootless_layer.tree.base import Delta

PACKAGE = str(Path(rootless_layer.__file__).parent)
MOST = 2.3
"""Of what is in proportion twice as much, and some for what grows with the logarithm or happens to be one more."""


def work(do: Callable[[], object]) -> int:
    """Count the lines of the package that run, each turn of a comprehension as one, in every thread."""
    count = 0

    def line(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: FrameType, _event: str, _argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    threading.settrace(call)
    sys.settrace(call)
    try:
        do()
    finally:
        sys.settrace(before)
        threading.settrace(before)  # type: ignore[arg-type]
    return count


Members = list[tuple[str, bytes, str]]


def tar(members: Members) -> bytes:
    """Make a tar of members: a name, a type, and a link's target."""
    made = bytearray()
    for name, kind, target in members:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        made += info.tobuf(tarfile.PAX_FORMAT)
    return bytes(made) + bytes(1024)


def digest(data: bytes) -> str:
    """Give a digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layout(folder: Path, layers: list[bytes], *, rows: int = 1, names: int = 1, history: int = 0) -> str:
    """Write an image layout, whose index lists one manifest any number of times, each under some names."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        (folder / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

    config = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        "history": [{"created_by": "x"}] * len(layers) + [{"empty_layer": True}] * history,
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(layer, "layer.v1.tar") for layer in layers],
    }  # fmt: skip
    row = put(json.dumps(manifest).encode(), "manifest.v1+json")
    listed = [row | {"annotations": {"org.opencontainers.image.ref.name": f"n{number % names}"}} for number in range(rows)]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(folder)


def files(count: int) -> Members:
    """Many files of one directory."""
    return [("d", tarfile.DIRTYPE, ""), *((f"d/{number}", tarfile.REGTYPE, "") for number in range(count))]


def by_turns(count: int) -> Members:
    """A path that is a directory and a file by turns, beside many others."""
    every = [
        [(f"d/{number}", tarfile.REGTYPE, ""), ("x", tarfile.DIRTYPE, ""), ("x", tarfile.REGTYPE, "")] for number in range(count)
    ]
    return [("d", tarfile.DIRTYPE, ""), *(one for some in every for one in some)]


def links(count: int) -> Members:
    """One file of many names."""
    return [("a", tarfile.REGTYPE, ""), *((f"b{number}", tarfile.LNKTYPE, "a") for number in range(count))]


def whiteouts(count: int) -> Members:
    """Many whiteouts, and opaque directories."""
    return [(f"d/.wh.{number}", tarfile.REGTYPE, "") for number in range(count)]


def deep(count: int) -> Members:
    """Directories one in another: the paths' own length grows with their number, and is not counted."""
    return [("/".join("d" * level), tarfile.DIRTYPE, "") for level in range(1, count + 1)]


KINDS = {"files": files, "by turns": by_turns, "links": links, "whiteouts": whiteouts}


def none() -> str:
    """Name no file: nothing here is compressed."""
    raise AssertionError


def unpack(path: str, folder: Path) -> object:
    """Unpack a base."""
    [stored] = read_images(path, none)
    with Temporary() as temporary:
        return open_base(stored.image, folder, temporary)


READERS: dict[str, Callable[[str, Path], object]] = {
    "validate": lambda path, _: validate(path, none),
    "inspect": lambda path, _: [one.to_json(listed=True) for one in inspect(path, none)],
    "diff": lambda path, _: compare(read_images(path, none)[0].image, read_images(path, none)[0].image),
    "unpack": unpack,
}


def grows(folder: Path, make: Callable[[Path, int], str], read: Callable[[str, Path], object], count: int) -> float:
    """Give by how much the work grows where there is twice as much; the first time is for what is loaded once."""
    paths = [(make(folder / f"layout-{number}", number), folder / f"cache-{number}") for number in (2, count, 2 * count)]
    counted = [work(lambda path=path, cache=cache: read(path, cache)) for path, cache in paths]  # type: ignore[misc]
    return counted[2] / counted[1]


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_members(tmp_path: Path, kind: Callable[[int], Members], read: Callable[[str, Path], object]) -> None:
    """Twice the members of a layer, whatever they do to one another, take twice the work."""
    below = tar(files(400))
    assert grows(tmp_path, lambda folder, count: layout(folder, [below, tar(kind(count))]), read, 200) < MOST


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_members_of_a_root_filesystem(tmp_path: Path, kind: Callable[[int], Members]) -> None:
    """The same for a tar that a layer starts from."""

    def make(path: Path, count: int) -> str:
        path.write_bytes(tar(kind(count)))
        return str(path)

    assert grows(tmp_path, make, lambda path, spool: unpack_tar(path, str(spool), 1), 200) < MOST


@pytest.mark.parametrize(
    "read", [READERS["validate"], READERS["inspect"], READERS["unpack"]], ids=["validate", "inspect", "unpack"]
)
def test_layers(tmp_path: Path, read: Callable[[str, Path], object]) -> None:
    """Twice the layers, above one of many files, take twice the work."""

    def make(folder: Path, count: int) -> str:
        return layout(folder, [tar(files(100)), *(tar([(f"e{number}", tarfile.REGTYPE, "")]) for number in range(count))])

    assert grows(tmp_path, make, read, 20) < MOST


ROWS: dict[str, Callable[[Path, int], str]] = {
    "rows": lambda folder, count: layout(folder, [tar(files(30))], rows=count),
    "names": lambda folder, count: layout(folder, [tar(files(30))], rows=count, names=count),
    "history": lambda folder, count: layout(folder, [tar([])], history=count),
    "rows of much history": lambda folder, count: layout(folder, [tar([])], rows=count, history=count),
}


@pytest.mark.parametrize("read", [READERS["validate"], READERS["inspect"]], ids=["validate", "inspect"])
@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_what_an_index_lists(tmp_path: Path, make: Callable[[Path, int], str], read: Callable[[str, Path], object]) -> None:
    """Twice the rows of an index, names of an image or rows of its history take twice the work: not their product."""
    assert grows(tmp_path, make, read, 60) < MOST


def test_deep_paths(tmp_path: Path) -> None:
    """Directories one in another, twice as deep, take twice the work in unpacking them."""
    assert grows(tmp_path, lambda folder, count: layout(folder, [tar(deep(count))]), READERS["unpack"], 100) < MOST


def test_names_of_one_file_in_a_layer(tmp_path: Path) -> None:
    """A layer that has another half of a file's names is made in proportion to the names."""

    def make(folder: Path, count: int) -> str:
        return layout(folder, [tar(links(count))])

    def change(path: str, cache: Path) -> object:
        [stored] = read_images(path, none)
        with Temporary() as temporary:
            base = open_base(stored.image, cache, temporary)
        gone = frozenset(sorted(base.entries)[: len(base.entries) // 2])
        return changeset(base, Delta({b"": base.entries[b""]}, gone - {b""}), 1), base.with_({})

    assert grows(tmp_path, make, change, 200) < MOST


def test_more_layers_than_are_read(tmp_path: Path) -> None:
    """An image of a hundred thousand layers is refused at once, by the number, and is no valid one."""
    path = layout(tmp_path / "layout", [tar([])] * (MOST_READ + 1))
    with pytest.raises(InputError, match="1001 layers"):
        read_images(path, none)
    assert "1001" in " ".join(map(str, validate(path, none).problems))
