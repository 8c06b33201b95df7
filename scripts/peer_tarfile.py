#!/usr/bin/python3
"""Stream a closure as a docker-archive with Python's tarfile, two passes a layer: what ``scripts/bench`` compares with.

peer_tarfile.py STORE LAYERS > ARCHIVE: each store path below STORE/nix/store is a layer, the last
one has the rest. A first pass over a layer's files finds its digest and size; a second one, in a
thread, writes them into a pipe, from which the archive takes them. nixpkgs' ``streamLayeredImage``
is made like this; the code is not its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence


class Hashing(io.RawIOBase):
    """Takes bytes, counts and hashes them, and keeps none."""

    def __init__(self) -> None:
        """Begin."""
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take bytes."""
        self.hash.update(data)
        self.size += len(data)
        return len(data)


def settled(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give a member the owner and the time that all have."""
    member.mtime, member.uid, member.gid, member.uname, member.gname = 1, 0, 0, "root", "root"
    return member


def write_layer(store: str, names: Sequence[str], file: BinaryIO) -> None:
    """Write a layer of store paths."""
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("nix", "nix/store"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(settled(member))
        for name in names:
            top = Path(store, "nix/store", name)
            for path in sorted([top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else ())]):
                member = settled(archive.gettarinfo(path, str(path.relative_to(store))))
                if member.isreg():
                    with open(path, "rb") as data:
                        archive.addfile(member, data)
                else:
                    archive.addfile(member)


def pass_on(store: str, names: Sequence[str], writing: int) -> None:
    """Write a layer into a pipe, to its end."""
    with open(writing, "wb") as pipe:
        write_layer(store, names, pipe)


def main() -> None:
    """Read the command line, write the archive."""
    store, most = sys.argv[1], int(sys.argv[2])
    names = sorted(os.listdir(f"{store}/nix/store"))
    layers = [[name] for name in names[: most - 1]] + ([names[most - 1 :]] if names[most - 1 :] else [])
    digests = []
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        for layer in layers:
            counted = Hashing()
            write_layer(store, layer, counted)  # type: ignore[arg-type]
            digests.append(counted.hash.hexdigest())
            member = tarfile.TarInfo(f"{digests[-1]}/layer.tar")
            member.size = counted.size
            reading, writing = os.pipe()
            with open(reading, "rb") as pipe:
                threading.Thread(target=pass_on, args=(store, layer, writing)).start()
                archive.addfile(member, pipe)
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
        name = f"{hashlib.sha256(config).hexdigest()}.json"
        add(name, config)
        row = {"Config": name, "RepoTags": ["peer:1"], "Layers": [f"{digest}/layer.tar" for digest in digests]}
        add("manifest.json", json.dumps([row]).encode())


if __name__ == "__main__":
    main()
