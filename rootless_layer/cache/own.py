"""What in the cache's directory is the cache's own.

The directory may have other people's files in it, also below the names of the cache's folders.
What is not of one of these forms is neither listed nor counted nor removed.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING

from rootless_layer.tree.places import LAYERS, MOUNT_FILES, MOUNT_JSON, MOUNTS, OF_A_BUILD, OUTPUTS, SNAPSHOTS, TARGETS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CACHE_JSON, MADE_JSON = "cache.json", "made.json"
_KEY = re.compile("[0-9a-f]{64}")
# One file of two tells an entry that was damaged, too.
_MARKS = {
    LAYERS: (CACHE_JSON, "layer.json"),
    SNAPSHOTS: ("index.json", "tree"),
    OUTPUTS: (MADE_JSON,),
    TARGETS: (MADE_JSON,),
    MOUNTS: (MOUNT_JSON, MOUNT_FILES),
}


def is_key(name: str) -> bool:
    """Say whether entries have such names: a SHA-256 digest in hexadecimal."""
    return _KEY.fullmatch(name) is not None


def is_entry(path: Path) -> bool:
    """Say whether a path in one of the cache's folders is an entry; one of which that may not be seen counts as one."""
    return is_key(path.name) and _is_folder(path) and any(_may_be_there(path / mark) for mark in _MARKS[path.parent.name])


def is_work(path: Path) -> bool:
    """Say whether a path is what a build has for itself; a script upon a base may run beside its snapshots."""
    return OF_A_BUILD.fullmatch(os.fsencode(path.name)) is not None and _is_folder(path)


def listed(folder: Path) -> Iterator[Path]:
    """Give what is in one of the cache's folders, in order; nothing where that is not there."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        yield folder / name


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _may_be_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def stale(folder: Path) -> Iterator[Path]:
    """Give the records in a folder of what is not there any more, and those that were half removed."""
    for path in listed(folder):
        if not is_entry(path):
            if is_work(path):
                yield path
            continue
        try:
            there = os.path.lexists(json.loads((path / MADE_JSON).read_bytes())["path"])
        except (OSError, ValueError, KeyError, TypeError):
            there = False
        if not there:
            yield path
