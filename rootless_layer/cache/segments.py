"""The segments of layers in the cache: how their tars and blobs go on behind each store path.

Beside each layer lies a file with what stands behind its segments. A layer that begins with the same ones is written from there
on: the digests are taken up, the bytes are copied from the blob that lies there, and no file is read. A segment elsewhere is not
compressed again. An entry that does not have its sizes and times any more, and a file that does not have its own digest, count
for nothing. Nor does a compressed segment that is not what it was: the digest of the layer that it went into would be right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from functools import cached_property
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import RootlessLayerError
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.description import LISTING
from rootless_layer.layer.made import BLOBS
from rootless_layer.layer.segments import Beginning, Origin
from rootless_layer.system.lease import Lease
from rootless_layer.tar.known import KEY_BYTES, Known, Mark, chain_keys
from rootless_layer.tar.sha256 import BLOCK_BYTES, WORDS_BYTES, Sha256, State
from rootless_layer.tree.places import LAYERS
from rootless_layer.tree.sealed import Sealed

from .key import written_by
from .own import is_entry, listed
from .whole import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rootless_layer.layer.segments import Runs, Segment
    from rootless_layer.plan.spec import Blob, LayerSpec

SEGMENTS = "segments"
_MAGIC = b"rootless-layer segments 2\n"
_MARK = f"Q{WORDS_BYTES}sQ{WORDS_BYTES}sB{BLOCK_BYTES}s"
_RECORD = struct.Struct(f">{4 * f'{KEY_BYTES}s'}4Q{_MARK}")
_PART_BYTES = 1 << 20
_MOST_BLOBS = 64  # each takes two of a thousand descriptors, and a process needs others
_UNNAMED = bytes(KEY_BYTES)


@attrs.frozen(slots=True)
class Record:
    """A segment: the key of all that the layer has up to its end, its own, its part of the listing, and what stands behind it.

    ``run`` is from where to where in the entry's listing its lines are, ``lines`` a digest of them. What is not to be sealed has
    no ``name``.
    """

    chain: bytes
    key: bytes
    name: bytes
    lines: bytes
    entries: int
    size: int
    run: tuple[int, int]
    mark: Mark

    @property
    def is_named(self) -> bool:
        """Say whether it may be sealed."""
        return self.name != _UNNAMED

    def pack(self) -> bytes:
        """Give it as bytes, of which each has as many."""
        plain, stored = self.mark.plain, self.mark.stored
        return _RECORD.pack(
            self.chain, self.key, self.name, self.lines, self.entries, self.size, *self.run,
            plain.size, plain.words, stored.size, stored.words, len(stored.rest), stored.rest,
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Take what :meth:`pack` gives."""
        chain, key, name, lines, entries, size, begin, end, *states = _RECORD.unpack(data)
        plain_size, plain_words, stored_size, words, count, rest = states
        mark = Mark(State(plain_size, plain_words), State(stored_size, words, rest[:count]))
        return cls(chain, key, name, lines, entries, size, (begin, end), mark)


@attrs.frozen(slots=True)
class Records:
    """The segments of an entry, what it has of store paths, and the ``beginning`` of its keys.

    That is a digest of what decides the bytes of the layer beside its segments.
    """

    beginning: bytes = b""
    origin: Origin = attrs.field(factory=Origin)
    each: tuple[Record, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Records:
        """Read them; there are none where the entry has none, or they are damaged, or of another version of this program."""
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError, struct.error):
            data = (folder / SEGMENTS).read_bytes()
            head, body = data[: len(_MAGIC) + KEY_BYTES], data[len(_MAGIC) + KEY_BYTES :]
            if head == _MAGIC + hashlib.sha256(body).digest():
                origin, _, rows = body[KEY_BYTES:].partition(b"\n")
                records = tuple(Record.unpack(rows[place : place + _RECORD.size]) for place in range(0, len(rows), _RECORD.size))
                return cls(body[:KEY_BYTES], Origin(*json.loads(origin)), records)
        return cls()

    def write(self, folder: Path) -> None:
        """Write what :meth:`read` reads; raises :class:`OSError`."""
        origin = json.dumps(attrs.astuple(self.origin)).encode() + b"\n"
        body = self.beginning + origin + b"".join(record.pack() for record in self.each)
        (folder / SEGMENTS).write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)


@attrs.frozen(slots=True)
class _Place:
    """A segment of a layer in the cache, by its number there."""

    folder: Path
    number: int
    before: State
    """That of the blob's digest where the segment begins."""
    record: Record


@attrs.define(slots=False)
class CachedSegments:
    """The segments of the layers below a directory; with ``anew`` none is known, and those that are written are kept."""

    place: Path
    anew: bool = False

    @classmethod
    def within(cls, cache: Path, *, anew: bool = False) -> CachedSegments:
        """Give those of the layers in a cache."""
        return cls(cache / LAYERS, anew)

    def read(self) -> None:
        """Read them all, so that each of several processes that are forked next need not."""
        _ = self.known

    @cached_property
    def entries(self) -> Mapping[Path, Records]:
        """Give what each layer has, the last those that have bytes; read once.

        One that is damaged would hide others that begin alike.
        """
        folders = () if self.anew else filter(_is_sound, filter(is_entry, listed(self.place)))
        ordered = sorted(folders, key=lambda folder: os.path.isdir(folder / BLOBS))
        return {folder: found for folder in ordered if (found := Records.read(folder)).each}

    @cached_property
    def known(self) -> tuple[Mapping[bytes, _Place], Mapping[bytes, _Place]]:
        """Give the last layers' segments by the keys of all up to their ends, and by their own behind their beginnings."""
        chains: dict[bytes, _Place] = {}
        keys: dict[bytes, _Place] = {}
        for folder, found in self.entries.items():
            before = State()
            for number, record in enumerate(found.each):
                place = _Place(folder, number, before, record)
                chains[record.chain] = keys[found.beginning + record.key] = place
                before = record.mark.stored
        return chains, keys

    def sealed(self, spec: LayerSpec, names: Mapping[bytes, bytes], blob: Blob) -> Mapping[bytes, Sealed]:
        """Say what is known of the first store paths of a layer, which have these names; as :class:`.Segments` has it.

        An entry of the same kind has their lines. Those that do not have their digest count for nothing, nor do those behind.
        """
        beginning = _beginning(spec)
        counts = {
            folder: _alike(found.each[1:], names.values())
            for folder, found in self.entries.items()
            if found.beginning == beginning
        }
        for folder in sorted(filter(counts.__getitem__, counts), key=lambda folder: -counts[folder]):
            with contextlib.suppress(OSError, RootlessLayerError), _leased(folder) as there:
                if there and is_whole(folder) and (open_layer(folder).piece is None) == (blob == "derived"):
                    listing = (folder / LISTING).read_bytes()
                    return dict(_sealed(listing, list(names)[: counts[folder]], self.entries[folder].each[1:]))
        return {}

    @contextlib.contextmanager
    def find(self, spec: LayerSpec, segments: Sequence[Segment], *, stored: bool) -> Iterator[Beginning]:
        """Say what is known of a layer's first segments; as :class:`.Segments` has it."""
        beginning = _beginning(spec)
        own = chain_keys([segment.key for segment in segments], beginning)
        chains, keys = self.known
        with contextlib.ExitStack() as stack:
            open_blob = _Blobs(stack, stored=stored)
            for count in range(len(own), 0, -1):
                found = chains.get(own[count - 1])
                if found is not None and (blob := open_blob(found)) is not None:
                    start, prefix = found.record.mark, blob
                    break
            else:
                count, start, prefix = 0, None, -1
            frames = {}
            if spec.compression.kind != "none":
                for number, segment in enumerate(segments[count:]):
                    found = keys.get(beginning + segment.key)
                    if found is not None and (blob := open_blob(found, needed=True)) is not None and _is_right(blob, found):
                        frames[number] = _frame(blob, found.before.size, found.record.mark.stored.size)
            yield Beginning(tuple(segments), Known(start, frames), count, prefix)

    def keep(self, spec: LayerSpec, beginning: Beginning, folder: Path, runs: Runs) -> None:
        """Write down what stands behind the segments of a layer, with those that were known."""
        chains, _ = self.known
        own = chain_keys([segment.key for segment in beginning.segments], _beginning(spec))
        marks = [chains[chain].record.mark for chain in own[: beginning.count] if chain in chains]
        if len(marks) < beginning.count:
            return
        listing = (folder / LISTING).read_bytes()
        records = []
        for chain, segment, mark in zip(own, beginning.segments, marks + beginning.known.marks, strict=False):
            begin, end = runs.get(segment.path, (0, 0))
            name = segment.name if segment.name and begin < end else _UNNAMED
            lines = hashlib.sha256(listing[begin:end]).digest()
            records.append(Record(chain, segment.key, name, lines, segment.entries, segment.size, (begin, end), mark))
        Records(_beginning(spec), Origin.of(spec), tuple(record for record in records if not record.mark.plain.rest)).write(
            folder
        )


def _beginning(spec: LayerSpec) -> bytes:
    """Give a digest of what decides the bytes of a layer beside its segments."""
    return hashlib.sha256(repr([os.uname().machine, *written_by(spec.compression)]).encode()).digest()


def _is_sound(folder: Path) -> bool:
    try:
        return is_whole(folder)
    except OSError:
        return False


def _alike(records: Sequence[Record], names: Iterable[bytes]) -> int:
    """Count the first records that have these names."""
    count = 0
    for record, name in zip(records, names, strict=False):
        if record.name != name:
            break
        count += 1
    return count


def _sealed(listing: bytes, paths: Sequence[bytes], records: Sequence[Record]) -> Iterator[tuple[bytes, Sealed]]:
    """Give store paths whose lines are what they were when they were written."""
    for path, record in zip(paths, records, strict=False):
        lines = listing[slice(*record.run)]
        if hashlib.sha256(lines).digest() != record.lines:
            break
        yield path, Sealed(record.key, record.entries, record.size, lines)


@contextlib.contextmanager
def _leased(folder: Path) -> Iterator[bool]:
    """Keep an entry from being removed; say whether it is there."""
    lease = Lease.shared(folder)
    try:
        yield lease is not None
    finally:
        if lease is not None:
            lease.release()


class _Blobs:
    """Opens the blobs of layers in the cache, which stay there until a stack unwinds."""

    def __init__(self, stack: contextlib.ExitStack, *, stored: bool) -> None:
        self._stack, self._stored = stack, stored
        self._open: dict[Path, tuple[int, tuple[Record, ...]] | None] = {}

    def __call__(self, place: _Place, *, needed: bool = False) -> int | None:
        """Give the descriptor of a blob, or -1 where it is not ``needed``; nothing where the entry is not what it was.

        Since its segments were read another may have taken its place.
        """
        if not (needed or self._stored):
            return -1
        if place.folder not in self._open:
            self._open[place.folder] = self._opened(place.folder) if len(self._open) < _MOST_BLOBS else None
        found = self._open[place.folder]
        return None if found is None or found[1][place.number : place.number + 1] != (place.record,) else found[0]

    def _opened(self, folder: Path) -> tuple[int, tuple[Record, ...]] | None:
        with contextlib.suppress(OSError, RootlessLayerError):
            lease = Lease.shared(folder)
            if lease is not None:
                self._stack.callback(lease.release)
                if is_whole(folder) and (piece := open_layer(folder).piece) is not None:
                    descriptor = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
                    self._stack.callback(os.close, descriptor)
                    return descriptor, Records.read(folder).each
        return None


def _is_right(blob: int, place: _Place) -> bool:
    """Read a segment of a blob, and compare it with its digest."""
    digest = Sha256(place.before)
    try:
        _frame(blob, place.before.size, place.record.mark.stored.size)(digest.update)
    except OSError:
        return False
    return digest.state() == place.record.mark.stored


def _frame(blob: int, begin: int, end: int) -> Callable[[Callable[[bytes], object]], object]:
    """Give what gives a run of a blob's bytes, a part at a time."""

    def give(store: Callable[[bytes], object]) -> None:
        place = begin
        while place < end:
            part = os.pread(blob, min(_PART_BYTES, end - place), place)
            if not part:
                message = "a layer of the cache became shorter while it was read"
                raise OSError(message)
            store(part)
            place += len(part)

    return give
