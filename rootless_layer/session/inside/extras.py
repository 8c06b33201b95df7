"""The mounts that somebody asked for: made once for a session, and put up in the view of each script.

A tmpfs and a secret are file systems in memory. They are mounted by the init, in its own namespace, so that all scripts of the
session see the same: a second tmpfs may have the device number of the first, whose rows would be its files'. What is a
cache's or bound is mounted for the scripts alone: whoever removes the session's files does not come to it.

A file of a cache may be removed by another session while this one has a row of it, and its inode's number may then be given to
a file of the tree. So a file that has a row is held open, where a cache is shared.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from rootless_layer.errors import UnavailableError
from rootless_layer.system import namespaces

from .held import held

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .messages import Extra, Inode

_SECRET = b"secret"
_HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FLAGS = namespaces.MS_NOSUID | namespaces.MS_NODEV


class Mounted:
    """The mounts of one session, and the files of shared caches that it holds."""

    def __init__(self, asked: tuple[Extra, ...], folder: bytes) -> None:
        """Make what is in memory, mounted below ``folder``, in a namespace that ends with this process."""
        self._pinned: dict[Inode, int] = {}
        self._shared: dict[int, list[bytes]] = {}
        os.mkdir(folder, 0o700)
        self.shown = tuple(_made(extra, folder + b"/%d" % number) for number, extra in enumerate(asked))
        for extra in self.shown:
            if extra.kind == "cache" and extra.shared:
                self._shared.setdefault(os.stat(extra.source).st_dev, []).append(b"/" + extra.path + b"/")

    def rows(self) -> bytes:
        """Give the rows that the record begins with, as ``faked --load`` reads them: of what is not root's."""
        lines = {}
        for extra in self.shown:
            if extra.kind == "bind":
                continue
            for number, (path, status) in enumerate(_walk(extra.source)):
                mode = stat.S_IFMT(status.st_mode) | extra.mode if number == 0 else status.st_mode
                if (mode, extra.uid, extra.gid) == (status.st_mode, 0, 0):
                    if not (extra.uid or extra.gid):
                        break  # nor is any below
                    continue
                inode = status.st_dev, status.st_ino
                lines[inode] = b"dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=1,rdev=0\n" % (*inode, mode, extra.uid, extra.gid)
                if extra.kind == "cache" and extra.shared and inode not in self._pinned:
                    self._pinned[inode] = os.open(path, _HELD)
                if not (extra.uid or extra.gid):
                    break
        return b"".join(lines.values())

    def pin(self, descriptor: int, status: os.stat_result) -> None:
        """Hold a file, if it lies in a shared cache."""
        places = self._shared.get(status.st_dev, ())
        inode = status.st_dev, status.st_ino
        if not places or inode in self._pinned:
            return
        path = os.readlink(held(descriptor)) + b"/"
        if any(place in path for place in places):
            self._pinned[inode] = os.dup(descriptor)

    def unpin(self, inode: Inode) -> None:
        """Let go of a file."""
        if inode in self._pinned:
            os.close(self._pinned.pop(inode))


def _made(extra: Extra, folder: bytes) -> Extra:
    """Make what an extra shows, if it is in memory; give it with its source, and without its secret."""
    if extra.kind == "cache":
        with contextlib.suppress(OSError):
            os.chmod(extra.source, extra.mode & 0o1777 | 0o700)
    elif extra.kind == "tmpfs":
        os.mkdir(folder, 0o700)
        size = b"" if extra.size is None else b",size=%d" % extra.size
        namespaces.mount(b"tmpfs", folder, b"tmpfs", _FLAGS, b"mode=%o" % (extra.mode & 0o1777 | 0o700) + size)
        return extra._replace(source=folder)
    elif extra.kind == "secret":
        os.mkdir(folder, 0o700)
        # Unlike a tmpfs it is never written to a swap area.
        namespaces.mount(b"ramfs", folder, b"ramfs", _FLAGS, b"mode=700")
        path = folder + b"/" + _SECRET
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, extra.mode & 0o777)
            data = memoryview(extra.data)
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        namespaces.set_read_only(folder, recursive=False)
        return extra._replace(source=path, data=b"")
    return extra


def _walk(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Go through a tree, its top first; links are not followed, and what goes meanwhile is left out."""
    status = os.lstat(top)
    yield top, status
    folders = [top] if stat.S_ISDIR(status.st_mode) else []
    while folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as listing:
            for entry in listing:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.path, entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)


def hold_sources(extras: Iterable[Extra]) -> tuple[int, ...]:
    """Hold what is to be shown, before the view hides it."""
    return tuple(os.open(extra.source, _HELD) for extra in extras)


def put_up(extras: Iterable[Extra], sources: Iterable[int], root: bytes, *, scratch: bytes = b"", tree: bytes = b"") -> None:
    """Show each source at its place below a root, in a mount namespace of the caller's own.

    The places in the ``tree`` are there. Those in other mounts, and in a directory ``scratch`` of the session's own, are made;
    both are paths below the root. Raises :class:`UnavailableError` where there is no such place.
    """
    others: tuple[bytes, ...] = ()
    for extra, source in sorted(zip(extras, sources, strict=True), key=lambda pair: pair[0].path):
        own = bool(scratch) and extra.path.startswith(scratch + b"/") and not extra.path.startswith(tree + b"/")
        make = own or extra.path.startswith(others)
        others += (extra.path + b"/",)
        try:
            point = _point(root, extra.path, folder=stat.S_ISDIR(os.fstat(source).st_mode), make=make)
        except OSError as error:
            message = f"/{os.fsdecode(extra.path)}: nothing can be mounted there: {os.strerror(error.errno or 0)}"
            raise UnavailableError(message, hint="Did an earlier script remove or move it? Else name another target.") from error
        namespaces.bind(held(source), held(point), read_only=False, recursive=extra.kind == "bind")
        os.close(point)
        shown = namespaces.open_inside(root, extra.path)
        if extra.read_only:
            namespaces.set_read_only(held(shown), recursive=True)
        else:
            namespaces.set_writable(held(shown))
        os.close(shown)
        os.close(source)


def _point(root: bytes, path: bytes, *, folder: bool, make: bool) -> int:
    """Hold the place of a mount, which is made where that is to be."""
    try:
        return namespaces.open_inside(root, path)
    except FileNotFoundError:
        if not make:
            raise
    above = _point(root, os.path.dirname(path), folder=True, make=True)
    try:
        name = held(above) + b"/" + os.path.basename(path)
        if folder:
            os.mkdir(name, 0o755)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    finally:
        os.close(above)
    return namespaces.open_inside(root, path)
