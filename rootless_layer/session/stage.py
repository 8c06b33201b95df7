"""A tree on disk, made from a :class:`Tree`: what the scripts see and change.

Every file outside of the store is a copy of its own (a reflink where the file system has
them), so whatever a script does to it never reaches a source. The store paths are mounted
read-only from where they lie (*bind*) or from links or copies of them; where nothing can be
mounted they are copied into the tree itself. Files are made as the recorder has them: the
true owner, and any mode that would shut the builder out, in the ownership record.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from rootless_layer.errors import SourceError
from rootless_layer.tree.compiled import put_time, shown_time, valid
from rootless_layer.tree.copy import copy_source
from rootless_layer.tree.tree import Entry, Stamp, stamp

from .making import making
from .ownership import Row
from .scaffold import Ground

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.plan.plan import Plan
    from rootless_layer.tree.base import Base

    from .inside.messages import Inode
    from .scaffold import Scaffold

Method = Literal["bind", "hardlink", "copy"]
K = TypeVar("K")
V = TypeVar("V")

_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which stamps inodes before Linux 6.13


@attrs.frozen(slots=True)
class Staged:
    """A staged tree, as it is from now on.

    ``top`` is its directory, and ``tree`` where the scripts see it: the same, or the mount of
    an overlay. ``stamps`` are what each staged file outside of the store was when it was
    made; ``rows``, and ``placed`` by path where there is an overlay, what the session's
    record begins with. ``mounts`` are the
    store paths to be mounted (the source and the path in the tree) and ``points`` the
    inodes they are mounted upon; ``private`` the inodes of copies made to be mounted.
    ``scaffold`` is what was added for the view only, by path, with what is mounted there, or
    nothing for directories and links; ``files`` the path of each of the view's own files, by name, as
    the scripts see it. ``checked`` are the sources to compare afterwards, where nothing else
    protects them.
    """

    top: bytes
    tree: bytes
    plan: Plan
    stamps: Mapping[bytes, Stamp]
    rows: Mapping[Inode, Row]
    placed: Mapping[bytes, Row]
    mounts: tuple[tuple[bytes, bytes], ...]
    points: Mapping[bytes, Inode]
    private: Mapping[Inode, bytes]
    scaffold: Mapping[bytes, bytes | None]
    checked: Mapping[bytes, Stamp]
    files: Mapping[bytes, bytes] = attrs.field(factory=dict)


def _kept(values: Mapping[K, V]) -> Mapping[K, V]:
    """Copy a mapping, and let nobody change the copy."""
    return MappingProxyType(dict(values))


def _link(source: bytes, path: bytes) -> None:
    """Link a store's file; the kernel lets only its owner do so (proc(5), protected_hardlinks)."""
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EXDEV, errno.EMLINK}:
            raise
        message = f"{os.fsdecode(source)}: cannot be linked to: {error.strerror}"
        raise SourceError(message, hint="Use --stage bind or copy, or leave the choice to auto.") from error


def stage(  # noqa: PLR0913 - all but the first three by name
    plan: Plan,
    scaffold: Scaffold,
    method: Method,
    *,
    work: bytes,
    writable_store: bool,
    own_sources: bytes = b"",
    base: Base | None = None,
) -> Staged:
    """Make the whole tree below ``work``, with the scaffold in it.

    Where the scaffold is mounted, the store paths get places to be mounted upon, else they are
    copied (or linked) in; a writable store is always copied in. Sources below ``own_sources``
    are moved, not copied. With a ``base`` the tree is what an overlay is to show above that.
    Raises :class:`SourceError` and :class:`OutputError`.
    """
    return _Stager(work, plan, own_sources, base).stage(scaffold, method, writable_store=writable_store)


class _Stager:
    """Makes the tree in a directory of its own, an entry at a time."""

    def __init__(self, work: bytes, plan: Plan, own_sources: bytes, base: Base | None) -> None:
        self.work = work
        self.top = work + (b"/tree" if base is None else b"/upper")
        self.plan = plan
        self.base = base
        self.own_sources = own_sources
        self.stamps: dict[bytes, Stamp] = {}
        self.rows: dict[Inode, Row] = {}
        self.placed: dict[bytes, Row] = {}
        self.linked: set[bytes] = set()
        self.points: dict[bytes, Inode] = {}
        self.private: dict[Inode, bytes] = {}
        self.compiled = self._compiled()
        """Python's compiled modules, with the time that their sources have in the tree."""

    def _compiled(self) -> dict[bytes, int]:
        below = {} if self.base is None else self.base.entries
        entries = self.plan.tree.entries
        own = (entry for entry in entries.values() if not self.plan.in_store(entry.path))
        found = valid(own, lambda path: entries.get(path) or below.get(path))
        return {entry.path: shown_time(source) for entry, source in found}

    def stage(self, scaffold: Scaffold, method: Method, *, writable_store: bool) -> Staged:
        inside = writable_store or not scaffold.mounting
        linked = method == "hardlink" and not writable_store
        self._make_top(private=not inside and method != "bind")
        mounts = self._make_entries(method, inside=inside, linked=linked)
        standing = scaffold.put_up(
            Ground(self.top, self.plan.tree.entries, {} if self.base is None else self.base.entries, self._make)
        )
        self.stamps |= standing.stamps
        for path in self.linked:  # each further link changed the inode
            self.stamps[path] = stamp(os.lstat(self.top + b"/" + path))
        self._let_clock_tick()
        return Staged(
            top=self.top,
            tree=self.work + b"/tree",
            plan=self._moved_plan(),
            stamps=_kept(self.stamps),
            rows=_kept(self.rows),
            placed=_kept(self.placed),
            mounts=tuple(mounts),
            points=_kept({**self.points, **standing.points}),
            private=_kept(self.private),
            scaffold=_kept(standing.shown),
            checked=_kept(self._source_stamps() if linked or not scaffold.mounting else {}),
            files=_kept(scaffold.seen),
        )

    def _make_entries(self, method: Method, *, inside: bool, linked: bool) -> list[tuple[bytes, bytes]]:
        """Make the entries of the plan, and give the mounts of the store paths that are not made in the tree."""
        mounts: list[tuple[bytes, bytes]] = []
        store = {location.path: location for location in self.plan.store}
        under: bytes | None = None
        for entry in self.plan.tree:
            path = entry.path
            if path in store:
                under = path + b"/"
                # A link that is a store path is made in the tree: nothing can be mounted upon it.
                if not inside and not stat.S_ISLNK(entry.mode):
                    self._make_point(entry)
                    mounts.append((store[path].source if method == "bind" else self.work + b"/" + path, path))
            elif under is None or not path.startswith(under):
                under = None
                self._make(entry)
                continue
            if inside or (stat.S_ISLNK(entry.mode) and path in store):
                self._make(entry, linked=linked)
            elif method == "bind":
                self._own_row(entry)
            else:
                self._make(entry, linked=linked, top=self.work)
        return mounts

    def _make_top(self, *, private: bool) -> None:
        with making(self.top):
            os.mkdir(self.top)
            os.chmod(self.top, 0o700)
            # Directories inherit a group from a set-group-ID parent, which a session cannot map.
            os.chown(self.top, -1, os.getegid())
            if self.base is not None:
                self._make_lowers(self.base)
            if private and self.plan.store:
                os.makedirs(self.work + b"/" + os.path.dirname(self.plan.store[0].path), 0o700, exist_ok=True)

    def _make_lowers(self, base: Base) -> None:
        """Make what an overlay needs beside the tree: a place, a directory of its own, and a short name for each snapshot."""
        for name in (b"/tree", b"/scratch", b"/lowers"):
            os.mkdir(self.work + name, 0o700)
        for number, tree in enumerate(base.trees):
            os.symlink(tree, self.work + b"/lowers/%d" % number)

    def _moved_plan(self) -> Plan:
        """Give the plan as it is after its own sources were moved into the tree."""
        if not self.own_sources:
            return self.plan
        entries = {
            path: attrs.evolve(entry, source=self.top + b"/" + path, stamp=self.stamps[path])
            if entry.source is not None and entry.source.startswith(self.own_sources)
            else entry
            for path, entry in self.plan.tree.entries.items()
        }
        return attrs.evolve(self.plan, tree=attrs.evolve(self.plan.tree, entries=entries))

    def _source_stamps(self) -> dict[bytes, Stamp]:
        """Take the stamps of every source that nothing but a check afterwards protects."""
        sources = {entry.source for entry in self.plan.tree if entry.source is not None}
        return {source: stamp(os.lstat(source)) for source in sources if os.path.lexists(source)}

    def _own_row(self, entry: Entry) -> None:
        """Give a mounted file its owner: without a row it would be root's."""
        if (entry.uid or entry.gid) and entry.stamp is not None:
            self.rows[entry.stamp[:2]] = Row(entry.mode, entry.uid, entry.gid, 0)

    def _make_point(self, entry: Entry) -> None:
        path = self.top + b"/" + entry.path
        with making(path):
            if entry.is_dir:
                os.mkdir(path, 0o755)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            status = os.lstat(path)
        self.points[entry.path] = status.st_dev, status.st_ino

    def _make(self, entry: Entry, *, linked: bool = False, top: bytes = b"") -> None:
        path = (top or self.top) + (b"/" + entry.path if entry.path else b"")
        mode = entry.mode
        with making(path):
            if stat.S_ISDIR(mode):
                if entry.path:
                    os.mkdir(path)
                # Also a directory that its owner may not enter has to be filled, and removed.
                os.chmod(path, stat.S_IMODE(mode) & 0o1777 | 0o700)
            elif stat.S_ISLNK(mode):
                os.symlink(entry.target or b"", path)
            elif stat.S_ISREG(mode):
                self._make_file(entry, path, linked=linked)
            elif stat.S_ISFIFO(mode):
                os.mkfifo(path)
                os.chmod(path, stat.S_IMODE(mode) | 0o600)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                os.chmod(path, stat.S_IMODE(mode) & 0o777 | 0o600)
            if not stat.S_ISDIR(mode) and not linked:
                time_ = entry.mtime if self.plan.in_store(entry.path) else shown_time(entry)
                os.utime(path, (time_, time_), follow_symlinks=False)
            status = os.lstat(path)
        if top:
            self.private[status.st_dev, status.st_ino] = entry.path
        else:
            self.stamps[entry.path] = stamp(status)
        self._make_row(entry, status)

    def _make_row(self, entry: Entry, status: os.stat_result) -> None:
        same = status.st_mode == entry.mode or stat.S_ISLNK(entry.mode)
        if entry.uid or entry.gid or not same:
            row = Row(entry.mode, entry.uid, entry.gid, entry.rdev)
            if self.base is None or (status.st_dev, status.st_ino) in self.private:
                self.rows[status.st_dev, status.st_ino] = row
            else:
                self.placed[entry.path] = row  # what its number is in the overlay is not known yet

    def _make_file(self, entry: Entry, path: bytes, *, linked: bool) -> None:
        source = entry.source
        if entry.link is not None and not self.plan.in_store(entry.link):
            os.link(self.top + b"/" + entry.link, path)  # a hard link of the root filesystem's own
            self.linked |= {entry.path, entry.link}
            return
        if source is not None and self.own_sources and source.startswith(self.own_sources):
            os.rename(source, path)
        elif source is not None and linked:
            _link(source, path)
            return
        else:
            copy_source(entry, path)
        os.chmod(path, stat.S_IMODE(entry.mode) & 0o1777 | 0o600)
        if entry.path in self.compiled:
            put_time(path, self.compiled[entry.path])

    def _let_clock_tick(self) -> None:
        # A change within the clock tick of the staging would leave the same ctime, and be missed.
        latest = max((found[4] for found in self.stamps.values()), default=0)
        while time.clock_gettime_ns(_COARSE_CLOCK) <= latest:
            time.sleep(0.001)
