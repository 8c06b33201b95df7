"""Entries as rows of numbers: a million files in a tenth of the memory that as many :class:`.Entry` values take.

Files and directories that lie below one directory on disk differ by path, size, inode and times. What else there is to
say they share: it is a :class:`Shape`, kept once. Anything else stands among the rows as its own entry.
"""

from __future__ import annotations

import stat
from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from functools import partial
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, overload

import attrs

from .owner_names import NAMELESS, OwnerNames
from .tree import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

NANOSECONDS = 1_000_000_000
_FEW = 100


@attrs.frozen(slots=True)
class Shape:
    """What rows have in common: files of one mode that lie below one directory on one device, or directories.

    The source of a file is ``top`` with what comes behind the first ``cut`` bytes of its path. Times are not later than
    ``epoch``; a directory's are it.
    """

    mode: int
    uid: int
    gid: int
    epoch: int
    top: bytes
    cut: int
    device: int

    @property
    def is_dir(self) -> bool:
        """Say whether the rows are directories."""
        return stat.S_ISDIR(self.mode)


def data_size(entry: Entry) -> int:
    """Give the bytes of data that stand behind the entry's header in a tar."""
    return entry.size if entry.source is not None and entry.link is None else 0


@attrs.define(slots=True, eq=False)
class Table(Sequence[Entry]):
    """Entries in some order, each made when somebody asks for it.

    ``kinds`` says of each row which of the ``shapes`` it has, or, below nought, that the entry at ``~kind`` of ``singles``
    is it. ``sizes`` are of the data in a tar, ``changes`` are times of inodes; times are in nanoseconds. ``names`` are for the
    headers. A slice shares all but the rows.
    """

    paths: list[bytes] = attrs.field(factory=list)
    kinds: array[int] = attrs.field(factory=partial(array, "i"))
    sizes: array[int] = attrs.field(factory=partial(array, "q"))
    inodes: array[int] = attrs.field(factory=partial(array, "Q"))
    times: array[int] = attrs.field(factory=partial(array, "q"))
    changes: array[int] = attrs.field(factory=partial(array, "q"))
    shapes: list[Shape] = attrs.field(factory=list)
    singles: list[Entry] = attrs.field(factory=list)
    names: OwnerNames = NAMELESS

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Table:
        """Take entries that are there already."""
        if isinstance(entries, Table):
            return entries
        made = cls()
        made.extend(entries)
        return made

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries as they are."""
        begin = len(self.singles)
        self.singles += entries
        self.paths += [entry.path for entry in entries]
        self.kinds.extend(range(~begin, ~begin - len(entries), -1))
        self.sizes.extend(map(data_size, entries))
        for column in (self.inodes, self.times, self.changes):
            column.frombytes(bytes(column.itemsize * len(entries)))

    def __len__(self) -> int:
        """Count the entries."""
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Table: ...
    def __getitem__(self, place: int | slice) -> Entry | Table:
        """Make an entry, or give a part of the table."""
        if isinstance(place, slice):
            return self._of(self.paths[place], (column[place] for column in self.numbers))
        kind = self.kinds[place]
        return self.singles[~kind] if kind < 0 else self._entry(place, self.shapes[kind])

    def __iter__(self) -> Iterator[Entry]:
        """Make the entries, one after the other."""
        singles, shapes = self.singles, self.shapes
        for place, kind in enumerate(self.kinds):
            yield singles[~kind] if kind < 0 else self._entry(place, shapes[kind])

    def _entry(self, place: int, shape: Shape) -> Entry:
        path, mode, epoch = self.paths[place], shape.mode, shape.epoch
        if shape.is_dir:
            return Entry(path=path, mode=mode, uid=shape.uid, gid=shape.gid, mtime=epoch)
        size, time = self.sizes[place], self.times[place]
        return Entry(
            path=path, mode=mode, uid=shape.uid, gid=shape.gid, mtime=min(time // NANOSECONDS, epoch), size=size,
            source=shape.top + path[shape.cut :],
            stamp=(shape.device, self.inodes[place], size, time, self.changes[place]),
        )  # fmt: skip

    def taken(self, ranges: Iterable[range]) -> Table:
        """Give the rows in these ranges of places, in this order."""
        slices = [slice(each.start, each.stop) for each in ranges]
        numbers = [array(column.typecode) for column in self.numbers]
        for taken, column in zip(numbers, self.numbers, strict=True):
            for each in slices:
                taken.extend(column[each])
        return self._of([path for each in slices for path in self.paths[each]], numbers)

    def picked(self, places: Sequence[int]) -> Table:
        """Give the rows at these places, in this order."""
        numbers = (array(column.typecode, [column[place] for place in places]) for column in self.numbers)
        return self._of([self.paths[place] for place in places], numbers)

    def in_order(self) -> Table:
        """Give the rows in the order of their paths' bytes."""
        paths = self.paths
        if all(map(lt, paths, islice(paths, 1, None))):
            return self
        return self.picked(sorted(range(len(paths)), key=paths.__getitem__))

    def replacing(self, changed: Mapping[bytes, Entry]) -> Table:
        """Give this table, which is in the order of its paths, with the entries ``changed`` at some of these, and at others."""
        few = len(changed) <= _FEW
        made = self[:] if few else self.picked([place for place, path in enumerate(self.paths) if path not in changed])
        made.singles = [*self.singles]
        if not few:
            made.extend([*changed.values()])
            return made.in_order()
        for path, entry in changed.items():
            place = bisect_left(made.paths, path)
            if place == len(made) or made.paths[place] != path:
                made.paths.insert(place, path)
                for column in made.numbers:
                    column.insert(place, 0)
            made.kinds[place], made.sizes[place] = ~len(made.singles), data_size(entry)
            made.singles.append(entry)
        return made

    @property
    def numbers(self) -> tuple[array[int], ...]:
        """Give the columns of numbers."""
        return self.kinds, self.sizes, self.inodes, self.times, self.changes

    def _of(self, paths: list[bytes], numbers: Iterable[array[int]]) -> Table:
        kinds, sizes, inodes, times, changes = numbers
        return Table(paths, kinds, sizes, inodes, times, changes, self.shapes, self.singles, self.names)


class Rows(Mapping[bytes, Entry]):
    """The entries of a table that is in the order of its paths, by path; each is made when it is asked for."""

    __slots__ = ("table",)

    def __init__(self, table: Table) -> None:
        """Take a table that nobody changes any more."""
        self.table = table

    def __getitem__(self, path: bytes) -> Entry:
        """Make the entry at a path; raises :class:`KeyError` where there is none."""
        place = self._place(path)
        if place is None:
            raise KeyError(path)
        return self.table[place]

    def __contains__(self, path: object) -> bool:
        """Say whether there is an entry at a path, without making it."""
        return isinstance(path, bytes) and self._place(path) is not None

    def __iter__(self) -> Iterator[bytes]:
        """Go through the paths in the order of their bytes."""
        return iter(self.table.paths)

    def __len__(self) -> int:
        """Count the paths."""
        return len(self.table.paths)

    def _place(self, path: bytes) -> int | None:
        paths = self.table.paths
        place = bisect_left(paths, path)
        return place if place < len(paths) and paths[place] == path else None

    def run(self, top: bytes) -> tuple[int, int] | None:
        """Give from where to where a path and what is below it stand; nothing where it is not there, or others stand between."""
        paths = self.table.paths
        begin, end = bisect_left(paths, top), bisect_left(paths, top + b"0")  # which comes behind the slash
        alone = begin + 1 == end or (begin < end and paths[begin + 1].startswith(top + b"/"))
        return (begin, end) if alone and paths[begin] == top else None

    def values(self) -> ValuesView[Entry]:
        """Make the entries in the order of their paths."""
        return _Values(self)

    def items(self) -> ItemsView[bytes, Entry]:
        """Give the paths with their entries."""
        return _Items(self)


class _Values(ValuesView[Entry]):
    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._rows = rows

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._rows.table)


class _Items(ItemsView[bytes, Entry]):
    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self._rows = rows

    def __iter__(self) -> Iterator[tuple[bytes, Entry]]:
        table = self._rows.table
        return zip(table.paths, table, strict=True)
