"""A root filesystem or a layer of an image, given as a tar archive; or owners, given as an mtree file."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING

import attrs

from . import capi
from .errors import InputError, OutputError, SourceError
from .tree import WHITEOUT_PREFIX, Entry, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_READ_BYTES = 1 << 20
_ANY_TIME = 2**62
_OPAQUE = b".wh..wh..opq"
_MOST_MAJOR, _MOST_MINOR = (1 << 12) - 1, (1 << 20) - 1  # linux/kdev_t.h
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
    return list(direct(entries).values())


@attrs.frozen(slots=True)
class Changes:
    """What a layer does to the tree below it: the entries that it adds, and the paths that it removes.

    ``removed`` paths go with all below them (whiteouts); of ``emptied`` directories only
    what lower layers put below them goes (opaque whiteouts).
    """

    added: dict[bytes, Entry]
    removed: frozenset[bytes] = frozenset()
    emptied: frozenset[bytes] = frozenset()

    def hides(self, below: Mapping[bytes, Entry]) -> frozenset[bytes]:
        """Give every path of the tree below that is there no more (image-spec ``layer.md``, "Applying Changesets").

        What is added at a path takes the place of what was there, which is not counted.
        """
        removed = self.removed & below.keys()
        covered = {path for path, entry in self.added.items() if not entry.is_dir and path in below and below[path].is_dir}
        if not removed and not covered and not self.emptied:
            return frozenset()

        def hidden(path: bytes) -> bool:
            if path in removed:
                return True
            while path:
                path = path.rpartition(b"/")[0]
                if path in removed or path in covered or path in self.emptied:
                    return True
            return False

        return frozenset(path for path in below if path and path not in self.added and hidden(path))


def read_layer(descriptor: int, name: str, spool: str, below: Mapping[bytes, Entry]) -> Changes:
    """Read a layer's tar of any dialect, not compressed, from a pipe; its files' bytes go below ``spool``.

    ``below`` is the tree that it is for, to which its hard links may point. Times are as
    they stand in it. A path that occurs again replaces what was there. Raises
    :class:`InputError` as :func:`read_tar`; ``name`` is what messages call the layer.
    """
    os.mkdir(spool)
    os.chmod(spool, 0o700)
    archive = capi.read_new()
    try:
        capi.check(archive, capi.read_support_format_tar(archive), f"read {name}")
        if capi.read_open_fd(archive, descriptor, _READ_BYTES) != capi.OK:
            message = f"{name}: {capi.message(archive)}"
            raise InputError(message, hint="The layer is damaged; get it again.")
        return _changes(archive, name, spool, below)
    finally:
        capi.read_free(archive)


def _changes(archive: int, name: str, spool: str, below: Mapping[bytes, Entry]) -> Changes:
    added: dict[bytes, Entry] = {}
    removed, emptied = set(), set()
    for number, record in enumerate(_headers(archive, name)):
        entry = _entry(record, name, _ANY_TIME)
        above, _, last = entry.path.rpartition(b"/")
        if b"/" + WHITEOUT_PREFIX * 2 in b"/" + above:
            continue  # aufs's own directories, which mean nothing here, as its files
        if last.startswith(WHITEOUT_PREFIX):
            gone = last.removeprefix(WHITEOUT_PREFIX)
            if last == _OPAQUE:
                emptied.add(above)
            elif gone not in {b"", b".", b".."} and not gone.startswith(WHITEOUT_PREFIX):
                removed.add(above + b"/" + gone if above else gone)
            continue
        if entry.link is not None:
            # Names of one file share the bytes; which of them carries it is seen when all layers are there.
            entry = attrs.evolve(_linked(entry, added if entry.link in added else below, name), link=None)
        elif entry.is_regular:
            entry = _spooled(archive, entry, f"{spool}/{number}", name)
        there = added.get(entry.path)
        if there is not None and there.is_dir and not entry.is_dir:
            _drop_below(added, entry.path)
        added[entry.path] = entry
    return Changes(added, frozenset(removed), frozenset(emptied))


def read_listing(path: str) -> dict[bytes, Entry]:
    """Read an mtree file's entries by path; their bytes are not looked for.

    Raises :class:`InputError` where libarchive cannot read it.
    """
    with _reading(path, capi.read_support_format_mtree, "mtree file") as archive:
        entries = (_entry(record, path, _ANY_TIME) for record in _headers(archive, path))
        return {entry.path: entry for entry in entries}


class _reading:  # noqa: N801 - a context manager
    """An archive opened for reading by libarchive, let go in the end."""

    def __init__(self, path: str, format_: Callable[[int], int], what: str) -> None:
        self.archive = capi.read_new()
        self.path = path
        if not os.path.isfile(path):
            capi.read_free(self.archive)
            message = f"{path}: no such {what}"
            raise (InputError if os.path.lexists(path) else SourceError)(message, hint=_MAKE_IT_RIGHT)
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
    mode = capi.mode_of(record)
    kind = stat.S_IFMT(mode)
    target = capi.entry_symlink(record) if stat.S_ISLNK(mode) else None
    link = capi.entry_hardlink(record)
    if link is not None:
        kind = stat.S_IFREG
    rdev = capi.entry_rdev(record) if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0
    if os.major(rdev) > _MOST_MAJOR or os.minor(rdev) > _MOST_MINOR:
        name = os.fsdecode(capi.entry_pathname(record) or b"")
        message = f"{path}: {name} is a device {os.major(rdev)}, {os.minor(rdev)}, which Linux cannot have"
        raise InputError(message, hint="The archive is damaged; get it again.")
    return Entry(
        path=_clean(capi.entry_pathname(record) or b"", path),
        mode=stat.S_IFLNK | 0o777 if target is not None else kind | stat.S_IMODE(mode),
        uid=capi.entry_uid(record),
        gid=capi.entry_gid(record),
        mtime=epoch if stat.S_ISDIR(mode) and epoch != _ANY_TIME else min(capi.entry_mtime(record), epoch),
        size=capi.entry_size(record) if kind == stat.S_IFREG and link is None else 0,
        rdev=rdev,
        target=target,
        link=None if link is None else _clean(link, path),
        xattrs=capi.xattrs_of(record),
    )


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


def _linked(entry: Entry, entries: Mapping[bytes, Entry], path: str) -> Entry:
    first = entries.get(entry.link or b"")
    if first is None or first.is_dir:
        message = f"{path}: {os.fsdecode(entry.path)} is a hard link to {os.fsdecode(entry.link or b'')}, which is not there"
        raise InputError(message, hint="The archive is incomplete; get it again.")
    return attrs.evolve(first, path=entry.path, link=first.link or first.path)


def _drop_below(entries: dict[bytes, Entry], path: bytes) -> None:
    for other in [name for name in entries if name.startswith(path + b"/")]:
        del entries[other]


def direct(entries: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
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
