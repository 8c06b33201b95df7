"""A root filesystem given as a tar archive, or its owners given as an mtree file."""

from __future__ import annotations

import ctypes
import os
import posixpath
import stat
from typing import TYPE_CHECKING

import attrs

from . import capi
from .errors import InputError, OutputError
from .tree import Entry, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READ_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_MAKE_IT_RIGHT = "Give a tar archive (of any compression that libarchive reads), or a directory."


def read_tar(path: str, spool: str, epoch: int) -> list[Entry]:
    """Read a tar archive of any dialect and compression; its files' bytes go below ``spool``.

    A path that occurs again replaces what was there, as in extracting; hard links are to
    the file of that time. Raises :class:`InputError` for what is no such archive, for a
    path or a hard link that leaves the root, and for an archive that ends early.
    """
    os.mkdir(spool)
    os.chmod(spool, 0o700)
    entries: dict[bytes, Entry] = {}
    with _reading(path, capi.read_support_format_tar, "tar archive") as archive:
        for number, record in enumerate(_headers(archive, path)):
            entry = _entry(record, path, epoch)
            if entry.link is not None:
                entry = _linked(entry, entries, path)
            elif entry.is_regular:
                entry = _spooled(archive, entry, f"{spool}/{number}", path)
            there = entries.get(entry.path)
            if there is not None and there.is_dir and not entry.is_dir:
                _drop_below(entries, entry.path)
            entries[entry.path] = entry
    return list(_direct(entries).values())


def read_listing(path: str) -> dict[bytes, Entry]:
    """Read an mtree file's entries by path; their bytes are not looked for.

    Raises :class:`InputError` where libarchive cannot read it.
    """
    with _reading(path, capi.read_support_format_mtree, "mtree file") as archive:
        entries = (_entry(record, path, 2**62) for record in _headers(archive, path))
        return {entry.path: entry for entry in entries}


class _reading:  # noqa: N801 - a context manager
    """An archive opened for reading by libarchive, let go in the end."""

    def __init__(self, path: str, format_: Callable[[int], int], what: str) -> None:
        self.archive = capi.read_new()
        self.path = path
        if not os.path.isfile(path):
            capi.read_free(self.archive)
            message = f"{path}: no such {what}"
            raise InputError(message, hint=_MAKE_IT_RIGHT)
        capi.read_support_filter_all(self.archive)
        capi.check(self.archive, format_(self.archive), f"read {path}")

    def __enter__(self) -> int:
        _check_gzip(self.path)
        code = capi.read_open_filename(self.archive, os.fsencode(self.path), _READ_BYTES)
        if code != capi.OK:
            message = f"{self.path}: cannot be opened: {capi.message(self.archive)}"
            capi.read_free(self.archive)
            raise InputError(message, hint=_MAKE_IT_RIGHT)
        return int(self.archive)

    def __exit__(self, *_: object) -> None:
        capi.read_free(self.archive)


def _check_gzip(path: str) -> None:
    """Verify a gzip file's checksums, which libarchive does not."""
    with open(path, "rb") as file:
        if file.read(2) != _GZIP:
            return
    from isal import igzip, isal_zlib  # noqa: PLC0415 - slow to import

    try:
        with igzip.open(path, "rb") as file:  # type: ignore[no-untyped-call]
            while file.read(_READ_BYTES):
                pass
    except (OSError, EOFError, isal_zlib.error) as error:  # type: ignore[misc]
        message = f"{path}: {error}"
        raise InputError(message, hint="The archive is damaged; get it again.") from error


def _headers(archive: int, path: str) -> Iterator[int]:
    record = capi.entry_new()
    try:
        with capi.utf8_locale():
            while True:
                capi.entry_clear(record)
                code = capi.read_next_header2(archive, record)
                if code == capi.EOF:
                    return
                # A warning is about a name that is not UTF-8: its bytes are right.
                if code < capi.OK and code != capi.WARN:
                    message = f"{path}: {capi.message(archive)}"
                    raise InputError(message, hint=_MAKE_IT_RIGHT)
                yield record
    finally:
        capi.entry_free(record)


def _clean(raw: bytes, path: str) -> bytes:
    """Make a member's name relative to the root; refuse one that leaves it."""
    name = posixpath.normpath(b"/" + raw).lstrip(b"/")
    if b".." in raw.split(b"/"):
        message = f"{path}: the name {os.fsdecode(raw)!r} leaves the root"
        raise InputError(message, hint="Such an archive is not to be trusted.")
    return name


def _entry(record: int, path: str, epoch: int) -> Entry:
    mode = capi.entry_mode(record)
    kind = stat.S_IFMT(mode)
    target = capi.entry_symlink(record) if stat.S_ISLNK(mode) else None
    link = capi.entry_hardlink(record)
    if link is not None:
        kind = stat.S_IFREG
    return Entry(
        path=_clean(capi.entry_pathname(record) or b"", path),
        mode=stat.S_IFLNK | 0o777 if target is not None else (kind or stat.S_IFREG) | stat.S_IMODE(mode),
        uid=capi.entry_uid(record),
        gid=capi.entry_gid(record),
        mtime=epoch if stat.S_ISDIR(mode) else min(capi.entry_mtime(record), epoch),
        size=capi.entry_size(record) if kind == stat.S_IFREG and link is None else 0,
        rdev=capi.entry_rdev(record) if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
        target=target,
        link=None if link is None else _clean(link, path),
        xattrs=_xattrs(record),
    )


def _xattrs(record: int) -> tuple[tuple[bytes, bytes], ...]:
    count = capi.entry_xattr_reset(record)
    found = []
    name, value, size = ctypes.c_char_p(), ctypes.c_void_p(), ctypes.c_size_t()
    for _ in range(count):
        if capi.entry_xattr_next(record, ctypes.byref(name), ctypes.byref(value), ctypes.byref(size)) != capi.OK:
            break
        found.append((name.value or b"", ctypes.string_at(value.value, size.value) if value.value else b""))
    return tuple(sorted(found))


def _spooled(archive: int, entry: Entry, place: str, path: str) -> Entry:
    try:
        descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if capi.read_data_into_fd(archive, descriptor) != capi.OK:
                message = f"{path}: {os.fsdecode(entry.path)}: {capi.message(archive)}"
                raise InputError(message, hint="The archive is damaged; get it again.")
            os.ftruncate(descriptor, entry.size)  # a hole at the end is not written
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        message = f"{place}: {path} cannot be unpacked: {error.strerror}"
        raise OutputError(message, hint="Set TMPDIR to a directory with room.") from error
    return attrs.evolve(entry, source=os.fsencode(place), stamp=stamp(status))


def _linked(entry: Entry, entries: dict[bytes, Entry], path: str) -> Entry:
    first = entries.get(entry.link or b"")
    if first is None or first.is_dir:
        message = f"{path}: {os.fsdecode(entry.path)} is a hard link to {os.fsdecode(entry.link or b'')}, which is not there"
        raise InputError(message, hint="The archive is incomplete; get it again.")
    return attrs.evolve(first, path=entry.path, link=first.link or first.path)


def _drop_below(entries: dict[bytes, Entry], path: bytes) -> None:
    for other in [name for name in entries if name.startswith(path + b"/")]:
        del entries[other]


def _direct(entries: dict[bytes, Entry]) -> dict[bytes, Entry]:
    """Have the first name of each file that is linked carry it: a target may have been replaced."""
    carriers: dict[bytes, bytes] = {}
    result: dict[bytes, Entry] = {}
    for path in sorted(entries):
        entry = entries[path]
        if entry.source is None:
            result[path] = attrs.evolve(entry, link=None)
            continue
        carrier = carriers.setdefault(entry.source, path)
        result[path] = attrs.evolve(entry, link=None if carrier == path else carrier)
    return result
