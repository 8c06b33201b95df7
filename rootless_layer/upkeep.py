"""The cache kept in order: what is in it, what may go, what is still right.

Layers and the snapshots of bases are in it, and what builds were about to make when they
were killed. What a running build uses is leased, and stays.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from .cache import LayerCache, is_whole
from .errors import InputError, MachineError, RootlessLayerError
from .lease import Lease
from .made import ASIDE, LAYER_JSON
from .record import Outputs
from .removal import remove
from .temporary import left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["layer", "snapshot", "rubbish"]
_FOLDERS: tuple[tuple[str, Kind], ...] = (("layers", "layer"), ("snapshots", "snapshot"))
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_WORK = re.compile("rootless-layer-[0-9a-f]{16}")
_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)


@attrs.frozen(slots=True)
class Kept:
    """Something in the cache: its size in bytes, and when it was last used, in seconds since 1970.

    ``digest`` is a layer's blob's, a snapshot's chain ID.
    """

    kind: Kind
    path: Path
    size: int
    used: float
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as ``--json`` prints it."""
        return {"kind": self.kind, "path": str(self.path), "bytes": self.size, "lastUsed": int(self.used), "digest": self.digest}


def parse_size(text: str) -> int:
    """Read a number of bytes, with K, M, G or T for powers of 1024; raises :class:`InputError`."""
    found = _SIZE.fullmatch(text)
    if found is None:
        message = f"{text!r} is not a size: write it as 500M or 20G"
        raise InputError(message)
    return int(found[1]) << _UNITS[found[2].upper()]


def contents(cache: Path) -> list[Kept]:
    """List what is in the cache, the last used first."""
    found = [kept for folder, kind in _FOLDERS for kept in _in(cache / folder, kind)]
    return sorted(found, key=lambda kept: (-kept.used, kept.path))


def _in(folder: Path, kind: Kind) -> Iterator[Kept]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        try:
            used = path.stat().st_mtime
        except FileNotFoundError:
            continue  # it went meanwhile
        if name.startswith(ASIDE) or _WORK.fullmatch(name):  # a script upon a base may run beside its snapshots
            yield Kept("rubbish", path, _size(path), used)
        else:
            yield Kept(kind, path, _size(path), used, f"sha256:{name}" if kind == "snapshot" else _digest(path))


def _size(folder: Path) -> int:
    """Give what the files take, those that stand elsewhere as well included."""
    total = 0
    for here, _folders, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _digest(folder: Path) -> str:
    try:
        return str(json.loads((folder / LAYER_JSON).read_bytes())["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def collect(cache: Path, keep: int) -> tuple[list[Kept], list[Kept]]:
    """Remove what killed builds left, here and in ``TMPDIR``, and what was not used for longest.

    Of the latter ``keep`` bytes stay. Give what was removed, and what would have been but is in use.
    """
    found = contents(cache)
    total = sum(kept.size for kept in found if kept.kind != "rubbish")
    removed, used = [], []
    alone = Lease.exclusive(cache / "snapshots")  # nobody is unpacking a base
    for kept in reversed(found):
        rubbish = kept.kind == "rubbish"
        if not rubbish and total <= keep:
            continue
        if (alone is not None or kept.kind != "snapshot") and _remove(kept.path):
            removed.append(kept)
            total -= 0 if rubbish else kept.size
        elif not rubbish and os.path.lexists(kept.path):
            used.append(kept)
    if alone is not None:
        alone.release()
    for path in (*Outputs.within(cache).stale(), *_work()):
        _remove(path)
    return removed, used


def _work() -> Iterator[Path]:
    """Give the directories in which this user's scripts may have run, those of builds that run included."""
    yield from map(Path, left_behind(os.environ.get("TMPDIR") or "/tmp", "rootless-layer-"))  # noqa: S108 - as build does


def _remove(path: Path) -> bool:
    lease = Lease.exclusive(path)
    if lease is None:
        return False
    gone = path.with_name(f"{ASIDE}{os.urandom(8).hex()}")
    try:
        path.rename(gone)  # so that whoever comes now does not find it half removed
    finally:
        lease.release()
    remove(str(gone))
    return True


def _damage(folder: Path) -> str:
    """Say what is wrong with a layer; raises :class:`MachineError` where that cannot be seen."""
    from .blob import open_layer  # noqa: PLC0415 - to list and to collect takes less

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
    from .snapshot import damage  # noqa: PLC0415 - to list and to collect takes less

    layers = LayerCache.within(cache)
    right, wrong = [], []
    for kept in _in(layers.place, "layer"):
        if kept.kind == "rubbish" or (lease := Lease.shared(kept.path)) is None:
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
    for kept in _in(cache / "snapshots", "snapshot"):
        if kept.kind == "rubbish" or (lease := Lease.shared(kept.path)) is None:
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
