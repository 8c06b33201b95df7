"""The segments of a layer that are known before it is written, because an earlier layer has them.

A store path is known again by its *name*: a digest of its path, of the place, the inode and the time of change of its top, and of
what the layer makes of it. What such a name was found to stand for is believed, as it is for a layer in the cache. So a path
that stands where it stood is sealed: it is neither listed nor read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import attrs

from rootless_layer.plan.plan import collects
from rootless_layer.store.order import needed_first
from rootless_layer.tar.known import Known, segment_key
from rootless_layer.tar.sha256 import is_resumable
from rootless_layer.tree.compact import CompactTree
from rootless_layer.tree.sealed import UnsealedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rootless_layer.plan.spec import Blob, LayerSpec
    from rootless_layer.system.files import WritebackFile
    from rootless_layer.tree.archive import Archive
    from rootless_layer.tree.sealed import Sealed
    from rootless_layer.tree.tree import Tree

T = TypeVar("T")
_MOST_TURNS = 4
"""So often a layer is planned with store paths sealed, before all of them are read."""
Runs = dict[bytes, tuple[int, int]]
"""From where to where in a listing each store path stands."""


@attrs.frozen(slots=True)
class Segment:
    """A segment that depends on nothing but store paths, by a digest of all that decides its bytes.

    ``path`` and ``name`` are those of the store path that it is; nothing where it is none, or has more than the path's own
    entries. ``size`` is that of its data, in bytes.
    """

    key: bytes
    path: bytes = b""
    name: bytes = b""
    entries: int = 0
    size: int = 0


@attrs.frozen(slots=True)
class Origin:
    """What decides what a layer has of a store path, beside the path: the root of the store, and what the layer makes of all."""

    root: str = "/"
    uid: int = 0
    gid: int = 0
    epoch: int = 1
    tidy: bool = False
    allow_sparse: bool = False
    uname: str = ""
    gname: str = ""

    @classmethod
    def of(cls, spec: LayerSpec) -> Self:
        """Give that of a layer."""
        root = "/" if spec.closure is None else spec.closure.store_root
        return cls(root, spec.uid, spec.gid, spec.source_date_epoch, spec.tidy, spec.allow_sparse, spec.uname, spec.gname)

    def place(self, path: bytes) -> bytes:
        """Give where a store path lies on this machine."""
        return os.fsencode(self.root).rstrip(b"/") + b"/" + path

    def name(self, path: bytes) -> bytes:
        """Give the name of a store path as it is now, if it can have one; raises :class:`OSError` where it is not there."""
        status = os.lstat(self.place(path))
        if not _is_dated(status):
            return b""
        said = path, attrs.astuple(self), status.st_dev, status.st_ino, status.st_ctime_ns
        return hashlib.sha256(repr(said).encode("utf-8", "surrogateescape")).digest()


@attrs.frozen(slots=True)
class Beginning:
    """Where the writing of a layer begins: behind so many ``segments``, of which ``known`` has the state.

    The segments are those, from the first on, that depend on nothing but store paths.
    """

    segments: tuple[Segment, ...]
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

    def sealed(self, spec: LayerSpec, names: Mapping[bytes, bytes], blob: Blob) -> Mapping[bytes, Sealed]:
        """Say what is known of the first of some store paths, which have these names and this order."""

    def find(self, spec: LayerSpec, segments: Sequence[Segment], *, stored: bool) -> contextlib.AbstractContextManager[Beginning]:
        """Say what is known of these segments; of a ``stored`` layer the bytes are needed as well."""

    def keep(self, spec: LayerSpec, beginning: Beginning, folder: Path, runs: Runs) -> None:
        """Write beside a layer what was learnt of its segments; raises :class:`OSError`."""


@attrs.frozen(slots=True)
class Outset:
    """What is known of a layer before anything of it is read: the names of its store paths, and those that are ``sealed``."""

    segments: Segments
    names: Mapping[bytes, bytes]
    sealed: Mapping[bytes, Sealed]

    @contextlib.contextmanager
    def begun(self, spec: LayerSpec, tree: Tree, archive: Archive, *, stored: bool) -> Iterator[Beginning | None]:
        """Give where the writing of a layer begins; nothing where no segment can be known.

        Raises :class:`.UnsealedError` where a path is sealed and not known any more.
        """
        whole = tree.whole if isinstance(tree, CompactTree) else frozenset()
        found = _segments(spec, archive, self.sealed, {path: name for path, name in self.names.items() if path in whole})
        with self.segments.find(spec, found, stored=stored) if found else contextlib.nullcontext() as beginning:
            count = 0 if beginning is None else beginning.count
            if unknown := self.sealed.keys() & {*archive.names[count:]}:
                raise UnsealedError(unknown)
            yield beginning


def from_outset(segments: Segments | None, spec: LayerSpec, blob: Blob, work: Callable[[Outset | None], T]) -> T:
    """Do the work upon what is known of a layer; once more, without it, where something is sealed that has to be read.

    Nothing is known where no ``segments`` are kept, or none can be.
    """
    if segments is None or spec.closure is None or not is_resumable():
        return work(None)
    sealable = collects(spec) and not spec.link_identical  # else somebody looks into the store paths
    names = _names(spec) if sealable else {}
    sealed = segments.sealed(spec, names, blob) if sealable else {}
    linked = {*spec.copy_to_root} if spec.link == "hard" else {}  # root files are hard links into these
    sealed = {path: each for path, each in sealed.items() if "/" + os.fsdecode(path) not in linked}
    for _ in range(_MOST_TURNS):
        try:
            return work(Outset(segments, names, sealed))
        except UnsealedError as error:
            sealed = {path: each for path, each in sealed.items() if path not in error.paths}
    return work(Outset(segments, names, {}))


def _names(spec: LayerSpec) -> dict[bytes, bytes]:
    """Give the names of a layer's store paths in the order of its segments; of what is not there it has none."""
    names: dict[bytes, bytes] = {}
    origin = Origin.of(spec)
    for path in () if spec.closure is None else needed_first(spec.closure):
        with contextlib.suppress(OSError):
            names[os.fsencode(path.path).lstrip(b"/")] = origin.name(os.fsencode(path.path).lstrip(b"/"))
    return names


def _segments(spec: LayerSpec, archive: Archive, sealed: Mapping[bytes, Sealed], names: Mapping[bytes, bytes]) -> list[Segment]:
    """Give the first segments, as many as depend on nothing but store paths: what a script may change does not count.

    A store path that went and was built again may be different by a bit, in the same inodes: so the key has when it got there.
    A name is given only where the path has it still, after all of it was listed.
    """
    if spec.closure is None or (spec.scripts and spec.closure_writable):
        return []
    places = {os.fsencode(path.path).lstrip(b"/"): os.fsencode(spec.closure.location(path)) for path in spec.closure.paths}
    now = _names(spec) if names else {}
    found = []
    begin = 0
    for path, end in zip(archive.names[:-1], archive.ends, strict=False):
        name = names[path] if path in names and names[path] == now.get(path) else b""
        if (known := sealed.get(path)) is not None:
            found.append(Segment(known.key, path, name, known.entries, known.size))
        else:
            place = places.get(path, b"")
            if not _is_of(archive, begin, end, place):
                break
            try:
                status = os.lstat(place) if place else None
            except OSError:
                break
            if status is not None and not _is_dated(status):
                break
            key = segment_key(archive.table, begin, end)
            key += b"" if status is None else repr((path, status.st_ino, status.st_ctime_ns)).encode()
            size = sum(archive.table.sizes[begin:end])
            found.append(Segment(hashlib.sha256(key).digest(), path if name else b"", name, end - begin, size))
        begin = end
    return found


def _is_dated(status: os.stat_result) -> bool:
    """Say whether a file system keeps when something changed there, so that what came later is another.

    Those that are made whole (squashfs, erofs) have the time of the data for it, as have some of FUSE: in the next image on the
    same device another store path may have the same inode and the same times.
    """
    return status.st_ctime_ns != status.st_mtime_ns


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
