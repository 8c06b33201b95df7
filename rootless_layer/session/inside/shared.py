"""What this process shares with the processes that wait for it: copies of their descriptors, and their root directory.

A copy of a descriptor is made by a pidfd, which stays the same process's, whatever number another one gets later. The root is one
directory for all processes of a script until one of them calls chroot(2): they have no namespaces of their own. A directory below
it is the same one by the same path as long as nobody renames or removes a directory or a link.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat

_PIDFD_GETFD = 438  # the same number on every architecture
_MOST = 64
_MOST_FOLDERS, _SHARE = 256, 4
"""How many directories are held, and which part of the descriptors that a process may have."""
_NONE = -1
_libc = ctypes.CDLL(None, use_errno=True)
_call = _libc.syscall
_call.restype = ctypes.c_long


class _Shared:
    """What is held from one call to the next."""

    def __init__(self) -> None:
        self.root: int | None = None
        self.processes: dict[int, int] = {}
        """A pidfd of each process; -1 for one that none is to be had of."""
        self.alone = False
        self.most_folders = _MOST_FOLDERS
        self.folders: dict[bytes, int] = {}
        """Directories of the root, by their paths without the last slash."""


_shared = _Shared()


def begin(script: int, *, alone: bool = False) -> None:
    """Share the root of a script, which has not begun; ``alone`` says that nobody else changes any names there."""
    forget_root()
    _shared.alone = alone
    _shared.most_folders = min(_MOST_FOLDERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
    _shared.root = os.open(f"/proc/{script}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def end() -> None:
    """Share nothing any more."""
    forget_root()
    _forget_processes()


def forget_root() -> None:
    """Let each process have a root of its own from now on."""
    forget_folders()
    if _shared.root is not None:
        os.close(_shared.root)
    _shared.root = None


def root() -> int | None:
    """Give the root of all processes, which stays open; nothing where each may have another."""
    return _shared.root


def lasting_root() -> int | None:
    """Give the root of all processes where nobody but these changes any names there."""
    return _shared.root if _shared.alone else None


def folder(path: bytes) -> int | None:
    """Give a directory of the root by its path, which stays open until it is forgotten; nothing where it is not known."""
    return _shared.folders.get(path)


def keep_folder(path: bytes, descriptor: int) -> None:
    """Keep the directory that every process of a script finds by this path, which is alone."""
    if len(_shared.folders) >= _shared.most_folders:
        forget_folders()
    _shared.folders[path] = descriptor


def moved(mode: int) -> None:
    """Say that a file of this mode has another name by now, or none: by one of a directory or a link, paths lead elsewhere."""
    if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        forget_folders()


def forget_folders() -> None:
    """Forget all directories."""
    for descriptor in _shared.folders.values():
        os.close(descriptor)
    _shared.folders.clear()


def share(process: int, number: int) -> int | None:
    """Copy a descriptor of a process; nothing where it can only be had by its name in /proc. Raises ``EBADF``."""
    handle = _shared.processes.get(process)
    if handle is None:
        handle = _hold(process)
    if handle == _NONE:
        return None
    try:
        return copy(handle, number)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise
        # It ended, and another one has its number; or a container forbids this, or a security module does.
        os.close(handle)
        if error.errno == errno.ESRCH:
            del _shared.processes[process]
        else:
            _shared.processes[process] = _NONE
    return None


def copy(handle: int, number: int) -> int:
    """Copy a descriptor of the process that a pidfd holds."""
    result: int = _call(_PIDFD_GETFD, handle, number, 0)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _hold(process: int) -> int:
    if len(_shared.processes) >= _MOST:
        _forget_processes()
    try:
        handle = os.pidfd_open(process)
    except OSError:  # a thread
        handle = _NONE
    _shared.processes[process] = handle
    return handle


def _forget_processes() -> None:
    for handle in _shared.processes.values():
        if handle != _NONE:
            os.close(handle)
    _shared.processes.clear()
