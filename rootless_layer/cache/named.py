"""Entries of the cache by what a person calls them: ``rootless-layer cache explain`` and ``cache rm``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError

from .room import Tidied, discard, entries, using

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .room import Kept

_LEAST_DIGITS = 6


def named(entries: Iterable[Kept], name: str, noun: str = "entry") -> Kept:
    """Give the entry that is meant by its key, its path or its digest: of a key or a digest the first digits are enough.

    Raises :class:`InputError` for a name that means none, or several; ``noun`` is what they are.
    """
    found = [kept for kept in entries if _means(name, kept)]
    if not found:
        message = f"{name}: is no {noun} of the cache"
        raise InputError(message, hint="`rootless-layer cache ls` lists digests and ids, and paths that end with the key.")
    if len(found) > 1:
        message = f"{name}: may be any of {len(found)} entries: {', '.join(kept.path.name for kept in found)}"
        raise InputError(message, hint="Name one by its key, as it stands here.")
    return found[0]


def remove_named(cache: Path, names: Sequence[str]) -> Tidied:
    """Remove layers, unpacked bases and mounted caches by their names, but for those that are in use.

    The id of a mounted cache means all of this id, and a digest a layer and the base that it was unpacked as.
    Raises :class:`InputError` before anything is removed, and :class:`OutputError` where the cache may not be read.
    """
    with using(cache):
        kept = sorted(entries(cache), key=lambda each: each.path)
        found: dict[Path, Kept] = {}
        for name in names:
            meant = [each for each in kept if (each.kind == "mount" and each.name == name) or _means(name, each)]
            alike = len({each.name for each in meant}) == 1
            found |= {each.path: each for each in (meant if alike else [named(kept, name)])}
        return discard(cache, found.values())


def _means(name: str, kept: Kept) -> bool:
    if len(name) >= _LEAST_DIGITS and kept.path.name.startswith(name):
        return True
    digits = name.removeprefix("sha256:")
    if digits != name and len(digits) >= _LEAST_DIGITS and kept.digest.startswith(name):
        return True
    return os.path.realpath(name) == os.path.realpath(kept.path)
