"""Room in the cache: what is in it, how large that is, and what goes first where it is too much.

Layers, the snapshots of bases and the caches that scripts mount are in it. The size of each is noted beside them, so that nobody
has to walk through it again. When one was last used is its directory's own time. What is in use
is leased, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Literal

import attrs

from rootless_layer.errors import InputError, OutputError, RootlessLayerError
from rootless_layer.system.lease import Lease
from rootless_layer.system.machine import unwritable
from rootless_layer.system.removal import remove
from rootless_layer.system.replace import ASIDE, make_folder
from rootless_layer.tree.places import LAYERS, MOUNT_JSON, MOUNTS, SIZES, SNAPSHOTS

from .own import is_entry, is_key, is_work, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

KeptKind = Literal["layer", "snapshot", "mount", "rubbish"]
VARIABLE, DEFAULT = "ROOTLESS_LAYER_CACHE_SIZE", "20G"
_KINDS: tuple[tuple[str, KeptKind], ...] = ((LAYERS, "layer"), (SNAPSHOTS, "snapshot"), (MOUNTS, "mount"))
_NAMED: Mapping[KeptKind, tuple[str, str]] = {"layer": ("layer.json", "digest"), "mount": (MOUNT_JSON, "id")}
"""Which file of an entry says its name, and in which property."""
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_NUMBER = re.compile(rb"[0-9]{1,15}\n?")
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


ELSEWHERE = "Name another place in ROOTLESS_LAYER_CACHE."


@attrs.frozen(slots=True)
class Kept:
    """Something in the cache: its size in bytes, and when it was last used, in seconds since 1970."""

    kind: KeptKind
    path: Path
    size: int
    used: float
    known: str | None = None
    """The name, of what is gone."""

    @property
    def name(self) -> str:
        """Give a layer's blob's digest, a snapshot's chain ID, a mounted cache's id; nothing of what has none."""
        if self.known is not None:
            return self.known
        if self.kind not in _NAMED:
            return f"sha256:{self.path.name}" if self.kind == "snapshot" else ""
        file, key = _NAMED[self.kind]
        try:
            return str(json.loads((self.path / file).read_bytes())[key])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def digest(self) -> str:
        """Give a layer's blob's digest, a snapshot's chain ID; nothing of what has none."""
        return "" if self.kind == "mount" else self.name

    def to_json(self) -> dict[str, object]:
        """Give it as ``--json`` prints it."""
        said = {"kind": self.kind, "path": str(self.path), "bytes": self.size, "lastUsed": int(self.used)}
        return said | {"digest": self.digest} | ({"id": self.name} if self.kind == "mount" else {})


@attrs.frozen(slots=True)
class Tidied:
    """What was removed, what would have been but is in use, and what this user may not remove, each with the error."""

    removed: list[Kept] = attrs.field(factory=list)
    used: list[Kept] = attrs.field(factory=list)
    refused: list[tuple[Kept, RootlessLayerError]] = attrs.field(factory=list)

    def take(self, kept: Kept) -> Path | None:
        """Put something aside; give where it is to be removed, if it could be."""
        kept = attrs.evolve(kept, known=kept.name)
        try:
            path = put_aside(kept.path)
        except OSError as error:
            self.refused.append((kept, unwritable(error, str(kept.path), "cannot be removed from the cache", hint=ELSEWHERE)))
            return None
        if path is not None:
            self.removed.append(kept)
        elif os.path.lexists(kept.path):
            self.used.append(kept)
        return path


def parse_size(text: str) -> int:
    """Read a number of bytes, with K, M, G or T for powers of 1024; raises :class:`InputError`."""
    found = _SIZE.fullmatch(text)
    if found is None:
        message = f"{text!r} is not a size: write it as 500M or 20G"
        raise InputError(message)
    return int(found[1]) << _UNITS[found[2].upper()]


def parse_limit(text: str) -> int | None:
    """Read what the cache may hold: a size in bytes as :func:`parse_size` does, or ``none``, which is no limit."""
    if text == "none":
        return None
    try:
        return parse_size(text)
    except InputError as error:
        message = f"{error}, or none"
        raise InputError(message) from error


def limit() -> int | None:
    """Give how many bytes the cache may hold: ``ROOTLESS_LAYER_CACHE_SIZE``, else 20 GiB; raises :class:`InputError`."""
    return parse_limit(os.environ.get(VARIABLE) or DEFAULT)


def entries(cache: Path, kind: KeptKind | None = None) -> Iterator[Kept]:
    """List the layers and snapshots, or those of one kind, in no order."""
    for path, there, used in _listed(cache):
        if there != "rubbish" and kind in {None, there}:
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                yield Kept(there, path, _noted(path), used)


def rubbish(cache: Path) -> Iterator[Kept]:
    """List what builds have there for themselves, those that run and those that were killed."""
    for path, there, _ in _listed(cache):
        if there == "rubbish":
            with contextlib.suppress(FileNotFoundError):
                yield rubbish_at(path)


def rubbish_at(path: Path) -> Kept:
    """Say what is to be removed at a path, and is no entry; raises :class:`FileNotFoundError`."""
    return Kept("rubbish", path, _measured(path), path.stat().st_mtime)


def list_kept(cache: Path) -> list[Kept]:
    """List what is in the cache, the last used first."""
    return sorted([*entries(cache), *rubbish(cache)], key=lambda kept: (-kept.used, kept.path))


def _listed(cache: Path) -> Iterator[tuple[Path, KeptKind, float]]:
    for folder, kind in _KINDS:
        for path in listed(cache / folder):
            there: KeptKind | None = "rubbish" if is_work(path) else kind if is_entry(path) else None
            if there is not None:
                with contextlib.suppress(FileNotFoundError):
                    yield path, there, path.stat().st_mtime


def _noted(entry: Path) -> int:
    """Give what is written down of an entry's size; where that is no number, or not yet there, it is measured."""
    note = _note(entry)
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.lstat(note).st_mode) and _NUMBER.fullmatch(text := note.read_bytes()):
            return int(text)
    size = _measured(entry)
    with contextlib.suppress(OSError):  # a cache that may only be read
        make_folder(note.parent)
        note.unlink(missing_ok=True)  # and not what a link there leads to
        with note.open("x", encoding="ascii") as file:
            file.write(f"{size}\n")
    return size


def _note(entry: Path) -> Path:
    return entry.parent.parent / SIZES / entry.name


def _forget(cache: Path, there: Collection[str]) -> None:
    """Remove the notes about what is gone."""
    for path in listed(cache / SIZES):
        if is_key(path.name) and path.name not in there:
            with contextlib.suppress(OSError):
                path.unlink()


def _measured(folder: Path) -> int:
    """Give what the files take, those that stand elsewhere as well included."""
    total = 0
    for here, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(here, name)).st_size
    return total


def shrink(cache: Path, keep: int) -> Tidied:
    """Remove what was not used for longest, until what is left takes ``keep`` bytes at the most.

    Several processes do this one after the other, or each would remove as much as one has to.
    """
    done = Tidied()
    with _removing(cache, done) as take:
        found = sorted(entries(cache), key=lambda kept: (kept.used, kept.path))
        _forget(cache, {kept.path.name for kept in found})
        total = sum(kept.size for kept in found)
        for kept in found:
            if total <= keep:
                break
            if take(kept):
                total -= kept.size
    return done


def discard(cache: Path, found: Iterable[Kept]) -> Tidied:
    """Remove entries, but for those that are in use."""
    done = Tidied()
    with _removing(cache, done) as take:
        for kept in found:
            take(kept)
    return done


@contextlib.contextmanager
def _removing(cache: Path, done: Tidied) -> Iterator[Callable[[Kept], bool]]:
    """Give what takes an entry away, and says whether it could. The directories are removed in the end, when others may go on."""
    gone: list[Path] = []
    turn = alone_in(cache)
    alone = alone_in(cache / SNAPSHOTS, wait=False)  # else somebody is unpacking a base

    def take(kept: Kept) -> bool:
        if kept.kind == "snapshot" and alone is None:
            done.used.append(kept)
            return False
        path = done.take(kept)
        if path is None:
            return False
        with contextlib.suppress(OSError):
            _note(kept.path).unlink()
        gone.append(path)
        return True

    try:
        yield take
    finally:
        for lease in (alone, turn):
            if lease is not None:
                lease.release()
        for path in gone:
            remove(str(path))


def alone_in(place: Path, *, wait: bool = True) -> Lease | None:
    """Have one of the cache's own directories alone, which may be a link to where there is room; as :meth:`.Lease.exclusive`."""
    return Lease.exclusive(os.path.realpath(place), wait=wait)


def put_aside(path: Path) -> Path | None:
    """Rename a directory that nobody uses, so that whoever comes now does not find it half removed; give its new name.

    Raises :class:`OSError` where this is not permitted.
    """
    lease = Lease.exclusive(path)
    if lease is None:
        return None
    gone = path.with_name(f"{ASIDE}{os.urandom(8).hex()}")
    try:
        move_away(path, gone)
    finally:
        lease.release()
    return gone


def move_away(path: Path, gone: Path) -> None:
    """Rename a directory that is leased; where that cannot be, as in the lower layers of overlayfs, remove it where it is."""
    try:
        path.rename(gone)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        remove(str(path))
        if os.path.lexists(path):
            raise


@contextlib.contextmanager
def keeping(place: Path) -> Iterator[None]:
    """Raise :class:`OutputError` for what keeps the cache from being written."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, str(place), "the cache cannot be written", hint=ELSEWHERE) from error


@contextlib.contextmanager
def using(place: Path) -> Iterator[None]:
    """Raise :class:`OutputError` for what keeps the cache from being looked at, or what is damaged from being dropped."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, str(error.filename or place), "the cache cannot be used", hint=ELSEWHERE) from error


@contextlib.contextmanager
def within_cache(place: Path) -> Iterator[None]:
    """Say of the cache what is said of an output that is made in this folder of it."""
    try:
        yield
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and error.problems[0].startswith(f"{place}/"):
            with keeping(place):
                raise error.__cause__ from None
        raise


@contextlib.contextmanager
def making_room(cache: Path) -> Iterator[None]:
    """Keep the cache within its limit where something is added to it.

    What was added has to be leased by then, or it may be what goes. That nothing can be removed fails
    no build. Raises :class:`InputError` before any work for a limit that is no size.
    """
    most = limit()
    yield
    if most is not None:
        with contextlib.suppress(OSError):
            shrink(cache, most)
