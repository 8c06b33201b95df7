"""Python's compiled modules: each is valid for one time of its source, and times in a layer are not those on the disk.

Where a layer's source has another time, Python compiles it anew at each start. So the time that such a file
records becomes the time that its source has beside it: in the layer, and in what is staged for scripts.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from typing import TYPE_CHECKING

import attrs

from .tree import Entry, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Find = Callable[[bytes], Entry | None]

EARLIEST = 315_532_800
"""1980, the first year that a zip archive can hold: what is staged for scripts is not older, so that they may pack it."""
_HEADER = struct.Struct("<2x2sIII")  # PEP 552
_END_OF_MAGIC, _BY_TIME = b"\r\n", 0
_FOLDER, COMPILED = b"__pycache__", b".pyc"
_BITS = 0xFFFFFFFF


def shown_time(entry: Entry) -> int:
    """Give the time, in seconds, that a file has on disk where scripts see a copy of it."""
    return max(entry.mtime, EARLIEST)


def valid(entries: Iterable[Entry], find: Find) -> Iterator[tuple[Entry, Entry]]:
    """Give the compiled modules that are valid for the source beside them as it lies on disk, each with that source.

    ``find`` gives the entry at a path. Modules that are valid for a source's bytes, whatever its time is, are left out.
    """
    for entry in entries:
        if not entry.path.endswith(COMPILED) or entry.source is None or entry.link is not None:
            continue
        path = _source_of(entry.path)
        source = None if path is None else find(path)
        recorded = None if source is None else _recorded(entry.source)
        if source is not None and recorded is not None and recorded in _versions(source):
            yield entry, source


def put_time(path: bytes, time: int) -> None:
    """Have a compiled module on disk be valid for a source of a time in seconds; its own times stay. Raises :class:`OSError`."""
    status = os.stat(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, struct.pack("<I", time & _BITS), _HEADER.size - 8)
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(descriptor)


def mended(entries: Iterable[Entry], find: Find, folder: Callable[[], bytes]) -> dict[bytes, Entry]:
    """Give, by path, the modules that would not be valid in a layer, as copies that are; ``folder`` makes a place for them."""
    result: dict[bytes, Entry] = {}
    for entry, source in list(valid(entries, find)):
        recorded = _recorded(entry.source or b"")
        if recorded is None or recorded[0] == source.mtime & _BITS:
            continue
        path = folder() + b"/%d" % len(result)
        shutil.copyfile(entry.source or b"", path)
        put_time(path, source.mtime)
        result[entry.path] = attrs.evolve(entry, source=path, stamp=stamp(os.lstat(path)))
    return result


def _source_of(path: bytes) -> bytes | None:
    """Give the path of the source that a module was compiled from (PEP 3147)."""
    folder, _, name = path.rpartition(b"/")
    above, slash, last = folder.rpartition(b"/")
    return above + slash + name.partition(b".")[0] + b".py" if last == _FOLDER else None


def _versions(source: Entry) -> set[tuple[int, int]]:
    """Give each time that a source may have had for whoever compiled it, with its size: on disk, in a layer, and for scripts."""
    times = {source.mtime, shown_time(source)}
    try:
        status = os.lstat(source.source or b"")
        if stat.S_ISREG(status.st_mode):
            times.add(status.st_mtime_ns // 1_000_000_000)
    except OSError:
        pass  # it was moved, and what it is by now is in its entry
    return {(time & _BITS, source.size & _BITS) for time in times}


def _recorded(path: bytes) -> tuple[int, int] | None:
    """Read the time and the size of the source that a compiled module is valid for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None  # whoever needs its bytes says so
    try:
        head = os.read(descriptor, _HEADER.size)
    finally:
        os.close(descriptor)
    if len(head) < _HEADER.size:
        return None
    end, kind, time, size = _HEADER.unpack(head)
    return (time, size) if end == _END_OF_MAGIC and kind == _BY_TIME else None
