"""A row of a snapshot's index: what an entry is, as far as a disk may not say it, in JSON."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from rootless_layer.tree.base import Facts

if TYPE_CHECKING:
    from rootless_layer.tree.tree import Entry


def text(path: bytes) -> str:
    """Write bytes as JSON can carry them: each byte a character."""
    return path.decode("latin-1")


def bytes_of(said: str) -> bytes:
    """Read what :func:`text` wrote."""
    return said.encode("latin-1")


def to_row(entry: Entry) -> list[Any]:
    """Write an entry."""
    return [
        text(entry.path), entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, entry.rdev,
        None if entry.target is None else text(entry.target),
        [[text(name), base64.b64encode(value).decode()] for name, value in entry.xattrs],
    ]  # fmt: skip


def from_row(row: Any, top: bytes) -> tuple[bytes, Facts]:  # noqa: ANN401 - JSON
    """Read a row of the snapshot whose tree is ``top``: the path, and what it is; raises what a wrong row raises in Python."""
    path, mode, uid, gid, mtime, size, rdev, target, xattrs = row
    pairs = tuple((bytes_of(name), base64.b64decode(value)) for name, value in xattrs)
    return bytes_of(path), Facts(mode, uid, gid, mtime, size, rdev, None if target is None else bytes_of(target), pairs, top)
