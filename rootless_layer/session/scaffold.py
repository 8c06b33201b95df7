"""A scaffold: all that the scripts see beside the tree, and that is no part of the layer.

In the root view these are the devices of this machine, ``/proc``, the scripts' own files and the
tools; in the directory view the scripts' files. All of it is known before the tree is staged: a
:class:`Scaffold` is made first, and put up in the tree as the last act of the staging.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import SourceError, UnavailableError
from rootless_layer.plan.locate import store_locations
from rootless_layer.tree.links import follow
from rootless_layer.tree.tree import Entry, Stamp, shown, stamp

from .inside.script import DEVICE_LINKS, DEVICES, MOUNTED, TERMINALS, TREE_SHOWN_AT
from .making import making

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rootless_layer.plan.locate import StoreLocation
    from rootless_layer.plan.spec import LayerSpec

    from .inside.messages import Inode
    from .session import Session

SCAFFOLD = b".rootless-layer"
"""The directory of the root view that holds the scripts."""
_NETWORK_FILES = (b"etc/hosts", b"etc/resolv.conf")
"""What of this machine a program needs to find others on its network (resolver(3))."""


def script_name(number: int) -> bytes:
    """Name the file of a script by its place in the order."""
    return b"script-%d" % number


@attrs.frozen(slots=True)
class OwnFile:
    """A script's file.

    ``seen`` is its path as the scripts see it, and ``source`` where it lies on this machine: nothing
    where that is in the staged tree itself. ``data`` is written there. ``place`` is where it is shown
    in the tree, ``b""`` where the tree has no part in that.
    """

    seen: bytes
    source: bytes | None
    data: bytes
    place: bytes = b""


@attrs.frozen(slots=True)
class Ground:
    """A tree that a scaffold is put up in.

    ``top`` is its directory, ``planned`` has its entries and ``base`` those that an overlay
    shows below it. ``make`` makes an entry of the base in the tree.
    """

    top: bytes
    planned: Mapping[bytes, Entry]
    base: Mapping[bytes, Entry]
    make: Callable[[Entry], None]

    def planned_at(self, path: bytes) -> Entry | None:
        """Give the entry at a path, where there is one."""
        return self.planned.get(path) or self.base.get(path)

    def is_there(self, path: bytes) -> bool:
        """Say whether the scripts see something at a path."""
        return os.path.lexists(self.on_disk(path)) or path in self.base

    def on_disk(self, path: bytes) -> bytes:
        """Give the place of a path on this machine."""
        return self.top + b"/" + path


@attrs.frozen(slots=True)
class Standing:
    """A scaffold that stands in a tree.

    ``shown`` has its paths, with what is mounted there, or nothing for directories and links;
    ``stamps`` what each made file was then, and ``points`` the inodes of the tools.
    """

    shown: Mapping[bytes, bytes | None]
    stamps: Mapping[bytes, Stamp]
    points: Mapping[bytes, Inode]


@attrs.frozen(slots=True)
class Scaffold:
    """What a view has for itself.

    ``mounting`` says whether sources are mounted upon places in the tree; else devices and
    files are made in it. ``devices`` are names in ``/dev``, and ``files`` has the scripts' files by name. ``machine`` are
    paths of this machine that are shown at the same paths.
    ``points`` are the places in the tree of mounts that were asked for, each with whether it is a directory.
    """

    root_view: bool
    mounting: bool
    files: Mapping[bytes, OwnFile]
    devices: tuple[bytes, ...] = ()
    tools: tuple[StoreLocation, ...] = ()
    machine: tuple[bytes, ...] = ()
    points: tuple[tuple[bytes, bool], ...] = ()

    @classmethod
    def of(cls, spec: LayerSpec, session: Session) -> Scaffold:
        """Give all that a spec's scripts need in a session, which is ready.

        Raises :class:`UnavailableError` for tools where nothing can be mounted, and
        :class:`ClosureError` for tools that are not there.
        """
        mounting = session.isolation == "namespaces"
        files = {
            script_name(number): _written(spec, session, script_name(number), script.data)
            for number, script in enumerate(spec.scripts)
            if script.data is not None
        }
        points = tuple(_points(spec, session, mounting=mounting))
        if spec.view == "directory":
            return cls(root_view=False, mounting=mounting, files=files, points=points)
        if spec.tools is not None:
            if not mounting:
                message = f"tools are mounted, and nothing can be mounted here: {session.fallback}"
                raise UnavailableError(message, hint="Allow user namespaces, or make the tools a part of the closure.")
            spec.tools.check()
        devices = tuple(name for name in map(os.fsencode, DEVICES) if os.path.exists(b"/dev/" + name))
        machine = tuple(path for path in _NETWORK_FILES if os.path.isfile(b"/" + path)) if spec.network == "host" else ()
        return cls(
            root_view=True,
            mounting=mounting,
            files=files,
            devices=devices,
            tools=store_locations(spec.tools),
            machine=machine,
            points=points,
        )

    @property
    def seen(self) -> dict[bytes, bytes]:
        """Give the path of each file as the scripts see it, by name."""
        return {name: file.seen for name, file in self.files.items()}

    def put_up(self, ground: Ground) -> Standing:
        """Make all of it in a staged tree, and write the files wherever they lie.

        Raises :class:`SourceError` where the tree has something else in a place that the view
        needs, and :class:`OutputError` where nothing can be written.
        """
        work = _Work(ground)
        if self.root_view:
            self._make_view(work)
        for tool in self.tools:
            if not ground.is_there(tool.path):
                work.show_tool(tool)
        for path in self.machine:
            work.show_machine(path, mounting=self.mounting)
        for file in self.files.values():
            source = ground.on_disk(file.place) if file.source is None else file.source
            _write(source, file.data)
            if file.place:
                work.show_file(file.place, source)
        for path, folder in sorted(self.points):
            work.make_point(path, folder=folder)
        return Standing(work.shown, work.stamps, work.points)

    def _make_view(self, work: _Work) -> None:
        ground = work.ground
        for path in (SCAFFOLD, b"proc", b"dev"):
            work.make_directory(path)
        for path in map(os.fsencode, MOUNTED) if self.mounting else ():
            there = ground.planned_at(path)
            if there is None or there.is_dir:  # else the kernel's is not shown there
                work.make_directory(path)
        for name in self.devices:
            if self.mounting or _make_node(ground.on_disk(b"dev/" + name), b"/dev/" + name):
                work.show_file(b"dev/" + name, b"/dev/" + name)
        for link, target in (DEVICE_LINKS | TERMINALS if self.mounting else DEVICE_LINKS).items():
            path = b"dev/" + os.fsencode(link)
            if not ground.is_there(path):
                work.make_link(path, os.fsencode(target))


@attrs.define(slots=True)
class _Work:
    """The putting up: what is made in the tree, and what that was then."""

    ground: Ground
    shown: dict[bytes, bytes | None] = attrs.field(factory=dict)
    stamps: dict[bytes, Stamp] = attrs.field(factory=dict)
    points: dict[bytes, Inode] = attrs.field(factory=dict)

    def make_directory(self, path: bytes) -> None:
        if path in self.shown:
            return
        there = self.ground.planned_at(path)
        if there is not None and there.is_dir and path != SCAFFOLD:
            if path not in self.ground.planned and not os.path.lexists(self.ground.on_disk(path)):
                self.ground.make(there)  # for what is to be mounted in it
            return
        if there is not None:
            message = f"{shown(path)}: the root view needs a directory of its own there"
            raise SourceError(message, hint="Leave it out of the contents, or use the directory view.")
        with making(path):
            os.mkdir(self.ground.on_disk(path))
            os.chmod(self.ground.on_disk(path), 0o755)  # noqa: S103 - as the root of any machine has them
        self._note(path, None)

    def make_link(self, path: bytes, target: bytes) -> None:
        os.symlink(target, self.ground.on_disk(path))
        self._note(path, None)

    def show_file(self, path: bytes, source: bytes) -> None:
        """Make a place to mount a file of this machine upon; a planned one keeps its own inode."""
        there = self.ground.planned_at(path)
        if there is not None and (there.is_dir or there.target is not None):
            message = f"{shown(path)}: the root view needs a file there to show a device or a file of its own"
            raise SourceError(message, hint="Leave it out of the contents or the base, or use the directory view.")
        with making(path):
            if not self.ground.is_there(path):
                on_disk = self.ground.on_disk(path)
                os.close(os.open(on_disk, os.O_CREAT | os.O_WRONLY, 0o600))
                self.stamps[path] = stamp(os.lstat(on_disk))
        self.shown[path] = source

    def make_point(self, path: bytes, *, folder: bool) -> None:
        """Make a place to mount something upon, and the directories that it is in, as far as they are missing."""
        way = follow(path, self.ground.planned_at)
        parts = way.end.split(b"/")
        for depth in range(1, len(parts) + folder):
            above = b"/".join(parts[:depth])
            if above in self.ground.planned and not os.path.lexists(self.ground.on_disk(above)):
                return  # it is in a store path, which is mounted
            self.make_directory(above)
        there = self.ground.planned_at(way.end)
        if way.endless or (not folder and (way.end in self.shown or (there is not None and there.is_dir))):
            message = f"{shown(path)}: a file cannot be mounted there"
            raise SourceError(message, hint="Name a target that is no directory, and is not there or a file.")
        if not folder and there is None:
            with making(way.end):
                os.close(os.open(self.ground.on_disk(way.end), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._note(way.end, None)

    def show_tool(self, tool: StoreLocation) -> None:
        """Show a store path where it stands, read-only."""
        path = tool.path
        self._make_above(path)
        on_disk = self.ground.on_disk(path)
        if os.path.islink(tool.source):  # nothing can be mounted upon a link
            self.make_link(path, os.readlink(tool.source))
        elif os.path.isdir(tool.source):
            os.mkdir(on_disk, 0o755)
            self.shown[path] = tool.source
        else:
            self.show_file(path, tool.source)
        status = os.lstat(on_disk)
        self.points[path] = status.st_dev, status.st_ino

    def show_machine(self, path: bytes, *, mounting: bool) -> None:
        """Show a file of this machine where a path leads; where nothing is mounted, only if there is none yet."""
        way = follow(path, self.ground.planned_at)
        there = self.ground.planned_at(way.end)
        if way.endless or (there is not None and not (there.is_regular and mounting)):
            return
        self._make_above(way.end)
        self.show_file(way.end, b"/" + path)
        if not mounting:
            with open(b"/" + path, "rb") as source:
                _write(self.ground.on_disk(way.end), source.read())
            self.stamps[way.end] = stamp(os.lstat(self.ground.on_disk(way.end)))

    def _make_above(self, path: bytes) -> None:
        """Make the directories of a path that are not there."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            if not os.path.lexists(self.ground.on_disk(above)):
                self.make_directory(above)

    def _note(self, path: bytes, source: bytes | None) -> None:
        self.shown[path] = source
        self.stamps[path] = stamp(os.lstat(self.ground.on_disk(path)))


def _points(spec: LayerSpec, session: Session, *, mounting: bool) -> Iterator[tuple[bytes, bool]]:
    """Give the places in the tree of the mounts that were asked for.

    In the directory view there are others: in the session's own ``/tmp``, where each script makes them, and on this
    machine, where they have to be there. Raises :class:`UnavailableError` where a mount cannot be.
    """
    if session.extras.mounts and not mounting:
        message = f"nothing can be mounted here: {session.fallback}"
        raise UnavailableError(message, hint="Allow user namespaces. A secret can be a variable alone, by env.")
    tree = os.fsencode(TREE_SHOWN_AT.lstrip("/")) + b"/"
    for extra in session.extras.mounts:
        folder = extra.kind in {"cache", "tmpfs"} or (extra.kind == "bind" and os.path.isdir(extra.source))
        if spec.view == "root":
            yield extra.path, folder
        elif extra.path.startswith(tree):
            yield extra.path.removeprefix(tree), folder
        elif not extra.path.startswith(b"tmp/") and os.path.isdir(b"/" + extra.path) != folder:
            lacking = "is a directory" if os.path.isdir(b"/" + extra.path) else "is not there, or no directory"
            message = (
                f"/{os.fsdecode(extra.path)}: nothing can be mounted there in the directory view: on this machine it {lacking}"
            )
            raise UnavailableError(message, hint="Name a target below /tmp, or below /tmp/root, which is the tree.")
        elif not (extra.path.startswith(b"tmp/") or os.path.exists(b"/" + extra.path)):
            message = f"/{os.fsdecode(extra.path)}: nothing can be mounted there in the directory view: it is not on this machine"
            raise UnavailableError(message, hint="Name a target below /tmp, or below /tmp/root, which is the tree.")


def _written(spec: LayerSpec, session: Session, name: bytes, data: bytes) -> OwnFile:
    """Place a file for the scripts where their view can see it."""
    mounting = session.isolation == "namespaces"
    folder = os.fsencode(session.work)
    place = SCAFFOLD + b"/" + name
    if spec.view == "root":
        return OwnFile(b"/" + place, folder + b"/" + name if mounting else None, data, place)
    if mounting:  # the view shows this directory as /tmp
        return OwnFile(b"/tmp/" + place, folder + b"/tmp/" + place, data)
    return OwnFile(folder + b"/" + name, folder + b"/" + name, data)


def _write(path: bytes, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), 0o555)


def _make_node(path: bytes, device: bytes) -> bool:
    """Make a device for a chroot, where this machine lets us."""
    status = os.stat(device)
    try:
        os.mknod(path, status.st_mode, status.st_rdev)
        os.chmod(path, stat.S_IMODE(status.st_mode))
    except OSError:
        return False
    return True
