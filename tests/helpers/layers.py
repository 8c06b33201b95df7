"""Layers that a build has made, as other programs read them, and builds that have made none."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import attrs
from helpers.users import Result, User

from rootless_layer.layer.blob import LayerBlob, Piece
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""The attribute security.capability that ``setcap cap_net_bind_service+ep`` sets."""


@attrs.frozen
class Member:
    """One path of a layer, as Python's tarfile reads it."""

    info: tarfile.TarInfo
    data: bytes

    @property
    def owner(self) -> str:
        """Owner, group and permissions, as ``stat -c %u:%g:%a`` writes them."""
        return f"{self.info.uid}:{self.info.gid}:{self.info.mode:o}"


def blob_of(user: User, layer: dict[str, Any], output: str = "layer") -> Path:
    """Say where a layer's blob lies."""
    return user.home / output / "blobs/sha256" / layer["digest"].removeprefix("sha256:")


def unpacked(user: User, result: Result, output: str = "layer") -> dict[str, Member]:
    """Read the layer that a build has made."""
    found = {}
    with tarfile.open(blob_of(user, result.layer, output)) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            found[info.name] = Member(info, file.read() if file else b"")
    return found


def decompressed(blob: Path, kind: str) -> bytes:
    """Read a blob as the programs do that people have."""
    program = {"none": ["cat"], "gzip": ["gzip", "-dc"], "zstd": ["zstd", "-qdc"]}[kind]
    with open(blob, "rb") as file:
        return subprocess.run(program, stdin=file, check=True, capture_output=True).stdout


def as_layer(path: Path) -> LayerBlob:
    """Take a tar for a layer."""
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return LayerBlob(Descriptor(MEDIA_TYPES["none"], digest, len(data)), digest, Piece(str(path), len(data)))


def infos(stream: bytes) -> dict[str, tarfile.TarInfo]:
    """Read the members of a tar stream, each of which may stand there once."""
    with tarfile.open(fileobj=io.BytesIO(stream), errorlevel=2) as archive:
        members = archive.getmembers()
    found = {info.name: info for info in members}
    assert len(found) == len(members)
    return found


def refused(result: Result, *words: str | Path, status: int = 65) -> None:
    """Check that a build ended with an error that holds these words."""
    assert result.status == status, result.err
    assert json.loads(result.out)["error"]["status"] == status
    for word in words:
        assert str(word) in result.err
    assert "Traceback" not in result.err


def assert_no_layer(user: User) -> None:
    """Check that a failed build left neither a layer nor anything temporary."""
    assert user.leftovers() == []
    assert not (user.home / "layer").exists()
