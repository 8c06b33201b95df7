"""What is known of a layer before it is written: the states of its digests behind segments that were written before."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from rootless_layer.tree.owner_names import NAMELESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rootless_layer.tree.table import Table
    from rootless_layer.tree.tree import Entry

    from .sha256 import State

KEY_BYTES = 32


@attrs.frozen(slots=True)
class Mark:
    """What stands behind a segment: the state of the tar's digest, and that of the blob's."""

    plain: State
    stored: State


@attrs.define(slots=True)
class Known:
    """What a blob's writer knows of its segments, and what it learns.

    Writing starts behind the segments before ``start``, if there is one: the blob's file has them by then. ``frames`` give
    the compressed bytes of others, by the segment's number among those that are written, to the function that takes them.
    ``marks`` are what stands behind each segment that was written.
    """

    start: Mark | None = None
    frames: Mapping[int, Callable[[Callable[[bytes], object]], object]] = attrs.field(factory=dict)
    marks: list[Mark] = attrs.field(factory=list)
    _number: int = 0

    @property
    def frame(self) -> Callable[[Callable[[bytes], object]], object] | None:
        """Give what gives the compressed bytes of the segment that is being written, if something does."""
        return self.frames.get(self._number)

    def next(self) -> None:
        """Go on to the next segment."""
        self._number += 1

    def mark(self, mark: Mark) -> None:
        """Take note of what stands behind the next segment."""
        self.marks.append(mark)


def segment_key(table: Table, begin: int, end: int) -> bytes:
    """Give a digest for the segment between two places, of all that decides its bytes but the bytes of files.

    For those stand the device, the inode, the size and the time of each, and its place: whoever uses this must know that the
    files are store paths', which nobody changes.
    """
    rows = table[begin:end]
    used = sorted({kind for kind in rows.kinds if kind >= 0})
    shapes = [rows.shapes[kind] for kind in used]
    said = [(shape.mode, shape.uid, shape.gid, shape.epoch, shape.top, shape.cut, shape.device) for shape in shapes]
    digest = hashlib.sha256(repr(said).encode())
    places = {kind: place for place, kind in enumerate(used)}
    singles = [rows.singles[~kind] for kind in rows.kinds if kind < 0]
    digest.update(repr([places.get(kind, -1) for kind in rows.kinds]).encode())
    digest.update(b"\0".join(rows.paths))
    if rows.names != NAMELESS:
        digest.update(repr(rows.names).encode())
    for place, kind in enumerate(rows.kinds):
        if kind < 0:
            rows.sizes[place] = rows.times[place] = rows.inodes[place] = 0
    for column in (rows.sizes, rows.inodes, rows.times):
        digest.update(column.tobytes())
    digest.update(repr(list(map(_said, singles))).encode())
    return digest.digest()


def chain_keys(keys: Sequence[bytes], beginning: bytes) -> list[bytes]:
    """Give a digest for each segment, of it and all before it; the ``beginning`` is of what decides the bytes besides."""
    chain, above = [], beginning
    for key in keys:
        above = hashlib.sha256(above + key).digest()
        chain.append(above)
    return chain


def _said(entry: Entry) -> tuple[object, ...]:
    stamp = None if entry.stamp is None or entry.source is None else entry.stamp[:4]
    return (*entry.metadata, entry.path, entry.size, entry.link, entry.source, stamp)
