"""What a layer holds, and the tree that layers make one upon the other."""

from __future__ import annotations

import functools
import operator
import os
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import InputError
from rootless_layer.store.closure import StorePath
from rootless_layer.system.machine import unreadable
from rootless_layer.tar.read import Member, leaves_root, read_members
from rootless_layer.tree import mtree
from rootless_layer.tree.changes import Added, Changes, parents
from rootless_layer.tree.placing import Placing
from rootless_layer.tree.tree import ROOT_MODE, Entry, legible, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rootless_layer.tar.feed import Consume
    from rootless_layer.tar.read import Keep

    from .blob import LayerBlob

Merged = dict[bytes, Member]
"""A tree by path. The names of one file have the same member, by which :func:`files` knows them."""


@attrs.frozen(slots=True)
class Contents:
    """The members of a layer's tar, in their order there, and what its whiteouts hide of lower layers.

    ``removed`` paths go with all below them; of ``emptied`` directories only what is in them
    goes. ``size`` is the tar's in bytes, where it was counted.
    """

    members: tuple[Member, ...]
    removed: frozenset[bytes]
    emptied: frozenset[bytes]
    size: int = 0

    @classmethod
    def of(cls, members: Iterable[Member], size: int = 0) -> Self:
        """Take members together."""
        listed = tuple(members)
        whiteouts = [member for member in listed if member.is_whiteout]
        return cls(
            listed,
            frozenset(path for one in whiteouts if (path := one.hides) is not None),
            frozenset(path for one in whiteouts if (path := one.empties) is not None),
            size,
        )

    def changes(self, below: Mapping[bytes, Member]) -> Changes[Member]:
        """Say what the layer does to the tree below it, as :meth:`placed` does."""
        return self.placed(below)[1]

    def placed(self, below: Mapping[bytes, Member]) -> tuple[Self, Changes[Member]]:
        """Put the layer upon the tree below it (image-spec ``layer.md``, "Applying Changesets").

        Whiteouts hide what lower layers have, wherever in the layer they stand. A hard
        link is to the file of that name in the layer so far, else in a lower one; where
        there is none, it stays what it is. Names that go through links to directories are followed.

        :returns: the layer with its paths as they come to stand, and what it changes.
        """
        added = Added[Member]()
        placing = Placing(lambda path: _entry(added.get(path)), lambda path: _entry(below.get(path)))
        members: list[Member] = []
        for given in self.members:
            link = None if given.entry.link is None else placing.place(given.entry.link)
            member = _moved(given, placing.place(given.entry.path), link)
            members.append(member)
            if member.is_whiteout:
                if member.hides is not None:
                    placing.remove(member.hides)
                if member.empties is not None:
                    placing.empty(member.empties)
                continue
            file = None if link is None else added.get(link) or below.get(link)
            file = member if file is None or file.is_dir else file
            added.add(member.entry.path, file)
            placing.put(member.entry.path, is_dir=file.is_dir)
        placed = self if all(map(operator.is_, members, self.members)) else type(self).of(members, self.size)
        return placed, Changes(added.all(), placed.removed, placed.emptied)


def _entry(member: Member | None) -> Entry | None:
    return None if member is None else member.entry


def _moved(member: Member, path: bytes, link: bytes | None) -> Member:
    if (path, link) == (member.entry.path, member.entry.link):
        return member
    return attrs.evolve(member, entry=attrs.evolve(member.entry, path=path, link=link))


def read_contents(layer: LayerBlob, keep: Keep | None = None) -> Contents:
    """Read a layer, and check it against its digest; ``keep`` may have the data of files, as :func:`.read_members` has it.

    Raises :class:`InputError` for one that is damaged or names paths outside of the root;
    what does no harm in reading is :func:`rootless_layer.check.image`'s to find.
    """
    where = f"layer {layer.descriptor.digest}"
    members: list[Member] = []
    size = 0

    def give(consume: Consume) -> None:
        nonlocal size
        size = layer.copy_plain(consume)

    ending = read_members(give, where, members.append, keep)
    for member in members:
        if member.fault:
            message = f"{where}: {shown(member.entry.path)}: {member.fault}"
            raise InputError(message, hint="Build the layer again without it.")
    if ending.damage:
        message = f"{where}: {ending.damage}"
        raise InputError(message, hint="It is damaged: get or build it again.")
    for member in members:
        if leaves_root(member.name) or (member.target is not None and leaves_root(member.target)):
            message = f"{where}: the name {legible(member.name)} leaves the root"
            raise InputError(message, hint="Such a layer is not to be trusted.")
    return Contents.of(members, size)


def store_paths(layers: Iterable[LayerBlob], store_dir: str = "/nix/store") -> set[StorePath]:
    """Name the store paths that layers have, one upon the other: by a layer's listing where it has one, else by its tar.

    Each layer is read once. Raises :class:`InputError` and :class:`SourceError` for a damaged one.
    """
    below = os.fsencode(store_dir).lstrip(b"/") + b"/"
    tree = apply_layers(_about_store(layer, below) for layer in layers)
    names = {path[len(below) :] for path in tree if path.startswith(below)}
    found = (StorePath.containing(f"{store_dir}/{os.fsdecode(name)}") for name in names)
    return {path for path in found if path is not None}


@functools.cache
def _about_store(layer: LayerBlob, below: bytes) -> Contents:
    """Give what is in a store's directory, and in those that it is in: that, and the whiteouts there, decides what it has."""
    folders = {below[:-1], *parents(below[:-1])}

    def counts(path: bytes) -> bool:
        return path.rpartition(b"/")[0] in folders

    if not os.path.isfile(layer.listing):
        whole = read_contents(layer)
        return Contents.of(member for member in whole.members if counts(member.entry.path))
    try:
        with open(layer.listing, "rb") as file:
            lines = (line for line in file if line.startswith(b"./") and counts(line[2:].split(b" ", 1)[0]))
            entries = mtree.read(lines, b"/", layer.listing)
    except OSError as error:
        raise unreadable(error, layer.listing) from error
    return Contents.of(Member(name=entry.path, entry=entry) for entry in entries)


def apply_layers(layers: Iterable[Contents]) -> Merged:
    """Give the tree that layers make, the lowest first; the root is in it."""
    tree: Merged = {b"": ROOT}
    for contents in layers:
        contents.changes(tree).apply(tree)
    return tree


def files(tree: Merged) -> Iterator[tuple[Member, list[bytes]]]:
    """Give each file of a tree with its names, in order: one that has several is one file, and two that are equal are two."""
    names: dict[int, list[bytes]] = {}
    for path in sorted(tree):
        names.setdefault(id(tree[path]), []).append(path)
    for listed in names.values():
        yield tree[listed[0]], listed


ROOT = Member(name=b"./", entry=Entry(path=b"", mode=ROOT_MODE))
"""What the root is where no layer says it."""
