"""A tree as a tar stream: libarchive writes it, in parallel, the same bytes always.

The stream is pax ("pax_restricted", the smallest form that is right for every entry)
and is made in *runs* of entries. A tar stream is the concatenation of its entries, so
runs can be made side by side by producer processes and strung together in order: the
bytes do not depend on how many producers there are. Producers fill slots of shared
memory; the one consumer takes them in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import struct
import threading
from typing import TYPE_CHECKING

import attrs

from . import capi, errors
from .errors import ArchiveError, SourceError
from .namespace import die_with_parent
from .tree import Entry, shown, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SLOT_BYTES = 2 << 20
SLOTS = 4
SMALL_BYTES = 256 << 10
"""Larger files are read straight into the slots, without a copy through libarchive."""
RUN_BYTES = 4 << 20
RUN_ENTRIES = 1000
BLOCK = 512
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY

_MESSAGE = struct.Struct("=BII")
_FILLED, _RUN_END, _FAILED = range(3)


def data_size(entry: Entry) -> int:
    """Give the bytes of data that stand behind the entry's header in the stream."""
    return entry.size if entry.source is not None and entry.link is None else 0


class _Stopped(Exception):  # noqa: N818 - no error: the consumer has gone
    """The consumer takes no more."""


@attrs.define(slots=True)
class _Producer:
    """Writes runs of entries into its slots, one libarchive writer a slot."""

    memory: mmap.mmap
    offset: int
    """Where this producer's slots begin in the shared memory."""
    free: int
    """The pipe from which the number of a free slot is read, a byte each."""
    filled: int
    """The pipe to which a message is written for each filled slot."""
    slot: int = -1
    position: int = 0
    """The bytes of the slot that were filled before the current writer was opened."""
    archive: int = 0
    used: ctypes.c_size_t = attrs.Factory(ctypes.c_size_t)

    def run(self, entries: Sequence[Entry], *, last: bool) -> None:
        """Write one run; the last run also ends the archive."""
        record = capi.entry_new()
        scratch = ctypes.create_string_buffer(SMALL_BYTES + 1)
        try:
            with capi.utf8_locale():
                self._acquire()
                self._write(entries, record, scratch)
                if last:
                    capi.check(self.archive, capi.write_close(self.archive), "end the archive")
                    self._drop()
                self._hand_over(_RUN_END)
        finally:
            capi.entry_free(record)
            self._drop()

    def _write(self, entries: Sequence[Entry], record: int, scratch: ctypes.Array[ctypes.c_char]) -> None:
        used = self.used
        buffers = [memoryview(scratch)]
        plain = False  # whether the record holds nothing that another plain entry would inherit
        mode = uid = gid = mtime = -1
        for entry in entries:
            simple = entry.link is None and entry.target is None and not entry.rdev and not entry.xattrs
            if not (plain and simple):
                capi.entry_clear(record)
                mode = uid = gid = mtime = -1
            plain = simple
            size = data_size(entry)
            if self.position + used.value + _header_bound(entry) + min(size, SMALL_BYTES) + BLOCK > SLOT_BYTES:
                self._hand_over(_FILLED)
                self._acquire()
            capi.entry_copy_pathname(record, entry.path or b"./")
            capi.entry_set_size(record, size)
            if entry.mode != mode:
                mode = entry.mode
                capi.entry_set_mode(record, mode)
            if entry.uid != uid:
                uid = entry.uid
                capi.entry_set_uid(record, uid)
            if entry.gid != gid:
                gid = entry.gid
                capi.entry_set_gid(record, gid)
            if entry.mtime != mtime:
                mtime = entry.mtime
                capi.entry_set_mtime(record, mtime, 0)
            if not simple:
                _set_rest(record, entry)
            code = capi.write_header(self.archive, record)
            if code < capi.OK and not (code == capi.WARN and not _is_utf8(entry)):
                capi.check(self.archive, code, f"write the header of {shown(entry.path)}")
            if size > SMALL_BYTES:
                self._stream(entry)
            elif size:
                _read_small(entry, buffers)
                if capi.write_data(self.archive, scratch, size) != size:
                    capi.check(self.archive, -1, f"write the data of {shown(entry.path)}")

    def _stream(self, entry: Entry) -> None:
        """Put a large file's bytes and their padding behind the header just written."""
        size = entry.size
        self._drop()
        with _opened(entry) as descriptor:
            remaining = size
            while remaining:
                if self.position == SLOT_BYTES:
                    self._hand_over(_FILLED)
                    self._take()
                begin = self._begin + self.position
                with memoryview(self.memory) as view, view[begin : begin + min(SLOT_BYTES - self.position, remaining)] as room:
                    count = os.readv(descriptor, [room])
                if not count:
                    break
                self.position += count
                remaining -= count
            _check_end(entry, descriptor, size - remaining)
        padding = -size % BLOCK
        if self.position + padding > SLOT_BYTES:
            self._hand_over(_FILLED)
            self._take()
        begin = self._begin + self.position
        self.memory[begin : begin + padding] = bytes(padding)
        self.position += padding
        self._open()

    @property
    def _begin(self) -> int:
        return self.offset + self.slot * SLOT_BYTES

    def _take(self) -> None:
        number = os.read(self.free, 1)
        if not number:
            raise _Stopped
        self.slot, self.position = number[0], 0

    def _acquire(self) -> None:
        self._take()
        self._open()

    def _open(self) -> None:
        archive = self.archive = capi.write_new()
        self.used.value = 0
        for code in (
            capi.write_set_format_pax_restricted(archive),
            capi.write_set_options(archive, b"pax:xattrheader=SCHILY"),
            capi.write_set_bytes_per_block(archive, 0),
            capi.write_set_bytes_in_last_block(archive, 1),
        ):
            capi.check(archive, code, "begin an archive")
        holder = ctypes.c_char.from_buffer(self.memory, self._begin + self.position)
        code = capi.write_open_memory(
            archive, ctypes.addressof(holder), SLOT_BYTES - self.position, ctypes.addressof(self.used)
        )
        capi.check(archive, code, "begin an archive")

    def _drop(self) -> None:
        """Let the writer go without the end-of-archive marker that closing it would write."""
        if self.archive:
            capi.write_fail(self.archive)
            capi.write_free(self.archive)
            self.position += self.used.value
            self.archive = self.used.value = 0

    def _hand_over(self, kind: int) -> None:
        if self.archive:
            capi.check(self.archive, capi.write_finish_entry(self.archive), "end an entry")
            self._drop()
        os.write(self.filled, _MESSAGE.pack(kind, self.slot, self.position))
        self.slot = -1

    def fail(self, error: errors.RootlessLayerError) -> None:
        """Tell the consumer of an error instead of a slot."""
        problems = [problem[:1000] for problem in error.problems[:1]]  # a pipe takes 4096 bytes whole
        told = json.dumps([type(error).__name__, problems, error.hint[:1000]]).encode()
        os.write(self.filled, _MESSAGE.pack(_FAILED, 0, len(told)) + told)


def _header_bound(entry: Entry) -> int:
    """Give more bytes than the entry's headers can take."""
    bound = 4096 + 4 * len(entry.path)
    if entry.target is not None or entry.link is not None or entry.xattrs:
        bound += 4 * len(entry.target or b"") + 4 * len(entry.link or b"")
        bound += sum(256 + 4 * len(name) + 2 * len(value) for name, value in entry.xattrs)
    return bound


def _set_rest(record: int, entry: Entry) -> None:
    if entry.link is not None:
        capi.entry_copy_hardlink(record, entry.link)
        return
    if entry.target is not None:
        capi.entry_copy_symlink(record, entry.target)
    if entry.rdev:
        capi.entry_set_rdev(record, entry.rdev)
    for name, value in entry.xattrs:
        capi.entry_xattr_add(record, name, value, len(value))


def _is_utf8(entry: Entry) -> bool:
    """Say whether every name is UTF-8; where one is not, libarchive warns and is right."""
    try:
        for name in (entry.path, entry.target, entry.link):
            if name is not None:
                name.decode()
    except UnicodeDecodeError:
        return False
    return True


@contextlib.contextmanager
def _opened(entry: Entry) -> Iterator[int]:
    try:
        descriptor = os.open(entry.source or b"", _OPEN)
    except OSError as error:
        raise _unreadable(entry, error) from error
    try:
        yield descriptor
    except OSError as error:
        raise _unreadable(entry, error) from error
    finally:
        os.close(descriptor)


def _unreadable(entry: Entry, error: OSError) -> SourceError:
    return SourceError(
        f"{os.fsdecode(entry.source or b'')}: cannot be read for {shown(entry.path)}: {error.strerror}",
        hint="Make it readable for the user who builds, or leave it out.",
    )


def _read_small(entry: Entry, buffers: list[memoryview]) -> None:
    with _opened(entry) as descriptor:
        count = os.readv(descriptor, buffers)
        while count < entry.size:  # a network file system may give less than there is
            more = os.readv(descriptor, [buffers[0][count:]])
            if not more:
                break
            count += more
        _check(entry, descriptor, count)


def _check_end(entry: Entry, descriptor: int, count: int) -> None:
    _check(entry, descriptor, count + len(os.read(descriptor, 1)))


def _check(entry: Entry, descriptor: int, count: int) -> None:
    """Refuse a file that is not what was planned: libarchive would pad or cut it silently.

    The time of the inode's change does not count: another build may link to the file.
    """
    if count != entry.size or (entry.stamp is not None and stamp(os.fstat(descriptor))[:4] != entry.stamp[:4]):
        source = os.fsdecode(entry.source or b"")
        raise SourceError(
            f"{source}: changed while {shown(entry.path)} was being written from it",
            hint="Build again when nothing else writes to it.",
        )


def _runs(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    runs, begin, volume = [], 0, 0
    for number, entry in enumerate(entries):
        volume += BLOCK + data_size(entry)
        if volume >= RUN_BYTES or number - begin >= RUN_ENTRIES:
            runs.append((begin, number + 1))
            begin, volume = number + 1, 0
    runs.append((begin, len(entries)))
    return runs


def _work(producer: _Producer, entries: Sequence[Entry], runs: Sequence[tuple[int, int]], end: int) -> None:
    try:
        for begin, stop in runs:
            producer.run(entries[begin:stop], last=stop == end)
    except errors.RootlessLayerError as error:
        producer.fail(error)
    except _Stopped:
        pass
    finally:
        os.close(producer.filled)


@attrs.define(slots=True)
class _Worker:
    """One producer's pipes, as the consumer sees them, and the process or thread behind them."""

    free: int
    filled: int
    offset: int
    pid: int = 0
    thread: threading.Thread | None = None

    def take(self) -> tuple[int, int, int]:
        """Wait for the next filled slot: the kind of message, the slot, its bytes."""
        message = os.read(self.filled, _MESSAGE.size)
        if len(message) < _MESSAGE.size:
            error = "a process that writes the archive ended without a word"
            raise ArchiveError(error, hint="It may have been killed, by want of memory for one.")
        kind, slot, count = _MESSAGE.unpack(message)
        if kind == _FAILED:
            name, problems, hint = json.loads(os.read(self.filled, count))
            raise getattr(errors, name)(*problems, hint=hint)
        return kind, slot, count

    def stop(self) -> None:
        """End the producer, whatever it is doing, and wait for it."""
        os.close(self.free)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
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
    if threading.active_count() > 1:
        processes = 0
    runs = _runs(entries)
    count = max(1, min(processes, len(runs)))
    memory = mmap.mmap(-1, count * SLOTS * SLOT_BYTES)
    workers: list[_Worker] = []
    try:
        for number in range(count):
            workers.append(_start(workers, memory, number, entries, runs[number::count], fork=processes > 0))
        with memoryview(memory) as view:
            for number in range(len(runs)):
                _consume_run(workers[number % count], view, consume)
    finally:
        for worker in workers:
            worker.stop()


def _consume_run(worker: _Worker, view: memoryview, consume: Callable[[memoryview], object]) -> None:
    kind = _FILLED
    while kind == _FILLED:
        kind, slot, size = worker.take()
        begin = worker.offset + slot * SLOT_BYTES
        with view[begin : begin + size] as part:
            consume(part)
        # At the last run the producer may be gone already.
        with contextlib.suppress(BrokenPipeError):
            os.write(worker.free, bytes((slot,)))


def _start(
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
    producer = _Producer(memory, offset, free_read, filled_write)
    worker = _Worker(free_write, filled_read, offset)
    if not fork:
        worker.thread = threading.Thread(target=_work_thread, args=(producer, entries, runs, len(entries)), daemon=True)
        worker.thread.start()
        return worker
    parent = os.getpid()
    worker.pid = os.fork()
    if worker.pid:
        os.close(free_read)
        os.close(filled_write)
        return worker
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the consumer stops its producers itself
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(parent)
        for other in (*workers, worker):
            os.close(other.free)
            os.close(other.filled)
        _work(producer, entries, runs, len(entries))
    except BaseException:  # noqa: BLE001 - nothing may unwind into the caller's frames twice
        os._exit(1)
    os._exit(0)


def _work_thread(producer: _Producer, entries: Sequence[Entry], runs: Sequence[tuple[int, int]], end: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        _work(producer, entries, runs, end)
    os.close(producer.free)
