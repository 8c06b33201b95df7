"""What the scripts left: a :class:`Tree` from the staged tree and the ownership record."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import SourceError, StoreChangedError
from rootless_layer.plan.locate import store_locations
from rootless_layer.tree.base import Delta
from rootless_layer.tree.compiled import shown_time
from rootless_layer.tree.tree import Entry, Tree, shown, stamp
from rootless_layer.tree.walk import entry_of, same_data, walk

from .inside.script import TREE_SHOWN_AT
from .scaffold import SCAFFOLD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.tree.base import Base

    from .inside.messages import Inode, Wish
    from .ownership import OwnershipRecord, Row
    from .stage import Staged

_MOST_SHOWN = 10
_IN_LAYER = "Store paths are immutable; scripts get copies of those in the layer that they may change with --closure-writable."
_SEEN = (
    "Scripts only see this store path. With --link copy the root has copies of a tree's files, which they may change;"
    " a script can make one: cp --remove-destination FILE PLACE. To change a link and not its file: chown -h."
)
_MACHINES = "This machine's files stay as they are: name the file in the tree, as etc/passwd and not /etc/passwd."


def scan(staged: Staged, record: OwnershipRecord, spec: LayerSpec) -> tuple[Tree, list[str]]:
    """Read the staged tree after its session; give it with a note on each thing left out.

    An entry that the scripts left alone is the planned one, its source and hard link as
    they were. Raises :class:`StoreChangedError` where they changed a store path, or
    wished to; :class:`RecordError` where the record and the tree contradict each other.
    """
    scanning = _Scan(staged, record, spec)
    return scanning.tree(), scanning.notes


def scan_above(base: Base, staged: Staged, record: OwnershipRecord, spec: LayerSpec) -> tuple[Delta, list[str]]:
    """Read what an overlay has above a base, as :func:`scan` does: what was written, what is gone, and who owns what was not."""
    scanning = _Scan(staged, record, spec)
    tree = scanning.tree()
    there = {path: entry for path, entry in tree.entries.items() if entry is not base.entries.get(path)}
    gone = {path for path in scanning.gone if path in base.entries}
    emptied = {path for path in scanning.opaque if path in base.entries and base.entries[path].is_dir}
    for path in base.entries if emptied else ():
        above = path.rpartition(b"/")[0]
        if path not in tree.entries and above in tree.entries and tree.entries[above].is_dir and _is_below(path, emptied):
            gone.add(path)
    delta = Delta(there, frozenset(gone))
    owned: dict[bytes, Entry] = {}
    for inode, path in record.shown.inodes() if record.shown is not None else ():
        if path in base.entries and path not in tree.entries:
            owned |= _owned_anew(base, delta, record, inode, path)
    return attrs.evolve(delta, there=there | owned | scanning.devices(base.entries)), scanning.notes


def _is_below(path: bytes, tops: set[bytes]) -> bool:
    while path:
        path = path.rpartition(b"/")[0]
        if path in tops:
            return True
    return False


def _owned_anew(base: Base, delta: Delta, record: OwnershipRecord, inode: Inode, path: bytes) -> dict[bytes, Entry]:
    """Give what a file of the base is by its row, where that changed: nothing else of it did."""
    entry = base.entries[path]
    if not delta.leaves(path):
        return {}
    row = record.owner(shown(path), inode, os.lstat(base.on_disk(path)))
    mode = entry.mode if entry.target is not None else row.mode
    changed = attrs.evolve(entry, mode=mode, uid=row.uid, gid=row.gid, xattrs=record.xattrs.get(inode, ()))
    if changed == entry:
        return {}
    names = [name for name in base.links.get(path, (path,)) if name not in delta.there and delta.leaves(name)]
    return {name: attrs.evolve(changed, path=name, link=None if name == names[0] else names[0]) for name in names}


def check_sources(staged: Staged) -> None:
    """Compare the sources that nothing else protects with what they were.

    Raises :class:`SourceError`, naming each that changed.
    """
    changed = []
    for source, before in staged.checked.items():
        try:
            same = stamp(os.lstat(source)) == before
        except OSError:
            same = False
        if not same:
            changed.append(f"{os.fsdecode(source)}: changed while the scripts ran")
    if changed:
        raise SourceError(*changed[:_MOST_SHOWN], hint="Nothing was built. Use --stage bind or copy for scripts like this one.")


class _Scan:
    def __init__(self, staged: Staged, record: OwnershipRecord, spec: LayerSpec) -> None:
        self.staged = staged
        self.record = record
        self.epoch = spec.source_date_epoch
        self.tools = tuple(location.path for location in store_locations(spec.tools))
        self.planned = staged.plan.tree.entries
        self.store_prefixes = () if spec.closure_writable else tuple(location.path for location in staged.plan.store)
        self.groups: dict[Inode, list[bytes]] = {}
        self.notes: list[str] = []
        self.changed: list[str] = []
        self.hints: dict[str, None] = {}
        """What to do, for each kind of file that a script only sees."""
        self.gone: list[bytes] = []
        """Where an overlay marked a deletion."""
        self.opaque: list[bytes] = []
        """Directories of which an overlay shows nothing that is below it."""
        bare = (path for path, mounted in staged.scaffold.items() if mounted is None and path in staged.stamps)
        self.made = {staged.stamps[path][:2]: path for path in bare}
        """What was made for the view only, by inode."""
        self.moved: list[bytes] = []
        """Where directories of these are that scripts have moved."""

    def tree(self) -> Tree:
        found: dict[bytes, Entry] = {}
        staged = self.staged
        for path, on_disk, status in sorted(walk(staged.top, own=True)):
            if self.record.shown is not None:
                if stat.S_ISCHR(status.st_mode):
                    self.gone.append(path)
                    continue
                if stat.S_ISDIR(status.st_mode) and _is_opaque(on_disk):
                    self.opaque.append(path)
            if path in staged.points:
                self._check_point(path, status)
                continue
            if (status.st_dev, status.st_ino) in self.made and self._is_moved(path, status):
                continue
            if path in staged.scaffold or path.startswith(SCAFFOLD + b"/"):
                entry = self._scaffold(path, on_disk, status)
            else:
                entry = self._entry(path, on_disk, status)
            if entry is not None:
                found[path] = entry
        self._drop_bare_scaffold(found)
        self._add_store(found)
        self._add_wishes()
        if self.changed:
            raise StoreChangedError(*self.changed[:_MOST_SHOWN], hint=" ".join(self.hints or [_IN_LAYER]))
        return self._resolve_links(found)

    def _check_point(self, path: bytes, status: os.stat_result) -> None:
        """See that what store paths are mounted upon is what it was; a tool that is a link stands there itself."""
        if self.staged.points[path] != (status.st_dev, status.st_ino):
            self.changed.append(f"{shown(path)}: a script replaced the store path")
        row = self.record.rows.get(self.record.inode(path, status)) if stat.S_ISLNK(status.st_mode) else None
        if row is not None and (row.uid, row.gid) != (0, 0):
            self.changed.append(_wished(path, row))

    def _entry(self, path: bytes, on_disk: bytes, status: os.stat_result) -> Entry | None:
        inode = self.record.inode(path, status)
        row = self.record.owner(shown(path), inode, status)
        xattrs = self.record.xattrs.get(inode, ())
        if stat.S_ISSOCK(row.mode):
            self.notes.append(f"{shown(path)}: a socket is not part of a layer; left out")
            self.gone.append(path)  # a file that the base has at this path is gone
            return None
        planned = self.planned.get(path)
        if planned is not None and self._untouched(planned, status, row, xattrs):
            return planned
        entry = self._new(path, on_disk, status, row, xattrs)
        if status.st_nlink > 1 and entry.is_regular:
            self.groups.setdefault((status.st_dev, status.st_ino), []).append(path)
        if planned is not None and planned.is_regular and planned.metadata == entry.metadata:
            source = planned.source if planned.stamp is not None else None
            if source is not None and source != on_disk and os.path.lexists(source):
                return planned if same_data(source, on_disk, planned.size, entry.size) else entry
        return entry

    def _untouched(self, planned: Entry, status: os.stat_result, row: Row, xattrs: object) -> bool:
        """Say whether a file is as it was staged; the inode's change time cannot be forged."""
        before = self.staged.stamps[planned.path]
        if not (before[:2] == (status.st_dev, status.st_ino) if planned.is_dir else before == stamp(status)):
            return False
        attributes = (row.uid, row.gid, row.rdev if planned.rdev else 0, xattrs) == (
            planned.uid, planned.gid, planned.rdev, planned.xattrs,
        )  # fmt: skip
        return attributes and (row.mode == planned.mode or planned.target is not None)

    def _new(
        self, path: bytes, on_disk: bytes, status: os.stat_result, row: Row, xattrs: tuple[tuple[bytes, bytes], ...]
    ) -> Entry:
        entry = entry_of(path, on_disk, status, self.epoch, (row.uid, row.gid))
        planned = self.planned.get(path)
        if planned is not None and status.st_mtime_ns == shown_time(planned) * 1_000_000_000:
            entry = attrs.evolve(entry, mtime=planned.mtime)  # the time that it was shown with
        if entry.target is not None:
            return attrs.evolve(entry, xattrs=xattrs)
        if entry.is_regular and not stat.S_ISREG(row.mode):  # a device, which is a plain file on disk
            device = row.rdev if stat.S_ISCHR(row.mode) or stat.S_ISBLK(row.mode) else 0
            entry = attrs.evolve(entry, size=0, source=None, stamp=None, rdev=device)
        elif entry.is_regular and not status.st_mode & stat.S_IRUSR:
            os.chmod(on_disk, stat.S_IMODE(status.st_mode) | stat.S_IRUSR)  # for us: its mode is known by now
        return attrs.evolve(entry, mode=row.mode, xattrs=xattrs)

    def _scaffold(self, path: bytes, on_disk: bytes, status: os.stat_result) -> Entry | None:
        """Leave out what stands for the view only, unless a script made it its own."""
        source = self.staged.scaffold.get(path)
        if source is not None:
            return self._node(path, on_disk, status, source)
        if path == SCAFFOLD or path.startswith(SCAFFOLD + b"/"):
            return None
        before = self.staged.stamps[path]
        untouched = before[:2] == (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else before == stamp(status)
        if untouched and self.record.inode(path, status) not in self.record.rows and not stat.S_ISDIR(status.st_mode):
            return None
        return self._entry(path, on_disk, status)

    def _is_moved(self, path: bytes, status: os.stat_result) -> bool:
        """Say whether something is an empty file for a mount that was moved with its directory; note such directories."""
        made = self.made[status.st_dev, status.st_ino]
        if path == made:
            return False
        if stat.S_ISDIR(status.st_mode):
            self.moved.append(path)
            return False
        return self.staged.stamps[made] == stamp(status) and self.record.inode(path, status) not in self.record.rows

    def _node(self, path: bytes, on_disk: bytes, status: os.stat_result, source: bytes) -> Entry | None:
        """Read what a script gave a device of this machine, which was mounted there; nothing else that was is in the layer."""
        given = self._given(path, source)
        row = self.record.rows.get(self.record.inode(path, status)) if status.st_rdev else None
        if given is None and row is not None:
            given = self._device(path, row)
        if given is not None:
            return given
        return self._entry(path, on_disk, status) if path in self.planned else None

    def devices(self, base: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
        """Give what a script gave the devices of this machine that were mounted upon a base's own."""
        scaffold = self.staged.scaffold.items()
        given = (self._given(path, source) for path, source in scaffold if source is not None and path in base)
        return {entry.path: entry for entry in given if entry is not None}

    def _given(self, path: bytes, source: bytes) -> Entry | None:
        node = os.stat(source)
        inode = node.st_dev, node.st_ino
        row = self.record.rows.get(inode)
        if row is None or path.startswith(SCAFFOLD + b"/"):
            return None
        return attrs.evolve(self._device(path, row), xattrs=self.record.xattrs.get(inode, ()))

    def _device(self, path: bytes, row: Row) -> Entry:
        return Entry(path=path, mode=row.mode, uid=row.uid, gid=row.gid, mtime=self.epoch, rdev=row.rdev)

    def _drop_bare_scaffold(self, found: dict[bytes, Entry]) -> None:
        """Leave out directories that stand for the view only, where nothing was put in them."""
        bare = [path for path, mounted in self.staged.scaffold.items() if mounted is None]
        for path in sorted(bare + self.moved, reverse=True):  # what is in a directory before it
            entry = found.get(path)
            if entry is None or not entry.is_dir or path == SCAFFOLD:
                continue
            on_disk = self.staged.top + b"/" + path
            owned = self.record.inode(path, os.lstat(on_disk)) in self.record.rows
            if owned or any(other.startswith(path + b"/") for other in found):
                continue
            del found[path]

    def _add_store(self, found: dict[bytes, Entry]) -> None:
        """Add what was mounted, as planned; where it was copied in, check it."""
        for point in self.staged.points:
            if not os.path.lexists(self.staged.top + b"/" + point):
                self.changed.append(f"{shown(point)}: a script moved or removed the store path")
        inside, mounted = set(self.store_prefixes), self.staged.points
        current = b""
        for path, entry in self.planned.items():
            if path in inside:
                current = path
            elif not (current and path.startswith(current + b"/")):
                continue
            if current in mounted:
                found[path] = entry
            elif found.get(path) is not entry:
                self.changed.append(f"{shown(path)}: a script changed or removed the store path's file")
        for path in found if self.store_prefixes else ():
            if path not in self.planned and self.staged.plan.in_store(path):
                self.changed.append(f"{shown(path)}: a script added a file to the store path")

    def _add_wishes(self) -> None:
        """Say which files scripts wished to change that they only see: store paths, tools and this machine."""
        for wish in self.record.wishes:
            path = wish.path.removeprefix(self.staged.tree).removeprefix(os.fsencode(TREE_SHOWN_AT)).lstrip(b"/")
            in_layer, seen = self.staged.plan.in_store(path), any((path + b"/").startswith(tool + b"/") for tool in self.tools)
            self.hints[_IN_LAYER if in_layer else _SEEN if seen else _MACHINES] = None
            self.changed.append(_wished(path, wish, "the store path's" if in_layer or seen else "this machine's"))

    def _resolve_links(self, found: dict[bytes, Entry]) -> Tree:
        """Give each group of hard links one target, named directly."""
        for paths in self.groups.values():
            self._link_group(paths, found)
        for path, entry in found.items():
            # A planned link whose target was removed or changed carries its data itself.
            if (
                entry.link is not None
                and entry is self.planned.get(path)
                and found.get(entry.link) is not self.planned[entry.link]
            ):
                found[path] = attrs.evolve(entry, link=None)
        return Tree.of(found.values())

    def _link_group(self, paths: list[bytes], found: dict[bytes, Entry]) -> None:
        """Link the names of one inode: to the store's file where it is one's copy, else to the first."""
        kept = [path for path in paths if found[path] is self.planned.get(path)]
        target = next((found[path].link or path for path in kept if self.staged.plan.in_store(found[path].link or path)), None)
        for path in paths:
            if target is None:
                target = path
                found[path] = attrs.evolve(found[path], link=None)
            elif path != target:
                found[path] = attrs.evolve(found[path], link=target)


def _wished(path: bytes, row: Row | Wish, whose: str = "the store path's") -> str:
    return f"{shown(path)}: a script wished to change {whose} file (to {stat.filemode(row.mode)} {row.uid}:{row.gid})"


def _is_opaque(on_disk: bytes) -> bool:
    return b"user.overlay.opaque" in map(os.fsencode, os.listxattr(on_disk, follow_symlinks=False))
