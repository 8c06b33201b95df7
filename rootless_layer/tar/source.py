"""The files whose bytes go into a tar: each is to be as it was when it was planned."""

from __future__ import annotations

import contextlib
import os
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from rootless_layer.errors import RootlessLayerError, SourceError
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.tree import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
"""How it is opened."""
STATE = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns")
"""What of a status is a file's state."""


class Source(NamedTuple):
    """A file whose bytes go behind the header of a path, and the state that it is to be in, where that is known.

    The time of the inode's change does not count: another build may link to the file.
    """

    path: bytes
    source: bytes
    size: int
    state: tuple[int, ...] | None

    def is_right(self, count: int, status: os.stat_result) -> bool:
        """Say whether so many bytes were read of it as it is to be."""
        return count == self.size and (self.state is None or STATE(status) == self.state)

    def changed(self) -> SourceError:
        """Make the error of one that is not what was planned: libarchive would pad or cut it silently."""
        return SourceError(
            f"{os.fsdecode(self.source)}: changed while {shown(self.path)} was being written from it",
            hint="Build again when nothing else writes to it.",
        )

    def unreadable(self, error: OSError) -> RootlessLayerError:
        """Make the error of one that cannot be read."""
        doing = f"cannot be read for {shown(self.path)}"
        return unreadable(error, os.fsdecode(self.source), doing, hint="Build again when nothing else removes files.")

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Raise :meth:`unreadable`'s error where it cannot be read."""
        try:
            yield
        except OSError as error:
            raise self.unreadable(error) from error
