"""Entries as a tar stream: libarchive writes it, the same bytes always.

The stream is pax ("pax_restricted", the smallest form that is right for every entry)
and is made in *runs* of entries. A tar stream is the concatenation of its entries, so
runs can be made side by side and strung together in order (:mod:`.pipeline`). A run is
written into slots of memory, which are handed over as they fill.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer.errors import RootlessLayerError, SourceError
from rootless_layer.system.machine import unreadable
from rootless_layer.tar import libarchive
from rootless_layer.tree.tree import Entry, shown, stamp

from .header import BLOCK, XATTR, pax_records

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator, Sequence

SLOT_BYTES = 2 << 20
SLOTS = 4
SMALL_BYTES = 256 << 10
"""Larger files are read straight into the slots, without a copy through libarchive."""
_REST_BYTES = 4 * BLOCK
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY

FILLED, RUN_END = range(2)


def data_size(entry: Entry) -> int:
    """Give the bytes of data that stand behind the entry's header in the stream."""
    return entry.size if entry.source is not None and entry.link is None else 0


class Exchange(Protocol):
    """Where a producer's slots come from and go to."""

    def take(self) -> int:
        """Give the number of a free slot."""

    def give(self, kind: int, slot: int, count: int) -> None:
        """Take a slot with so many bytes: ``FILLED``, or the last of a run, ``RUN_END``."""


@attrs.define(slots=True)
class Producer:
    """Writes runs of entries into its slots, one libarchive writer a slot."""

    memory: mmap.mmap
    offset: int
    """Where this producer's slots begin in the memory."""
    exchange: Exchange
    slot: int = -1
    position: int = 0
    """The bytes of the slot that were filled before the current writer was opened."""
    archive: int = 0
    used: ctypes.c_size_t = attrs.Factory(ctypes.c_size_t)

    def run(self, entries: Sequence[Entry], *, last: bool) -> None:
        """Write one run; the last run also ends the archive."""
        record = libarchive.entry_new()
        scratch = ctypes.create_string_buffer(SMALL_BYTES + 1)
        try:
            with libarchive.utf8_locale():
                self._acquire()
                self._write(entries, record, scratch)
                if last:
                    libarchive.check(self.archive, libarchive.write_close(self.archive), "end the archive")
                    self._drop()
                self._hand_over(RUN_END)
        finally:
            libarchive.entry_free(record)
            self._drop()

    def _write(  # noqa: C901, PLR0912 - the hot loop: each call costs a tenth of an entry
        self, entries: Sequence[Entry], record: int, scratch: ctypes.Array[ctypes.c_char]
    ) -> None:
        used = self.used
        buffers = [memoryview(scratch)]
        plain = False  # whether the record holds nothing that another plain entry would inherit
        mode = uid = gid = -1
        mtime: int | None = None
        for entry in entries:
            path = entry.path
            size = entry.size if entry.source is not None else 0
            bound = 4096 + 4 * len(path)
            simple = entry.link is None and entry.target is None and not entry.rdev and not entry.xattrs
            if not simple:
                size = data_size(entry)
                bound = _header_bound(entry)
            if not (plain and simple):
                libarchive.entry_clear(record)
                mode, uid, gid, mtime = -1, -1, -1, None
            plain = simple
            if self.position + used.value + bound + (size if size <= SMALL_BYTES else 0) > SLOT_BYTES:
                self._hand_over(FILLED)
                self._acquire()
            libarchive.entry_copy_pathname(record, path or b"./")
            libarchive.entry_set_size(record, size)
            if entry.mode != mode:
                mode = entry.mode
                libarchive.entry_set_mode(record, mode)
            if entry.uid != uid:
                uid = entry.uid
                libarchive.entry_set_uid(record, uid)
            if entry.gid != gid:
                gid = entry.gid
                libarchive.entry_set_gid(record, gid)
            if entry.mtime != mtime:
                mtime = entry.mtime
                libarchive.entry_set_mtime(record, mtime, 0)
            if not simple:
                _set_rest(record, entry)
                if entry.xattrs:  # where the last entry ends, so that this one's headers can be found
                    libarchive.check(self.archive, libarchive.write_finish_entry(self.archive), "end an entry")
            begin = used.value
            code = libarchive.write_header(self.archive, record)
            if code < libarchive.OK and not (code == libarchive.WARN and not _is_utf8(entry)):
                libarchive.check(self.archive, code, f"write the header of {shown(path)}")
            if not simple and entry.xattrs:
                at = self._begin + self.position
                _name_xattrs(self.memory, at + begin, entry)
            if size > SMALL_BYTES:
                self._stream(entry)
            elif size:
                _read_small(entry, size, buffers)
                if libarchive.write_data(self.archive, scratch, size) != size:
                    libarchive.check(self.archive, -1, f"write the data of {shown(path)}")

    def _stream(self, entry: Entry) -> None:
        """Put a large file's bytes and their padding behind the header just written."""
        self._drop()
        with _reading(entry):
            descriptor = os.open(entry.source or b"", _OPEN)
        try:
            count = self._fill(entry, descriptor)
            with _reading(entry):
                count += len(os.read(descriptor, 1))
                status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        _check(entry, status, count)
        padding = -entry.size % BLOCK
        # Room for the padding, and for the end of the archive, which may be all that follows.
        if SLOT_BYTES - self.position < _REST_BYTES:
            self._hand_over(FILLED)
            self._take()
        begin = self._begin + self.position
        self.memory[begin : begin + padding] = bytes(padding)
        self.position += padding
        self._open()

    def _fill(self, entry: Entry, descriptor: int) -> int:
        """Read up to a file's size into the slots; give how many bytes there were."""
        remaining = entry.size
        with memoryview(self.memory) as view:
            while remaining:
                if self.position == SLOT_BYTES:
                    self._hand_over(FILLED)
                    self._take()
                begin = self._begin + self.position
                with view[begin : begin + min(SLOT_BYTES - self.position, remaining)] as room, _reading(entry):
                    count = os.readv(descriptor, [room])
                if not count:
                    break
                self.position += count
                remaining -= count
        return entry.size - remaining

    @property
    def _begin(self) -> int:
        return self.offset + self.slot * SLOT_BYTES

    def _take(self) -> None:
        self.slot, self.position = self.exchange.take(), 0

    def _acquire(self) -> None:
        self._take()
        self._open()

    def _open(self) -> None:
        archive = self.archive = libarchive.write_new()
        self.used.value = 0
        for code in (
            libarchive.write_set_format_pax_restricted(archive),
            libarchive.write_set_options(archive, b"pax:xattrheader=SCHILY"),
            libarchive.write_set_bytes_per_block(archive, 0),
            libarchive.write_set_bytes_in_last_block(archive, 1),
        ):
            libarchive.check(archive, code, "begin an archive")
        holder = ctypes.c_char.from_buffer(self.memory, self._begin + self.position)
        code = libarchive.write_open_memory(
            archive, ctypes.addressof(holder), SLOT_BYTES - self.position, ctypes.addressof(self.used)
        )
        libarchive.check(archive, code, "begin an archive")

    def _drop(self) -> None:
        """Let the writer go without the end-of-archive marker that closing it would write."""
        if self.archive:
            libarchive.write_fail(self.archive)
            libarchive.write_free(self.archive)
            self.position += self.used.value
            self.archive = self.used.value = 0

    def _hand_over(self, kind: int) -> None:
        if self.archive:
            libarchive.check(self.archive, libarchive.write_finish_entry(self.archive), "end an entry")
            self._drop()
        self.exchange.give(kind, self.slot, self.position)
        self.slot = -1


def _header_bound(entry: Entry) -> int:
    """Give more bytes than the entry's headers can take."""
    bound = 4096 + 4 * len(entry.path)
    if entry.target is not None or entry.link is not None or entry.xattrs:
        bound += 4 * len(entry.target or b"") + 4 * len(entry.link or b"")
        bound += sum(256 + 4 * len(name) + 2 * len(value) for name, value in entry.xattrs)
    return bound


def _set_rest(record: int, entry: Entry) -> None:
    if entry.link is not None:
        libarchive.entry_copy_hardlink(record, entry.link)
        return
    if entry.target is not None:
        libarchive.entry_copy_symlink(record, entry.target)
    if entry.rdev:
        libarchive.entry_set_rdev(record, entry.rdev)
    for name, value in entry.xattrs:
        libarchive.entry_xattr_add_entry(record, b"x" * len(name), value, len(value))


def _name_xattrs(memory: mmap.mmap, begin: int, entry: Entry) -> None:
    """Give the attributes in an entry's pax header, which begins at a place, their names; they come with others as long.

    libarchive writes a name in the encoding of URLs, and whoever unpacks a layer takes that for the name.
    """
    if entry.link is not None:
        return  # the attributes stand with the first name
    names = [name for name, _ in reversed(entry.xattrs)]  # libarchive's order
    size = int(memory[begin + 124 : begin + 135], 8)
    for place, key, _ in pax_records(memory[begin + BLOCK : begin + BLOCK + size]):
        if key.startswith(XATTR):
            name = names.pop(0)
            first = begin + BLOCK + place + len(XATTR)
            memory[first : first + len(name)] = name


def _is_utf8(entry: Entry) -> bool:
    """Say whether every name is UTF-8; where one is not, libarchive warns and is right."""
    try:
        for name in (entry.path, entry.target, entry.link):
            if name is not None:
                name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unreadable(entry: Entry, error: OSError) -> RootlessLayerError:
    doing = f"cannot be read for {shown(entry.path)}"
    return unreadable(error, os.fsdecode(entry.source or b""), doing, hint="Build again when nothing else removes files.")


@contextlib.contextmanager
def _reading(entry: Entry) -> Iterator[None]:
    """Raise :func:`unreadable`'s error where an entry's file cannot be read."""
    try:
        yield
    except OSError as error:
        raise _unreadable(entry, error) from error


def _read_small(entry: Entry, size: int, buffers: list[memoryview]) -> None:
    """Read a small file at once; one byte more is asked for than it should have."""
    try:
        descriptor = os.open(entry.source or b"", _OPEN)
        try:
            count = os.readv(descriptor, buffers)
            while count < size:  # a network file system may give less than there is
                more = os.readv(descriptor, [buffers[0][count:]])
                if not more:
                    break
                count += more
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # no context manager, which would take as long as a system call
        raise _unreadable(entry, error) from error
    _check(entry, status, count)


def _check(entry: Entry, status: os.stat_result, count: int) -> None:
    """Refuse a file that is not what was planned: libarchive would pad or cut it silently.

    The time of the inode's change does not count: another build may link to the file.
    """
    if count != entry.size or (entry.stamp is not None and stamp(status)[:4] != entry.stamp[:4]):
        source = os.fsdecode(entry.source or b"")
        raise SourceError(
            f"{source}: changed while {shown(entry.path)} was being written from it",
            hint="Build again when nothing else writes to it.",
        )
