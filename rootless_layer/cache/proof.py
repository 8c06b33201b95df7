"""Whether what an entry has of its segments is true: what would be believed when the next layer is built."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.description import LISTING
from rootless_layer.tar.parallel import serialise
from rootless_layer.tar.sha256 import Sha256, State, is_resumable
from rootless_layer.tree import mtree
from rootless_layer.tree.archive import Archive
from rootless_layer.tree.compact import Collected, CompactTree
from rootless_layer.tree.owner_names import OwnerNames
from rootless_layer.tree.table import Rows
from rootless_layer.tree.tree import shown
from rootless_layer.tree.walk import below

from .segments import SEGMENTS, Records

if TYPE_CHECKING:
    from pathlib import Path

    from rootless_layer.layer.segments import Origin
    from rootless_layer.tree.table import Table

    from .segments import Record


def wrong_segments(folder: Path) -> str:
    """Say what is wrong with the segments of an entry, whose blob is right; nothing where nothing is.

    Store paths that stand where they stood are read. Raises :class:`SourceError` and :class:`MachineError` where one cannot be.
    """
    if not os.path.lexists(folder / SEGMENTS):
        return ""
    found = Records.read(folder)
    if not found.each:
        return "what was kept of its segments is damaged"
    listing = (folder / LISTING).read_bytes()
    files = os.fsencode(folder) + b"/" if open_layer(folder).piece is None else None
    before = State()
    for record in found.each:
        if record.is_named:
            lines = listing[slice(*record.run)]
            if hashlib.sha256(lines).digest() != record.lines:
                return "its listing is damaged"
            path = mtree.read([lines.partition(b"\n")[0]], b"", LISTING)[0].path
            if _is_believed(path, record, found.origin) and not _is_so(path, record, found.origin, (lines, files, before)):
                return f"{shown(path)} is another than it was"
        before = record.mark.plain
    return ""


def _is_believed(path: bytes, record: Record, origin: Origin) -> bool:
    """Say whether a store path would not be read again."""
    try:
        return origin.name(path) == record.name
    except OSError:
        return False


def _is_so(path: bytes, record: Record, origin: Origin, kept: tuple[bytes, bytes | None, State]) -> bool:
    """Read a store path, and compare it with what is ``kept``: its lines, which name ``files``, and the state before it."""
    lines, files, before = kept
    collected = Collected(origin.epoch, (origin.uid, origin.gid))
    collected.add_store_path(path, origin.place(path), below(origin.place(path)))
    names = OwnerNames.of(origin.uid, origin.uname, origin.gid, origin.gname)
    table = attrs.evolve(collected.table.in_order(), names=names)
    listed = io.BytesIO()
    run = mtree.write(CompactTree(Rows(table), whole=frozenset((path,))), listed, files=files)[path]
    if listed.getvalue()[slice(*run)] != lines:
        return False
    return not is_resumable() or _state(table, before) == record.mark.plain


def _state(table: Table, before: State) -> State:
    """Give the state of an archive's digest behind the entries of a table."""
    digest, states = Sha256(before), []
    archive = Archive(table, (len(table), len(table)), (b"", b""))
    serialise(archive, digest.update, lambda: states.append(digest.state()))
    return states[0]
