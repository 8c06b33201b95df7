"""Trees that nothing but their archive is made of, read from the disk into a :class:`.Table`, a directory at a time."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import UnrepresentableError

from .owner_names import NAMELESS, OwnerNames
from .sealed import Sealed, UnsealedError
from .table import Rows, Shape, Table
from .tree import MOST_NAME, ROOT, Entry, Tree, dangling_links, faults, is_plain_root, is_usual, missing_parents, reserved_names
from .walk import Listing, entry_of, reading

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence


@attrs.frozen(slots=True)
class CompactTree(Tree):
    """A tree whose ``entries`` are :class:`.Rows`: they take a tenth of the memory, and each is made when it is asked for.

    What is below the top of a ``sealed`` path is not among them. Store paths are ``whole`` that have their own entries alone.
    """

    entries: Rows
    root_stands: bool = False
    stored: tuple[bytes, ...] = ()
    sealed: Mapping[bytes, Sealed] = attrs.field(factory=dict)
    whole: frozenset[bytes] = frozenset()
    names: OwnerNames = NAMELESS

    @classmethod
    def of_table(cls, table: Table) -> Self:
        """Order and check a table as :meth:`.Tree.of` does, which says what this adds and raises."""
        ordered = table.in_order()
        if not ordered.paths or ordered.paths[0]:
            ordered = ordered.replacing({b"": ROOT})
        rows = Rows(ordered)
        singles = [ordered.singles[~kind] for kind in ordered.kinds if kind < 0]
        problems = faults(entry for entry in singles if not is_usual(entry))
        problems += faults(_suspects(ordered))
        missing, wrong = missing_parents(rows, _odd_parents(ordered))
        if missing:
            rows = Rows(ordered.replacing(missing))
        problems += wrong + reserved_names(rows.table.paths) + dangling_links(singles, rows)
        if problems:
            raise UnrepresentableError(*problems)
        return cls(rows)

    def sealing(self, sealed: Mapping[bytes, Sealed], whole: frozenset[bytes]) -> Self:
        """Say which of its store paths are sealed, and which whole; raises :class:`.UnsealedError` where more is below a top."""
        if odd := [path for path in sealed if path not in whole or self.entries.run(path) is None]:
            raise UnsealedError(odd)
        return attrs.evolve(self, sealed=sealed, whole=whole)

    def replacing(self, changed: Mapping[bytes, Entry]) -> Tree:
        """Give a tree that has the entries ``changed`` at some of its paths, of the same types."""
        return attrs.evolve(self, entries=Rows(self.entries.table.replacing(changed))) if changed else self

    def without(self, paths: Collection[bytes]) -> Tree:
        """Give a tree that lacks ``paths``, as :meth:`.Tree.without` does, which knows nothing of sealed ones."""
        if paths and self.sealed:
            raise UnsealedError(self.sealed)
        return super().without(paths)

    def __len__(self) -> int:
        """Count the entries, those of sealed paths among them."""
        return len(self.entries) + sum(each.entries - 1 for each in self.sealed.values())

    def archived(self) -> Sequence[Entry]:
        """Give the entries in the order of the archive, as :meth:`.Tree.archived` does: a table."""
        table = self.entries.table
        begin = 1 if is_plain_root(table[0]) and not self.root_stands else 0
        links = [place for place, kind in enumerate(table.kinds) if kind < 0 and table.singles[~kind].link is not None]
        if not links:
            return table[begin:]
        last = frozenset(links)
        return table.picked([place for place in range(begin, len(table)) if place not in last] + links)

    def with_attributes(self) -> Iterator[Entry]:
        """Give the entries that may have extended attributes."""
        table = self.entries.table
        return (table.singles[~kind] for kind in table.kinds if kind < 0)

    def larger(self, size: int) -> Iterator[Entry]:
        """Give the entries of more than ``size`` bytes."""
        table = self.entries.table
        return (table[place] for place, found in enumerate(table.sizes) if found > size)


def _odd_parents(table: Table) -> set[bytes]:
    """Give the parents that are not among the directories."""
    folders = {path for path, kind in zip(table.paths, table.kinds, strict=True) if kind >= 0 and table.shapes[kind].is_dir}
    return {path.rpartition(b"/")[0] for path in table.paths} - folders


def _suspects(table: Table) -> Iterator[Entry]:
    """Give the rows that :func:`.unrepresentable` has to be asked about."""
    owners = {(shape.uid, shape.gid) for shape in table.shapes}
    odd = {owner for owner in owners if not is_usual(Entry(path=b"", mode=0, uid=owner[0], gid=owner[1]))}
    return (
        table[place]
        for place, (path, kind) in enumerate(zip(table.paths, table.kinds, strict=True))
        if kind >= 0 and (len(path) > MOST_NAME or (odd and (table.shapes[kind].uid, table.shapes[kind].gid) in odd))
    )


@attrs.frozen(slots=True)
class _Place:
    """Where the entries of a directory go, and how they differ from what they are on disk."""

    prefix: bytes
    top: bytes
    more: int
    sockets: bool


@attrs.define(slots=True, eq=False)
class Collected:
    """Directories as they are read, each at its place in a tree; no two have a path in common.

    Times are not later than ``epoch``, in seconds, and all is of the ``owner``, a user and a group. Of store paths that are
    ``sealed`` nothing is read; whoever asks for an entry in one gets :class:`.UnsealedError`.
    """

    epoch: int
    owner: tuple[int, int]
    sealed: Mapping[bytes, Sealed] = attrs.field(factory=dict)
    table: Table = attrs.field(factory=Table)
    _shapes: dict[tuple[int, int, _Place], int] = attrs.field(factory=dict)
    _ranges: dict[bytes, tuple[int, int]] = attrs.field(factory=dict)
    """From where to where in the table a path and what is below it stand."""

    def __len__(self) -> int:
        """Count the entries."""
        return len(self.table)

    def add_store_path(self, path: bytes, source: bytes, parts: Iterable[Listing]) -> None:
        """Put a store path, which may be anything, at its ``path``; ``parts`` are of :func:`.below`, whose errors are raised."""
        begin = len(self.table)
        with reading(source):
            status = os.lstat(source)
            self.table.extend([entry_of(path, source, status, self.epoch, self.owner)])
        if stat.S_ISDIR(status.st_mode) and path not in self.sealed:
            self.add_below(path, source, parts)
        self._ranges[path] = begin, len(self.table)

    def add_below(self, path: bytes, top: bytes, found: Iterable[Listing], *, sockets: bool = True, more: int = 0) -> None:
        """Put what :func:`.listings` has found in the directory ``top`` below a ``path``; raises what that raises.

        Directories have the bits of ``more`` in their modes as well. Without ``sockets`` these are passed over.
        """
        begin = len(self.table)
        place = _Place(path + b"/" if path else b"", top, more, sockets)
        for listing in found:
            self._add(listing, place)
        self._ranges[path] = begin, len(self.table)

    def get(self, path: bytes) -> Entry | None:
        """Make the entry at a path, if there is one."""
        above = path
        while True:
            begin, end = self._ranges.get(above, (0, 0))
            place = bisect_left(self.table.paths, path, begin, end)
            if place < end and self.table.paths[place] == path:
                return self.table[place]
            if not above:
                return None
            self.look_into(above)
            above = above.rpartition(b"/")[0]

    def look_into(self, path: bytes) -> None:
        """Raise :class:`.UnsealedError` for a path that is sealed, or lies in one that is."""
        while self.sealed and path:
            if path in self.sealed:
                raise UnsealedError([path])
            path = path.rpartition(b"/")[0]

    def with_(self, entries: Mapping[bytes, Entry]) -> Table:
        """Give all that was read, with the ``entries`` in its place or beside it."""
        table = self.table.in_order()
        return table.replacing(entries) if entries else table

    def _add(self, listing: Listing, place: _Place) -> None:
        table, prefix, odd = self.table, place.prefix, listing.odd
        if not place.sockets and any(stat.S_ISSOCK(status.st_mode) for status in odd.values()):
            listing = _without_sockets(listing)
            odd = listing.odd
        begin = len(table)
        kept = list(zip(listing.modes, listing.devices, strict=True))
        kinds = {key: self._shape(*key, place) for key in set(kept)}
        table.paths += [prefix + name for name in listing.names] if prefix else listing.names
        table.kinds.extend([kinds[key] for key in kept])
        table.sizes.extend(listing.sizes)
        table.inodes.extend(listing.inodes)
        table.times.extend(listing.times)
        table.changes.extend(listing.changes)
        for number, status in odd.items():
            name = listing.names[number]
            table.kinds[begin + number] = ~len(table.singles)
            table.singles.append(entry_of(prefix + name, place.top + b"/" + name, status, self.epoch, self.owner))

    def _shape(self, mode: int, device: int, place: _Place) -> int:
        if stat.S_ISDIR(mode):
            mode |= place.more
        key = mode, device, place
        if key not in self._shapes:
            uid, gid = self.owner
            self._shapes[key] = len(self.table.shapes)
            self.table.shapes.append(Shape(mode, uid, gid, self.epoch, place.top + b"/", len(place.prefix), device))
        return self._shapes[key]


def _without_sockets(listing: Listing) -> Listing:
    kept, begin = Listing(), 0
    for number in (*(number for number, status in listing.odd.items() if stat.S_ISSOCK(status.st_mode)), len(listing.names)):
        kept.take(listing, begin, number, b"")
        begin = number + 1
    return kept
