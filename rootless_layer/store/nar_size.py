"""The size of a store path as a NAR, the archive that Nix hashes: what Nix calls its ``narSize``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless_layer.tree.walk import walk

if TYPE_CHECKING:
    from .closure import Closure, StorePath


def nar_sizes(closure: Closure) -> dict[StorePath, int]:
    """Give each path's ``narSize`` in bytes: as the closure's source gave it, else reckoned from the disk.

    Both are the same number, so that what is decided by it does not depend on where it comes from.
    Raises :class:`SourceError` for what cannot be read.
    """
    return {path: closure.sizes.get(path) or nar_size(os.fsencode(closure.location(path))) for path in closure.paths}


def nar_size(top: bytes) -> int:
    """Reckon how long the NAR of a tree is, in bytes, from its names and sizes (Nix manual, "Nix Archive (NAR) Format")."""
    whole = _words("nix-archive-1")
    for relative, on_disk, status in walk(top):
        whole += _words("(", "type", ")")
        if relative:
            whole += _words("entry", "(", "name", "node", ")") + _word(len(relative) - relative.rfind(b"/") - 1)
        if stat.S_ISREG(status.st_mode):
            whole += _words("regular", "contents") + _word(status.st_size)
            if status.st_mode & stat.S_IXUSR:
                whole += _words("executable", "")
        elif stat.S_ISLNK(status.st_mode):
            whole += _words("symlink", "target") + _word(len(os.readlink(on_disk)))
        else:
            whole += _words("directory")
    return whole


def _words(*texts: str) -> int:
    return sum(_word(len(text)) for text in texts)


def _word(length: int) -> int:
    """Give what a string takes: its length in 8 bytes, then itself, padded to a multiple of 8."""
    return 8 + (length + 7) // 8 * 8
