"""What a layer is built upon, and what is otherwise above it."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import attrs

from rootless_layer.oci.run_config import NONE, RunConfig

from .tree import Entry, Tree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from rootless_layer.system.lease import Lease


class Facts(NamedTuple):
    """What is known of a path of a base before its entry is made; ``top`` is the directory that it lies below on disk."""

    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    rdev: int
    target: bytes | None
    xattrs: tuple[tuple[bytes, bytes], ...]
    top: bytes


class Entries(Mapping[bytes, Entry]):
    """The entries of a base by path, each made when it is first asked for: a build asks for few."""

    def __init__(self, facts: Mapping[bytes, Facts], carriers: Mapping[bytes, bytes]) -> None:
        """Take what is known of each path; ``carriers`` has, for a further name of a file, the first one."""
        self._facts = facts
        self._carriers = carriers
        self._made: dict[bytes, Entry] = {}

    def __getitem__(self, path: bytes) -> Entry:
        """Give the entry at a path; raises :class:`KeyError` where there is none."""
        made = self._made.get(path)
        if made is None:
            mode, uid, gid, mtime, size, rdev, target, xattrs, top = self._facts[path]
            carrier = self._carriers.get(path)
            made = self._made[path] = Entry(
                path=path, mode=mode, uid=uid, gid=gid, mtime=mtime, size=size, rdev=rdev, target=target, xattrs=xattrs,
                link=carrier, source=top + b"/" + (carrier or path) if stat.S_ISREG(mode) else None,
            )  # fmt: skip
        return made

    def __contains__(self, path: object) -> bool:
        """Say whether there is an entry at a path, without making it."""
        return path in self._facts

    def __iter__(self) -> Iterator[bytes]:
        """Go through the paths, in no order."""
        return iter(self._facts)

    def __len__(self) -> int:
        """Count the paths."""
        return len(self._facts)

    def on_disk(self, path: bytes) -> bytes:
        """Give the path on disk of what stands for a path in the snapshots."""
        return self._facts[path].top + b"/" + path


@attrs.frozen(slots=True)
class Base:
    """The tree that the layers below make.

    ``entries`` has each path's; times are as the layers have them. ``chain_id`` is the
    highest layer's. ``links`` has the names of each file that has several, in order, by each
    of them, and of one that had several in its layer. Where the layers lie on disk as
    directories that an overlay can show, ``trees`` has these, the lowest first, and
    ``special`` the paths whose owner, mode, type or attributes are not what the disk says.
    ``mounted`` has store paths of the base that lie on this machine as they are in it, so that
    scripts may see them instead of copies: the path, and where that is. ``leases`` keep the
    ``trees`` from being removed, for as long as this value is there. ``run_config`` is what scripts take of
    the config of the image that the layers are from.
    """

    entries: Mapping[bytes, Entry]
    chain_id: str
    links: Mapping[bytes, tuple[bytes, ...]]
    trees: tuple[bytes, ...] = ()
    special: tuple[bytes, ...] = ()
    mounted: tuple[tuple[bytes, bytes], ...] = ()
    leases: tuple[Lease, ...] = attrs.field(default=(), eq=False, repr=False)
    run_config: RunConfig = NONE

    @classmethod
    def of(cls, tree: Tree, chain_id: str = "", mounted: tuple[tuple[bytes, bytes], ...] = ()) -> Base:
        """Take a ``tree`` whose files lie anywhere; it is copied for the scripts, but for the store paths ``mounted``.

        ``chain_id`` is the highest layer's; by default the base is like no other.
        """
        groups: dict[bytes, list[bytes]] = {}
        for entry in tree:
            if entry.link is not None:
                groups.setdefault(entry.link, [entry.link]).append(entry.path)
        links = {name: (first, *sorted(names[1:])) for first, names in groups.items() for name in names}
        return cls(tree.entries, chain_id, links, mounted=mounted)

    def with_(self, there: Mapping[bytes, Entry]) -> Tree:
        """Give the whole tree that comes of putting the entries ``there`` in, each in the place of the base's."""
        return Tree.of([*self._left(there, self.entries).values(), *there.values()])

    def above(self, there: Mapping[bytes, Entry]) -> Tree:
        """Give what an overlay is to have above this base: what is put in, and files with several names.

        overlayfs would part the names of such a file, and take its owner from it, when it is
        written. ``there`` has the directories that each path is in.
        """
        entries = self._left(there, self.links)
        for path in [*entries]:
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                if above in entries or above in there:
                    break
                entries[above] = self.entries[above]
        return Tree.of([*entries.values(), *there.values()])

    def _left(self, there: Mapping[bytes, Entry], wanted: Iterable[bytes]) -> dict[bytes, Entry]:
        """Give those of the paths wanted that are left of this base; of a file's names the first that is carries it."""
        delta = Delta(there)
        left = {path: self.entries[path] for path in wanted if path not in there and delta.leaves(path)}
        for path, first in self.carriers(left).items():
            if left[path].link != first:
                left[path] = attrs.evolve(left[path], link=first)
        return left

    def on_disk(self, path: bytes) -> bytes:
        """Give where ``path`` lies in the snapshots; raises :class:`KeyError` where the base has none."""
        assert isinstance(self.entries, Entries)  # noqa: S101 - whoever has trees has these
        return self.entries.on_disk(path)

    def carriers(self, among: Collection[bytes]) -> dict[bytes, bytes | None]:
        """Give, by each name of a file with several, the first of them ``among`` those given; ``None`` where that is the name."""
        firsts: dict[bytes, bytes] = {}  # by the first name of a file
        found: dict[bytes, bytes | None] = {}
        for path in among:
            names = self.links.get(path)
            if names is not None:
                if names[0] not in firsts:
                    firsts[names[0]] = next(name for name in names if name in among)
                found[path] = None if firsts[names[0]] == path else firsts[names[0]]
        return found


@attrs.frozen(slots=True)
class Delta:
    """What is otherwise than in a base.

    ``there`` has what stands at a path now; it may have entries that are as the base's.
    ``gone`` are paths of the base that are there no more although the directory that
    they were in still is one.
    """

    there: Mapping[bytes, Entry] = attrs.field(factory=lambda: MappingProxyType({}))
    gone: frozenset[bytes] = frozenset()

    def leaves(self, path: bytes) -> bool:
        """Say whether a path of the base that is not in ``there`` is still what it was."""
        if path in self.gone:
            return False
        while path:
            path = path.rpartition(b"/")[0]
            above = self.there.get(path)
            if path in self.gone or (above is not None and not above.is_dir):
                return False
        return True
