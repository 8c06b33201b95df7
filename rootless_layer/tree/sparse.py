"""Sparse giants: files of which next to nothing is on the disk, and all of which would be written into a layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError

from .tree import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .tree import Entry

MOST_HOLES = 1 << 30
"""A file may have so many bytes of holes before somebody has to say that this is meant."""
_BLOCK = 512  # of st_blocks (inode(7)), whatever the file system's are


def check_holes(entries: Iterable[Entry]) -> None:
    """Raise one :class:`InputError` that names every file with more holes than :data:`MOST_HOLES`, with both sizes.

    A tar has no holes (OCI layers are to have none, image-spec ``layer.md``): each byte of a
    hole is written, hashed and compressed.
    """
    problems = []
    for entry in entries:
        if entry.size > MOST_HOLES and entry.link is None and entry.source is not None:
            try:
                there = os.stat(entry.source).st_blocks * _BLOCK
            except OSError:
                continue  # whoever reads it says what is wrong
            if entry.size - there > MOST_HOLES:
                sizes = f"{_size(entry.size)}, of which {_size(there)} are on the disk"
                problems.append(f"{shown(entry.path)}: a sparse file of {sizes}")
    if problems:
        raise InputError(*problems, hint="Leave it out, or remove it in the script; or allow it with --allow-sparse.")


def _size(count: int) -> str:
    """Write a number of bytes for a person."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.1f} {unit}"
    return f"{count} bytes"
