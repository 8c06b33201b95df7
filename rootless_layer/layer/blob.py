"""A layer's blob, wherever its bytes are: in a file, in a part of an archive, or in the sources they are made of again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor, check_digest, check_size, layer_type
from rootless_layer.system.machine import of_reading, unreadable
from rootless_layer.tar.compression import BlobWriter, Compression
from rootless_layer.tar.decompression import decompressed
from rootless_layer.tar.parallel import Streams
from rootless_layer.tree import mtree
from rootless_layer.tree.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PART_BYTES = 1 << 20
_MOST_JSON_BYTES = 64 << 20


@attrs.frozen(slots=True)
class Piece:
    """A run of bytes in a file: where it begins and how long it is, and what messages call the file."""

    path: str
    size: int
    offset: int = 0
    name: str = attrs.field(default=attrs.Factory(lambda piece: piece.path, takes_self=True), kw_only=True)

    def copy(self, consume: Callable[[memoryview], object]) -> None:
        """Give the bytes to ``consume``, a part at a time, each valid until the next has been taken.

        Raises :class:`SourceError` where there are fewer.
        """
        for part in self._parts():
            consume(part)

    def _parts(self) -> Iterator[memoryview]:
        remaining, buffer, other = self.size, memoryview(bytearray(_PART_BYTES)), memoryview(bytearray(_PART_BYTES))
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self.offset)
                while remaining:
                    buffer, other = other, buffer
                    count = file.readinto(buffer[: min(remaining, _PART_BYTES)])
                    if not count:
                        message = f"{self.name}: ends too early"
                        raise SourceError(message, hint="It is damaged, or was changed meanwhile: get or build it again.")
                    remaining -= count
                    yield buffer[:count]
        except OSError as error:
            raise unreadable(error, self.name) from error

    def read(self) -> bytes:
        """Give the bytes at once: they are a document's, so :class:`InputError` where they are too many."""
        if self.size > _MOST_JSON_BYTES:
            message = f"{self.name}: {self.size} bytes are too many for a JSON document"
            raise InputError(message)
        parts: list[bytes] = []
        self.copy(lambda part: parts.append(bytes(part)))
        return b"".join(parts)


@attrs.frozen(slots=True)
class LayerBlob:
    """A layer as an image refers to it: its descriptor, its diff ID, and where its bytes are.

    ``piece`` holds a *stored* blob; a *derived* one's bytes are made again from the files
    that ``listing``, a path, names, or those of its ``tree``, compressed at ``level``. A stored
    one of ours has a listing as well. ``uncompressed_size`` is in bytes, -1 where nobody said
    it. A ``trusted`` blob's bytes need not be checked: this process wrote and hashed them, to
    where nobody else writes, or the cache answers for them. ``upon`` is the chain ID of the base
    that the layer was built upon, ``""`` where there was none or nobody said it.
    """

    descriptor: Descriptor
    diff_id: str = attrs.field(validator=check_digest)
    piece: Piece | None = None
    uncompressed_size: int = -1
    listing: str = ""
    level: int = -1
    tree: Tree | None = attrs.field(default=None, eq=False, repr=False)
    trusted: bool = attrs.field(default=False, eq=False)
    upon: str = attrs.field(default="", eq=False)

    def copy(self, consume: Callable[[memoryview], object], streams: Streams | None = None) -> None:
        """Give the blob's bytes to ``consume``, a part at a time, and check them on their way.

        A derived layer's tar is the next of ``streams``, where there are some (:func:`ahead`).
        Where the bytes are not what the descriptor says, it raises :class:`InputError` for a stored blob, and
        :class:`SourceError` where a source changed; the last part may have been given by then.
        """
        if self.trusted and self.piece is not None:
            self.piece.copy(consume)
            return
        kind: Any = "none" if self.piece else _kind(self.descriptor)
        compression = Compression() if kind == "none" else Compression(kind, self.level)
        with BlobWriter(compression, _Sink(consume), parts_last=True) as writer:  # type: ignore[arg-type]
            if self.piece is None:
                self._make(writer.write, streams)
            else:
                self.piece.copy(writer.write)
            writer.finish()
        self._check(writer, self.descriptor.digest, self.descriptor.size)

    def copy_plain(self, consume: Callable[[memoryview], object], streams: Streams | None = None) -> int:
        """Give the layer's tar to ``consume``, not compressed, and check it as :meth:`copy` does; give its size in bytes."""
        with BlobWriter(Compression(), _Sink(consume), parts_last=True) as writer:  # type: ignore[arg-type]
            if self.piece is None:
                self._make(writer.write, streams)
            else:
                for part in decompressed(self.piece.path, offset=self.piece.offset, size=self.piece.size):
                    writer.write(memoryview(part))
            writer.finish()
        self._check(writer, self.diff_id, writer.size if self.uncompressed_size < 0 else self.uncompressed_size)
        return writer.size

    def verify(self) -> None:
        """Read or make the blob's bytes and check them; raises as :meth:`copy` does."""
        self.copy(_forget)

    def verify_plain(self) -> int:
        """Read or make the layer's tar and check it; give its size in bytes. Raises as :meth:`copy_plain` does."""
        return self.copy_plain(_forget)

    def plain_size(self) -> int:
        """Give the size of the layer's tar in bytes, which takes reading all of it where nobody said it."""
        if self.descriptor.media_type == MEDIA_TYPES["none"]:
            return self.descriptor.size
        return self.uncompressed_size if self.uncompressed_size >= 0 else self.verify_plain()

    def _make(self, consume: Callable[[memoryview], object], streams: Streams | None) -> None:
        if streams is not None:
            streams.copy(consume)
            return
        with ahead([self]) as alone:
            alone.copy(consume)

    def read_tree(self) -> Tree:
        """Give what a derived layer is made of; raises :class:`InputError` and :class:`SourceError` for a bad listing."""
        if self.tree is not None:
            return self.tree
        try:
            with open(self.listing, "rb") as file:
                stands = mtree.root_stands(file)
                entries = mtree.read(file, os.fsencode(os.path.dirname(self.listing)), self.listing)
                return Tree.of(entries, whiteouts=True, root_stands=stands)
        except OSError as error:
            raise unreadable(error, self.listing, hint="Build the layer again.") from error

    def _check(self, writer: BlobWriter, digest: str, size: int) -> None:
        if (writer.digest, writer.size) == (digest, size):
            return
        where = self.listing if self.piece is None else self.piece.name
        message = f"{where}: the layer is {writer.digest} of {writer.size} bytes, and should be {digest} of {size}"
        if self.piece is None:
            raise SourceError(message, hint="A source changed since the layer was built: build it again.")
        raise InputError(message, hint="It is damaged: get or build it again.")


def ahead(layers: Iterable[LayerBlob], *, processes: int | None = None) -> Streams:
    """Begin to make the tars of those layers that are derived, in their order; ``processes`` as of :class:`Streams`."""
    return Streams([layer.read_tree().archived() for layer in layers if layer.piece is None], processes=processes)


def _forget(_part: memoryview) -> None:
    """Take bytes that are only to be checked."""


class _Sink:
    """What looks like a file to write to: it passes the bytes on."""

    def __init__(self, consume: Callable[[memoryview], object]) -> None:
        self.consume = consume

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        with memoryview(data) as part:
            self.consume(part)
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is written is passed on at once."""


def open_layer(folder: str | os.PathLike[str]) -> LayerBlob:
    """Open a layer as images take it.

    :param folder: the directory in which :func:`rootless_layer.build_layer` put it.
    :returns: the layer's blob. Its bytes are read or made when they are asked for.
    :raises InputError: for a directory that is no layer, or not whole. :class:`SourceError` is raised where nothing is there.
    """
    folder = given.path("folder", folder)
    path = Path(folder, "layer.json")
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        message = f"{folder}: is not a layer: {path.name} cannot be read: {reason(error)}"
        raise of_reading(error)(message, hint="Give a directory that `rootless-layer build -o` made.") from error
    try:
        layer = _described(said, path)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        message = f"{path}: does not describe a layer: {reason(error)}"
        raise InputError(message, hint="Build the layer again.") from error
    if layer.piece is None:
        return layer
    blob, size = Path(layer.piece.path), layer.piece.size
    try:
        there = blob.stat().st_size if blob.is_file() else None
    except OSError as error:
        raise unreadable(error, str(blob)) from error
    if there != size:
        message = f"{blob}: should hold {size} bytes, and {'is missing' if there is None else f'holds {there}'}"
        raise InputError(message, hint="Build the layer again.")
    return layer


def _described(said: Any, path: Path) -> LayerBlob:  # noqa: ANN401 - JSON
    """Read what ``layer.json`` says of its blob."""
    descriptor = Descriptor(layer_type(said["mediaType"]), said["digest"], said["size"])
    check_size(None, attrs.fields(Descriptor).size, said["uncompressedSize"])
    listed, upon = path.with_name(said["listing"]), str((said.get("madeFrom") or {}).get("base", ""))
    if b"\0" in os.fsencode(listed):
        raise ValueError(said["listing"])
    if said["blob"] == "stored":
        blob = path.parent / "blobs/sha256" / descriptor.digest.removeprefix("sha256:")
        piece = Piece(str(blob), descriptor.size)
        return LayerBlob(descriptor, said["diffId"], piece, said["uncompressedSize"], str(listed), upon=upon)
    level = Compression(_kind(descriptor), said["madeFrom"]["level"]).level
    return LayerBlob(descriptor, said["diffId"], None, said["uncompressedSize"], str(listed), level, upon=upon)


def _kind(descriptor: Descriptor) -> Any:  # noqa: ANN401 - a literal
    return descriptor.media_type.partition("+")[2] or "none"
