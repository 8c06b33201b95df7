"""Whether a process may read, write, execute or search a file, by the record (path_resolution(7)).

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from rootless_layer.system.acl import ACCESS, parse, permitted

from .caller import Caller, Named
from .credentials import DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
from .held import fail, held, is_proc

if TYPE_CHECKING:
    from .changes import Kept
    from .credentials import Credentials
    from .record import Record
    from .ways import Start

READ, WRITE, EXECUTE = 4, 2, 1


def may(record: Record, who: Credentials, want: int, status: os.stat_result) -> bool:
    """Say whether somebody may read (4), write (2) or execute (1) a file, by what the record says that it is."""
    row = record.of(status)
    pairs = record.attributes.get((status.st_dev, status.st_ino), {})
    folder = stat.S_ISDIR(row.mode)
    if ACCESS in pairs and not who.has(DAC_OVERRIDE):
        owner = row.uid == who.users.files
        given = permitted(parse(pairs[ACCESS]), owner, row.gid, who.users.files, who.all_groups)
        return not want & ~given
    return who.may(want, row.mode, row.uid, row.gid, folder=folder)


def check(record: Record, who: Credentials, want: int, status: os.stat_result) -> None:
    """See that somebody may do this to a file; raises ``EACCES``."""
    if not may(record, who, want, status):
        raise fail(errno.EACCES)


def check_writable(record: Record, who: Credentials, folder: int) -> None:
    """See that somebody may change a directory that is held."""
    if not who.has(DAC_OVERRIDE):
        check(record, who, WRITE | EXECUTE, os.fstat(folder))


def check_removable(record: Record, who: Credentials, named: Named, status: os.stat_result) -> None:
    """See that somebody may take a file's name away from a directory."""
    if who.has(DAC_OVERRIDE) and who.has(FOWNER):
        return
    check_writable(record, who, named.folder)
    above = record.of(os.fstat(named.folder))
    owners = {above.uid, record.of(status).uid}
    if above.mode & stat.S_ISVTX and not who.has(FOWNER) and who.users.files not in owners:
        raise fail(errno.EPERM)


class Restricted(Caller):
    """A caller who may not search every directory: each on the way to a file is looked at."""

    __slots__ = ("_kept", "_record", "_who")

    def __init__(self, caller: Caller, who: Credentials, record: Record, kept: Kept | None) -> None:
        """Restrict a caller to what ``who`` may; directories that are ``kept`` are the machine's, and only passed through."""
        super().__init__(caller.cookie, caller.pid, caller.name, caller.audit, caller.arguments)
        self.stepwise = True
        self._who, self._record, self._kept = who, record, kept

    def search(self, folder: int) -> None:
        """See that names may be looked up in a directory; raises ``EACCES``."""
        status = os.fstat(folder)
        if not stat.S_ISDIR(status.st_mode) or may(self._record, self._who, EXECUTE, status):
            return
        if not is_proc(held(folder), status.st_dev) and (self._kept is None or not self._kept.has(folder)):
            raise fail(errno.EACCES)

    def split(self, start: Start, path: bytes) -> Named:
        """Hold the directory of a path, which may be searched for its last name."""
        named = super().split(start, path)
        try:
            self.search(named.folder)
        except OSError:
            os.close(named.folder)
            raise
        return named


def restrict(caller: Caller, who: Credentials, record: Record, kept: Kept | None) -> Caller:
    """Give a caller who may search what these credentials may."""
    if who.has(DAC_OVERRIDE) or who.has(DAC_READ_SEARCH):
        return caller
    return Restricted(caller, who, record, kept)
