"""The cache kept in order: what killed builds left, what may go, what is still right."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from rootless_layer.errors import MachineError, OutputError, RootlessLayerError, UnreadableError
from rootless_layer.image.snapshot import damage
from rootless_layer.layer.blob import open_layer
from rootless_layer.system.lease import Lease
from rootless_layer.system.removal import remove
from rootless_layer.system.temporary import PREFIX, left_behind, temporary_folder

from .layers import LayerCache
from .outputs import Outputs
from .own import stale
from .proof import wrong_segments
from .room import ELSEWHERE, Kept, Tidied, entries, put_aside, rubbish, rubbish_at, shrink, using
from .targets import Targets
from .whole import is_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def collect(cache: Path, keep: int | None) -> Tidied:
    """Remove what killed builds left, here and in ``TMPDIR``, and what was not used for longest.

    Of the latter ``keep`` bytes stay, or everything. Records of outputs and of make's files
    that are not there any more go as well. Raises :class:`OutputError` where the cache may not be read.
    """
    with using(cache):
        left = Tidied()
        records = (*stale(Outputs.within(cache).place), *stale(Targets.within(cache).place))
        for kept in [*rubbish(cache), *_rubbish(records), *_rubbish(_work())]:
            if (gone := left.take(kept)) is not None:
                remove(str(gone))
        more = Tidied() if keep is None else shrink(cache, keep)
    # A running build's own directories are no part of what would go but for their use.
    return Tidied(left.removed + more.removed, more.used, left.refused + more.refused)


def _rubbish(paths: Iterable[Path]) -> Iterator[Kept]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            yield rubbish_at(path)


def _work() -> Iterator[Path]:
    """Give the directories in which this user's scripts may have run, those of builds that run included."""
    yield from map(Path, left_behind(temporary_folder(), PREFIX))


def _remove(path: Path) -> bool:
    gone = put_aside(path)
    if gone is not None:
        remove(str(gone))
    return gone is not None


def _damage(folder: Path) -> str:
    """Say what is wrong with a layer; raises :class:`MachineError` where that cannot be seen."""
    if not is_whole(folder):
        return "its files are not as they were written"
    try:
        open_layer(str(folder)).verify()
        return wrong_segments(folder)
    except MachineError:
        raise
    except RootlessLayerError as error:
        return "; ".join(error.problems)


def verify(cache: Path) -> tuple[list[Kept], list[tuple[Kept, str]]]:
    """Read each layer and compare it with its digest; give those that are right, and those dropped with the reason.

    A derived layer is made again from its sources. Where these changed, it goes as well. So does a layer of which a store path
    would not be read again, although it is another by now. A snapshot is compared
    with its index. One that is in use is not dropped, but said to be wrong. Raises :class:`OutputError` where
    the cache may not be read, or a damaged entry not be dropped.
    """
    with using(cache):
        return _verify(cache)


def _verify(cache: Path) -> tuple[list[Kept], list[tuple[Kept, str]]]:
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
        except UnreadableError as error:
            raise OutputError(*error.problems, hint=ELSEWHERE) from error
        finally:
            lease.release()
        if not problem:
            right.append(kept)
        elif _remove(kept.path):
            wrong.append((kept, problem))
        else:
            wrong.append((kept, f"{problem}; it is in use, and stays for now"))
    return right, wrong
