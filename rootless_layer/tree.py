"""The paths of a layer: :class:`Entry` and :class:`Tree`.

Paths are ``bytes``, relative to the root, without a leading or trailing slash;
``b""`` is the root itself. Bytes, because a name on Linux need not be text in any
encoding, and because their order does not depend on a locale.
"""

from __future__ import annotations

import stat
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from .errors import UnrepresentableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Stamp = tuple[int, int, int, int, int]
"""What tells whether a file is still the same: dev, ino, size, mtime_ns, ctime_ns."""

WHITEOUT_PREFIX = b".wh."
"""image-spec ``layer.md``, "Whiteouts": such a name marks a deletion."""

ROOT_MODE = stat.S_IFDIR | 0o755


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
    names a regular file that is not a hard link itself.
    """

    entries: Mapping[bytes, Entry]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Tree:
        """Order and check entries; a missing parent becomes a 0755 directory of root's.

        Raises :class:`UnrepresentableError`, with every fault found, for a repeated
        path, a parent that is no directory, a hard link to nothing or to a link, and
        a name that begins with ``.wh.`` (image-spec ``layer.md``).
        """
        by_path: dict[bytes, Entry] = {}
        problems: list[str] = []
        for entry in entries:
            if entry.path in by_path:
                problems.append(f"{shown(entry.path)}: the path occurs twice")
            by_path[entry.path] = entry
        by_path.setdefault(b"", Entry(path=b"", mode=ROOT_MODE))
        problems += _complete(by_path)
        for path, entry in by_path.items():
            if b".wh." in path and path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX):
                problems.append(f"{shown(path)}: a layer cannot hold a name that begins with .wh.")
            if entry.link is not None:
                first = by_path.get(entry.link)
                if first is None or first.link is not None or not first.is_regular:
                    problems.append(f"{shown(path)}: no file for the hard link to {shown(entry.link)}")
        if problems:
            raise UnrepresentableError(*problems)
        return cls(MappingProxyType({path: by_path[path] for path in sorted(by_path)}))

    def __iter__(self) -> Iterator[Entry]:
        """Go through the entries in the order of their paths' bytes."""
        return iter(self.entries.values())

    def __len__(self) -> int:
        """Count the entries, the root among them."""
        return len(self.entries)

    def archived(self) -> list[Entry]:
        """Give the entries in the order of the archive, as they stand in a layer.

        Hard links come last, so that each follows its target. The root is left out
        where it is 0755 and root's, which is what it is without an entry.
        """
        plain: list[Entry] = []
        links: list[Entry] = []
        for entry in self.entries.values():
            (plain if entry.link is None else links).append(entry)
        root = plain[0]
        if (root.mode, root.uid, root.gid, root.xattrs) == (ROOT_MODE, 0, 0, ()):
            del plain[0]
        return plain + links


def _complete(by_path: dict[bytes, Entry]) -> list[str]:
    """Add the parents that are missing; list those that are no directories."""
    problems = []
    checked: set[bytes] = set()
    for path in list(by_path):
        parent = path.rpartition(b"/")[0]
        while parent not in checked:
            if parent not in by_path:
                by_path[parent] = Entry(path=parent, mode=ROOT_MODE)
            elif not by_path[parent].is_dir:
                problems.append(f"{shown(path)}: {shown(parent)} is not a directory")
                break
            checked.add(parent)
            parent = parent.rpartition(b"/")[0]
    return problems
