"""The order in which a tree is archived, and the segments that the archive has: each store path is one.

A segment's bytes depend on nothing outside of it. So they, and a digest's state behind them, are known wherever the same
segments stand before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .compact import CompactTree
from .table import Rows, Table
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
        first, segments, rest = _found(tree, table) or _assigned(tree, table)
        ranges, ends, names, end = [], [], [], 0
        for path, segment in {b"": first, **segments}.items():
            if segment:
                ranges += segment
                end += sum(map(len, segment))
                ends.append(end)
                names.append(path)
        return cls(table.taken(ranges + rest), (*ends, len(table)), (*names, b""))

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


Assigned = tuple[list[range], dict[bytes, list[range]], list[range]]
"""The rows that stand before the store paths, in each of these, and behind them."""


def _found(tree: Tree, table: Table) -> Assigned | None:
    """Find the rows of each store path, without a look at each; nothing where they may stand elsewhere."""
    if not isinstance(tree, CompactTree) or any(single.link is not None for single in table.singles):
        return None
    rows, segments = Rows(table), dict[bytes, list[range]]()
    for path in tree.stored:
        run = rows.run(path)
        if run is None and path in rows:
            return None
        segments[path] = [] if run is None else [range(*run)]
    above = _above(tree.stored[0])  # which stand before all that is in them
    first, rest, end = list[range](), list[range](), 0
    for begin, behind in sorted((found[0].start, found[0].stop) for found in segments.values() if found):
        for place in range(end, begin):
            _add(first if table.paths[place] in above else rest, place)
        end = behind
    return first, segments, [*rest, range(end, len(table))]


def _add(ranges: list[range], place: int) -> None:
    """Add a place to ranges."""
    if ranges and ranges[-1].stop == place:
        ranges[-1] = range(ranges[-1].start, place + 1)
    else:
        ranges.append(range(place, place + 1))


def _above(path: bytes) -> set[bytes]:
    """Give the directories that a path is in, the root among them."""
    found = {b""}
    while path := path.rpartition(b"/")[0]:
        found.add(path)
    return found


def _assigned(tree: Tree, table: Table) -> Assigned:
    folder = tree.stored[0].rpartition(b"/")[0]
    below = folder + b"/"
    depth = len(below)
    above = _above(tree.stored[0])
    first: list[range] = []
    rest: list[range] = []
    segments: dict[bytes, list[range]] = {path: [] for path in tree.stored}
    for place, (path, kind) in enumerate(zip(table.paths, table.kinds, strict=True)):
        if path.startswith(below):
            end = path.find(b"/", depth)
            segment = segments.get(path if end < 0 else path[:end])
            link = table.singles[~kind].link if kind < 0 else None
            if segment is not None and (link is None or (end > 0 and link.startswith(path[: end + 1]))):
                _add(segment, place)
                continue
        parent, _, name = path.rpartition(b"/")
        before = path in above or (parent in above and name.startswith(WHITEOUT_PREFIX))
        _add(first if before else rest, place)
    return first, segments, rest
