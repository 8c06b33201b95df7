"""Files that the kernel copies, files that go to the disk while they are written, and what is written to like a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import mmap
import os
import struct
from typing import Any, Protocol

from .namespaces import begin_writeback

_CHUNK = 1 << 30
_AHEAD = 8 << 20
_WINDOW, _ALIGNED = 16 << 20, 1 << 16
_CLONE, _RANGE = 0x4020940D, struct.Struct("=qQQQ")  # ioctl_ficlonerange(2)
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
        """Write the first ``size`` bytes of a file, which is open at a descriptor; nothing was written before.

        The data is shared where the file system can. Else it goes to the disk without a second copy in memory, where that can
        be. Raises :class:`OSError` where the file has fewer bytes.
        """
        done = _cloned(source, self.fileno(), size) or _passed(source, str(self.name), size)
        os.lseek(self.fileno(), done, os.SEEK_SET)
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


def _cloned(source: int, target: int, size: int) -> int:
    """Have a new file share the first bytes of another; give how many: whole blocks, or none where the file system cannot."""
    size -= size % _ALIGNED
    if not size:  # which would mean all of it
        return 0
    try:
        fcntl.ioctl(target, _CLONE, _RANGE.pack(source, 0, size, 0))
    except OSError:
        return 0
    return size


def _passed(source: int, path: str, size: int) -> int:
    """Write the first bytes of a file to a new one's path from where the kernel has them in memory (O_DIRECT); give how many.

    What cannot be written so is left to the caller, whatever the reason is.
    """
    done = 0
    with contextlib.suppress(OSError, ValueError):  # the latter where the source is shorter
        target = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            while count := min(size - done, _WINDOW) // _ALIGNED * _ALIGNED:
                with mmap.mmap(source, count, mmap.MAP_SHARED, mmap.PROT_READ, offset=done) as window:
                    done += os.pwrite(target, window, done)
        finally:
            os.close(target)
    return done
