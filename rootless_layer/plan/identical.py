"""Files of store paths that are another's bytes once more, as hard links of that.

A store path never changes, so that nobody can write through one name and mean it alone. The inodes of a store do not
count: an optimised store gives the layer that a plain one gives.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import SourceError
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.tree import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless_layer.tree.tree import Entry, Tree

MOST_NAMES = 50_000
"""So many names a file has at the most: ext4, on which a layer may be unpacked, has 65,000 (EXT4_LINK_MAX)."""
_BEGINNING = 1 << 14
"""So much is read of files of one size to begin with: most that differ do so there."""


def link_identical(tree: Tree, in_store: Callable[[bytes], bool]) -> Tree:
    """Give a tree in which files ``in_store`` of the same bytes, mode, owner and time are one; the first path carries it.

    An empty file stays alone. What was a link of a file that is one now links to the carrier. Raises :class:`SourceError` for
    a file that cannot be read, or is not what was planned.
    """
    alike: dict[object, list[Entry]] = {}
    for entry in tree:
        if entry.is_regular and entry.size and entry.source is not None and entry.link is None and in_store(entry.path):
            alike.setdefault((entry.size, entry.metadata), []).append(entry)
    carriers = {
        other.path: first.path
        for several in alike.values()
        if len(several) > 1
        for beginning in _parted(several, lambda entry: _digest(entry, _BEGINNING))
        for same in (_parted(beginning, _whole) if beginning[0].size > _BEGINNING else [beginning])
        for begin in range(0, len(same), MOST_NAMES)
        for first, *others in [same[begin : begin + MOST_NAMES]]
        for other in others
    }
    if not carriers:
        return tree
    changed = {path: attrs.evolve(tree.entries[path], link=carrier) for path, carrier in carriers.items()}
    links = (entry for entry in tree if entry.link is not None and entry.link in carriers)
    return tree.replacing(changed | {entry.path: attrs.evolve(entry, link=carriers[entry.link or b""]) for entry in links})


def _parted(entries: list[Entry], told: Callable[[Entry], bytes]) -> Iterator[list[Entry]]:
    """Give those of which the same is told, where they are several."""
    found: dict[bytes, list[Entry]] = {}
    inodes: dict[tuple[int, ...], bytes] = {}
    for entry in entries:
        inode = entry.stamp[:2] if entry.stamp is not None else (len(inodes),)
        if inode not in inodes:
            inodes[inode] = told(entry)
        found.setdefault(inodes[inode], []).append(entry)
    return (several for several in found.values() if len(several) > 1)


def _whole(entry: Entry) -> bytes:
    return _digest(entry, None)


def _digest(entry: Entry, most: int | None) -> bytes:
    """Hash a file, or the beginning of it."""
    source = entry.source or b""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            found = hashlib.file_digest(file, "sha256") if most is None else hashlib.sha256(file.read(most))
            status = os.fstat(descriptor)
    except OSError as error:
        raise unreadable(error, os.fsdecode(source)) from error
    if entry.stamp is not None and stamp(status)[:4] != entry.stamp[:4]:
        message = f"{os.fsdecode(source)}: changed while it was compared with others"
        raise SourceError(message, hint="Build again when nothing else writes to it.")
    return found.digest()
