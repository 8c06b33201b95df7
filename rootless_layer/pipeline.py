"""The tar stream made in parallel: producer processes fill slots, one consumer takes them in order."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
from typing import TYPE_CHECKING

import attrs

from . import errors
from .archive import BLOCK, FAILED, FILLED, MESSAGE, SLOT_BYTES, SLOTS, Producer, Stopped, data_size
from .child import Child, may_fork, uninterrupted
from .errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .tree import Entry

RUN_BYTES = 4 << 20
RUN_ENTRIES = 1000


def _runs(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    runs, begin, volume = [], 0, 0
    for number, entry in enumerate(entries):
        volume += BLOCK + data_size(entry)
        if volume >= RUN_BYTES or number - begin >= RUN_ENTRIES:
            runs.append((begin, number + 1))
            begin, volume = number + 1, 0
    if begin < len(entries) or not runs:
        runs.append((begin, len(entries)))
    return runs


def _work(producer: Producer, entries: Sequence[Entry], runs: Sequence[tuple[int, int]], end: int) -> None:
    try:
        for begin, stop in runs:
            producer.run(entries[begin:stop], last=stop == end)
    except errors.RootlessLayerError as error:
        producer.fail(error)
    except Stopped:
        pass
    except Exception as error:  # noqa: BLE001 - it is the consumer's to raise
        producer.fail(ArchiveError(f"the archive cannot be written: {error!r}"))
    finally:
        os.close(producer.filled)


@attrs.define(slots=True)
class _Worker:
    """One producer's pipes, as the consumer sees them, and the process or thread behind them."""

    free: int
    filled: int
    offset: int
    child: Child | None = None
    thread: threading.Thread | None = None

    def take(self) -> tuple[int, int, int]:
        """Wait for the next filled slot: the kind of message, the slot, its bytes."""
        message = os.read(self.filled, MESSAGE.size)
        if len(message) < MESSAGE.size:
            error = "a process that writes the archive ended without a word"
            raise ArchiveError(error, hint="It may have been killed, by want of memory for one.")
        kind, slot, count = MESSAGE.unpack(message)
        if kind == FAILED:
            name, problems, hint = json.loads(os.read(self.filled, count))
            raise getattr(errors, name)(*problems, hint=hint)
        return kind, slot, count

    def stop(self) -> None:
        """End the producer, whatever it is doing, and wait for it."""
        os.close(self.free)
        if self.child:
            self.child.stop()
        os.close(self.filled)  # a thread blocked in a write to it gets EPIPE
        if self.thread:
            self.thread.join()


def serialise(entries: Sequence[Entry], consume: Callable[[memoryview], object], *, processes: int | None = None) -> None:
    """Write the entries, in the order given, as one tar stream to ``consume``.

    ``consume`` is called with a part of the stream at a time, valid during the call.
    ``processes`` is how many producer processes to start, by default one a core up to
    four; with 0, or where the calling process has other threads (which a fork would
    leave in an unknown state), a thread does their work. The bytes are the same.

    Raises :class:`SourceError` where a source cannot be read or is not what its entry
    says, :class:`ArchiveError` where libarchive complains.
    """
    if processes is None:
        processes = min(os.cpu_count() or 1, 4)
    runs = _runs(entries)
    little = len(runs) == 1 and sum(map(data_size, entries)) < RUN_BYTES  # is made in less time than a fork takes
    if little or not may_fork():
        processes = 0
    count = max(1, min(processes, len(runs)))
    memory = mmap.mmap(-1, count * SLOTS * SLOT_BYTES)
    workers: list[_Worker] = []
    try:
        for number in range(count):
            with uninterrupted():
                workers.append(_start(workers, memory, number, entries, runs[number::count], fork=processes > 0))
        with memoryview(memory) as view:
            for number in range(len(runs)):
                _consume_run(workers[number % count], view, consume)
    finally:
        for worker in workers:
            worker.stop()


def _consume_run(worker: _Worker, view: memoryview, consume: Callable[[memoryview], object]) -> None:
    kind = FILLED
    while kind == FILLED:
        kind, slot, size = worker.take()
        begin = worker.offset + slot * SLOT_BYTES
        with view[begin : begin + size] as part:
            consume(part)
        # At the last run the producer may be gone already.
        with contextlib.suppress(BrokenPipeError):
            os.write(worker.free, bytes((slot,)))


def _start(  # noqa: PLR0913 - one place, split for its length only
    workers: Sequence[_Worker],
    memory: mmap.mmap,
    number: int,
    entries: Sequence[Entry],
    runs: Sequence[tuple[int, int]],
    *,
    fork: bool,
) -> _Worker:
    free_read, free_write = os.pipe()
    filled_read, filled_write = os.pipe()
    os.write(free_write, bytes(range(SLOTS)))
    offset = number * SLOTS * SLOT_BYTES
    producer = Producer(memory, offset, free_read, filled_write)
    worker = _Worker(free_write, filled_read, offset)
    if not fork:
        worker.thread = threading.Thread(target=_work_thread, args=(producer, entries, runs, len(entries)), daemon=True)
        worker.thread.start()
        return worker

    def work() -> None:
        # Else a producer that lost its consumer would wait on a pipe that it keeps open itself.
        for other in (*workers, worker):
            os.close(other.free)
            os.close(other.filled)
        _work(producer, entries, runs, len(entries))

    worker.child = Child(work)
    os.close(free_read)
    os.close(filled_write)
    return worker


def _work_thread(producer: Producer, entries: Sequence[Entry], runs: Sequence[tuple[int, int]], end: int) -> None:
    with contextlib.suppress(OSError):  # its pipes are closed under it where the whole process ends
        _work(producer, entries, runs, end)
        os.close(producer.free)
