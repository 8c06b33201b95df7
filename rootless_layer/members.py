"""A layer's tar, read while it streams: each member, and the digest of its data. Nothing is unpacked."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import posixpath
import stat
import sys
import threading
from typing import TYPE_CHECKING

import attrs

from . import capi
from .errors import SourceError
from .tree import WHITEOUT_PREFIX, Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    Consume = Callable[[memoryview], object]
    Give = Callable[[Consume], object]
    """What gives the bytes of a tar, a part at a time, as :meth:`LayerBlob.copy_plain` does."""

OPAQUE = b".wh..wh..opq"
"""image-spec ``layer.md``, "Opaque Whiteout": all that lower layers have in this directory is gone."""
END_MARKER = 1024
"""How long the end of a tar is: two blocks of zeros."""
_READ_BYTES = 1 << 20
_HOLE = bytes(1 << 16)
_MOST_HOLE = 4 << 30
_NO_MORE, _NOTHING = "Truncated input file (needed ", ", only 0 available)"  # behind data that was read to its end
_IN_ANOTHER_CODING = "can't be converted"  # a name that is not UTF-8: its bytes are right


@attrs.frozen(slots=True, kw_only=True)
class Member:
    """A member of a layer's tar.

    ``name`` is its name as it stands there, ``target`` that of what it is a hard link of;
    the paths of ``entry`` are relative to the root and never leave it. ``digest`` is of a
    regular file's data, the holes of a ``sparse`` one filled. ``warning`` is what
    libarchive says of a header that it could read in part.
    """

    name: bytes
    entry: Entry
    target: bytes | None = None
    digest: str = ""
    sparse: bool = False
    warning: str = ""

    @property
    def is_whiteout(self) -> bool:
        """Say whether it marks a deletion."""
        return self.entry.path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX)

    @property
    def hides(self) -> bytes | None:
        """Give the path that an explicit whiteout removes; ``None`` where it is none, or names nothing."""
        above, slash, name = self.entry.path.rpartition(b"/")
        gone = name.removeprefix(WHITEOUT_PREFIX)
        if gone == name or gone in {b"", b".", b".."} or gone.startswith(WHITEOUT_PREFIX):
            return None
        return above + slash + gone

    @property
    def empties(self) -> bytes | None:
        """Give the directory whose lower contents an opaque whiteout removes; ``None`` where it is none."""
        above, _, name = self.entry.path.rpartition(b"/")
        return above if name == OPAQUE else None


@attrs.frozen(slots=True)
class Ending:
    """How a tar ended.

    ``damage`` is what kept it from being read to its end, ``marker`` the bytes of the end
    marker that there were, and ``behind`` how much stands behind that and is not zeros.
    """

    damage: str = ""
    marker: int = 0
    behind: int = 0


def read_members(give: Give, where: str, take: Callable[[Member], object]) -> Ending:
    """Give each member of the tar that ``give`` gives to ``take``; say how the tar ended.

    All bytes are asked for, whatever stands in them, so that whoever gives them may check
    them. Raises what ``give`` raises; :class:`SourceError`, which names ``where``, for
    what this machine cannot read.
    """
    feeder = _Feeder(give)
    try:
        ending, end = _read(feeder.reading, take)
        while os.read(feeder.reading, _READ_BYTES):
            pass
    finally:
        feeder.end()
    if isinstance(feeder.failure, OSError):
        message = f"{where}: cannot be read: {feeder.failure.strerror or feeder.failure}"
        raise SourceError(message) from feeder.failure
    if feeder.failure is not None:
        raise feeder.failure
    if ending.damage:
        return ending
    return attrs.evolve(ending, behind=max(0, feeder.last - end))


class _Feeder:
    """A thread that puts the tar into a pipe. ``last`` is where the last byte ends that is not zero."""

    def __init__(self, give: Give) -> None:
        self.reading, self.writing = os.pipe()
        with contextlib.suppress(OSError):  # a user may have only so many bytes in pipes
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, _READ_BYTES)
        self.give = give
        self.passed = self.last = 0
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.give(self._write)
        except BrokenPipeError:
            pass  # the reader gave up, and says why
        except BaseException as error:  # noqa: BLE001 - it is raised again, by the other thread
            self.failure = error
        finally:
            os.close(self.writing)

    def _write(self, part: memoryview) -> None:
        meant = len(part) if not part or part[-1] else len(bytes(part).rstrip(b"\0"))
        if meant:
            self.last = self.passed + meant
        self.passed += len(part)
        while part:
            part = part[os.write(self.writing, part) :]

    def end(self) -> None:
        os.close(self.reading)
        self.thread.join()


def _read(descriptor: int, take: Callable[[Member], object]) -> tuple[Ending, int]:
    """Read to the end marker, and give where that ends."""
    archive = capi.read_new()
    record = capi.entry_new()
    try:
        capi.check(archive, capi.read_support_format_tar(archive), "read a layer")
        code = capi.read_open_fd(archive, descriptor, _READ_BYTES)
        with capi.utf8_locale():
            while code in {capi.OK, capi.WARN}:
                capi.entry_clear(record)
                code = capi.read_next_header2(archive, record)
                if code == capi.EOF:
                    end = int(capi.filter_bytes(archive, 0))
                    return Ending(marker=end - int(capi.read_header_position(archive))), end
                if code in {capi.OK, capi.WARN}:
                    warning = capi.message(archive) if code == capi.WARN else ""
                    member = _member(record, "" if _IN_ANOTHER_CODING in warning else warning)
                    if member.entry.size:
                        digest, sparse, code = _digest(archive, member.entry.size)
                        member = attrs.evolve(member, digest=digest, sparse=sparse)
                    take(member)
        message = capi.message(archive)
        if message.startswith(_NO_MORE) and message.endswith(_NOTHING):
            return Ending(), sys.maxsize  # umoci leaves out even what fills the last block of data: all data is there
        return Ending(damage=message), 0
    finally:
        capi.entry_free(record)
        capi.read_free(archive)


def _member(record: int, warning: str) -> Member:
    mode = capi.mode_of(record)
    name, target = capi.entry_pathname(record) or b"", capi.entry_hardlink(record)
    symbolic = capi.entry_symlink(record) if stat.S_ISLNK(mode) and target is None else None
    kind = stat.S_IFMT(mode) if target is None else stat.S_IFREG
    entry = Entry(
        path=relative(name),
        mode=stat.S_IFLNK | 0o777 if symbolic is not None else kind | stat.S_IMODE(mode),
        uid=capi.entry_uid(record),
        gid=capi.entry_gid(record),
        mtime=capi.entry_mtime(record),
        size=capi.entry_size(record) if target is None and kind == stat.S_IFREG else 0,
        rdev=capi.entry_rdev(record) if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
        target=symbolic,
        link=None if target is None else relative(target),
        xattrs=capi.xattrs_of(record),
    )
    regular = entry.is_regular and target is None
    return Member(name=name, entry=entry, target=target, digest=_NO_DATA if regular else "", warning=warning)


_NO_DATA = f"sha256:{hashlib.sha256().hexdigest()}"


def relative(name: bytes) -> bytes:
    """Give the path, relative to the root, that a member's name stands for; one that would leave the root ends there."""
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def leaves_root(name: bytes) -> bool:
    """Say whether a name is absolute or goes up: whoever unpacked it without care would write elsewhere."""
    return name.startswith(b"/") or b".." in name.split(b"/")


def _digest(archive: int, whole: int) -> tuple[str, bool, int]:
    """Hash a member's data, of ``whole`` bytes with its holes; give libarchive's code where it could not go on."""
    digest = hashlib.sha256()
    buffer, size, offset = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_int64()
    at, sparse = 0, False
    while True:
        code = capi.read_data_block(archive, ctypes.byref(buffer), ctypes.byref(size), ctypes.byref(offset))
        if code not in {capi.OK, capi.WARN}:
            break
        if offset.value > at:
            sparse = True
            _hash_hole(digest, offset.value - at)
        if size.value and buffer.value:
            digest.update((ctypes.c_char * size.value).from_address(buffer.value))
        at = offset.value + size.value
    if code == capi.EOF:
        if at < whole:
            sparse = True
            _hash_hole(digest, whole - at)
        code = capi.OK
    return f"sha256:{digest.hexdigest()}", sparse, code


def _hash_hole(digest: hashlib._Hash, size: int) -> None:
    if size > _MOST_HOLE:  # a few bytes may claim to be endless
        digest.update(b"%d" % size)
        return
    while size > 0:
        digest.update(_HOLE[:size])
        size -= len(_HOLE)
