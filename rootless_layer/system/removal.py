"""Removing a tree, however deep it is and whatever its modes are.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

_TRIES, _PAUSE_SECONDS = 60, 0.05
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(top: str | bytes) -> None:
    """Remove a tree that belongs to the caller, as far as that is possible; say nothing.

    A script may nest directories beyond what a path or a recursion can hold, and take
    away its own access. So each directory is made accessible, and moved up to the top
    before it is emptied in its turn.
    """
    for _ in range(_TRIES):
        _remove(top)
        if not os.path.lexists(top):
            return
        time.sleep(_PAUSE_SECONDS)  # another process may be removing it as well, or still be writing to it


def _remove(top: str | bytes) -> None:
    with contextlib.suppress(OSError):
        os.chmod(top, 0o700)
        base = os.open(top, _FLAGS)
        try:
            # Another process may be removing the same tree, and an earlier try has left names as well.
            prefix = f".rootless-layer-removed-{os.urandom(8).hex()}-"
            moved = _empty(base, base, prefix, 0)
            done = 0
            while done < moved:
                name = f"{prefix}{done}"
                with contextlib.suppress(OSError):
                    folder = os.open(name, _FLAGS, dir_fd=base)
                    try:
                        moved = _empty(folder, base, prefix, moved)
                    finally:
                        os.close(folder)
                    os.rmdir(name, dir_fd=base)
                done += 1
        finally:
            os.close(base)
        os.rmdir(top)


def remove_when_caller_is_gone() -> None:
    """Read absolute paths from stdin, a NUL behind each, until it closes; then remove what is left of them."""
    os.chdir("/")  # the caller's directory may be removed or unmounted meanwhile
    paths = b""
    while part := os.read(0, 1 << 16):
        paths += part
    for path in paths.split(b"\0")[:-1]:
        remove(path)


def _empty(folder: int, base: int, prefix: str, moved: int) -> int:
    """Remove a directory's files, and move its directories to the top; give how many were moved."""
    with os.scandir(folder) as listing:
        for entry in list(listing):
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.name, 0o700, dir_fd=folder)
                    try:
                        os.rename(entry.name, f"{prefix}{moved}", src_dir_fd=folder, dst_dir_fd=base)
                        moved += 1
                    except OSError as error:
                        if error.errno != errno.EXDEV:
                            raise
                        moved = _empty_there(entry.name, folder, base, prefix, moved)
                else:
                    os.unlink(entry.name, dir_fd=folder)
    return moved


def _empty_there(name: str, above: int, base: int, prefix: str, moved: int) -> int:
    """Remove a directory where it is, as overlayfs renames none of its lower layers; give how many of those below were moved."""
    folder = os.open(name, _FLAGS, dir_fd=above)
    try:
        moved = _empty(folder, base, prefix, moved)
    finally:
        os.close(folder)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=above)
    return moved
