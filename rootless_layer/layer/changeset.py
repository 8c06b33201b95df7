"""What differs between a base and a tree that was built upon it, as the entries of a layer."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.tree.base import Base, Delta
from rootless_layer.tree.tree import WHITEOUT_PREFIX, Entry, Tree
from rootless_layer.tree.walk import same_data

if TYPE_CHECKING:
    from collections.abc import Mapping


def difference(base: Base, tree: Tree) -> Delta:
    """Compare a whole tree with a base. An entry that is the base's own is left out."""
    below, above = base.entries, tree.entries
    gone = set()
    for path in below:
        if path not in above:
            parent = above.get(path.rpartition(b"/")[0])
            if parent is not None and parent.is_dir and below[parent.path].is_dir:
                gone.add(path)
    return Delta({path: entry for path, entry in above.items() if entry is not below.get(path)}, frozenset(gone))


def changeset(base: Base, delta: Delta, epoch: int) -> Tree:
    """Give the layer that makes of a base what a delta says (image-spec ``layer.md``, "Change Types").

    What was added or changed is in it, with the directories that it is in; what was removed
    has an explicit whiteout. A file that was written again with the same bytes and
    metadata is not. Of hard links all names are in it or none: none points into the base.
    Times later than ``epoch`` are it.
    """
    below, there = base.entries, delta.there
    changed = {path for path, entry in there.items() if not _same(below.get(path), entry, epoch)}
    entries = {path: there[path] for path in changed}
    for path in _with_their_links(changed, base, delta):
        entries[path] = there[path] if path in there else below[path]
    for path, first in base.carriers({path for path in entries if path not in there}).items():
        entries[path] = attrs.evolve(entries[path], link=first)
    for path in delta.gone:
        parent, _, name = path.rpartition(b"/")
        hidden = parent + b"/" + WHITEOUT_PREFIX + name if parent else WHITEOUT_PREFIX + name
        entries[hidden] = Entry(path=hidden, mode=stat.S_IFREG | 0o644, mtime=epoch)
    for path in [*entries]:
        parent = path
        while parent:
            parent = parent.rpartition(b"/")[0]
            if parent in entries:
                break
            entries[parent] = there[parent] if parent in there else below[parent]
    entries.setdefault(b"", there[b""] if b"" in there else below[b""])
    return Tree.of((_clamped(entry, epoch) for entry in entries.values()), whiteouts=True, root_stands=b"" in changed)


def _clamped(entry: Entry, epoch: int) -> Entry:
    time = epoch if entry.is_dir else min(entry.mtime, epoch)
    return entry if entry.mtime == time else attrs.evolve(entry, mtime=time)


def _same(before: Entry | None, entry: Entry, epoch: int) -> bool:
    """Compare all but what a path is a hard link of."""
    if before is entry:
        return True
    if before is None or stat.S_IFMT(before.mode) != stat.S_IFMT(entry.mode):
        return False
    if _clamped(before, epoch).metadata != _clamped(entry, epoch).metadata:
        return False
    return not entry.is_regular or same_data(before.source, entry.source, before.size, entry.size)


def _with_their_links(changed: set[bytes], base: Base, delta: Delta) -> set[bytes]:
    """Give all names of each file of which one changed, or that is not one file as it was before."""
    there, links = delta.there, base.links
    now: dict[bytes, list[bytes]] = {}
    for path, entry in there.items():
        if entry.link is not None:
            now.setdefault(entry.link, [entry.link]).append(path)
    found: set[bytes] = set()
    for names in now.values():
        if any(name in changed for name in names) or len({_first(links, name) for name in names}) > 1:
            found.update(names)
    for every in {id(links[path]): links[path] for path in there if path in links}.values():
        split = {there[name].link or name for name in every if name in there and there[name].is_regular}
        kept = [name for name in every if name not in there and delta.leaves(name)]
        if len(split) + bool(kept) > 1:
            found.update(kept)
            found.update(name for file in split for name in now.get(file, [file]))
    return found


def _first(links: Mapping[bytes, tuple[bytes, ...]], path: bytes) -> bytes:
    return links[path][0] if path in links else path
