"""Directories in use: a lock on each, which the kernel takes back however its holder ends."""

from __future__ import annotations

import fcntl
import os
from typing import Self

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Lease:
    """A lock on a directory, wherever that is renamed to, until it is released, forgotten, or this process has ended.

    It is flock(2)'s. Where a file system has no such locks, a shared lease is given all the
    same, and an exclusive one never: what might be in use there is not removed. Taking one
    raises :class:`OSError` for a directory that may not be opened. Each is an open file of this process.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of a directory that is locked."""
        self._descriptor = descriptor

    @classmethod
    def shared(cls, path: str | os.PathLike[str]) -> Self | None:
        """Keep a directory from being removed; give nothing where it is not there, or just went."""
        return cls._take(path, fcntl.LOCK_SH)

    @classmethod
    def exclusive(cls, path: str | os.PathLike[str], *, wait: bool = False) -> Self | None:
        """Have a directory alone; give nothing where it is not there, or in use and nobody is to ``wait``."""
        return cls._take(path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    @classmethod
    def _take(cls, path: str | os.PathLike[str], how: int) -> Self | None:
        try:
            lease = cls(os.open(path, _OPEN))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(lease._descriptor, how)
        except OSError:
            if how != fcntl.LOCK_SH:
                lease.release()
                return None
        if lease.is_at(path):
            return lease
        lease.release()
        return None

    def fileno(self) -> int:
        """Give the descriptor, which keeps the lock in another process as well."""
        return self._descriptor

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        """Say whether the directory is the one at this path."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(path))
        except OSError:
            return False

    def release(self) -> None:
        """Let others have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        """Let others have it, as nobody here can any more."""
        self.release()
