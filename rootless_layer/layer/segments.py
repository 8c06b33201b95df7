"""The segments of a layer that are known before it is written, because an earlier layer has them."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer.tar.known import Known, segment_keys
from rootless_layer.tar.sha256 import is_resumable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.system.files import WritebackFile
    from rootless_layer.tree.archive import Archive


@attrs.frozen(slots=True)
class Beginning:
    """Where the writing of a layer begins: behind so many segments, of which ``known`` has the state.

    ``keys`` are of those segments, from the first on, that depend on nothing but store paths.
    """

    keys: tuple[bytes, ...]
    known: Known
    count: int = 0
    prefix: int = -1
    """The descriptor of a blob that begins as this layer's does; -1 where no bytes are needed."""

    def copy(self, file: WritebackFile) -> None:
        """Put the bytes of the known segments into a blob's new file."""
        if self.known.start is not None:
            file.copy_from(self.prefix, self.known.start.stored.size)


class Segments(Protocol):
    """What keeps segments from one layer to another."""

    def find(self, spec: LayerSpec, keys: Sequence[bytes], *, stored: bool) -> contextlib.AbstractContextManager[Beginning]:
        """Say what is known of the segments with these keys; of a ``stored`` layer the bytes are needed as well."""

    def keep(self, spec: LayerSpec, beginning: Beginning, folder: Path) -> None:
        """Write beside a layer what was learnt of its segments; raises :class:`OSError`."""


@contextlib.contextmanager
def begun(segments: Segments | None, spec: LayerSpec, archive: Archive, *, stored: bool) -> Iterator[Beginning | None]:
    """Give where the writing of a layer begins; nothing where no segments are kept or none can be."""
    keys = _keys(spec, archive) if segments is not None and is_resumable() else []
    if segments is None or not keys:
        yield None
        return
    with segments.find(spec, keys, stored=stored) as beginning:
        yield beginning


def _keys(spec: LayerSpec, archive: Archive) -> list[bytes]:
    """Give the keys of the first segments, as many as depend on nothing but store paths: what a script may change does not count.

    A store path that went and was built again may be different by a bit, in the same inodes: so the key has when it got there.
    """
    if spec.closure is None or (spec.scripts and spec.closure_writable):
        return []
    places = {os.fsencode(path.path).lstrip(b"/"): os.fsencode(spec.closure.location(path)) for path in spec.closure.paths}
    keys = []
    begin = 0
    for key, name, end in zip(segment_keys(archive), archive.names[:-1], archive.ends, strict=False):
        place = places.get(name, b"")
        if not _is_of(archive, begin, end, place):
            break
        try:
            status = os.lstat(place) if place else None
        except OSError:
            break
        keys.append(key if status is None else key + repr((name, status.st_ino, status.st_ctime_ns)).encode())
        begin = end
    return keys


def _is_of(archive: Archive, begin: int, end: int, place: bytes) -> bool:
    """Say whether all data of a segment lies in one place on this machine; without a place it has none."""
    table = archive.table
    kinds = {kind: size for kind, size in zip(table.kinds[begin:end], table.sizes[begin:end], strict=True) if size}
    for kind in kinds:
        if kind >= 0:
            if table.shapes[kind].top != place + b"/":
                return False
        else:
            source = table.singles[~kind].source or b""
            if not place or (source != place and not source.startswith(place + b"/")):
                return False
    return True
