"""Files that the kernel copies, files that go to the disk while they are written, and what is written to like a file."""

from __future__ import annotations

import errno
import io
import os
from typing import Any, Protocol

from .namespaces import begin_writeback

_CHUNK = 1 << 30
_AHEAD = 8 << 20
_NO_REFLINK = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})


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


class Sink(Protocol):
    """Where bytes go: a file, or what looks like one."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Take some of the bytes, from their begin, and give how many."""


def write_all(sink: Sink, part: memoryview) -> None:
    """Write all of a part, of which a raw file may take less than it is given."""
    while part:
        part = part[sink.write(part) :]


class WritebackFile(io.FileIO):
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

    def copy_from(self, source: int, size: int) -> None:
        """Write the first ``size`` bytes of a file, which is open at a descriptor, behind what was written before.

        The data is shared where the file system can. Raises :class:`OSError` where the file has fewer.
        """
        done = 0
        while done < size:
            count = self._copy(source, done, min(size - done, _CHUNK))
            if not count:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            done += count
        self._written = self._begun = self._written + size

    def _copy(self, source: int, place: int, count: int) -> int:
        try:
            return os.copy_file_range(source, self.fileno(), count, place)
        except OSError as error:
            if error.errno not in _NO_REFLINK:
                raise
            return os.sendfile(self.fileno(), source, place, count)

    def sync(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self.fileno())
