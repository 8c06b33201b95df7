"""A blob's bytes against what is said of them: digest, size, compression, diff ID, and a layer's tar."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import RootlessLayerError, SourceError
from rootless_layer.layer.contents import Contents
from rootless_layer.layer.soundness import check_ending
from rootless_layer.oci.descriptor import ALGORITHMS
from rootless_layer.system.machine import NOBODYS_FAULT
from rootless_layer.tar.decompression import decompressed, kind_of
from rootless_layer.tar.read import Member, read_members

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.layer.blob import Piece
    from rootless_layer.oci.findings import Finder
    from rootless_layer.tar.feed import Consume, Give


@attrs.frozen(slots=True)
class Reading:
    """What a layer's blob holds: its contents, its diff ID and the size of its tar in bytes.

    It is not ``whole`` where something kept it from being read to the end; a problem says what.
    """

    contents: Contents
    diff_id: str
    size: int
    whole: bool


class _Passing:
    """Counts and hashes a tar on its way."""

    def __init__(self, give: Give) -> None:
        self.give = give
        self.size = 0
        self.hash = hashlib.sha256()

    def __call__(self, consume: Consume) -> None:
        def count(part: memoryview) -> None:
            self.size += len(part)
            self.hash.update(part)
            consume(part)

        self.give(count)


def read_tar(give: Give, where: str, finder: Finder) -> Reading:
    """Read a layer's tar as far as that is possible; what is wrong with it as a tar is a problem at ``where``.

    Raises :data:`NOBODYS_FAULT`: what this machine cannot read is no problem of the tar's.
    """
    members: list[Member] = []
    passing = _Passing(give)
    whole = True
    try:
        ending = read_members(passing, where, members.append)
    except NOBODYS_FAULT:
        raise
    except RootlessLayerError as error:
        finder.problem(where, "; ".join(error.problems))
        whole = False
    else:
        check_ending(where, ending, finder)
        whole = not ending.damage
    return Reading(Contents.of(members), f"sha256:{passing.hash.hexdigest()}", passing.size, whole)


def read_blob(piece: Piece, where: str, finder: Finder) -> Reading:
    """Read the layer that a piece of a file holds, however it is compressed."""

    def give(consume: Consume) -> None:
        for part in decompressed(piece.path, offset=piece.offset, size=piece.size):
            consume(memoryview(part))

    return read_tar(give, where, finder)


def check_compression(piece: Piece, kind: str, where: str, finder: Finder, *, told: Callable[[str, str], None]) -> None:
    """Compare how a blob begins with how its media type says that it is compressed; ``told`` is told where they differ."""
    try:
        found = kind_of(piece.path, piece.offset, piece.size)
    except NOBODYS_FAULT:
        raise
    except SourceError as error:
        finder.problem(where, "; ".join(error.problems))
        return
    if found != kind and piece.size:
        names = {"none": "not compressed"}
        told(where, f"the media type says {names.get(kind, kind)}, and the bytes are {names.get(found, found)}")


def check_digest(piece: Piece, digest: str, where: str, finder: Finder) -> None:
    """Compare a blob's bytes with its digest."""
    algorithm, _, encoded = digest.partition(":")
    if algorithm not in ALGORITHMS:
        return  # which is a problem of whoever refers to it
    found = hashlib.new(algorithm)
    try:
        piece.copy(found.update)
    except NOBODYS_FAULT:
        raise
    except SourceError as error:
        finder.problem(where, "; ".join(error.problems))
        return
    if found.hexdigest() != encoded:
        finder.problem(where, f"the bytes are {algorithm}:{found.hexdigest()}, and should be {digest}")


def check_diff_id(reading: Reading, diff_id: str, where: str, finder: Finder) -> None:
    """Compare a layer's tar with its diff ID."""
    if reading.whole and reading.diff_id != diff_id:
        finder.problem(where, f"its diff ID is {reading.diff_id}, and should be {diff_id}")
