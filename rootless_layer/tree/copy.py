"""A file's bytes copied, or shared where the file system can."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_layer.errors import SourceError
from rootless_layer.system.files import transfer
from rootless_layer.system.machine import unreadable

from .tree import stamp

if TYPE_CHECKING:
    from .tree import Entry


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
