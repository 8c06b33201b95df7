"""Image layouts: what is in one, and those that are made by hand."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from helpers.images import sha256

BASE = {
    "architecture": "amd64", "os": "linux", "created": "2020-02-02T02:02:02.123456789Z", "author": "before",
    "config": {
        "Env": ["PATH=/bin", "A=base"], "Labels": {"a": "base", "b": "base"}, "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/a": {}},
        "Cmd": ["base"], "User": "base", "Entrypoint": None, "Unknown": {"deep": [1, 2.5, "é\x00", None]}, "OnBuild": None,
    },
    "history": [{"created": "2020-02-02T02:02:02Z", "created_by": "base", "comment": "x"}, {"empty_layer": True, "created_by": "ENV"}],
    "rootfs": {"type": "layers", "diff_ids": []}, "os.version": "10.0", "moby.buildkit": {"big": 12345678901234567890, "list": []},
    "container_config": {"Image": "sha256:x"},
}  # fmt: skip
"""A config with what docker writes beside image-spec's properties."""
LAYOUT_FILES = {"blobs", "index.json", "oci-layout"}


def blob_of(layout: Path, digest: str) -> Path:
    """Say where a blob of a layout lies."""
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")


def manifest_of(layout: Path, number: int = 0) -> dict[str, Any]:
    """Read a manifest of a layout."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest: dict[str, Any] = json.loads(blob_of(layout, index["manifests"][number]["digest"]).read_bytes())
    return manifest


def config_of(layout: Path, number: int = 0) -> dict[str, Any]:
    """Read the config of an image in a layout."""
    config: dict[str, Any] = json.loads(blob_of(layout, manifest_of(layout, number)["config"]["digest"]).read_bytes())
    return config


def unpacked(blob: Path) -> bytes:
    """Read a blob as the programs do that people have."""
    program = {b"\x1f\x8b": ["gzip", "-dc"], b"\x28\xb5": ["zstd", "-qdc"]}.get(blob.read_bytes()[:2])
    if program is None:
        return blob.read_bytes()
    with open(blob, "rb") as file:
        return subprocess.run(program, stdin=file, check=True, capture_output=True).stdout


def assert_layout_true(layout: Path) -> None:
    """Check every claim of a layout: each blob is what its name and its descriptor say, and no other is there."""
    assert set(os.listdir(layout)) == LAYOUT_FILES
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    named: dict[str, int] = {}
    for number, row in enumerate(json.loads((layout / "index.json").read_bytes())["manifests"]):
        manifest = manifest_of(layout, number)
        config = config_of(layout, number)
        for one in (row, manifest["config"], *manifest["layers"]):
            named[one["digest"]] = one["size"]
        plain = [sha256(unpacked(blob_of(layout, one["digest"]))) for one in manifest["layers"]]
        assert config["rootfs"] == {"type": "layers", "diff_ids": plain}
    there = {sha256(path.read_bytes()): path.stat().st_size for path in (layout / "blobs/sha256").iterdir()}
    assert there == named
    assert {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()} == set(named)


def put(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Put a blob into a layout."""
    blob_of(layout, sha256(data)).write_bytes(data)
    return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": sha256(data), "size": len(data)}


def layout_of(folder: Path, config: object, layers: list[bytes], **more: Any) -> Path:
    """Write an image layout by hand, with plain layers."""
    (folder / "blobs/sha256").mkdir(parents=True)
    if isinstance(config, dict) and "diff_ids" in (config.get("rootfs") or {}):
        config = config | {"rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}}
    manifest = {
        "schemaVersion": 2,
        "config": put(folder, json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(folder, layer, "layer.v1.tar") for layer in layers],
    }
    row = put(folder, json.dumps(manifest | more).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def tar_of(**files: bytes) -> bytes:
    """Make a tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def old_docker_archive(path: Path, layers: list[bytes], tag: str) -> Path:
    """Write what ``docker save`` wrote of old: a layer that is there twice is a link the second time."""
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": ["A=docker"]}, "docker_version": "1.10",
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
    }  # fmt: skip
    first: dict[bytes, str] = {}
    with tarfile.open(path, "w") as archive:

        def put(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        for number, layer in enumerate(layers):
            folder = tarfile.TarInfo(f"{number:064x}/")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            put(f"{number:064x}/VERSION", b"1.0")
            if layer in first:
                link = tarfile.TarInfo(f"{number:064x}/layer.tar")
                link.type, link.linkname = tarfile.SYMTYPE, f"../{first[layer]}/layer.tar"
                archive.addfile(link)
            else:
                put(f"{number:064x}/layer.tar", layer)
                first[layer] = f"{number:064x}"
        put("config.json", json.dumps(config).encode())
        put("repositories", b"{}")
        names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
        put("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).encode())
    return path
