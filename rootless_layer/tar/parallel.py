"""Tar streams made in parallel: producer processes fill slots, one consumer takes them in order."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
from functools import partial
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer import errors
from rootless_layer.errors import ArchiveError
from rootless_layer.system.fork import Child, cores, may_fork, uninterrupted

from . import libarchive
from .header import BLOCK
from .write import FILLED, RUN_END, SLOT_BYTES, SLOTS, Producer, data_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.tree.tree import Entry

RUN_BYTES = 4 << 20
RUN_ENTRIES = 1000

_MESSAGE = struct.Struct("=BII")
_FAILED = 2


class _Stopped(Exception):  # noqa: N818 - no error: the consumer has gone
    """The consumer takes no more."""


@attrs.frozen(slots=True)
class _Run:
    """Entries of a stream that are made at once; the last ones end it."""

    entries: Sequence[Entry]
    begin: int
    end: int

    @property
    def last(self) -> bool:
        """Say whether the stream ends here."""
        return self.end == len(self.entries)

    def make(self, producer: Producer) -> None:
        """Have it made."""
        producer.run(self.entries[self.begin : self.end], last=self.last)


def _runs(entries: Sequence[Entry]) -> list[_Run]:
    runs, begin, volume = [], 0, 0
    for number, entry in enumerate(entries):
        volume += BLOCK + data_size(entry)
        if volume >= RUN_BYTES or number - begin >= RUN_ENTRIES:
            runs.append(_Run(entries, begin, number + 1))
            begin, volume = number + 1, 0
    if begin < len(entries) or not runs:
        runs.append(_Run(entries, begin, len(entries)))
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


class Streams:
    """Tar streams, one after another, that are made ahead of who takes them.

    ``trees`` has the entries of each, in the order in which they are archived. ``processes``
    is how many producer processes to start, by default one a core up to four; with 0, or
    where the calling process has other threads (which a fork would leave in an unknown
    state), everything is done in the calling thread. The bytes are the same.
    """

    def __init__(self, trees: Sequence[Sequence[Entry]], *, processes: int | None = None) -> None:
        """Plan the work, and begin it."""
        libarchive.load()  # here, and not in each producer
        self._streams = [_runs(entries) for entries in trees]
        runs = [run for stream in self._streams for run in stream]
        if processes is None:
            processes = min(cores(), 4)
        little = len(runs) == 1 and sum(map(data_size, runs[0].entries)) < RUN_BYTES  # is made in less time than a fork takes
        count = 0 if little or not may_fork() else min(processes, len(runs))
        self._memory = mmap.mmap(-1, (count * SLOTS or 2) * SLOT_BYTES)
        self._view = memoryview(self._memory)
        self._workers: list[_Worker] = []
        self._stream = self._run = 0
        self._part = memoryview(b"")
        self._done: Callable[[], object] | None = None  # gives back the slot of the part
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

    def copy(self, consume: Callable[[memoryview], object]) -> None:
        """Give the next stream to ``consume``, a part at a time, each valid until the next has been taken.

        The last part is empty. Raises :class:`SourceError` where a source cannot be read or
        is not what its entry says, :class:`ArchiveError` where libarchive complains.
        """
        stream = self._streams[self._stream]
        self._stream += 1
        own = Producer(self._memory, 0, _Slots(partial(self._give, consume)))
        for run in stream:
            if self._workers:
                self._pass_on(self._workers[self._run % len(self._workers)], consume)
            else:
                run.make(own)
            self._run += 1
        self._give(consume, 0, 0)
        self._done = None

    def _pass_on(self, worker: _Worker, consume: Callable[[memoryview], object]) -> None:
        """Have the slots of a worker's next run consumed as they are filled."""
        kind = FILLED
        while kind != RUN_END:
            kind, slot, count = worker.take()
            self._give(consume, worker.offset + slot * SLOT_BYTES, count)
            self._done = partial(worker.give_back, slot)

    def _give(self, consume: Callable[[memoryview], object], begin: int, count: int) -> None:
        """Have a part consumed, and let go of the one before, which is done with then."""
        part, before = self._view[begin : begin + count], self._part
        consume(part)
        self._part = part
        before.release()
        if self._done is not None:
            self._done()

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


def serialise(entries: Sequence[Entry], consume: Callable[[memoryview], object], *, processes: int | None = None) -> None:
    """Write the entries, in the order given, as one tar stream to ``consume``; all else is as of :class:`Streams`."""
    with Streams([entries], processes=processes) as streams:
        streams.copy(consume)
