"""The blobs of an image as a registry gets or gives them: layers, documents, and files that are attached."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, SourceError
from rootless_layer.layer.blob import LayerBlob, Piece, ahead
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.tree import shown

if TYPE_CHECKING:
    from rootless_layer.registry.blob import Consume

_CHANGED = "A source changed since the layer was built: build it again."


@attrs.frozen(slots=True)
class OfLayer:
    """A layer: read where it is stored, and made of its sources where it is derived."""

    layer: LayerBlob

    @property
    def digest(self) -> str:
        """Give its digest."""
        return self.layer.descriptor.digest

    @property
    def size(self) -> int:
        """Give its size in bytes."""
        return self.layer.descriptor.size

    @property
    def piece(self) -> Piece | None:
        """Give where it is stored."""
        return self.layer.piece

    @property
    def file(self) -> tuple[str, int] | None:
        """Give the file that holds it, and the offset there."""
        return None if self.layer.piece is None else (self.layer.piece.path, self.layer.piece.offset)

    def checked(self) -> OfLayer:
        """Give it, once its sources are seen to be there; raises :class:`SourceError`."""
        if self.layer.piece is not None:
            _check_piece(self.layer.piece)
            return self
        tree = self.layer.read_tree()
        for entry in tree:
            if entry.source is not None and entry.link is None:
                _check_file(entry.source, entry.size, whole=True)
        return OfLayer(attrs.evolve(self.layer, tree=tree))

    def copy(self, consume: Consume) -> None:
        """Give its bytes; raises as :meth:`.LayerBlob.copy` does."""
        with ahead([self.layer], processes=0) as stream:
            self.layer.copy(consume, stream)


@attrs.frozen(slots=True)
class OfBytes:
    """A document, such as a config: its bytes are in memory."""

    digest: str
    data: bytes = attrs.field(repr=False)
    piece: None = None
    file: None = None

    @property
    def size(self) -> int:
        """Give its size in bytes."""
        return len(self.data)

    def checked(self) -> OfBytes:
        """Give it: the bytes are there."""
        return self

    def copy(self, consume: Consume) -> None:
        """Give its bytes."""
        consume(memoryview(self.data))


@attrs.frozen(slots=True)
class OfFile:
    """A blob that is no layer of ours: it is read where it is stored, and compared with its digest."""

    digest: str
    piece: Piece

    @property
    def size(self) -> int:
        """Give its size in bytes."""
        return self.piece.size

    @property
    def file(self) -> tuple[str, int]:
        """Give the file that holds it, and the offset there."""
        return self.piece.path, self.piece.offset

    def checked(self) -> OfFile:
        """Give it, once the file is seen to be there; raises :class:`SourceError`."""
        _check_piece(self.piece)
        return self

    def copy(self, consume: Consume) -> None:
        """Give its bytes; raises :class:`InputError` where the digest is of others."""
        algorithm = self.digest.partition(":")[0]
        found = hashlib.new(algorithm)

        def take(part: memoryview) -> None:
            found.update(part)
            consume(part)

        self.piece.copy(take)
        if f"{algorithm}:{found.hexdigest()}" != self.digest:
            message = f"{self.piece.name}: the blob is {algorithm}:{found.hexdigest()}, and should be {self.digest}"
            raise InputError(message, hint="It is damaged: get it again.")


ImageBlob = OfLayer | OfBytes | OfFile


def of_digest(digest: str, blob: bytes | Piece) -> OfBytes | OfFile:
    """Give a blob that is no layer by its digest."""
    return OfBytes(digest, blob) if isinstance(blob, bytes) else OfFile(digest, blob)


def _check_piece(piece: Piece) -> None:
    _check_file(piece.path, piece.offset + piece.size, whole=False)


def _check_file(path: str | bytes, size: int, *, whole: bool) -> None:
    """See that a file has so many bytes, or that it has no fewer; raises :class:`SourceError`."""
    name = shown(path) if isinstance(path, bytes) else path
    try:
        there = os.stat(path).st_size
    except OSError as error:
        raise unreadable(error, name, hint=_CHANGED) from error
    if there != size if whole else there < size:
        message = f"{name}: has {there} bytes, and should have {size}"
        raise SourceError(message, hint=_CHANGED)
