"""The paths of a layer: :class:`Entry` and :class:`Tree`.

Paths are ``bytes``, relative to the root, without a leading or trailing slash;
``b""`` is the root itself. Bytes, because a name on Linux need not be text in any
encoding, and because their order does not depend on a locale.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import UnrepresentableError

from .owner_names import NAMELESS, OwnerNames

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

Stamp = tuple[int, int, int, int, int]
"""What tells whether a file is still the same: dev, ino, size, mtime_ns, ctime_ns."""

WHITEOUT_PREFIX = b".wh."
"""image-spec ``layer.md``, "Whiteouts": such a name marks a deletion."""

MOST_ID = 2**32 - 2
"""chown(2) and fakeroot know ids of 32 bits, of which the last means "as it was"."""
_MOST_TARGET = 4095  # linux/limits.h, without the byte that ends a path
MOST_PATH = _MOST_TARGET - 255
"""What is left for a path where the directory that a tree is unpacked or staged in takes some of it."""
MOST_NAME = 255  # linux/limits.h, of each part of a path
_MOST_MAJOR, _MOST_MINOR = (1 << 12) - 1, (1 << 20) - 1  # linux/kdev_t.h
_MOST_TIME = 1 << 55
"""Far more than any file system keeps; utimensat(2) and libarchive take no more than 2^63."""
ROOT_MODE = stat.S_IFDIR | 0o755
_JOINED = 4096


@attrs.frozen(kw_only=True, slots=True)
class Entry:
    """One path of a tree.

    ``mode`` has the type bits (``st_mode``); ``mtime`` is in whole seconds; ``rdev``
    is what :func:`os.makedev` gives, for devices. ``target`` is what a symbolic link
    says; ``link`` is the path of the entry that this one is a hard link of, whose
    attributes it shares. ``source`` is the absolute path that holds a regular file's
    bytes, ``stamp`` its state when it was planned. ``xattrs`` are sorted by name.
    """

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    rdev: int = 0
    target: bytes | None = None
    link: bytes | None = None
    source: bytes | None = None
    stamp: Stamp | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def is_dir(self) -> bool:
        """Say whether the entry is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Say whether the entry is a regular file, be it a hard link or not."""
        return stat.S_ISREG(self.mode)

    @property
    def metadata(self) -> tuple[object, ...]:
        """Everything that a layer says of the path, except name and data."""
        return (self.mode, self.uid, self.gid, self.mtime, self.rdev, self.target, self.xattrs)


ROOT = Entry(path=b"", mode=ROOT_MODE)
"""The root as it is where nobody says otherwise."""


def unrepresentable(entry: Entry) -> str:
    """Say which number or name of an entry no layer can have, or no script can be shown; nothing where all are right."""
    for name, value in (("uid", entry.uid), ("gid", entry.gid)):
        if not 0 <= value <= MOST_ID:
            return f"its {name} is {value}, and ids go from 0 to {MOST_ID}"
    if entry.size < 0:
        return f"its size is {entry.size}"
    if abs(entry.mtime) > _MOST_TIME:
        return f"its time is {entry.mtime} seconds, which no file can have"
    major, minor = (os.major(entry.rdev), os.minor(entry.rdev)) if entry.rdev else (0, 0)
    if major > _MOST_MAJOR or minor > _MOST_MINOR:
        return f"it is a device {major}, {minor}, which Linux cannot have"
    return _unnameable(entry)


def _unnameable(entry: Entry) -> str:
    names = [entry.path, entry.target or b"", entry.link or b""]
    for name, most in zip(names, (MOST_PATH, _MOST_TARGET, MOST_PATH), strict=True):
        if len(name) > most:
            return f"it has a name of {len(name)} bytes, and {most} are the most that Linux takes wherever a tree lies"
        # A symbolic link may lead anywhere, also where nothing can be.
        if len(name) > MOST_NAME and name is not entry.target and (long := _long_part(name)):
            return f"{legible(long[:20])}… in it is a name of {len(long)} bytes, and Linux takes {MOST_NAME}"
    if entry.target == b"":
        return "it is a link to nothing"
    if any(b"\0" in name for name in names):
        return "it has a name with a NUL byte"
    for attribute, _ in entry.xattrs:
        if not attribute or b"=" in attribute or b"\0" in attribute:
            return f"it has an extended attribute {legible(attribute)!r}, which no tar can name"
    return ""


def _long_part(name: bytes) -> bytes:
    """Give a part of a path that no file can be called; a whiteout, which is none anywhere, is called as what it hides."""
    longest = max(name.split(b"/"), key=len).removeprefix(WHITEOUT_PREFIX)
    return longest if len(longest) > MOST_NAME else b""


def stamp(status: object) -> Stamp:
    """Take the stamp of an :class:`os.stat_result`."""
    return _STAMP(status)


_STAMP = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


def shown(path: bytes) -> str:
    """Write a path of a tree as a person reads it: absolute, odd bytes escaped."""
    return "/" + legible(path)


def legible(text: bytes) -> str:
    """Write bytes for a terminal: what is not printable text, and the backslash, is escaped."""
    decoded = text.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if decoded.isprintable():
        return decoded
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in decoded)


@attrs.frozen(slots=True)
class Tree:
    """Entries by path, ordered, complete, without duplicates.

    Made by :meth:`of` only. Every parent is there and is a directory; every hard link
    names a regular file that is not a hard link itself. The root is archived in any case
    where it ``root_stands``: a base has another one.
    """

    entries: Mapping[bytes, Entry]
    root_stands: bool = False
    stored: tuple[bytes, ...] = ()
    """Store paths of the tree, in the order in which they are archived (:class:`.Archive`)."""
    names: OwnerNames = NAMELESS

    @classmethod
    def of(cls, entries: Iterable[Entry], *, whiteouts: bool = False, root_stands: bool = False) -> Tree:
        """Order and check ``entries``; a missing parent becomes a 0755 directory of root's.

        ``root_stands`` says whether the root is in the archive, whatever its mode.

        Raises :class:`UnrepresentableError`, with every fault found, for a repeated
        path, a parent that is no directory, a hard link to nothing or to a link, an owner
        or a name that Linux cannot have, an attribute that no tar can name, and, unless they are
        ``whiteouts``, a name that begins with ``.wh.`` (image-spec ``layer.md``).
        """
        listed = list(entries)
        by_path = {entry.path: entry for entry in listed}
        problems: list[str] = []
        if len(by_path) < len(listed):
            counts = Counter(entry.path for entry in listed)
            problems += [f"{shown(path)}: the path occurs twice" for path, count in counts.items() if count > 1]
        problems += faults(entry for entry in listed if not is_usual(entry))
        by_path.setdefault(b"", ROOT)
        missing, wrong = missing_parents(by_path, {path.rpartition(b"/")[0] for path in by_path})
        by_path |= missing
        ordered = sorted(by_path)
        problems += wrong + ([] if whiteouts else reserved_names(ordered)) + dangling_links(listed, by_path)
        if problems:
            raise UnrepresentableError(*problems)
        return cls(MappingProxyType({path: by_path[path] for path in ordered}), root_stands)

    def replacing(self, changed: Mapping[bytes, Entry]) -> Tree:
        """Give a tree that has the entries ``changed`` at some of its paths, of the same types."""
        if not changed:
            return self
        return Tree(MappingProxyType({**self.entries, **changed}), self.root_stands, self.stored, self.names)

    def without(self, paths: Collection[bytes]) -> Tree:
        """Give a tree that lacks ``paths``, none of them a directory's; what is left of a file's names stays one file."""
        if not paths:
            return self
        carriers: dict[bytes, bytes] = {}
        left = {path: entry for path, entry in self.entries.items() if path not in paths}
        for path, entry in left.items():
            if entry.link is not None and entry.link in paths:
                carrier = carriers.setdefault(entry.link, path)
                left[path] = attrs.evolve(entry, link=None if carrier == path else carrier)
        return Tree(MappingProxyType(left), self.root_stands, self.stored, self.names)

    def __iter__(self) -> Iterator[Entry]:
        """Go through the entries in the order of their paths' bytes."""
        return iter(self.entries.values())

    def __len__(self) -> int:
        """Count the entries, the root among them."""
        return len(self.entries)

    def with_attributes(self) -> Iterator[Entry]:
        """Give the entries that may have extended attributes."""
        return iter(self)

    def larger(self, size: int) -> Iterator[Entry]:
        """Give the entries of more than ``size`` bytes."""
        return (entry for entry in self if entry.size > size)

    def archived(self) -> Sequence[Entry]:
        """Give the entries in the order of the archive, as they stand in a layer.

        Hard links come last, so that each follows its target; a directory's whiteouts come
        before all else in it. The root is left out where it is 0755 and root's, which is
        what it is without an entry.
        """
        plain: list[Entry] = []
        links: list[Entry] = []
        for entry in self.entries.values():
            (plain if entry.link is None else links).append(entry)
        if any(b"/" + WHITEOUT_PREFIX in b"/" + entry.path for entry in plain):
            plain.sort(key=_whiteouts_first)
        if is_plain_root(plain[0]) and not self.root_stands:
            del plain[0]
        return plain + links


def of_overlay(name: bytes) -> bool:
    """Say whether an extended attribute is overlayfs's own: what it says is about another mount, and hides files in this one."""
    return name.startswith((b"trusted.overlay.", b"user.overlay."))


def without_overlay(entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """Give, by path, what the entries that have attributes of overlayfs's own are without those; others are left out."""
    cleaned = {}
    for entry in entries:
        if entry.xattrs and any(of_overlay(name) for name, _ in entry.xattrs):
            kept = tuple(pair for pair in entry.xattrs if not of_overlay(pair[0]))
            cleaned[entry.path] = attrs.evolve(entry, xattrs=kept)
    return cleaned


def overlay_note(paths: Iterable[bytes]) -> str:
    """Tell a person of the paths, one or more, whose attributes of overlayfs's own were left out."""
    first, *others = paths
    more = f" (and {len(others)} more)" if others else ""
    return f"{shown(first)}{more}: attributes of overlayfs's own are left out: they would hide files"


def is_usual(entry: Entry) -> bool:
    """Say whether an entry cannot have the faults that may come from anywhere: each tree is looked at, so that this is quick."""
    return 0 <= entry.uid <= MOST_ID and 0 <= entry.gid <= MOST_ID and len(entry.path) <= MOST_NAME and not entry.xattrs


def is_plain_root(entry: Entry) -> bool:
    """Say whether an entry is the root as it is where no layer says otherwise: 0755 and root's."""
    return not entry.path and (entry.mode, entry.uid, entry.gid, entry.xattrs) == (ROOT_MODE, 0, 0, ())


def _whiteouts_first(entry: Entry) -> bytes:
    """Give what a whiteout is ordered by: right behind its directory, whatever its name is."""
    above, _, name = entry.path.rpartition(b"/")
    if not name.startswith(WHITEOUT_PREFIX):
        return entry.path
    return above + b"/\0" + name if above else b"\0" + name


def missing_parents(by_path: Mapping[bytes, Entry], parents: Collection[bytes]) -> tuple[dict[bytes, Entry], list[str]]:
    """Give those of the ``parents`` that are missing, as directories, and one problem for each entry that is in no directory.

    Parents that are known to be directories need not be given.
    """
    missing: dict[bytes, Entry] = {}
    problems = []
    parents = set(parents)
    while parents:
        unknown = [parent for parent in parents if parent not in by_path and parent not in missing]
        wrong = {parent for parent in parents.difference(unknown, missing) if not by_path[parent].is_dir}
        if wrong:
            below = [(path, path.rpartition(b"/")[0]) for path in (*by_path, *missing)]
            problems += [f"{shown(path)}: {shown(parent)} is not a directory" for path, parent in below if parent in wrong]
        missing |= {parent: Entry(path=parent, mode=ROOT_MODE) for parent in unknown}
        parents = {parent.rpartition(b"/")[0] for parent in unknown}
    return missing, problems


def faults(entries: Iterable[Entry]) -> list[str]:
    """Give one problem for each entry that is :func:`unrepresentable`."""
    looked_at = ((entry.path, unrepresentable(entry)) for entry in entries)
    return [f"{shown(path)}: {fault}" for path, fault in looked_at if fault]


def reserved_names(paths: Sequence[bytes]) -> list[str]:
    """Give one problem for each path whose name would be a whiteout's."""
    problems = []
    for begin in range(0, len(paths), _JOINED):  # a look at many at once takes next to no time
        part = paths[begin : begin + _JOINED]
        if b"/" + WHITEOUT_PREFIX in b"/" + b"\0/".join(part):
            reserved = [path for path in part if path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX)]
            problems += [f"{shown(path)}: a layer cannot hold a name that begins with .wh." for path in reserved]
    return problems


def dangling_links(entries: Iterable[Entry], by_path: Mapping[bytes, Entry]) -> list[str]:
    """Give one problem for each hard link to what is no file, or is a hard link itself."""
    problems = []
    for entry in [entry for entry in entries if entry.link is not None]:
        first = by_path.get(entry.link or b"")
        if first is None or first.link is not None or not first.is_regular:
            problems.append(f"{shown(entry.path)}: no file for the hard link to {shown(entry.link or b'')}")
    return problems
