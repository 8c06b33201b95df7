"""What goes when a file is written to: its capabilities and, where it is not root who writes, its set-ID bits (inode(7)).

Writes are the kernel's, and no call tells of one. So a file with either that somebody has opened is held, with its size, as
long as the process lives: another size shows that it has been written to. Bytes that are written over others do not show.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from .credentials import FSETID
from .record import CAPABILITY, inode_of, is_written

if TYPE_CHECKING:
    from .credentials import Credentials
    from .messages import Inode
    from .record import Record

_MOST = 64


class _Lost(NamedTuple):
    """What a write takes away: bits of the mode, and the capabilities."""

    bits: int
    capable: bool


class _Open(NamedTuple):
    """A file that is held, the process that has opened it, its size at that time, and what a write takes away."""

    descriptor: int
    process: int
    size: int
    lost: _Lost


class Written:
    """Takes set-ID bits and capabilities away."""

    def __init__(self, record: Record) -> None:
        """Change the rows and attributes of a record."""
        self._record = record
        self.open: dict[Inode, _Open] = {}
        """Files that may be written to."""

    def cut(self, who: Credentials, descriptor: int, status: os.stat_result) -> None:
        """Take from a file, which is held, that somebody gives another length."""
        self._take(descriptor, status, self._lost(who, status))

    def note(self, process: int, who: Credentials, descriptor: int, status: os.stat_result) -> None:
        """Note that somebody's process opens a file, which is held, to write to it."""
        lost, inode = self._lost(who, status), inode_of(status)
        if any(lost):
            if inode in self.open:
                self._forget(inode)
            elif len(self.open) >= _MOST:
                self._forget(next(iter(self.open)))
            self.open[inode] = _Open(os.dup(descriptor), process, status.st_size, lost)

    def settle(self) -> None:
        """Look at the files that may have been written to by now."""
        for inode, (descriptor, process, size, lost) in list(self.open.items()):
            status = os.fstat(descriptor)
            lives = _lives(process) or is_written(descriptor)  # by whom it has handed its descriptor to
            if status.st_size != size:
                self._take(descriptor, status, lost)
            if status.st_size != size or not status.st_nlink or not lives:
                self._forget(inode)

    def end(self) -> None:
        """Let go of all files."""
        self.settle()
        for inode in list(self.open):
            self._forget(inode)

    def _lost(self, who: Credentials, status: os.stat_result) -> _Lost:
        """Say what a write of somebody's takes away."""
        row = self._record.of(status)
        bits = 0
        if stat.S_ISREG(row.mode) and not who.has(FSETID):
            keeps_group = not row.mode & stat.S_IXGRP and row.gid in who.all_groups
            bits = row.mode & (stat.S_ISUID | (0 if keeps_group else stat.S_ISGID))
        return _Lost(bits, inode_of(status) in self._record.capable)

    def _take(self, descriptor: int, status: os.stat_result, lost: _Lost) -> None:
        row = self._record.of(status)
        left = row._replace(mode=row.mode & ~lost.bits)
        if not status.st_nlink:
            return
        if lost.capable and inode_of(status) in self._record.capable:
            self._record.set_attribute(descriptor, status, left, CAPABILITY, None)
        elif left != row:
            self._record.change(descriptor, status, left)

    def _forget(self, inode: Inode) -> None:
        os.close(self.open.pop(inode).descriptor)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:  # it is no more, or another's has its number
        return False
    return True
