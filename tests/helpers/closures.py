"""Closures that are made for a test: small store paths of a form that says what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from rootless_layer.store.closure import Closure, StorePath

LETTERS = "0123456789abcdfghijklmnpqrsvwxyz"


def put(root: Path, name: str, data: bytes) -> StorePath:
    """Put a store path there, if it is not there yet: a directory with files, one of them large where the data is."""
    digest = "".join(LETTERS[byte % 32] for byte in hashlib.sha256(name.encode() + data).digest())
    path = StorePath(f"/nix/store/{digest}-{name}")
    place = root / path.path[1:]
    if not place.exists():
        (place / "bin").mkdir(parents=True)
        (place / "bin" / name).write_bytes(data)
        (place / "link").symlink_to("bin")
        (place / "empty").touch()
        for here, _, files in os.walk(place):
            for file in (*files, "."):
                os.utime(os.path.join(here, file), (1, 1), follow_symlinks=False)
    return path


def chain(root: Path, versions: Sequence[bytes]) -> Closure:
    """Give a closure in which each path needs the one before."""
    paths = [put(root, f"p{number}", data) for number, data in enumerate(versions)]
    return Closure({path: paths[:number][-1:] for number, path in enumerate(paths)}, str(root))


def graph_of(closure: Closure, place: Path) -> Path:
    """Write a closure as exportReferencesGraph does."""
    records = [
        [path.path, "", str(len(others)), *(other.path for other in others)] for path, others in closure.references.items()
    ]
    place.write_text("".join(f"{line}\n" for record in records for line in record))
    return place
