"""The segments of layers in the cache: how their tars and blobs go on behind each store path.

Beside each layer lies a file with what stands behind its segments. A layer that begins with the same ones is written from there
on: the digests are taken up, the bytes are copied from the blob that lies there, and no file is read. A segment elsewhere is not
compressed again. An entry that does not have its sizes and times any more, and a file that does not have its own digest, count
for nothing. Nor does a compressed segment that is not what it was: the digest of the layer that it went into would be right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import RootlessLayerError
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.made import BLOBS
from rootless_layer.layer.segments import Beginning
from rootless_layer.system.lease import Lease
from rootless_layer.tar.known import KEY_BYTES, Known, Mark, chain_keys
from rootless_layer.tar.sha256 import BLOCK_BYTES, WORDS_BYTES, Sha256, State
from rootless_layer.tree.places import LAYERS

from .key import written_by
from .own import is_entry, listed
from .whole import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rootless_layer.plan.spec import LayerSpec

SEGMENTS = "segments"
_MAGIC = b"rootless-layer segments 1\n"
_RECORD = struct.Struct(f">{KEY_BYTES}s{KEY_BYTES}sQ{WORDS_BYTES}sQ{WORDS_BYTES}sB{BLOCK_BYTES}s")
_PART_BYTES = 1 << 20
_MOST_BLOBS = 64  # each takes two of a thousand descriptors, and a process needs others


@attrs.frozen(slots=True)
class _Record:
    """A segment: the key of all that the layer has up to its end, its own, and what stands behind it."""

    chain: bytes
    key: bytes
    mark: Mark

    def pack(self) -> bytes:
        plain, stored = self.mark.plain, self.mark.stored
        return _RECORD.pack(
            self.chain, self.key, plain.size, plain.words, stored.size, stored.words, len(stored.rest), stored.rest
        )

    @classmethod
    def unpack(cls, data: bytes) -> _Record:
        chain, key, plain_size, plain_words, size, words, count, rest = _RECORD.unpack(data)
        return cls(chain, key, Mark(State(plain_size, plain_words), State(size, words, rest[:count])))


def read_records(folder: Path) -> list[_Record]:
    """Read what an entry has of its segments; nothing where it has nothing, or that is damaged."""
    try:
        data = (folder / SEGMENTS).read_bytes()
    except OSError:
        return []
    begin = len(_MAGIC) + KEY_BYTES
    body = data[begin:]
    if data[:begin] != _MAGIC + hashlib.sha256(body).digest() or len(body) % _RECORD.size:
        return []
    return [_Record.unpack(body[place : place + _RECORD.size]) for place in range(0, len(body), _RECORD.size)]


def are_damaged(folder: Path) -> bool:
    """Say whether an entry has something of its segments that cannot be believed."""
    return os.path.lexists(folder / SEGMENTS) and not read_records(folder)


def write_records(folder: Path, records: Sequence[_Record]) -> None:
    """Write what :func:`read_records` reads; raises :class:`OSError`."""
    body = b"".join(record.pack() for record in records)
    (folder / SEGMENTS).write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)


@attrs.frozen(slots=True)
class _Place:
    """A segment of a layer in the cache, by its number there."""

    folder: Path
    number: int
    before: State
    """That of the blob's digest where the segment begins."""
    record: _Record


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
    def known(self) -> tuple[Mapping[bytes, _Place], Mapping[bytes, _Place]]:
        """Give the segments of all layers by the keys of all up to their ends, and by their own; read once."""
        chains: dict[bytes, _Place] = {}
        keys: dict[bytes, _Place] = {}
        folders = () if self.anew else filter(is_entry, listed(self.place))
        for folder in sorted(folders, key=lambda folder: os.path.isdir(folder / BLOBS)):  # the last count: those with bytes
            before = State()
            for number, record in enumerate(read_records(folder)):
                place = _Place(folder, number, before, record)
                chains[record.chain] = keys[record.key] = place
                before = record.mark.stored
        return chains, keys

    @contextlib.contextmanager
    def find(self, spec: LayerSpec, keys: Sequence[bytes], *, stored: bool) -> Iterator[Beginning]:
        """Say what is known of a layer's first segments, which have these keys; as :class:`.Segments` has it."""
        beginning = hashlib.sha256(repr([os.uname().machine, *written_by(spec.compression)]).encode()).digest()
        own = chain_keys([hashlib.sha256(key).digest() for key in keys], beginning)
        mine = tuple(hashlib.sha256(beginning + key).digest() for key in keys)
        chains, segments = self.known
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
                for number, key in enumerate(mine[count:]):
                    found = segments.get(key)
                    if found is not None and (blob := open_blob(found, needed=True)) is not None and _is_right(blob, found):
                        frames[number] = _frame(blob, found.before.size, found.record.mark.stored.size)
            yield Beginning(tuple(map(bytes.__add__, own, mine)), Known(start, frames), count, prefix)

    def keep(self, _spec: LayerSpec, beginning: Beginning, folder: Path) -> None:
        """Write down what stands behind the segments of a layer, with those that were known."""
        split = [(key[:KEY_BYTES], key[KEY_BYTES:]) for key in beginning.keys]
        chains, _ = self.known
        records = [chains[chain].record for chain, _ in split[: beginning.count] if chain in chains]
        if len(records) < beginning.count:
            return
        written = zip(split[beginning.count :], beginning.known.marks, strict=False)
        records += [_Record(chain, key, mark) for (chain, key), mark in written if not mark.plain.rest]
        write_records(folder, records)


class _Blobs:
    """Opens the blobs of layers in the cache, which stay there until a stack unwinds."""

    def __init__(self, stack: contextlib.ExitStack, *, stored: bool) -> None:
        self._stack, self._stored = stack, stored
        self._open: dict[Path, tuple[int, list[_Record]] | None] = {}

    def __call__(self, place: _Place, *, needed: bool = False) -> int | None:
        """Give the descriptor of a blob, or -1 where it is not ``needed``; nothing where the entry is not what it was.

        Since its segments were read another may have taken its place.
        """
        if not (needed or self._stored):
            return -1
        if place.folder not in self._open:
            self._open[place.folder] = self._opened(place.folder) if len(self._open) < _MOST_BLOBS else None
        found = self._open[place.folder]
        return None if found is None or found[1][place.number : place.number + 1] != [place.record] else found[0]

    def _opened(self, folder: Path) -> tuple[int, list[_Record]] | None:
        with contextlib.suppress(OSError, RootlessLayerError):
            lease = Lease.shared(folder)
            if lease is not None:
                self._stack.callback(lease.release)
                if is_whole(folder) and (piece := open_layer(folder).piece) is not None:
                    descriptor = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
                    self._stack.callback(os.close, descriptor)
                    return descriptor, read_records(folder)
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
