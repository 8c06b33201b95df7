"""Files that the kernel copies, and files that go to the disk while they are written."""

from __future__ import annotations

import errno
import io
import os
from typing import Any

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

    def settle(self) -> None:
        """Wait until it is on the disk."""
        os.fsync(self.fileno())
