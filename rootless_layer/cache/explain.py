"""Two layers of the cache compared by what decides their bytes: ``rootless-layer cache explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_layer.errors import InputError

from .named import named
from .parts import Key, differences
from .room import entries, using

if TYPE_CHECKING:
    from pathlib import Path

    from .parts import Difference
    from .room import Kept


def explain(cache: Path, old: str, new: str) -> list[Difference]:
    """Say in what the keys of two layers differ, each named by its key, its path or the digest of its blob.

    Of a key or a digest the first digits are enough. Raises :class:`InputError` for a name that means no layer or
    several, and for a layer whose key was not kept.
    """
    with using(cache):
        layers = sorted(entries(cache, "layer"), key=lambda kept: kept.path)
    return differences(*(_key(named(layers, name, "layer")) for name in (old, new)))


def _key(kept: Kept) -> Key:
    key = Key.read(kept.path)
    if key is None:
        message = f"{kept.path}: what its key was made of was not kept"
        raise InputError(message, hint="An earlier version of this program has built it: build it anew, as with make --refresh.")
    return key
