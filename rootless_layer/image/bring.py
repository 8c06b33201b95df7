"""Layers that a registry has, brought here several at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.fork import Tally, for_each_forked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless_layer.layer.blob import LayerBlob, Piece
    from rootless_layer.oci.descriptor import Platform


@attrs.frozen(slots=True)
class Fetching:
    """What of a registry's image is brought here: with a ``platform`` what may be for that, else all.

    Layers come at once, or ``later``, when they are read: then their media types say how they are compressed. With
    ``referrers`` comes what is attached.
    """

    platform: Platform | None = None
    later: bool = False
    progress: Report = silent
    referrers: bool = False


EVERYTHING = Fetching()
_BATCH_BYTES = 8 << 20
"""To send or get so much takes several times as long as to start a process."""


def bring(layers: Iterable[LayerBlob], progress: Report = silent) -> None:
    """Bring those of the layers here that only a registry has; raises what bringing one of them raises.

    ``progress`` is called on the calling thread.
    """
    bring_pieces((layer.piece for layer in layers if layer.piece is not None), progress)


def bring_pieces(pieces: Iterable[Piece], progress: Report = silent) -> None:
    """Bring blobs here as :func:`bring` does, the largest first."""
    missing = sorted({piece.remote: piece for piece in pieces if not piece.is_here}.values(), key=lambda piece: -piece.size)
    if not missing:
        return
    done, total = Tally(len(missing)), sum(piece.size for piece in missing)

    def get(numbers: range) -> None:
        for number in numbers:
            remote = missing[number].remote
            if remote is not None:
                remote.bring(partial(done.add, number))

    for_each_forked(batches([piece.size for piece in missing]), get, lambda: progress(Progress("fetch", done.total, total)))


def batches(sizes: Sequence[int]) -> list[range]:
    """Give the numbers of blobs in runs, of which each is a process's: small ones go together, over one connection."""
    found, begin, volume = [], 0, 0
    for number, size in enumerate(sizes, 1):
        volume += size
        if volume >= _BATCH_BYTES or number == len(sizes):
            found.append(range(begin, number))
            begin, volume = number, 0
    return found
