"""The size of a store path as a NAR, the archive that Nix hashes: what Nix calls its ``narSize``."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from rootless_layer.system.fork import Tally, cores, for_each_forked
from rootless_layer.tree.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .closure import Closure, StorePath

_FEW = 8
"""So many paths are looked at in less time than forks take."""


def nar_sizes(closure: Closure) -> dict[StorePath, int]:
    """Give each path's ``narSize`` in bytes: as the closure's source gave it, else reckoned from the disk.

    Both are the same number, so that what is decided by it does not depend on where it comes from.
    Raises :class:`SourceError` for what cannot be read.
    """
    unknown = [path for path in closure.paths if not closure.sizes.get(path)]
    reckoned = Tally(len(unknown))

    def reckon(places: Iterable[int]) -> None:
        for place in places:
            reckoned.set(place, nar_size(os.fsencode(closure.location(unknown[place]))))

    shares = 1 if len(unknown) < _FEW else cores()
    every = [range(first, len(unknown), shares) for first in range(shares)]
    if shares == 1:
        reckon(*every)
    else:
        for_each_forked(every, reckon, _nothing)
    found = dict(zip(unknown, reckoned, strict=True))
    return {path: found.get(path) or closure.sizes[path] for path in closure.paths}


def _nothing() -> None:
    """Do nothing while others reckon."""


def nar_size(top: bytes) -> int:
    """Reckon how long the NAR of a tree is, in bytes, from its names and sizes (Nix manual, "Nix Archive (NAR) Format")."""
    whole = _words("nix-archive-1")
    for relative, _, status in walk(top):
        mode, size = status.st_mode, status.st_size
        whole += _ENTRY + _word(len(relative) - relative.rfind(b"/") - 1) if relative else _NODE
        if stat.S_ISREG(mode):
            whole += _REGULAR + _word(size) + (_EXECUTABLE if mode & stat.S_IXUSR else 0)
        else:
            whole += _LINK + _word(size) if stat.S_ISLNK(mode) else _FOLDER  # a link's size is that of what it says
    return whole


def _words(*texts: str) -> int:
    return sum(_word(len(text)) for text in texts)


def _word(length: int) -> int:
    """Give what a string takes: its length in 8 bytes, then itself, padded to a multiple of 8."""
    return 8 + (length + 7) // 8 * 8


_NODE = _words("(", "type", ")")
_ENTRY = _words("entry", "(", "name", "node", ")") + _NODE
_REGULAR, _EXECUTABLE = _words("regular", "contents"), _words("executable", "")
_LINK, _FOLDER = _words("symlink", "target"), _words("directory")
