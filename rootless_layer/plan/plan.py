"""Where each path of the layer comes from, before any script has run."""

from __future__ import annotations

import stat
from functools import cached_property, partial
from itertools import repeat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import ConflictError
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.tree.ahead import read_ahead
from rootless_layer.tree.compact import Collected, CompactTree
from rootless_layer.tree.links import follow
from rootless_layer.tree.sparse import MOST_HOLES, check_holes
from rootless_layer.tree.tree import Entry, Tree, legible, shown
from rootless_layer.tree.walk import agree, below, entry_of, walk

from .copying import copy_in
from .identical import link_identical
from .locate import Locator, store_locations
from .start import AS_ROOT, Start, start_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless_layer.tree.sealed import Sealed
    from rootless_layer.tree.walk import Listing

    from .locate import Place, StoreLocation
    from .spec import LayerSpec


@attrs.frozen(slots=True)
class Plan:
    """The tree as it is before a script runs, and the store paths in it.

    Upon a base it is what is put above that: with the directories that it is in, which may
    be the base's own entries. ``start`` is how the scripts start in it.
    """

    tree: Tree
    store: tuple[StoreLocation, ...] = ()
    start: Start = AS_ROOT

    @cached_property
    def _store_paths(self) -> frozenset[bytes]:
        return frozenset(location.path for location in self.store)

    def in_store(self, path: bytes) -> bool:
        """Say whether a path of the tree is one of the closure's store paths, or lies in one."""
        return _in_store(path, self._store_paths)

    def linked(self, spec: LayerSpec, tree: Tree) -> Tree:
        """Give a ``tree`` that came of this one with its store paths' identical files as links, where a spec asks for that.

        Store paths that scripts may change are not among them. Raises as :func:`.link_identical`.
        """
        wanted = spec.link_identical and self.store and not (spec.scripts and spec.closure_writable)
        return link_identical(tree, self.in_store) if wanted else tree


def _in_store(path: bytes, store: frozenset[bytes]) -> bool:
    if not store:
        return False
    depth = next(iter(store)).count(b"/") + 1
    return b"/".join(path.split(b"/", depth)[:depth]) in store


def collects(spec: LayerSpec) -> bool:
    """Say whether trees are collected as rows; scripts, a base or a root filesystem need each entry for itself."""
    return not spec.scripts and spec.below is None and spec.rootfs is None


def plan(
    spec: LayerSpec, rootfs: Iterable[Entry] = (), progress: Report = silent, sealed: Mapping[bytes, Sealed] | None = None
) -> Plan:
    """Lay out the root filesystem's entries, the closure, the contents and the copies, above the base where there is one.

    What comes later takes the place of the base's, but a directory that both have stays
    the base's. Store paths that the base has are not laid out again.

    ``progress`` is called after each store path and each content. Of store paths that are ``sealed``
    only the tops are laid out; :class:`.UnsealedError` is raised where somebody needs more.

    Raises :class:`ClosureError` and :class:`SourceError` for inputs that are not there or
    cannot be read, :class:`ConflictError` where two give the same path differently.
    """
    sealed = sealed or {}
    merge = _Merge(spec, sealed)
    for entry in rootfs:
        merge.add(entry, merge.rootfs)
    if len(merge):
        progress(Progress("plan", entries=len(merge)))
    if spec.closure is not None:
        spec.closure.check()
    own = tuple(location for location in store_locations(spec.closure) if location.path not in merge.base)
    wanted = [location for location in own if location.path not in sealed]
    read = read_ahead([partial(below, location.source) for location in wanted]) if merge.collects else repeat(iter(()))
    for location in own:
        merge.add_store(location, iter(()) if location.path in sealed else next(read))
        progress(Progress("plan", entries=len(merge)))
    for content in spec.copy_to_root:
        merge.add_tree(merge.locator.find(content))
        progress(Progress("plan", entries=len(merge)))
    merge.store = frozenset(location.path for location in own)
    for copy in spec.copies:
        copy_in(copy, spec, merge)
        progress(Progress("plan", entries=len(merge)))
    start, folders = start_of(spec, merge.there)
    for folder in folders:
        merge.put(folder, "the working directory")
    if merge.problems:
        raise ConflictError(*merge.problems, hint="Leave one of the two out, or keep them under different paths.")
    tree = merge.tree(own)
    if not spec.allow_sparse:
        check_holes(tree.larger(MOST_HOLES))
    planned = Plan(tree, own, start)
    # What scripts see is linked afterwards, as it may be changed.
    return planned if spec.scripts else attrs.evolve(planned, tree=planned.linked(spec, tree))


@attrs.frozen(slots=True)
class _Origin:
    """Who gives an entry, as messages call it; of two contents the spec may say which counts."""

    name: str
    is_content: bool


_CLOSURE = _Origin("the closure", is_content=False)


class _Merge:
    """The entries so far, and who gave them; those of the closure are not noted."""

    def __init__(self, spec: LayerSpec, sealed: Mapping[bytes, Sealed]) -> None:
        self.spec = spec
        self.locator = Locator(spec)
        self.base: Mapping[bytes, Entry] = {} if spec.below is None else spec.below.entries
        self.entries: dict[bytes, Entry] = {}
        self.rootfs = _Origin(spec.rootfs or "the root filesystem", is_content=False)
        self.origins: dict[bytes, _Origin] = {}
        self.merges_links = spec.conflict != "error"
        self.links: dict[bytes, tuple[Place, bytes]] = {}
        """The contents' links, by where each is in the layer: its tree, and its path there."""
        self.problems: list[str] = []
        self.store: frozenset[bytes] = frozenset()
        """The closure's store paths, once they are laid out."""
        self.collected = Collected(spec.source_date_epoch, (spec.uid, spec.gid), sealed)
        self.collects = collects(spec)
        self.collected_by = _CLOSURE

    def __len__(self) -> int:
        """Count the entries so far."""
        return len(self.entries) + len(self.collected)

    def _own(self, path: bytes) -> Entry | None:
        return self.entries.get(path) or (self.collected.get(path) if len(self.collected) else None)

    def there(self, path: bytes) -> Entry | None:
        """Give what stands at a path so far; what lies below a directory of the base's that is none any more, too."""
        return self._own(path) or self.base.get(path)

    def put(self, entry: Entry, origin: str) -> None:
        """Put an entry in the place of whatever is there, but for a closure's store path."""
        if _in_store(entry.path, self.store):
            self.problems.append(f"{shown(entry.path)}: {origin}: store paths are as they are")
            return
        there = self._own(entry.path)
        self.entries[entry.path], self.origins[entry.path] = entry, _Origin(origin, is_content=False)
        if there is not None and there.link is None and (names := self._others.pop(entry.path, ())):
            first, *others = names  # of the file's other names, the first carries it now
            self.entries[first] = attrs.evolve(there, path=first)
            self.entries |= {name: attrs.evolve(self.entries[name], link=first) for name in others}
            self._others[first] = others
        elif there is not None and there.link is not None:
            self._others[there.link] = [name for name in self._others.get(there.link, ()) if name != entry.path]

    @cached_property
    def _others(self) -> dict[bytes, list[bytes]]:
        """Give the further names of files that have several, by the name that carries each."""
        found: dict[bytes, list[bytes]] = {}
        for entry in self.entries.values():
            if entry.link is not None:
                found.setdefault(entry.link, []).append(entry.path)
        return found

    def add(self, entry: Entry, origin: _Origin) -> None:
        """Add an entry; what is there already stays, and must agree."""
        there = self._own(entry.path)
        if there is None:
            if entry.path not in self.base or self._replaces(self.base[entry.path], entry, origin):
                self.entries[entry.path] = entry
                self.origins[entry.path] = origin
        elif not agree(there, entry) and not self._settled(there, entry, origin):
            self.problems.append(
                f"{shown(entry.path)}: {self._giver(entry.path).name} and {origin.name} give it differently"
                f" ({stat.filemode(there.mode)} and {stat.filemode(entry.mode)})"
            )

    def _giver(self, path: bytes) -> _Origin:
        return self.origins.get(path, self.collected_by)

    def _settled(self, there: Entry, entry: Entry, origin: _Origin) -> bool:
        """Keep one of two contents' files, where the spec says which."""
        if self.spec.conflict == "error" or not self._giver(entry.path).is_content or there.is_dir or entry.is_dir:
            return False
        if self.spec.conflict == "last":
            self.entries[entry.path], self.origins[entry.path] = entry, origin
        return True

    def _replaces(self, there: Entry, entry: Entry, origin: _Origin) -> bool:
        """Say whether an entry takes the place of the base's."""
        if there.is_dir and entry.is_dir:
            return False
        if there.target is not None and entry.is_dir:
            self.problems.append(
                f"{shown(entry.path)}: {origin.name} has a directory where the base has a link to {legible(there.target)};"
                " --keep-dirlinks follows it"
            )
            return False
        return True

    def tree(self, store: Iterable[StoreLocation]) -> Tree:
        """Order and check the entries, those of the store paths among them; raises as :meth:`.Tree.of`."""
        if not len(self.collected):
            return Tree.of(self._complete())
        paths = frozenset(location.path for location in store)
        depth = next(iter(paths), b"").count(b"/") + 1
        whole = paths.difference(b"/".join(path.split(b"/", depth)[:depth]) for path in self.entries if paths)
        return CompactTree.of_table(self.collected.with_(self.entries)).sealing(self.collected.sealed, whole)

    def _complete(self) -> list[Entry]:
        """Give the entries, and the base's that they are in."""
        for path in [*self.entries] if self.base else ():
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                if above in self.entries:
                    break
                if above in self.base:
                    self.entries[above] = self.base[above]
        if b"" in self.base:
            self.entries.setdefault(b"", self.base[b""])
        return list(self.entries.values())

    def add_store(self, location: StoreLocation, parts: Iterable[Listing]) -> None:
        """Add a store path under its own name; ``parts`` are what is in it, where that is collected."""
        if self.collects:
            self.collected.add_store_path(location.path, location.source, parts)
            return
        spec, entries, prefix = self.spec, self.entries, location.path
        for relative, on_disk, status in walk(location.source):
            path = prefix + b"/" + relative if relative else prefix
            entries[path] = entry_of(path, on_disk, status, spec.source_date_epoch, (spec.uid, spec.gid))

    def add_tree(self, place: Place, at: bytes = b"") -> None:
        """Merge a tree into the root, or at a path there; in the store or not."""
        spec, origin = self.spec, _Origin(place.name, is_content=True)
        if self._is_whole(place):
            self.collected.add_below(b"", place.on_disk, self.locator.listings(place), sockets=False, more=stat.S_IWUSR)
            self.collected_by = origin
            return
        folders = {b"": at}  # where what is in the tree's directories goes, where that is another path
        for relative, on_disk, status in self.locator.walk(place):
            if not relative:
                continue
            above, _, own = relative.rpartition(b"/")
            above = folders.get(above, above)
            path = above + b"/" + own if above else own
            entry = entry_of(path, on_disk, status, spec.source_date_epoch, (spec.uid, spec.gid))
            if entry.is_dir:
                goes = self._add_folder(entry, origin)
                if goes != relative:
                    folders[relative] = goes
            elif not self._is_in_base(entry):
                self._add_file(entry, place, relative, origin)

    def _is_whole(self, place: Place) -> bool:
        """Say whether a tree is put into the root as it is: nothing is there yet, and none of its links stands for more."""
        linked = self.spec.follow_dirlinks or self.merges_links or (place.stored and self.spec.link != "copy")
        return self.collects and not len(self) and not linked

    def _add_folder(self, entry: Entry, origin: _Origin) -> bytes:
        """Add a directory; give the path to which goes what is in it: that of the directory to which a link there leads."""
        there = self.there(entry.path)
        if self.spec.keep_dirlinks and there is not None and there.target is not None:
            return self._follow(entry.path, origin.name)
        if there is not None and there.target is not None:
            self._open_link(entry)
        # What is read-only in the store is for root to write in the root.
        self.add(attrs.evolve(entry, mode=entry.mode | stat.S_IWUSR), origin)
        return entry.path

    def _add_file(self, entry: Entry, place: Place, relative: bytes, origin: _Origin) -> None:
        """Add anything but a directory, or the tree to which it is a link."""
        spec = self.spec
        linked = self.locator.follow(place, relative) if entry.target is not None and self._is_followed(entry.path) else None
        if linked is not None:
            self.add(self._as_folder(entry), _Origin(linked.name, is_content=True))
            self.add_tree(linked, entry.path)
            return
        if entry.target is not None:
            self.links.setdefault(entry.path, (place, relative))
        if place.stored and entry.is_regular and entry.size and spec.link != "copy":
            entry = self._stand_for(entry, place.stored + b"/" + relative)
        self.add(entry, origin)

    def _is_followed(self, path: bytes) -> bool:
        """Say whether a link to a directory is one in the layer: always, or where another content has a directory there."""
        there = self.entries.get(path)
        return self.spec.follow_dirlinks or (self.merges_links and there is not None and there.is_dir)

    def _open_link(self, entry: Entry) -> None:
        """Have a content's link to a directory be one, as another has a directory there: what both have can be seen then."""
        link = self.links.pop(entry.path, None) if self.merges_links else None
        there = self.entries.get(entry.path)
        linked = None if link is None or there is None or there.target is None else self.locator.follow(*link)
        if linked is not None:
            self.entries[entry.path] = self._as_folder(entry)
            self.origins[entry.path] = _Origin(linked.name, is_content=True)
            self.add_tree(linked, entry.path)

    def _as_folder(self, entry: Entry) -> Entry:
        return attrs.evolve(entry, mode=stat.S_IFDIR | 0o755, mtime=self.spec.source_date_epoch, target=None)

    def _is_in_base(self, entry: Entry) -> bool:
        """Say whether the base has the same file there."""
        if entry.path not in self.base or entry.path in self.entries:
            return False
        there = self.base[entry.path]
        return (there.uid, there.gid) == (entry.uid, entry.gid) and agree(there, entry)

    def _stand_for(self, entry: Entry, stored: bytes) -> Entry:
        if self.spec.link == "hard" and stored not in self.base:  # no link reaches into another layer
            self.collected.look_into(stored)
            return attrs.evolve(entry, link=stored)
        target = b"/" + stored
        return attrs.evolve(entry, mode=stat.S_IFLNK | 0o777, target=target, size=0, source=None)

    def _follow(self, path: bytes, content: str) -> bytes:
        """Resolve a symbolic link to a directory within the tree."""
        way = follow(path, self.there)
        there = None if way.endless else self.there(way.end)
        if there is None or not there.is_dir:
            self.problems.append(f"{shown(path)}: {content} has a directory where a link to no directory stands")
        return way.end
