"""What the keeper and its caller say to each other: lines of JSON."""

from __future__ import annotations

import errno
import os
from typing import Any

from rootless_layer.system.machine import unwritable


def first_line() -> bytes:
    """Read stdin up to the end of a line, and not a byte further."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(1)
        line += byte
    return line


def native(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Undo what the caller does to bytes so that JSON can carry them in any locale."""
    if isinstance(value, str):
        return os.fsdecode(value.encode("latin-1"))
    if isinstance(value, list):
        return [native(part) for part in value]
    if isinstance(value, dict):
        return {name: native(part) for name, part in value.items()}
    return value


def told(error: OSError | MemoryError, work: str, doing: str) -> list[Any]:
    """Say of an error what the parent is to raise."""
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    said = unwritable(error, work, doing, hint="Set TMPDIR to another directory.")
    return [type(said).__name__, [*said.problems], said.hint]
