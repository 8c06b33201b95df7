"""A tar as libarchive reads it from a pipe, each member's headers compared with their own bytes."""

from __future__ import annotations

import ctypes
import os
import stat
from typing import TYPE_CHECKING, Any, Self

from rootless_layer.system.machine import failed, is_of_machine
from rootless_layer.tar import libarchive
from rootless_layer.tree.tree import shown

from .feed import READ_BYTES
from .header import BLOCK, Header, HeaderError, is_plain, own_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEPT = 4
_FILLED = READ_BYTES // 2
"""A buffer is filled so far at least: the last few then hold all headers of a member, which may be 1 MiB long."""
ACL_LEFT_OUT = "access control lists are left out, and the mode is the header's"
_NO_MORE, _NOTHING = "Truncated input file (needed ", ", only 0 available)"  # behind data that was read to its end


class TarStream:
    """The members of the tar that comes from a descriptor, in a ``with`` block; ``where`` is what messages call it.

    Going through it gives libarchive's record of each, valid until the next. ``fault`` then says in what
    the headers and libarchive contradict each other, ``warning`` what libarchive says of a
    header that it could read in part, and ``acls`` the texts of its access control lists. In the end
    ``damage`` says what kept the tar from being read to its end, and ``unended`` whether all is there but the end marker.
    """

    def __init__(self, descriptor: int, where: str) -> None:
        """Take a descriptor, which is not closed."""
        self.where = where
        self.fault = self.warning = self.damage = ""
        self.unended = False
        self.acls: Mapping[bytes, bytes] = {}
        self._doubled: frozenset[bytes] = frozenset()
        self._descriptor = descriptor
        self._buffers = [memoryview(bytearray(READ_BYTES)) for _ in range(_KEPT)]
        self._begins = [0] * _KEPT
        self._counts = [0] * _KEPT
        self._passed = self._turn = 0
        self._reader = libarchive.READER(self._read)
        self._raised: BaseException | None = None

    def __enter__(self) -> Self:
        """Give the stream itself."""
        self.archive, self.record = libarchive.read_new(), libarchive.entry_new()
        return self

    def __exit__(self, *_: object) -> None:
        """Let libarchive go."""
        libarchive.entry_free(self.record)
        libarchive.read_free(self.archive)

    def __iter__(self) -> Iterator[int]:
        """Give the members; raises the error of this machine where one ended the reading."""
        libarchive.check(self.archive, libarchive.read_support_format_tar(self.archive), f"read {self.where}")
        code = libarchive.read_open(self.archive, None, None, self._reader, None)
        with libarchive.utf8_locale():
            while code in {libarchive.OK, libarchive.WARN}:
                libarchive.entry_clear(self.record)
                code = libarchive.read_next_header2(self.archive, self.record)
                if code == libarchive.EOF:
                    return
                if code in {libarchive.OK, libarchive.WARN}:
                    self.warning = libarchive.message(self.archive) if code == libarchive.WARN else ""
                    self._compare()
                    yield self.record
                    code = libarchive.OK
        if not self._passed and self._raised is None:
            self.unended = True  # a tar of no bytes, which libarchive takes for no tar: engines read it as one of no members
            return
        self.stop()

    def stop(self) -> None:
        """Take note of what kept libarchive from going on."""
        if self._raised is not None:
            raise self._raised
        number = libarchive.errno(self.archive)
        if is_of_machine(number):
            raise failed(number, self.where, libarchive.message(self.archive))
        message = libarchive.message(self.archive)
        # umoci leaves out even what fills the last block of data: all data is there, and no end marker.
        self.unended = message.startswith(_NO_MORE) and message.endswith(_NOTHING)
        if message == libarchive.NO_REASON:
            name = libarchive.entry_pathname(self.record)
            message = f"{shown(name)}: its header cannot be read" if name else "a header cannot be read"
        self.damage = self.damage or ("" if self.unended else message)

    @property
    def xattrs(self) -> tuple[tuple[bytes, bytes], ...]:
        """Give the extended attributes of the member, sorted by name."""
        found = libarchive.xattrs_of(self.record)
        return tuple(sorted({name: value for name, value in found if name not in self._doubled}.items()))

    @property
    def position(self) -> int:
        """Give where in the tar the reading is, in bytes."""
        return int(libarchive.filter_bytes(self.archive, 0))

    def _read(self, _archive: int, _data: int, where: Any) -> int:  # noqa: ANN401 - ctypes' pointers have no public type
        turn = self._turn = (self._turn + 1) % _KEPT
        buffer, count = self._buffers[turn], 0
        try:
            while count < _FILLED and (more := os.readv(self._descriptor, [buffer[count:]])):
                count += more
        except BaseException as error:  # noqa: BLE001 - ctypes would only print it; stop() raises it
            self._raised = error
            return -1
        self._begins[turn], self._counts[turn] = self._passed, count
        self._passed += count
        where[0] = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        return count

    def _bytes(self, begin: int, end: int) -> bytes:
        """Give the bytes between two positions; none where they have passed long ago."""
        found = b""
        for turn in range(self._turn + 1, self._turn + 1 + _KEPT):
            first, count = self._begins[turn % _KEPT], self._counts[turn % _KEPT]
            if first <= begin + len(found) < first + count:
                found += self._buffers[turn % _KEPT][begin + len(found) - first : min(end - first, count)]
        return found if len(found) == end - begin else b""

    def _compare(self) -> None:
        """Compare what libarchive says of a member with what its headers say."""
        begin, end = libarchive.read_header_position(self.archive), libarchive.filter_bytes(self.archive, 0)
        at = begin - self._begins[self._turn]
        if end - begin == BLOCK and at >= 0 and is_plain(self._buffers[self._turn][at : at + BLOCK]):
            self.fault, self._doubled, self.acls = "", frozenset(), {}
            return
        try:
            blocks = self._bytes(begin, end)
            self.fault = self._difference(own_header(blocks)) if blocks else "its headers are too long"
        except HeaderError as error:
            self.fault = str(error)

    def _difference(self, header: Header) -> str:
        record, self._doubled, self.acls = self.record, header.doubled, header.acls
        if header.acls:  # from which libarchive makes another mode
            libarchive.entry_set_mode(record, stat.S_IFMT(libarchive.entry_mode(record)) | stat.S_IMODE(header.mode))
        found = (libarchive.entry_uid(record), libarchive.entry_gid(record), libarchive.entry_mtime(record))
        for name, said, read in zip(("uid", "gid", "time"), (header.uid, header.gid, header.mtime), found, strict=True):
            if said != read:
                return f"its {name} is {said}, and libarchive reads {read}"
        number = libarchive.entry_rdev(record)
        if header.device not in {None, (os.major(number), os.minor(number))}:
            return f"it is a device {header.device[0]}, {header.device[1]}, which Linux cannot have"
        if header.link is not None:
            link = libarchive.entry_hardlink(record) or libarchive.entry_symlink(record)
            wrong = header.link not in {b"", link}
            return "it is a link to nothing" if not link else "libarchive does not read what it is a link to" if wrong else ""
        return self._size_difference(header) if stat.S_ISREG(libarchive.mode_of(record)) else ""

    def _size_difference(self, header: Header) -> str:
        record = self.record
        size = libarchive.entry_size(record)
        if not header.sparse and libarchive.entry_sparse_count(record):
            return "libarchive reads holes in it, of which its header says nothing"
        if not header.sparse:  # libarchive takes what stands elsewhere in an old header for GNU's size of a sparse file
            libarchive.entry_set_size(record, header.size)
        return "" if size == header.size or not header.sparse else f"it has {header.size} bytes, and libarchive reads {size}"
