"""Whether files in the cache are what they were when they were written, as far as sizes and times tell."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

from rootless_layer.layer.description import LAYER_JSON

from .own import CACHE_JSON

if TYPE_CHECKING:
    from pathlib import Path

_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
Stamps = dict[str, list[int]]


def stamps(folder: Path) -> Stamps:
    """Give size in bytes and time in nanoseconds of every file in a directory, by relative path.

    The time is that of the last change of the data, which a new hard link leaves as it is.
    """
    found: Stamps = {}
    for here, _folders, files in os.walk(folder):
        for name in files:
            path = os.path.join(here, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = [status.st_size, status.st_mtime_ns]
    return found


def is_whole(folder: Path) -> bool:
    """Say whether an entry's files are what they were when it was made, as far as sizes and times tell."""
    try:
        said = json.loads((folder / CACHE_JSON).read_bytes())
        if said["key"] != folder.name or LAYER_JSON not in said["files"]:
            return False
        for name, (size, time) in said["files"].items():
            status = os.lstat(folder / name)
            if (status.st_size, status.st_mtime_ns) != (size, time):
                return False
    except OSError as error:
        if error.errno in _TOO_MANY:  # that is no fault of the entry's
            raise
        return False
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True
