"""The order in which a tree is archived, and the segments that the archive has: each store path is one.

A segment's bytes depend on nothing outside of it. So they, and a digest's state behind them, are known wherever the same
segments stand before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .table import Table
from .tree import WHITEOUT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tree import Entry, Tree


@attrs.frozen(slots=True)
class Archive:
    """Entries in the order in which they are archived; ``ends`` are the places where segments end, the last is that of all."""

    table: Table
    ends: tuple[int, ...]
    names: tuple[bytes, ...]
    """What each segment is: a store path, or ``b""``."""

    @classmethod
    def of(cls, tree: Tree) -> Archive:
        """Put the entries of a tree in order.

        First come the directories that the store is in, with their whiteouts; then each store path in the tree's order of
        these, with its own hard links at its end; then all else, as :meth:`.Tree.archived` gives it.
        """
        table = attrs.evolve(Table.of(tree.archived()), names=tree.names)
        if not tree.stored:
            return cls.taking(table)
        first, segments, rest = _assigned(tree, table)
        places, ends, names = [], [], []
        for path, segment in {b"": first, **segments}.items():
            if segment:
                places += segment
                ends.append(len(places))
                names.append(path)
        return cls(table.taken(places + rest), (*ends, len(table)), (*names, b""))

    @classmethod
    def taking(cls, entries: Sequence[Entry] | Archive) -> Archive:
        """Take entries in the order that they have, as one segment; what is an archive stays one."""
        if isinstance(entries, Archive):
            return entries
        table = Table.of(entries)
        return cls(table, (len(table),), (b"",))

    def behind(self, count: int) -> Archive:
        """Give what stands behind the first segments, of which it has more."""
        if not count:
            return self
        begin = self.ends[count - 1]
        return Archive(self.table[begin:], tuple(end - begin for end in self.ends[count:]), self.names[count:])

    def __len__(self) -> int:
        """Count the entries."""
        return len(self.table)


def _assigned(tree: Tree, table: Table) -> tuple[list[int], dict[bytes, list[int]], list[int]]:
    """Give the places of the table's rows that stand before the store paths, in each of these, and behind them."""
    folder = tree.stored[0].rpartition(b"/")[0]
    below = folder + b"/"
    depth = len(below)
    above = {folder, b""}
    while folder:
        folder = folder.rpartition(b"/")[0]
        above.add(folder)
    first: list[int] = []
    rest: list[int] = []
    segments: dict[bytes, list[int]] = {path: [] for path in tree.stored}
    for place, (path, kind) in enumerate(zip(table.paths, table.kinds, strict=True)):
        if path.startswith(below):
            end = path.find(b"/", depth)
            segment = segments.get(path if end < 0 else path[:end])
            link = table.singles[~kind].link if kind < 0 else None
            if segment is not None and (link is None or (end > 0 and link.startswith(path[: end + 1]))):
                segment.append(place)
                continue
        parent, _, name = path.rpartition(b"/")
        before = path in above or (parent in above and name.startswith(WHITEOUT_PREFIX))
        (first if before else rest).append(place)
    return first, segments, rest
