"""A source tree as it lies on disk: its entries, read once, nothing changed."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING

from rootless_layer.system.machine import unreadable

from .places import OF_A_BUILD
from .tree import Entry, of_overlay, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .places import LeftOut, Places

Found = tuple[bytes, bytes, os.stat_result]
"""The path below the top (``b""`` for the top itself), the path on disk, what lstat says."""

# SELinux labels come from the policy of whoever runs the image.
_LOCAL = (b"security.selinux", b"trusted.", b"system.nfs4")
_COMPARED_BYTES = 1 << 20
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENCODING = sys.getfilesystemencoding()
_HINT = "Make it readable for the user who builds, or leave it out."


def walk(top: bytes, *, own: bool = False, left_out: Places | None = None) -> Iterator[Found]:
    """Read a tree, parents before children, in no other order; links are not followed.

    A tree of our ``own`` is made readable where it is not, after its modes were read. An input
    is read without the places that are ``left_out`` of it, and without what builds are making there.
    Raises :class:`SourceError` for what cannot be read, naming it.
    """
    with _reading(top):
        status = os.lstat(top)
        hidden = None if left_out is None else left_out.hidden((status.st_dev, status.st_ino))
        yield b"", top, status
        folders = [(b"", top, status)] if stat.S_ISDIR(status.st_mode) else []
        while folders:
            above, folder, there = folders.pop()
            if own and not os.access(folder, os.R_OK | os.X_OK):
                os.chmod(folder, 0o700)
            for name, status in _children(folder, None if hidden is None else hidden.get((there.st_dev, there.st_ino), ())):
                relative, on_disk = above + name, folder + b"/" + name
                yield relative, on_disk, status
                if status.st_mode & 0o170000 == stat.S_IFDIR:
                    folders.append((relative + b"/", on_disk, status))


def _children(folder: bytes, hidden: LeftOut | tuple[()] | None) -> Iterator[tuple[bytes, os.stat_result]]:
    descriptor = os.open(folder, _OPEN)
    try:
        # By its descriptor: the kernel then looks each name up where it is, not from the root.
        with os.scandir(descriptor) as listing:
            for item in listing:
                name = item.name.encode(_ENCODING, "surrogateescape")
                if hidden is not None and (name in hidden or (OF_A_BUILD.fullmatch(name) and item.is_dir(follow_symlinks=False))):
                    continue
                yield name, item.stat(follow_symlinks=False)
    except OSError as error:
        error.filename = folder  # and not the name alone, or the descriptor
        raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reading(top: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreadable(error, os.fsdecode(error.filename or top), hint=_HINT) from error


def entry_of(path: bytes, on_disk: bytes, status: os.stat_result, epoch: int, owner: tuple[int, int]) -> Entry:
    """Make the entry for one file of a source, with the owner given as uid and gid.

    Times are clamped to ``epoch`` (a directory's does not count: it depends on how the
    tree was made), fractions of a second dropped.
    """
    mode = status.st_mode
    uid, gid = owner
    seconds = status.st_mtime_ns // 1_000_000_000
    seconds = min(seconds, epoch)
    if mode & 0o170000 == stat.S_IFREG:
        return Entry(
            path=path, mode=mode, uid=uid, gid=gid, mtime=seconds,
            size=status.st_size, source=on_disk, stamp=stamp(status),
        )  # fmt: skip
    if stat.S_ISDIR(mode):
        return Entry(path=path, mode=mode, uid=uid, gid=gid, mtime=epoch, stamp=stamp(status))
    target = os.readlink(on_disk) if stat.S_ISLNK(mode) else None
    return Entry(
        path=path, mode=stat.S_IFLNK | 0o777 if target is not None else mode, uid=uid, gid=gid,
        mtime=seconds, target=target, stamp=stamp(status),
        rdev=status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
    )  # fmt: skip


def xattrs_of(on_disk: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Read a file's extended attributes, but for those that belong to the machine it is on; overlayfs's own are among them."""
    names = sorted(os.fsencode(name) for name in os.listxattr(on_disk, follow_symlinks=False))
    wanted = (name for name in names if of_overlay(name) or not name.startswith(_LOCAL))
    return tuple((name, os.getxattr(on_disk, name, follow_symlinks=False)) for name in wanted)


def agree(one: Entry, other: Entry) -> bool:
    """Say whether two entries may stand for the same path."""
    if one.is_dir and other.is_dir:
        return True
    if stat.S_IFMT(one.mode) != stat.S_IFMT(other.mode) or one.target != other.target or one.rdev != other.rdev:
        return False
    if not one.is_regular:
        return True
    return one.mode == other.mode and same_data(one.source, other.source, one.size, other.size)


def same_data(one: bytes | None, other: bytes | None, size: int, other_size: int) -> bool:
    """Compare two files' bytes; raises :class:`SourceError` where one cannot be read."""
    if size != other_size or one is None or other is None:
        return size == other_size and one == other
    if one == other:
        return True
    try:
        with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
            while (data := first.read(_COMPARED_BYTES)) == second.read(_COMPARED_BYTES):
                if not data:
                    return True
    except OSError as error:
        raise unreadable(error, os.fsdecode(error.filename or one)) from error
    return False
