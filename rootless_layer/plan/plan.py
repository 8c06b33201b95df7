"""Where each path of the layer comes from, before any script has run."""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import ConflictError, InputError, SourceError
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.links import follow
from rootless_layer.tree.sparse import check_holes
from rootless_layer.tree.tree import Entry, Tree, legible, shown
from rootless_layer.tree.walk import agree, entry_of, walk, xattrs_of

from .locate import Locator, store_locations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless_layer.tar.listing import Listed

    from .locate import Place, StoreLocation
    from .spec import LayerSpec

_IMAGE_FILES = frozenset({b"oci-layout", b"manifest.json", b"layer.json"})
_OF_IMAGE = re.compile(
    rb"oci-layout|(?:index|manifest|image|layer)\.json|layer\.mtree|blobs|files|listings|repositories|version|[0-9a-f]{64}(?:\.json|\.tar)?"
)
"""What is at the top of an image layout, of archives of both shapes, and of a layer's directory, and nothing else."""


@attrs.frozen(slots=True)
class Plan:
    """The tree as it is before a script runs, and the store paths in it.

    Upon a base it is what is put above that: with the directories that it is in, which may
    be the base's own entries.
    """

    tree: Tree
    store: tuple[StoreLocation, ...] = ()

    @cached_property
    def _store_paths(self) -> frozenset[bytes]:
        return frozenset(location.path for location in self.store)

    def in_store(self, path: bytes) -> bool:
        """Say whether a path of the tree is one of the closure's store paths, or lies in one."""
        if not self.store:
            return False
        depth = self.store[0].path.count(b"/") + 1
        return b"/".join(path.split(b"/", depth)[:depth]) in self._store_paths


def plan(spec: LayerSpec, rootfs: Iterable[Entry] = (), progress: Report = silent) -> Plan:
    """Lay out the root filesystem's entries, the closure and the contents, above the base where there is one.

    What comes later takes the place of the base's, but a directory that both have stays
    the base's. Store paths that the base has are not laid out again.

    ``progress`` is called after each store path and each content.

    Raises :class:`ClosureError` and :class:`SourceError` for inputs that are not there or
    cannot be read, :class:`ConflictError` where two give the same path differently.
    """
    merge = _Merge(spec)
    for entry in rootfs:
        merge.add(entry, spec.rootfs or "the root filesystem")
    if spec.closure is not None:
        spec.closure.check()
    own = tuple(location for location in store_locations(spec.closure) if location.path not in merge.base)
    for location in own:
        merge.add_store(location)
        progress(Progress("plan", entries=len(merge.entries)))
    for content in spec.copy_to_root:
        merge.add_tree(merge.locator.find(content))
        progress(Progress("plan", entries=len(merge.entries)))
    if merge.problems:
        raise ConflictError(*merge.problems, hint="Leave one of the two out, or keep them under different paths.")
    tree = Tree.of(merge.complete())
    if not spec.allow_sparse:
        check_holes(tree)
    return Plan(tree, own)


def check_rootfs(rootfs: str | None, listing: str | None) -> None:
    """Raise :class:`InputError` for a root filesystem and an mtree file that do not go together, or are not there."""
    if listing and not rootfs:
        message = f"{listing}: an mtree file goes with a root filesystem, and none is given"
        raise InputError(message)
    if listing and rootfs and os.path.isfile(rootfs):
        message = f"{listing}: an mtree file goes with a directory; {rootfs} has its own owners"
        raise InputError(message)
    problems = [f"{path}: does not exist" for path in (rootfs, listing) if path and not os.path.exists(path)]
    if problems:
        raise SourceError(*problems)
    if rootfs and os.path.isdir(rootfs):
        try:
            names = os.listdir(os.fsencode(rootfs))
        except OSError as error:
            raise unreadable(error, rootfs) from error
        check_no_image(rootfs, names)


def check_no_image(rootfs: str, names: Iterable[bytes]) -> None:
    """Raise :class:`InputError` where a root filesystem, with these paths or those at its top, is an image's files."""
    top = {name.partition(b"/")[0] for name in names} - {b""}
    if top & _IMAGE_FILES and all(_OF_IMAGE.fullmatch(name) for name in top):
        message = f"{rootfs}: is an image or a layer, and no root filesystem"
        raise InputError(message, hint="Build upon it with --base (`base` in a file of make).")


def read_directory(top: str, spec: LayerSpec, owners: Mapping[bytes, Listed] | None = None) -> list[Entry]:
    """Read a directory as a root filesystem, hard links and extended attributes kept.

    Real root sees the owners on disk; for anybody else they are whoever unpacked it, so
    everything is root's. ``owners``, from an mtree file, has the last word on owner, mode
    and device; the devices and fifos there are made that are not on disk.
    """
    believed = os.geteuid() == 0
    entries = []
    first: dict[tuple[int, int], bytes] = {}
    for path, on_disk, status in sorted(walk(os.fsencode(os.path.realpath(top)), left_out=spec.left_out)):
        owner = (status.st_uid, status.st_gid) if believed else (0, 0)
        entry = entry_of(path, on_disk, status, spec.source_date_epoch, owner)
        if stat.S_ISSOCK(entry.mode):
            continue  # it belongs to a process; no archive holds one
        try:
            entry = attrs.evolve(entry, xattrs=xattrs_of(on_disk))
        except OSError as error:
            message = f"{os.fsdecode(on_disk)}: its extended attributes cannot be read: {error.strerror}"
            raise SourceError(message) from error
        if status.st_nlink > 1 and entry.is_regular:
            inode = status.st_dev, status.st_ino
            if inode in first:
                entry = attrs.evolve(entry, link=first[inode])
            first.setdefault(inode, path)
        listed = (owners or {}).get(path)
        entries.append(entry if listed is None else listed.over(entry))
    if not entries or not entries[0].is_dir:
        message = f"{top}: a root filesystem is a directory or a tar archive"
        raise InputError(message)
    return entries + _nodes(entries, owners or {}, top, spec.source_date_epoch)


def _nodes(entries: Iterable[Entry], owners: Mapping[bytes, Listed], top: str, epoch: int) -> list[Entry]:
    """Give the devices and fifos of a listing that are not on disk, where nobody but root could make them."""
    there = {entry.path: entry for entry in entries}
    nodes = []
    for path in sorted(owners.keys() - there.keys()):
        node = owners[path].made(path, epoch)
        if node is None:
            continue
        above = there.get(path.rpartition(b"/")[0])
        if above is None or not above.is_dir:
            message = f"{owners[path].where}: its directory is not in {top}"
            raise InputError(message, hint="Make the directory, or take the line out of the listing.")
        nodes.append(node)
    return nodes


class _Merge:
    """The entries so far, and who gave them."""

    def __init__(self, spec: LayerSpec) -> None:
        self.spec = spec
        self.locator = Locator(spec)
        self.base: Mapping[bytes, Entry] = {} if spec.base is None else spec.base.entries
        self.entries: dict[bytes, Entry] = {}
        self.origins: dict[bytes, str] = {}
        self.problems: list[str] = []

    def there(self, path: bytes) -> Entry | None:
        """Give what stands at a path so far; what lies below a directory of the base's that is none any more, too."""
        return self.entries.get(path) or self.base.get(path)

    def add(self, entry: Entry, origin: str) -> None:
        """Add an entry; what is there already stays, and must agree."""
        there = self.entries.get(entry.path)
        if there is None:
            if entry.path not in self.base or self._replaces(self.base[entry.path], entry, origin):
                self.entries[entry.path] = entry
                self.origins[entry.path] = origin
        elif not agree(there, entry) and not self._settled(there, entry, origin):
            self.problems.append(
                f"{shown(entry.path)}: {self.origins.get(entry.path, 'the closure')} and {origin} give it differently"
                f" ({stat.filemode(there.mode)} and {stat.filemode(entry.mode)})"
            )

    def _settled(self, there: Entry, entry: Entry, origin: str) -> bool:
        """Keep one of two contents' files, where the spec says which."""
        known = self.origins.get(entry.path) in {None, self.spec.rootfs, "the root filesystem"}
        if self.spec.conflict == "error" or known or there.is_dir or entry.is_dir:
            return False
        if self.spec.conflict == "last":
            self.entries[entry.path], self.origins[entry.path] = entry, origin
        return True

    def _replaces(self, there: Entry, entry: Entry, origin: str) -> bool:
        """Say whether an entry takes the place of the base's."""
        if there.is_dir and entry.is_dir:
            return False
        if there.target is not None and entry.is_dir:
            self.problems.append(
                f"{shown(entry.path)}: {origin} has a directory where the base has a link to {legible(there.target)};"
                " --keep-dirlinks follows it"
            )
            return False
        return True

    def complete(self) -> list[Entry]:
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

    def add_store(self, location: StoreLocation) -> None:
        """Add a store path under its own name."""
        spec, entries, prefix = self.spec, self.entries, location.path
        for relative, on_disk, status in walk(location.source):
            path = prefix + b"/" + relative if relative else prefix
            entries[path] = entry_of(path, on_disk, status, spec.source_date_epoch, (spec.uid, spec.gid))

    def add_tree(self, place: Place, at: bytes = b"") -> None:
        """Merge a tree into the root, or at a path there; in the store or not."""
        spec, name = self.spec, place.name
        redirects = {b"": at}
        for relative, on_disk, status in self.locator.walk(place):
            if not relative:
                continue
            above, _, own = relative.rpartition(b"/")
            above = redirects.get(above, above)
            path = above + b"/" + own if above else own
            entry = entry_of(path, on_disk, status, spec.source_date_epoch, (spec.uid, spec.gid))
            if entry.is_dir:
                # What is read-only in the store is for root to write in the root.
                entry = attrs.evolve(entry, mode=entry.mode | stat.S_IWUSR)
                there = self.there(path)
                if spec.keep_dirlinks and there is not None and there.target is not None:
                    redirects[relative] = self._follow(path, name)
                    continue
                if path != relative:
                    redirects[relative] = path
            elif self._is_in_base(entry):
                continue
            elif spec.follow_dirlinks and entry.target is not None:
                linked = self.locator.follow(place, relative)
                if linked is not None:
                    self.add(
                        attrs.evolve(entry, mode=stat.S_IFDIR | 0o755, mtime=spec.source_date_epoch, target=None), linked.name
                    )
                    self.add_tree(linked, path)
                    continue
            elif place.stored and entry.is_regular and entry.size and spec.link != "copy":
                entry = self._stand_for(entry, place.stored + b"/" + relative)
            self.add(entry, name)

    def _is_in_base(self, entry: Entry) -> bool:
        """Say whether the base has the same file there."""
        if entry.path not in self.base or entry.path in self.entries:
            return False
        there = self.base[entry.path]
        return (there.uid, there.gid) == (entry.uid, entry.gid) and agree(there, entry)

    def _stand_for(self, entry: Entry, stored: bytes) -> Entry:
        if self.spec.link == "hard" and stored not in self.base:  # no link reaches into another layer
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
