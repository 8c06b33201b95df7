"""The cache kept in order: what killed builds left, what may go, what is still right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rootless_layer.errors import MachineError, RootlessLayerError
from rootless_layer.system.lease import Lease
from rootless_layer.system.removal import remove
from rootless_layer.system.temporary import left_behind

from .layers import LayerCache, is_whole
from .outputs import Outputs
from .room import Kept, entries, put_aside, rubbish, shrink

if TYPE_CHECKING:
    from collections.abc import Iterator


def collect(cache: Path, keep: int | None) -> tuple[list[Kept], list[Kept]]:
    """Remove what killed builds left, here and in ``TMPDIR``, and what was not used for longest.

    Of the latter ``keep`` bytes stay, or everything. Give what was removed, and what would have been but is in use.
    """
    removed = [kept for kept in rubbish(cache) if _remove(kept.path)]
    more, used = ([], []) if keep is None else shrink(cache, keep)
    for path in (*Outputs.within(cache).stale(), *_work()):
        _remove(path)
    return removed + more, used


def _work() -> Iterator[Path]:
    """Give the directories in which this user's scripts may have run, those of builds that run included."""
    yield from map(Path, left_behind(os.environ.get("TMPDIR") or "/tmp", "rootless-layer-"))  # noqa: S108 - as build does


def _remove(path: Path) -> bool:
    gone = put_aside(path)
    if gone is not None:
        remove(str(gone))
    return gone is not None


def _damage(folder: Path) -> str:
    """Say what is wrong with a layer; raises :class:`MachineError` where that cannot be seen."""
    from rootless_layer.layer.blob import open_layer  # noqa: PLC0415 - to list and to collect takes less

    if not is_whole(folder):
        return "its files are not as they were written"
    try:
        open_layer(str(folder)).copy(len)
    except MachineError:
        raise
    except RootlessLayerError as error:
        return "; ".join(error.problems)
    return ""


def verify(cache: Path) -> tuple[list[Kept], list[tuple[Kept, str]]]:
    """Read each layer and compare it with its digest; give those that are right, and those dropped with the reason.

    A derived layer is made again from its sources. Where these changed, it goes as well. A snapshot is compared
    with its index. One that is in use is not dropped, but said to be wrong.
    """
    from rootless_layer.image.snapshot import damage  # noqa: PLC0415 - to list and to collect takes less

    layers = LayerCache.within(cache)
    right, wrong = [], []
    for kept in entries(cache, "layer"):
        if (lease := Lease.shared(kept.path)) is None:
            continue
        try:
            problem = _damage(kept.path)
        except MachineError:
            lease.release()
            raise
        if problem:
            layers.drop(kept.path, lease)
            wrong.append((kept, problem))
        else:
            lease.release()
            right.append(kept)
    for kept in entries(cache, "snapshot"):
        if (lease := Lease.shared(kept.path)) is None:
            continue
        try:
            problem = damage(kept.path)
        finally:
            lease.release()
        if not problem:
            right.append(kept)
        elif _remove(kept.path):
            wrong.append((kept, problem))
        else:
            wrong.append((kept, f"{problem}; it is in use, and stays for now"))
    return right, wrong
