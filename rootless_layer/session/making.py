"""The errors of the tree for the scripts: each names the path, and says what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from rootless_layer.errors import UnrepresentableError
from rootless_layer.system.machine import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def making(path: bytes) -> Iterator[None]:
    """Raise :class:`OutputError`, or :class:`UnrepresentableError` for a path too long, where a file cannot be made."""
    try:
        yield
    except OSError as error:
        place, doing = os.fsdecode(error.filename2 or error.filename or path), "the tree for the scripts cannot be made"
        if error.errno == errno.ENAMETOOLONG:
            message = f"{place}: {doing}: the path is too long by what Linux takes"
            raise UnrepresentableError(
                message, hint="Set TMPDIR to a directory of a shorter name, or shorten the path."
            ) from error
        raise unwritable(error, place, doing, hint="Set TMPDIR to a directory with room.") from error
