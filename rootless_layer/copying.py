"""A file's bytes copied, or shared where the file system can."""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING, Any

from .errors import SourceError
from .machine import unreadable
from .namespace import begin_writeback
from .tree import stamp

if TYPE_CHECKING:
    from .tree import Entry

_CHUNK = 1 << 30
_AHEAD = 8 << 20
_NO_REFLINK = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})


def copy_source(entry: Entry, path: bytes) -> None:
    """Copy an entry's bytes to a new file; share them where the file system can.

    Raises :class:`SourceError` where the source is not what it was when it was planned.
    """
    target = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        try:
            source = os.open(entry.source or b"", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(error, os.fsdecode(entry.source or b"")) from error
        try:
            copied = transfer(source, target)
            same = entry.stamp is None or stamp(os.fstat(source))[:4] == entry.stamp[:4]
        finally:
            os.close(source)
    finally:
        os.close(target)
    if copied != entry.size or not same:
        message = f"{os.fsdecode(entry.source or b'')}: changed while it was being copied"
        raise SourceError(message, hint="Build again when nothing else writes to it.")


def transfer(source: int, target: int) -> int:
    """Copy from one descriptor to another, the data shared where the file system can; give how many bytes."""
    copied = 0
    try:
        while count := os.copy_file_range(source, target, _CHUNK):
            copied += count
    except OSError as error:
        if error.errno not in _NO_REFLINK or copied:
            raise
        while count := os.sendfile(target, source, None, _CHUNK):
            copied += count
    return copied


class Flowing(io.FileIO):
    """A new file that goes to the disk while it is written, so that fsync(2) has little left to wait for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Make it, or empty what is there."""
        super().__init__(path, "wb")
        os.fchmod(self.fileno(), os.fstat(self.fileno()).st_mode & 0o777 | 0o600)  # whatever the umask is
        self._begun = self._written = 0

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Write all of it, behind what was written before."""
        with memoryview(data) as whole:
            count = super().write(whole)
            while count < len(whole):
                with whole[count:] as rest:
                    count += super().write(rest)
        self._written += count
        if self._written - self._begun >= _AHEAD:
            begin_writeback(self.fileno(), self._begun, self._written - self._begun)
            self._begun = self._written
        return count

    def settle(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self.fileno())
