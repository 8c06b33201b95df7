"""Entries as a tar stream: libarchive writes it, the same bytes always.

The stream is pax ("pax_restricted", the smallest form that is right for every entry)
and is made in *runs* of entries. A tar stream is the concatenation of its entries, so
runs can be made side by side and strung together in order (:mod:`.pipeline`). A run is
written into slots of memory, which are handed over as they fill.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer.tar import libarchive
from rootless_layer.tree.table import NANOSECONDS
from rootless_layer.tree.tree import shown

from .header import BLOCK, XATTR, pax_records
from .native import Loop, Output
from .source import OPEN, STATE, Source

if TYPE_CHECKING:
    import mmap

    from rootless_layer.tree.owner_names import OwnerNames
    from rootless_layer.tree.table import Table
    from rootless_layer.tree.tree import Entry

SLOT_BYTES = 2 << 20
SLOTS = 4
SMALL_BYTES = 256 << 10
"""Larger files are read straight into the slots, without a copy through libarchive."""
_REST_BYTES = 4 * BLOCK

FILLED, RUN_END = range(2)


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
    scratch: ctypes.Array[ctypes.c_char] = attrs.Factory(lambda: ctypes.create_string_buffer(SMALL_BYTES + 1))
    """What a small file is read into; one byte more than it has tells one that grew."""
    loop: Loop | None = attrs.Factory(Loop.load)
    buffers: list[memoryview] = attrs.Factory(lambda producer: [memoryview(producer.scratch)], takes_self=True)

    def run(self, table: Table, *, last: bool) -> None:
        """Write one run; the last run also ends the archive."""
        record = libarchive.entry_new()
        try:
            with libarchive.utf8_locale():
                self._acquire()
                self._write(table, record)
                if last:
                    libarchive.check(self.archive, libarchive.write_close(self.archive), "end the archive")
                    self._drop()
                self._hand_over(RUN_END)
        finally:
            libarchive.entry_free(record)
            self._drop()

    def _write(self, table: Table, record: int) -> None:
        """Write rows: the plain ones by the loop in C, where there is one."""
        kinds, end = table.kinds, len(table)
        if self.loop is None or max(kinds, default=-1) < 0:
            self._write_rows(table, range(end), record)
            return
        run, row = self.loop.over(table), 0
        while row < end:
            row = run.write(self._output(record), row)
            if row < 0:
                libarchive.check(self.archive, libarchive.FATAL, f"write {shown(table.paths[~row])}")
            behind = row + 1
            while behind < end and kinds[behind] < 0:
                behind += 1
            self._write_rows(table, range(row, min(behind, end)), record)
            row = behind

    def _output(self, record: int) -> Output:
        used, buffer = ctypes.addressof(self.used), ctypes.addressof(self.scratch)
        return Output(None, self.archive, record, used, SLOT_BYTES - self.position, buffer, SMALL_BYTES)

    def _write_rows(  # noqa: C901, PLR0912, PLR0915 - the hot loop: each call costs a twentieth of an entry
        self, table: Table, places: range, record: int
    ) -> None:
        used, paths, kinds, sizes, shapes = self.used, table.paths, table.kinds, table.sizes, table.shapes
        singles, inodes, times = table.singles, table.inodes, table.times
        copy_pathname, write_header = libarchive.entry_copy_pathname, libarchive.write_header
        libarchive.entry_clear(record)
        held: tuple[int, int, int] | None = None
        # Plain is a record that holds nothing that another plain entry would inherit.
        plain, shaped, length, mtime = False, -1, -1, None
        for place in places:
            path, kind, size = paths[place], kinds[place], sizes[place]
            bound = 4096 + 4 * len(path)
            if kind >= 0:
                entry, simple = None, True
                if kind != shaped:
                    shape, shaped = shapes[kind], kind
                    said, epoch, is_dir = (shape.mode, shape.uid, shape.gid), shape.epoch, shape.is_dir
                time = epoch if is_dir else min(times[place] // NANOSECONDS, epoch)
            else:
                entry, shaped = singles[~kind], -1
                said, time = (entry.mode, entry.uid, entry.gid), entry.mtime
                simple = entry.link is None and entry.target is None and not entry.rdev and not entry.xattrs
                bound = bound if simple else _header_bound(entry)
            if not (plain and simple):
                libarchive.entry_clear(record)
                held, length, mtime = None, -1, None
            plain = simple
            if self.position + used.value + bound + (size if size <= SMALL_BYTES else 0) > SLOT_BYTES:
                self._hand_over(FILLED)
                self._acquire()
            copy_pathname(record, path or b"./")
            if size != length:
                length = size
                libarchive.entry_set_size(record, size)
            if said is not held and said != held:
                held = said
                _set_owner(record, said, table.names)
            if time != mtime:
                mtime = time
                libarchive.entry_set_mtime(record, time, 0)
            begin = -1 if simple or entry is None else self._begin_odd(record, entry)
            code = write_header(self.archive, record)
            if code < libarchive.OK and not (code == libarchive.WARN and not _is_utf8(entry or table[place])):
                libarchive.check(self.archive, code, f"write the header of {shown(path)}")
            if begin >= 0 and entry is not None:
                _name_xattrs(self.memory, begin, entry)
            if not size:
                continue
            if entry is None:
                source = shape.top + path[shape.cut :]
                state: tuple[int, ...] | None = (shape.device, inodes[place], size, times[place])
            else:
                source, state = entry.source or b"", None if entry.stamp is None else entry.stamp[:4]
            if size > SMALL_BYTES:
                self._stream(Source(path, source, size, state))
            else:
                self._copy(path, source, size, state)

    def _begin_odd(self, record: int, entry: Entry) -> int:
        """Put what only few entries have into the record; give where in memory the headers begin, -1 without attributes."""
        _set_rest(record, entry)
        if not entry.xattrs:
            return -1
        libarchive.check(self.archive, libarchive.write_finish_entry(self.archive), "end an entry")  # the last one
        return self._begin + self.position + self.used.value

    def _copy(self, path: bytes, source: bytes, size: int, state: tuple[int, ...] | None) -> None:
        """Put a small file's bytes behind the header just written; one byte more is asked for than it should have."""
        buffers = self.buffers
        try:
            descriptor = os.open(source, OPEN)
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
        except OSError as error:
            raise Source(path, source, size, state).unreadable(error) from error
        if count != size or (state is not None and STATE(status) != state):
            raise Source(path, source, size, state).changed()
        if libarchive.write_data(self.archive, self.scratch, size) != size:
            libarchive.check(self.archive, -1, f"write the data of {shown(path)}")

    def _stream(self, file: Source) -> None:
        """Put a large file's bytes and their padding behind the header just written."""
        self._drop()
        with file.reading():
            descriptor = os.open(file.source, OPEN)
        try:
            count = self._fill(file, descriptor)
            with file.reading():
                count += len(os.read(descriptor, 1))
                status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not file.is_right(count, status):
            raise file.changed()
        padding = -file.size % BLOCK
        # Room for the padding, and for the end of the archive, which may be all that follows.
        if SLOT_BYTES - self.position < _REST_BYTES:
            self._hand_over(FILLED)
            self._take()
        begin = self._begin + self.position
        self.memory[begin : begin + padding] = bytes(padding)
        self.position += padding
        self._open()

    def _fill(self, file: Source, descriptor: int) -> int:
        """Read up to a file's size into the slots; give how many bytes there were."""
        remaining = file.size
        with memoryview(self.memory) as view:
            while remaining:
                if self.position == SLOT_BYTES:
                    self._hand_over(FILLED)
                    self._take()
                begin = self._begin + self.position
                with view[begin : begin + min(SLOT_BYTES - self.position, remaining)] as room, file.reading():
                    count = os.readv(descriptor, [room])
                if not count:
                    break
                self.position += count
                remaining -= count
        return file.size - remaining

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


def _set_owner(record: int, said: tuple[int, int, int], names: OwnerNames) -> None:
    mode, uid, gid = said
    libarchive.entry_set_mode(record, mode)
    libarchive.entry_set_uid(record, uid)
    libarchive.entry_copy_uname(record, names.of_user(uid))
    libarchive.entry_set_gid(record, gid)
    libarchive.entry_copy_gname(record, names.of_group(gid))


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
