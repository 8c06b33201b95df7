"""A tree on disk, made from a :class:`Tree`: what the scripts see and change.

Every file outside of the store is a copy of its own (a reflink where the file system has
them), so whatever a script does to it never reaches a source. The store paths are mounted
read-only from where they lie (*bind*) or from links or copies of them; where nothing can be
mounted they are copied into the tree itself. Files are made as fakeroot would have them:
the true owner, and any mode that would shut the builder out, in the ownership record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Literal

import attrs

from rootless_layer.errors import SourceError, UnrepresentableError
from rootless_layer.session.inside.script import DEVICE_LINKS, DEVICES
from rootless_layer.system.machine import unwritable
from rootless_layer.tree.copy import copy_source
from rootless_layer.tree.tree import Entry, Stamp, shown, stamp

from .ownership import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rootless_layer.plan.plan import Plan
    from rootless_layer.tree.base import Base

    from .inside.messages import Inode

Method = Literal["bind", "hardlink", "copy"]

SCAFFOLD = b".rootless-layer"
"""The directory of the root view that holds libfakeroot and the scripts."""
_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which stamps inodes before Linux 6.13


@attrs.frozen(slots=True)
class Staged:
    """A staged tree.

    ``top`` is its directory, and ``tree`` where the scripts see it: the same, or the mount of
    an overlay. ``stamps`` are what each staged file outside of the store was when it was
    made; ``rows``, and ``placed`` by path where there is an overlay, what the session's
    record begins with. ``mounts`` are the
    store paths to be mounted (the source and the path in the tree) and ``points`` the
    inodes they are mounted upon; ``private`` the inodes of copies made to be mounted.
    ``scaffold`` is what was added for the view only, by
    path, with what is mounted there, or nothing for directories and links. ``checked`` are the sources to compare afterwards,
    where nothing else protects them.
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


@contextlib.contextmanager
def _writing(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place, doing = os.fsdecode(error.filename2 or error.filename or path), "the tree for the scripts cannot be made"
        if error.errno == errno.ENAMETOOLONG:
            message = f"{place}: {doing}: the path is too long by what Linux takes"
            raise UnrepresentableError(
                message, hint="Set TMPDIR to a directory of a shorter name, or shorten the path."
            ) from error
        raise unwritable(error, place, doing, hint="Set TMPDIR to a directory with room.") from error


def _link(source: bytes, path: bytes) -> None:
    """Link a store's file; the kernel lets only its owner do so (proc(5), protected_hardlinks)."""
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EXDEV, errno.EMLINK}:
            raise
        message = f"{os.fsdecode(source)}: cannot be linked to: {error.strerror}"
        raise SourceError(message, hint="Use --stage bind or copy, or leave the choice to auto.") from error


class Stager:
    """Makes the tree in a directory of its own, an entry at a time."""

    def __init__(self, work: bytes, plan: Plan, *, own_sources: bytes = b"", base: Base | None = None) -> None:
        """Stage below ``work``; sources below ``own_sources`` are moved, not copied.

        With a ``base`` the tree is what an overlay is to show above that.
        """
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
        self.scaffold: dict[bytes, bytes | None] = {}

    def stage(self, method: Method, *, mounting: bool, root_view: bool, writable_store: bool) -> Staged:
        """Make the whole tree.

        With ``mounting`` the store paths get places to be mounted upon, else they are
        copied (or linked) in; a writable store is always copied in. Raises
        :class:`SourceError` and :class:`OutputError`.
        """
        inside = writable_store or not mounting
        linked = method == "hardlink" and not writable_store
        self._make_top(private=not inside and method != "bind")
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
                self._make(entry, linked=False)
                continue
            if inside or (stat.S_ISLNK(entry.mode) and path in store):
                self._make(entry, linked=linked)
            elif method == "bind":
                self._own_row(entry)
            else:
                self._make(entry, linked=linked, top=self.work)
        if root_view:
            self._make_scaffold(mounting=mounting)
        for path in self.linked:  # each further link changed the inode
            self.stamps[path] = stamp(os.lstat(self.top + b"/" + path))
        self._let_clock_tick()
        checked = self._source_stamps() if linked or not mounting else {}
        return Staged(
            self.top, self.work + b"/tree", self._moved_plan(), self.stamps, self.rows, self.placed, tuple(mounts), self.points,
            self.private, self.scaffold, checked,
        )  # fmt: skip

    def _make_top(self, *, private: bool) -> None:
        with _writing(self.top):
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
        """Give a mounted file its owner, which fakeroot takes to be root where nobody says otherwise."""
        if (entry.uid or entry.gid) and entry.stamp is not None:
            self.rows[entry.stamp[:2]] = Row(entry.mode, entry.uid, entry.gid, 0)

    def _make_point(self, entry: Entry) -> None:
        path = self.top + b"/" + entry.path
        with _writing(path):
            if entry.is_dir:
                os.mkdir(path, 0o755)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            status = os.lstat(path)
        self.points[entry.path] = status.st_dev, status.st_ino

    def _make(self, entry: Entry, *, linked: bool, top: bytes = b"") -> None:
        path = (top or self.top) + (b"/" + entry.path if entry.path else b"")
        mode = entry.mode
        with _writing(path):
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
                os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
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

    def _make_scaffold(self, *, mounting: bool) -> None:
        self._scaffold_directory(SCAFFOLD)
        self._scaffold_directory(b"proc")
        self._scaffold_directory(b"dev")
        for name in map(os.fsencode, DEVICES):
            if os.path.exists(b"/dev/" + name):
                if not mounting and not self._make_node(name):
                    continue
                self._scaffold_file(b"dev/" + name, b"/dev/" + name)
        for link, target in DEVICE_LINKS.items():
            path = b"dev/" + os.fsencode(link)
            if not self._is_there(path):
                os.symlink(target, self.top + b"/" + path)
                self.scaffold[path] = None
                self.stamps[path] = stamp(os.lstat(self.top + b"/" + path))

    def _scaffold_directory(self, path: bytes) -> None:
        there = self._there(path)
        if there is not None and there.is_dir and path != SCAFFOLD:
            if path not in self.plan.tree.entries:
                self._make(there, linked=False)  # for what is to be mounted in it
            return
        if there is not None:
            message = f"{shown(path)}: the root view needs a directory of its own there"
            raise SourceError(message, hint="Leave it out of the contents, or use the directory view.")
        with _writing(path):
            os.mkdir(self.top + b"/" + path)
            os.chmod(self.top + b"/" + path, 0o755)  # noqa: S103 - as the root of any machine has them
        self.scaffold[path] = None
        self.stamps[path] = stamp(os.lstat(self.top + b"/" + path))

    def _there(self, path: bytes) -> Entry | None:
        there = self.plan.tree.entries.get(path)
        return self.base.entries.get(path) if there is None and self.base is not None else there

    def _is_there(self, path: bytes) -> bool:
        """Say whether the scripts see something at a path."""
        return os.path.lexists(self.top + b"/" + path) or (self.base is not None and path in self.base.entries)

    def _scaffold_file(self, path: bytes, source: bytes) -> None:
        """Make a place to mount a device of this machine upon; a planned one keeps its own inode."""
        there = self._there(path)
        if there is not None and (there.is_dir or there.target is not None):
            message = f"{shown(path)}: the root view needs a file there to show a device or a file of its own"
            raise SourceError(message, hint="Leave it out of the contents or the base, or use the directory view.")
        with _writing(path):
            if not self._is_there(path):
                os.close(os.open(self.top + b"/" + path, os.O_CREAT | os.O_WRONLY, 0o600))
                self.stamps[path] = stamp(os.lstat(self.top + b"/" + path))
        self.scaffold[path] = source

    def _make_node(self, name: bytes) -> bool:
        """Make a device for a chroot, where this machine lets us."""
        device = os.stat(b"/dev/" + name)
        try:
            os.mknod(self.top + b"/dev/" + name, device.st_mode, device.st_rdev)
            os.chmod(self.top + b"/dev/" + name, stat.S_IMODE(device.st_mode))
        except OSError:
            return False
        return True

    def add(self, name: bytes, source: bytes) -> bytes:
        """Make a place in the scaffold's directory for a file to be shown at; give its path."""
        path = SCAFFOLD + b"/" + name
        self._scaffold_file(path, source)
        return path

    def _let_clock_tick(self) -> None:
        # A change within the clock tick of the staging would leave the same ctime, and be missed.
        latest = max((found[4] for found in self.stamps.values()), default=0)
        while time.clock_gettime_ns(_COARSE_CLOCK) <= latest:
            time.sleep(0.001)
