"""The set-ID bits that go when somebody other than root writes to a file: the kernel takes them away at the write (inode(7)).

Writes are the kernel's, and no call tells of one. So a file with such bits that somebody has opened is held, with its size, as
long as the process lives: another size shows that it has been written to. Bytes that are written over others do not show.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from .credentials import FSETID
from .record import inode_of

if TYPE_CHECKING:
    from .credentials import Credentials
    from .messages import Inode
    from .record import Record, Row

_MOST = 64


class _Open(NamedTuple):
    """A file that is held, the process that has opened it, its size at that time, and the bits that a write takes away."""

    descriptor: int
    process: int
    size: int
    bits: int


class Written:
    """Takes set-ID bits away."""

    def __init__(self, record: Record) -> None:
        """Change the rows of a record."""
        self._record = record
        self.open: dict[Inode, _Open] = {}
        """Files that may be written to."""

    def cut(self, who: Credentials, descriptor: int, status: os.stat_result) -> None:
        """Take the bits of a file, which is held, that somebody gives another length."""
        self._take(descriptor, status, _bits(who, self._record.of(status)))

    def note(self, process: int, who: Credentials, descriptor: int, status: os.stat_result) -> None:
        """Note that somebody's process opens a file, which is held, to write to it."""
        bits, inode = _bits(who, self._record.of(status)), inode_of(status)
        if bits:
            if inode in self.open or len(self.open) >= _MOST:
                self._forget(inode if inode in self.open else next(iter(self.open)))
            self.open[inode] = _Open(os.dup(descriptor), process, status.st_size, bits)

    def settle(self) -> None:
        """Look at the files that may have been written to by now."""
        for inode, (descriptor, process, size, bits) in list(self.open.items()):
            lives, status = _lives(process), os.fstat(descriptor)
            if status.st_size != size:
                self._take(descriptor, status, bits)
            if status.st_size != size or not status.st_nlink or not lives:
                self._forget(inode)

    def end(self) -> None:
        """Let go of all files."""
        self.settle()
        for inode in list(self.open):
            self._forget(inode)

    def _take(self, descriptor: int, status: os.stat_result, bits: int) -> None:
        row = self._record.of(status)
        if row.mode & bits and status.st_nlink:
            self._record.change(descriptor, status, row._replace(mode=row.mode & ~bits))

    def _forget(self, inode: Inode) -> None:
        os.close(self.open.pop(inode).descriptor)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:  # it is no more, or another's has its number
        return False
    return True


def _bits(who: Credentials, row: Row) -> int:
    """Say which bits a write of somebody's takes away."""
    if who.has(FSETID) or not stat.S_ISREG(row.mode):
        return 0
    keeps_group = not row.mode & stat.S_IXGRP and row.gid in who.all_groups
    return row.mode & (stat.S_ISUID | (0 if keeps_group else stat.S_ISGID))
