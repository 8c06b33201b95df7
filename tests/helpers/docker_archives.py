"""What ``docker save`` writes, by the versions that changed it, from facts of moby's sources (``image/tarexport/save.go``).

20.10 and 24 write ``<id>/layer.tar``; 25.0.0 a layout as well, whose manifest has no layers at all; 25.0.3 and all since one whose
layers have neither type nor digest. Docker with containerd's store writes containerd's layout (``core/images/archive``), in which
platforms may be absent, and a ``manifest.json`` of the platform that is there.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .image_layouts import old_docker_archive
from .images import LAYER, gzipped, sha256

OCI = "application/vnd.oci.image."
PLATFORM = {"architecture": "amd64", "os": "linux"}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """Write files into a tar."""
    with tarfile.open(path, "w") as made:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            made.addfile(header, io.BytesIO(data))
    return path


def blob(files: dict[str, bytes], data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """Put a blob among files; give its descriptor."""
    files["blobs/" + sha256(data).replace(":", "/")] = data
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def document(files: dict[str, bytes], said: Any, media_type: str, **more: Any) -> dict[str, Any]:
    """Put a document among files; give its descriptor."""
    return blob(files, json.dumps(said).encode(), media_type, **more)


def config_of(layers: list[bytes]) -> dict[str, Any]:
    """Give a config."""
    return {**PLATFORM, "config": {"Env": ["A=docker"]}, "rootfs": {"type": "layers", "diff_ids": list(map(sha256, layers))}}


def of_25(path: Path, layers: list[bytes], tag: str, *, empty: bool = True) -> Path:
    """Write what Docker 25.0.0 wrote, and with descriptors that are not ``empty``, 25.0.3 and all since with the old store."""
    files: dict[str, bytes] = {}
    config = document(files, config_of(layers), OCI + "config.v1+json", platform=PLATFORM)
    for layer in layers:
        blob(files, layer, LAYER)
    rows = [] if empty else [{"mediaType": "", "digest": "", "size": 0} for _ in layers]
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": rows}
    names = {"io.containerd.image.name": f"docker.io/library/{tag}", "org.opencontainers.image.ref.name": tag.partition(":")[2]}
    row = document(files, manifest, OCI + "manifest.v1+json", platform=PLATFORM, annotations=names)
    return archive(path, {**files, **layout([row]), "manifest.json": docker_manifest(config, layers, tag), "repositories": b"{}"})


def docker_manifest(config: dict[str, Any], layers: list[bytes], tag: str) -> bytes:
    """Give ``manifest.json`` of layers in ``blobs``."""
    named = ["blobs/" + sha256(layer).replace(":", "/") for layer in layers]
    row = {"Config": "blobs/" + config["digest"].replace(":", "/"), "RepoTags": [tag], "Layers": named}
    return json.dumps([row]).encode()


def layout(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """Give the two files that make a layout."""
    index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": rows}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}


def of_containerd(path: Path, layers: list[bytes], tag: str) -> Path:
    """Write what Docker with containerd's store writes of an image by buildx: another platform is absent, an attestation is there."""
    files: dict[str, bytes] = {}
    stored = [gzipped(layer) for layer in layers]
    config = document(files, config_of(layers), OCI + "config.v1+json")
    rows = [blob(files, layer, LAYER + "+gzip") for layer in stored]
    here = document(files, {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": rows},
                    OCI + "manifest.v1+json", platform=PLATFORM)  # fmt: skip
    gone = {
        "mediaType": OCI + "manifest.v1+json",
        "digest": sha256(b"gone"),
        "size": 4,
        "platform": {"architecture": "s390x", "os": "linux"},
    }
    statement = blob({}, b'{"_type": "x"}', "application/vnd.in-toto+json")
    unknown = {"architecture": "unknown", "os": "unknown"}
    about = {**unknown, "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}}
    attestation = document(files, {"schemaVersion": 2, "config": document(files, about, OCI + "config.v1+json"), "layers": [statement]},
                           OCI + "manifest.v1+json", platform=unknown)  # fmt: skip
    index = document(files, {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [gone, here, attestation]},
                     OCI + "index.v1+json")  # fmt: skip
    names = {"io.containerd.image.name": f"docker.io/library/{tag}", "org.opencontainers.image.ref.name": tag.partition(":")[2]}
    return archive(
        path, {**files, **layout([{**index, "annotations": names}]), "manifest.json": docker_manifest(config, stored, tag)}
    )


def of_pack(path: Path, layers: list[bytes], tag: str) -> Path:
    """Write what ``pack`` writes for a daemon that has the lower layers, whose files are empty or have no name; no architecture."""
    config = {**config_of([*layers, layers[-1], bytes(1024), b""]), "architecture": ""}
    files = {"config.json": json.dumps(config).encode(), "blank_1": b""}
    files |= {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    named = [*(f"{number}/layer.tar" for number in range(len(layers))), "blank_1", "", "blank_1"]
    row = {"Config": "config.json", "RepoTags": [tag], "Layers": named}
    return archive(path, {**files, "manifest.json": json.dumps([row]).encode()})


SAVED: dict[str, Callable[[Path, list[bytes], str], Path]] = {
    "docker 20.10 and 24": old_docker_archive,
    "docker 25.0.0": of_25,
    "docker 25.0.3 and later": lambda path, layers, tag: of_25(path, layers, tag, empty=False),
    "docker with containerd": of_containerd,
    "pack": of_pack,
}
