"""Tar streams made in parallel: producer processes fill slots, one consumer takes them in order.

::

    producer 0  runs 0, 2, 4 …  ─► slots of 0 ─┐            ┌─► consume(part)
    producer 1  runs 1, 3, 5 …  ─► slots of 1 ─┴► in order ─┤
                     ▲                                      └─► the part before: its slot is free
                     └────────────── free slots ────────────────────┘

A part lies in its slot while it is consumed, and until the next part has been: who consumes may read on for so long.
Without processes the consumer fills two slots by turns itself.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
from array import array
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer import errors
from rootless_layer.errors import ArchiveError
from rootless_layer.system.fork import Child, cores, may_fork, uninterrupted
from rootless_layer.tree.archive import Archive
from rootless_layer.tree.table import Table

from . import libarchive
from .header import BLOCK
from .write import FILLED, RUN_END, SLOT_BYTES, SLOTS, Producer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.tree.tree import Entry

RUN_BYTES = 4 << 20
RUN_ENTRIES = 1000

_MESSAGE = struct.Struct("=BII")
_FAILED = 2
_HUGE = 1 << 33
"""From here on a size has no room in the header, and stands in a pax record (ustar has eleven octal digits)."""


class _Stopped(Exception):  # noqa: N818 - no error: the consumer has gone
    """The consumer takes no more."""


@attrs.frozen(slots=True)
class _Run:
    """Entries of a stream that are made at once; the last ones end it."""

    table: Table
    begin: int
    end: int
    last: bool = False
    """Whether the stream ends here."""
    cut: bool = False
    """Whether a segment ends here."""

    def make(self, producer: Producer) -> None:
        """Have it made."""
        producer.run(self.table[self.begin : self.end], last=self.last)


def _runs(archive: Archive) -> list[_Run]:
    runs, begin, volume = [], 0, 0
    table = archive.table
    ends = iter(archive.ends[:-1])
    end = next(ends, -1)
    for number, size in enumerate(table.sizes, 1):
        volume += BLOCK + size
        if volume >= RUN_BYTES or number - begin > RUN_ENTRIES or number == end:
            runs.append(_Run(table, begin, number, cut=number == end))
            begin, volume = number, 0
            end = next(ends, -1) if number == end else end
    runs.append(_Run(table, begin, len(table), last=True, cut=True))
    return runs


@attrs.frozen(slots=True)
class _Pipes:
    """A producer's slots, shared with the consumer's process."""

    free: int
    """The pipe from which the number of a free slot is read, a byte each."""
    filled: int
    """The pipe to which a message is written for each filled slot."""

    def take(self) -> int:
        """Wait for a free slot."""
        number = os.read(self.free, 1)
        if not number:
            raise _Stopped
        return number[0]

    def give(self, kind: int, slot: int, count: int) -> None:
        """Hand a slot over."""
        try:
            os.write(self.filled, _MESSAGE.pack(kind, slot, count))
        except BrokenPipeError:
            raise _Stopped from None

    def fail(self, error: errors.RootlessLayerError) -> None:
        """Tell the consumer of an error instead of a slot."""
        problems = [problem[:1000] for problem in error.problems[:1]]  # a pipe takes 4096 bytes whole
        told = json.dumps(errors.to_report(type(error)(*problems, hint=error.hint[:1000]))).encode()
        with contextlib.suppress(BrokenPipeError):
            os.write(self.filled, _MESSAGE.pack(_FAILED, 0, len(told)) + told)


def _work(memory: mmap.mmap, offset: int, pipes: _Pipes, runs: Sequence[_Run]) -> None:
    try:
        producer = Producer(memory, offset, pipes)
        for run in runs:
            run.make(producer)
    except errors.RootlessLayerError as error:
        pipes.fail(error)
    except _Stopped:
        pass
    except Exception as error:  # noqa: BLE001 - it is the consumer's to raise
        pipes.fail(ArchiveError(f"the archive cannot be written: {error!r}"))
    finally:
        os.close(pipes.filled)


@attrs.define(slots=True)
class _Slots:
    """The two slots of a producer that works in the consumer's own process."""

    give_on: Callable[[int, int], object]
    slot: int = 0

    def take(self) -> int:
        """Give the one that is not being consumed."""
        self.slot = 1 - self.slot
        return self.slot

    def give(self, _kind: int, slot: int, count: int) -> None:
        """Have a slot consumed."""
        self.give_on(slot * SLOT_BYTES, count)


@attrs.define(slots=True)
class _Worker:
    """One producer's pipes, as the consumer sees them, and the process behind them."""

    free: int
    filled: int
    offset: int
    child: Child | None = None

    def take(self) -> tuple[int, int, int]:
        """Wait for the next filled slot: the kind of message, the slot, its bytes."""
        message = os.read(self.filled, _MESSAGE.size)
        if len(message) < _MESSAGE.size:
            error = "a process that writes the archive ended without a word"
            raise ArchiveError(error, hint="It may have been killed, by want of memory for one.")
        kind, slot, count = _MESSAGE.unpack(message)
        if kind == _FAILED:
            raise errors.from_report(*json.loads(os.read(self.filled, count)))
        return kind, slot, count

    def give_back(self, slot: int) -> None:
        """Let a slot be filled again."""
        with contextlib.suppress(BrokenPipeError):  # after its last run the producer may be gone already
            os.write(self.free, bytes((slot,)))

    def stop(self) -> None:
        """End the producer, whatever it is doing, and wait for it."""
        os.close(self.free)
        if self.child:
            self.child.stop()
        os.close(self.filled)


@attrs.frozen(slots=True)
class _Part:
    """A part of a stream; once nobody reads it, the slot that it lies in is filled again, where that is another process's."""

    data: memoryview
    give_back: Callable[[], object] | None = None

    def release(self) -> None:
        """Let go of it."""
        self.data.release()
        if self.give_back is not None:
            self.give_back()


def _uncut() -> None:
    """Have a stream that is one whole."""


class Streams:
    """Tar streams, one after another, that are made ahead of who takes them.

    ``trees`` has the entries of each, in the order in which they are archived, or with their segments. ``processes``
    is how many producer processes to start, by default one a core up to four; with 0, or
    where the calling process has other threads (which a fork would leave in an unknown
    state), everything is done in the calling thread. The bytes are the same.
    """

    def __init__(self, trees: Sequence[Sequence[Entry] | Archive], *, processes: int | None = None) -> None:
        """Plan the work, and begin it."""
        libarchive.load()  # here, and not in each producer
        self._streams = [_runs(Archive.taking(entries)) for entries in trees]
        runs = [run for stream in self._streams for run in stream]
        if processes is None:
            processes = min(cores(), 4)
        tables = [Archive.taking(entries).table for entries in trees]
        volume = sum(BLOCK * len(table) + sum(table.sizes) for table in tables)
        # One that is made in less time than a fork takes.
        little = len(tables) == 1 and volume < RUN_BYTES and len(tables[0]) <= RUN_ENTRIES
        count = 0 if little or not may_fork() else min(processes, len(runs))
        self._memory = mmap.mmap(-1, (count * SLOTS or 2) * SLOT_BYTES)
        self._view = memoryview(self._memory)
        self._workers: list[_Worker] = []
        self._stream = self._run = 0
        self._part = _Part(memoryview(b""))
        """The part that was consumed last: it is let go of when the next one has been."""
        try:
            for number in range(count):
                with uninterrupted():
                    self._workers.append(self._start(number, runs[number::count]))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        """Give the streams themselves."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End all producers."""
        self.stop()

    def copy(self, consume: Callable[[memoryview], object], cut: Callable[[], object] = _uncut) -> None:
        """Give the next stream to ``consume``, a part at a time, each valid until the next has been taken.

        The last part is empty. ``cut`` is called where a segment ends, before the next one's first part.
        Raises :class:`SourceError` where a source cannot be read or is not what its entry says, :class:`ArchiveError`
        where libarchive complains.
        """
        stream = self._streams[self._stream]
        self._stream += 1
        own = Producer(self._memory, 0, _Slots(lambda begin, count: self._give(consume, self._cut(begin, count))))
        for run in stream:
            if self._workers:
                self._pass_on(self._workers[self._run % len(self._workers)], consume)
            else:
                run.make(own)
            self._run += 1
            if run.cut:
                cut()
        self._give(consume, self._cut(0, 0))

    def _pass_on(self, worker: _Worker, consume: Callable[[memoryview], object]) -> None:
        """Have the slots of a worker's next run consumed as they are filled."""
        kind = FILLED
        while kind != RUN_END:
            kind, slot, count = worker.take()
            self._give(consume, self._cut(worker.offset + slot * SLOT_BYTES, count, partial(worker.give_back, slot)))

    def _cut(self, begin: int, count: int, give_back: Callable[[], object] | None = None) -> _Part:
        return _Part(self._view[begin : begin + count], give_back)

    def _give(self, consume: Callable[[memoryview], object], part: _Part) -> None:
        """Have a part consumed, and let go of the one before, which nobody reads any more."""
        consume(part.data)
        before, self._part = self._part, part
        before.release()

    def stop(self) -> None:
        """End all producers, whatever they are doing."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _start(self, number: int, runs: Sequence[_Run]) -> _Worker:
        free_read, free_write = os.pipe()
        filled_read, filled_write = os.pipe()
        os.write(free_write, bytes(range(SLOTS)))
        worker = _Worker(free_write, filled_read, number * SLOTS * SLOT_BYTES)

        def work() -> None:
            # Else a producer that lost its consumer would wait on a pipe that it keeps open itself.
            for other in (*self._workers, worker):
                os.close(other.free)
                os.close(other.filled)
            _work(self._memory, worker.offset, _Pipes(free_read, filled_write), runs)

        try:
            worker.child = Child(work)
        except BaseException:
            worker.stop()
            raise
        finally:
            os.close(free_read)
            os.close(filled_write)
        return worker


def tar_size(entries: Sequence[Entry]) -> int | None:
    """Count the bytes of the tar stream of ``entries``: libarchive writes the headers, and no source is read.

    There is no answer where a file is so large that its size stands elsewhere than others': its header cannot be had alone.
    """
    table, total = Table.of(entries), 0
    if max(table.sizes, default=0) >= _HUGE:
        return None

    def count(part: memoryview) -> None:
        nonlocal total
        total += len(part)

    serialise(attrs.evolve(table, sizes=array("q", bytes(8 * len(table)))), count, processes=0)
    return total + sum(size + -size % BLOCK for size in table.sizes)


def serialise(
    entries: Sequence[Entry] | Archive,
    consume: Callable[[memoryview], object],
    cut: Callable[[], object] = _uncut,
    *,
    processes: int | None = None,
) -> None:
    """Write the entries, in the order given, as one tar stream to ``consume``; all else is as of :class:`Streams`."""
    with Streams([entries], processes=processes) as streams:
        streams.copy(consume, cut)
