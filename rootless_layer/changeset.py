"""What differs between a base and a tree that was built upon it, as the entries of a layer."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import attrs

from .plan import same_data
from .tree import WHITEOUT_PREFIX, Entry, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping


def changeset(base: Tree, tree: Tree) -> Tree:
    """Give the layer that makes ``tree`` of ``base`` (image-spec ``layer.md``, "Change Types").

    What was added or changed is in it, with the directories that it is in; what was removed
    has an explicit whiteout. A file that was written again with the same bytes and
    metadata is not. Of hard links all names are in it or none: none points into ``base``.
    """
    below, above = base.entries, tree.entries
    changed = {path for path, entry in above.items() if not _same(below.get(path), entry)}
    changed |= _with_their_links(changed, below, above)
    entries = {path: above[path] for path in changed}
    for path in _removed(below, above):
        parent, _, name = path.rpartition(b"/")
        hidden = parent + b"/" + WHITEOUT_PREFIX + name if parent else WHITEOUT_PREFIX + name
        entries[hidden] = Entry(path=hidden, mode=stat.S_IFREG | 0o644, mtime=above[b""].mtime)
    for path in list(entries):
        parent = path
        while parent:
            parent = parent.rpartition(b"/")[0]
            if parent in entries:
                break
            entries[parent] = above[parent]
    return Tree.of(entries.values(), whiteouts=True)


def _same(there: Entry | None, entry: Entry) -> bool:
    """Compare all but what a path is a hard link of."""
    if there is entry:
        return True
    if there is None or stat.S_IFMT(there.mode) != stat.S_IFMT(entry.mode):
        return False
    if entry.is_dir:
        return attrs.evolve(there, mtime=entry.mtime).metadata == entry.metadata
    if there.metadata != entry.metadata:
        return False
    return not entry.is_regular or same_data(there.source, entry.source, there.size, entry.size)


def _with_their_links(changed: set[bytes], below: Mapping[bytes, Entry], above: Mapping[bytes, Entry]) -> set[bytes]:
    """Give all names of each file of which one changed, or that is not one file as it was before."""
    found: set[bytes] = set()
    now = _groups(above, above)
    for names in now.values():
        if not changed.isdisjoint(names) or len({below[name].link or name for name in names}) > 1:
            found.update(names)
    for names in _groups(below, above).values():
        files = {above[name].link or name for name in names}
        if len(files) > 1:
            found.update(name for file in files for name in now.get(file, [file]))
    return found


def _groups(tree: Mapping[bytes, Entry], there: Mapping[bytes, Entry]) -> dict[bytes, list[bytes]]:
    """Give the names of each file of ``tree`` that has several, as far as they are files in ``there``, by the first."""
    groups: dict[bytes, list[bytes]] = {}
    for path, entry in tree.items():
        if entry.link is not None:
            groups.setdefault(entry.link, [entry.link]).append(path)
    if tree is there:
        return groups
    return {first: [name for name in names if name in there and there[name].is_regular] for first, names in groups.items()}


def _removed(below: Mapping[bytes, Entry], above: Mapping[bytes, Entry]) -> list[bytes]:
    """Name what is gone, without what went with a directory of its own, or made place for something else."""
    gone = []
    for path in below:
        if path not in above:
            parent = above.get(path.rpartition(b"/")[0])
            if parent is not None and parent.is_dir and below[parent.path].is_dir:
                gone.append(path)
    return gone
