"""A root filesystem or a layer of an image, given as a tar archive."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, RootlessLayerError
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.machine import failed, is_of_machine, unreadable, unwritable
from rootless_layer.tar import libarchive
from rootless_layer.tree.changes import Added, Changes
from rootless_layer.tree.placing import Placing
from rootless_layer.tree.tree import WHITEOUT_PREFIX, Entry, shown, stamp, unrepresentable

from .acl import Accounts, AclError, attributes
from .decompression import decompressed, kind_of
from .feed import READ_BYTES, Feed
from .read import leaves_root, relative
from .stream import ACL_LEFT_OUT, TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .feed import Give

Lists = dict[bytes, "Mapping[bytes, bytes]"]
"""The texts of access control lists, by the file's place on the disk, or by the path of what has none."""

_ANY_TIME = 2**62
_MOST_ACCOUNTS = 1 << 20
_OPAQUE = b".wh..wh..opq"
_MAKE_IT_RIGHT = "Give a tar archive (of any compression that libarchive reads), or a directory."
_DAMAGED = "The archive is damaged; get it again."
_SET_TMPDIR = "Set TMPDIR to a directory that is there and that you may write to."


def unpack_tar(path: str, spool: str, epoch: int, progress: Report = silent) -> list[Entry]:
    """Read a tar archive of any dialect and compression; its files' bytes go below ``spool``.

    A path that occurs again replaces what was there, as in extracting; hard links are to
    the file of that time. Raises :class:`InputError` for what is no such archive, for a
    path or a hard link that leaves the root, and for an archive that ends early. Access control
    lists become extended attributes; of one that is left out ``progress`` gets a note.
    """
    check_file(path, "tar archive")
    added = Added[Entry]()
    lists: Lists = {}
    with Feed(lambda consume: give_plain(path, consume), path) as feed:
        for number, entry in enumerate(_unpacked(feed.reading, path, spool, epoch, lists), 1):
            progress(Progress("plan", done=feed.passed, entries=number))
            added.add(entry.path, entry if entry.link is None else _linked(entry, added.get(entry.link), path))
        feed.drain()
    if not feed.passed:
        message = f"{path}: holds nothing at all, and a tar archive has an end at least"
        raise InputError(message, hint=_MAKE_IT_RIGHT)
    entries = direct(added.all())
    if lists:
        _add_lists(entries, lists, lambda note: progress(Progress("plan", note=f"{path}: {note}")))
    return list(entries.values())


def _add_lists(entries: dict[bytes, Entry], lists: Lists, note: Callable[[str], object]) -> None:
    """Give entries the access control lists that stand in their headers; say of which none is kept, and why."""
    accounts = Accounts.read(*(_text(entries.get(path)) for path in (b"etc/passwd", b"etc/group")))
    refused: list[tuple[bytes, AclError]] = []
    for path, entry in entries.items():
        texts = lists.get(entry.source or path)
        if texts is None:
            continue
        try:
            found, mode = attributes(texts, entry.mode, accounts)
        except AclError as error:
            refused.append((path, error))
        else:
            entries[path] = attrs.evolve(entry, mode=mode, xattrs=tuple(sorted((found | dict(entry.xattrs)).items())))
    if refused:
        note(f"{_of_all([path for path, _ in refused])}: {ACL_LEFT_OUT}: {refused[0][1]}")


def _text(entry: Entry | None) -> bytes:
    """Give what a small file holds; nothing for what is no such file."""
    if entry is None or entry.source is None or entry.size > _MOST_ACCOUNTS:
        return b""
    return Path(os.fsdecode(entry.source)).read_bytes()


def _of_all(paths: Sequence[bytes]) -> str:
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return shown(paths[0]) + more


def give_plain(path: str, consume: Callable[[memoryview], object]) -> None:
    """Give what a file holds, decompressed by libarchive, which knows most; it does not verify gzip's checksums."""
    if kind_of(path) == "gzip":
        for part in decompressed(path):
            consume(memoryview(part))
        return
    if not os.path.getsize(path):
        return  # which libarchive would not take for anything
    with _reading(path, libarchive.read_support_format_raw) as archive:
        buffer, size, offset = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_int64()
        where = ctypes.byref(buffer), ctypes.byref(size), ctypes.byref(offset)
        for _ in _headers(archive, path):
            while (code := libarchive.read_data_block(archive, *where)) == libarchive.OK:
                if buffer.value:
                    consume(memoryview((ctypes.c_char * size.value).from_address(buffer.value)).cast("B"))
            if code != libarchive.EOF:
                raise _failed(archive, path, _DAMAGED)


def _unpacked(descriptor: int, name: str, spool: str, epoch: int, lists: Lists) -> Iterator[Entry]:
    """Give the entries of a tar, in its order; the regular files' bytes are in a file each in the new directory ``spool``."""
    try:
        os.mkdir(spool)
        os.chmod(spool, 0o700)
    except OSError as error:
        raise unwritable(error, spool, f"{name} cannot be unpacked", hint=_SET_TMPDIR) from error
    with TarStream(descriptor, name) as stream:
        for number, record in enumerate(stream):
            entry = _entry(record, name, epoch, stream)
            if entry.is_regular and entry.link is None and not entry.path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
                time = libarchive.entry_mtime(record) if entry.path.endswith(b".py") else None
                entry = _spooled(stream, entry, f"{spool}/{number}", name, time)
            lists.pop(entry.path, None)
            if stream.acls and entry.link is None:
                lists[entry.source or entry.path] = stream.acls
            yield entry
            if stream.unended:
                break
        if stream.damage:
            message = f"{name}: {stream.damage}"
            raise InputError(message, hint=_MAKE_IT_RIGHT)


def unpack_layer(give: Give, name: str, spool: str, below: Mapping[bytes, Entry], progress: Report = silent) -> Changes[Entry]:
    """Read a layer's tar of any dialect, which ``give`` gives; its files' bytes go below ``spool``.

    ``below`` is the tree that it is for, to which its hard links may point. Times are as
    they stand in it. A path that occurs again replaces what was there. Access control
    lists are left out, as engines do: they read lists as ``SCHILY.xattr`` alone. Raises
    :class:`InputError` as :func:`unpack_tar`, and what ``give`` raises; ``name`` is what messages call the layer.
    """
    lists: Lists = {}
    with_lists: list[bytes] = []
    with Feed(give, name) as feed:

        def entries() -> Iterator[Entry]:
            for number, entry in enumerate(_unpacked(feed.reading, name, spool, _ANY_TIME, lists), 1):
                if (entry.source or entry.path) in lists:
                    with_lists.append(entry.path)
                progress(Progress("unpack", done=feed.passed, entries=number))
                yield entry

        changes = _changes(entries(), name, below)
        feed.drain()
    if with_lists:
        progress(Progress("unpack", note=f"{name}: {_of_all(with_lists)}: {ACL_LEFT_OUT}"))
    return changes


def _changes(entries: Iterable[Entry], name: str, below: Mapping[bytes, Entry]) -> Changes[Entry]:
    added = Added[Entry]()
    placing = Placing(added.get, below.get)
    removed, emptied = set(), set()
    for entry in entries:
        above, _, last = entry.path.rpartition(b"/")
        if b"/" + WHITEOUT_PREFIX * 2 in b"/" + above:
            continue  # aufs's own directories, which mean nothing here, as its files
        if last.startswith(WHITEOUT_PREFIX):
            gone = last.removeprefix(WHITEOUT_PREFIX)
            if last == _OPAQUE:
                emptied.add(placing.empty(above))
            elif gone not in {b"", b".", b".."} and not gone.startswith(WHITEOUT_PREFIX):
                removed.add(placing.remove(above + b"/" + gone if above else gone))
            continue
        path = placing.place(entry.path)
        if entry.link is not None:
            # Names of one file share the bytes; which of them carries it is seen when all layers are there.
            link = placing.place(entry.link)
            entry = attrs.evolve(_linked(entry, added.get(link) or below.get(link), name), link=None)  # noqa: PLW2901
        placed = entry if entry.path == path else attrs.evolve(entry, path=path)
        added.add(path, placed)
        placing.put(path, is_dir=placed.is_dir)
    if placing.endless:
        message = f"{name}: {shown(placing.endless)}: too many symbolic links"
        raise InputError(message, hint="The layer is damaged, or not for this base.")
    return Changes(added.all(), frozenset(removed), frozenset(emptied))


def check_file(path: str, what: str) -> None:
    """Raise :class:`InputError` where a path is no file, and what :func:`unreadable` gives where that cannot be seen."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unreadable(error, path) from error
    message = f"{path}: no such {what}"
    raise InputError(message, hint=f"Give a file: a {what} (of any compression that libarchive reads).")


@contextlib.contextmanager
def _reading(path: str, format_: Callable[[int], int]) -> Iterator[int]:
    """Open an archive of any compression, to be let go in the end."""
    archive = libarchive.read_new()
    try:
        libarchive.read_support_filter_all(archive)
        libarchive.check(archive, format_(archive), f"read {path}")
        if libarchive.read_open_filename(archive, os.fsencode(path), READ_BYTES) != libarchive.OK:
            raise _failed(archive, path, _MAKE_IT_RIGHT)
        yield archive
    finally:
        libarchive.read_free(archive)


def _failed(archive: int, path: str, hint: str) -> RootlessLayerError:
    """Give the error for what libarchive did not read: the machine's, or else the file's."""
    number = libarchive.errno(archive)
    if is_of_machine(number):
        return failed(number, path, libarchive.message(archive))
    return InputError(f"{path}: {libarchive.message(archive)}", hint=hint)


def _headers(archive: int, path: str) -> Iterator[int]:
    record = libarchive.entry_new()
    try:
        with libarchive.utf8_locale():
            while True:
                libarchive.entry_clear(record)
                code = libarchive.read_next_header2(archive, record)
                if code == libarchive.EOF:
                    return
                # A warning is about a name that is not UTF-8: its bytes are right.
                if code < libarchive.OK and code != libarchive.WARN:
                    raise _failed(archive, path, _MAKE_IT_RIGHT)
                yield record
    finally:
        libarchive.entry_free(record)


def relative_to_root(raw: bytes, path: str) -> bytes:
    """Make a member's name relative to the root; refuse one that leaves it."""
    if leaves_root(raw):
        message = f"{path}: the name {os.fsdecode(raw)!r} leaves the root"
        raise InputError(message, hint="Such an archive is not to be trusted.")
    return relative(raw)


def _entry(record: int, path: str, epoch: int, stream: TarStream) -> Entry:
    mode = libarchive.mode_of(record)
    kind = stat.S_IFMT(mode)
    target = libarchive.entry_symlink(record) if stat.S_ISLNK(mode) else None
    link = libarchive.entry_hardlink(record)
    if link is not None:
        kind = stat.S_IFREG
    entry = Entry(
        path=relative_to_root(libarchive.entry_pathname(record) or b"", path),
        mode=stat.S_IFLNK | 0o777 if target is not None else kind | stat.S_IMODE(mode),
        uid=libarchive.entry_uid(record),
        gid=libarchive.entry_gid(record),
        mtime=epoch if stat.S_ISDIR(mode) and epoch != _ANY_TIME else min(libarchive.entry_mtime(record), epoch),
        size=libarchive.entry_size(record) if kind == stat.S_IFREG and link is None else 0,
        rdev=libarchive.entry_rdev(record) if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
        target=target,
        link=None if link is None else relative_to_root(link, path),
        xattrs=stream.xattrs,
    )
    fault = stream.fault or unrepresentable(entry)
    if fault:
        message = f"{path}: {shown(entry.path)}: {fault}"
        raise InputError(message, hint="Make the archive again without it, by a tar program of today.")
    return entry


def _spooled(stream: TarStream, entry: Entry, place: str, path: str, time: int | None) -> Entry:
    """Write a file, with a time where that says for what a compiled module is valid."""
    archive = stream.archive
    doing = f"{path} cannot be unpacked"
    try:
        descriptor = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            if libarchive.read_data_into_fd(archive, descriptor) != libarchive.OK:
                number = libarchive.errno(archive)
                if is_of_machine(number):
                    raise failed(number, place, doing)
                stream.stop()
                if not stream.unended or os.fstat(descriptor).st_size < entry.size:
                    message = f"{path}: {shown(entry.path)}: {libarchive.message(archive)}"
                    raise InputError(message, hint=_DAMAGED)
            os.ftruncate(descriptor, entry.size)  # a hole at the end is not written
            if time is not None:
                os.utime(descriptor, (time, time))
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(error, place, doing, hint=_SET_TMPDIR) from error
    return attrs.evolve(entry, source=os.fsencode(place), stamp=stamp(status))


def _linked(entry: Entry, first: Entry | None, path: str) -> Entry:
    if first is None or first.is_dir:
        message = f"{path}: {shown(entry.path)} is a hard link to {shown(entry.link or b'')}, which is not there"
        raise InputError(message, hint="The archive is incomplete; get it again.")
    return attrs.evolve(first, path=entry.path, link=first.link or first.path)


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
