"""A layer's blob, wherever its bytes are: in a file, in a part of an archive, or in the sources they are made of again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.oci.descriptor import MEDIA_TYPES, Descriptor, check_sha256
from rootless_layer.system.machine import of_reading, unreadable
from rootless_layer.tar.compression import BlobWriter, Compression
from rootless_layer.tar.decompression import decompressed
from rootless_layer.tar.parallel import Streams
from rootless_layer.tree import mtree
from rootless_layer.tree.archive import Archive
from rootless_layer.tree.tree import Tree

from .description import LAYER_JSON, Description, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_PART_BYTES = 1 << 20
_MOST_JSON_BYTES = 64 << 20


class Remote(Protocol):
    """What a registry has, and is to be brought here when somebody reads it."""

    @property
    def is_here(self) -> bool:
        """Say whether it was brought here."""

    @property
    def kind(self) -> str:
        """Say how it is compressed, by its media type; ``""`` where that is no layer's."""

    def bring(self, count: Callable[[int], object]) -> None:
        """Bring it here, and tell ``count`` of bytes as they come; what is here stays."""


@attrs.frozen(slots=True)
class Piece:
    """A run of bytes in a file: where it begins and how long it is, and what messages call the file.

    Of what is ``remote`` the file is there as soon as its ``path`` is asked for.
    """

    _path: str
    size: int
    offset: int = 0
    name: str = attrs.field(default=attrs.Factory(lambda piece: piece._path, takes_self=True), kw_only=True)  # noqa: SLF001
    remote: Remote | None = attrs.field(default=None, eq=False, repr=False, kw_only=True)

    @property
    def path(self) -> str:
        """Give the file's path; what is remote is brought there, and raises what that raises."""
        if self.remote is not None:
            self.remote.bring(_uncounted)
        return self._path

    @property
    def is_here(self) -> bool:
        """Say whether the bytes are on this machine."""
        return self.remote is None or self.remote.is_here

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
    one of ours has a listing as well. ``uncompressed_size`` is in bytes, ``None`` where nobody said
    it. A ``trusted`` blob's bytes need not be compared with its digest: this process wrote and hashed them, to
    where nobody else writes, or the cache answers for them. A ``pending`` one's digests only stand for those that it will
    have once its ``tree`` is written: :meth:`make_plain` gives it with these. ``upon`` is the chain ID of the base
    that the layer was built upon, ``""`` where there was none or nobody said it. ``created_by`` and ``comment``
    are for an image's history, ``""`` where nobody gave them.
    """

    descriptor: Descriptor
    diff_id: str = attrs.field(validator=check_sha256)
    piece: Piece | None = None
    uncompressed_size: int | None = None
    listing: str = ""
    level: int | None = None
    tree: Tree | None = attrs.field(default=None, eq=False, repr=False)
    trusted: bool = attrs.field(default=False, eq=False)
    pending: bool = attrs.field(default=False, eq=False)
    upon: str = attrs.field(default="", eq=False)
    created_by: str = attrs.field(default="", eq=False)
    comment: str = attrs.field(default="", eq=False)

    def copy(self, consume: Callable[[memoryview], object], streams: Streams | None = None) -> None:
        """Give the blob's bytes to ``consume``, a part at a time, and check them on their way.

        A derived layer's tar is the next of ``streams``, where there are some (:func:`ahead`).
        Where the bytes are not what the descriptor says, it raises :class:`InputError` for a stored blob, and
        :class:`SourceError` where a source changed; the last part may have been given by then.
        """
        if self.trusted and self.piece is not None:
            self.piece.copy(consume)
            return
        compression = Compression() if self.piece else self._compression()
        with BlobWriter(compression, _Passing(consume)) as writer:
            if self.piece is None:
                self._make(writer, streams)
            else:
                self.piece.copy(writer.write)
            writer.finish()
        self._check(writer, self.descriptor.digest, self.descriptor.size)

    def copy_plain(self, consume: Callable[[memoryview], object], streams: Streams | None = None) -> int:
        """Give the layer's tar to ``consume``, not compressed, and give its size in bytes.

        ``streams`` are as of :meth:`copy`, which checks the bytes in the same way and raises the same.
        """
        with BlobWriter(Compression(), _Passing(consume)) as writer:
            if self.piece is None:
                self._make(writer, streams)
            else:
                for part in decompressed(self.piece.path, offset=self.piece.offset, size=self.piece.size):
                    writer.write(memoryview(part))
            writer.finish()
        self._check(writer, self.diff_id, writer.size if self.uncompressed_size is None else self.uncompressed_size)
        return writer.size

    def make_plain(self, consume: Callable[[memoryview], object], streams: Streams | None = None) -> LayerBlob:
        """Give the tar of a pending layer to ``consume``, and give the layer as it is then: derived, with digests.

        ``streams`` are as of :meth:`copy`. Raises :class:`SourceError` where a source changed since its tree was read, or the tar
        has not the size that was said.
        """
        with BlobWriter(Compression(), _Passing(consume)) as writer:
            self._make(writer, streams)
            writer.finish()
        if writer.size != self.uncompressed_size:
            message = f"a layer has {writer.size} bytes, and should have {self.uncompressed_size}"
            raise SourceError(message, hint="A source changed meanwhile: build again.")
        descriptor = Descriptor(MEDIA_TYPES["none"], writer.digest, writer.size)
        return attrs.evolve(self, descriptor=descriptor, diff_id=writer.diff_id, pending=False)

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
        return self.verify_plain() if self.uncompressed_size is None else self.uncompressed_size

    def _compression(self) -> Compression:
        """Give how a derived layer's blob is compressed."""
        kind = kind_of(self.descriptor)
        return Compression(kind) if kind == "none" or self.level is None else Compression(kind, self.level)

    def _make(self, writer: BlobWriter, streams: Streams | None) -> None:
        if streams is not None:
            streams.copy(writer.write, writer.cut)
            return
        with ahead([self]) as alone:
            alone.copy(writer.write, writer.cut)

    def read_tree(self) -> Tree:
        """Give what a derived layer is made of; raises :class:`InputError` and :class:`SourceError` for a bad listing."""
        if self.tree is not None:
            return self.tree
        try:
            with open(self.listing, "rb") as file:
                head = mtree.Head.of(file, self.listing)
                entries = mtree.read(file, os.fsencode(os.path.dirname(self.listing)), self.listing)
                tree = Tree.of(entries, whiteouts=True, root_stands=head.root_stands)
                return attrs.evolve(tree, stored=head.stored, names=head.names)
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
    return Streams([Archive.of(layer.read_tree()) for layer in layers if layer.piece is None], processes=processes)


def _uncounted(_number: int) -> None:
    """Take a number that nobody is told."""


def _forget(_part: memoryview) -> None:
    """Take bytes that are only to be checked."""


class _Passing:
    """What looks like a file to write to: it passes the bytes on."""

    def __init__(self, consume: Callable[[memoryview], object]) -> None:
        self.consume = consume

    def write(self, data: bytes | memoryview, /) -> int:
        with memoryview(data) as part:
            self.consume(part)
        return len(data)


def open_layer(folder: str | os.PathLike[str]) -> LayerBlob:
    """Open a layer as images take it.

    :param folder: the directory in which :func:`rootless_layer.build_layer` put it.
    :returns: the layer's blob. Its bytes are read or made when they are asked for.
    :raises InputError: for a directory that is no layer, or not whole. :class:`SourceError` is raised where nothing is there.
    """
    folder = given.path("folder", folder)
    path = Path(folder, LAYER_JSON)
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{folder}: is not a layer: {path.name} cannot be read: {reason(error)}"
        raise of_reading(error)(message, hint="Give a directory that `rootless-layer build -o` made.") from error
    layer = _described(Description.parse(data, str(path)), path)
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


def _described(said: Description, path: Path) -> LayerBlob:
    """Give what ``layer.json``, at that path, says of its blob."""
    stored = str(path.parent / "blobs/sha256" / said.descriptor.digest.removeprefix("sha256:"))
    piece = Piece(stored, said.descriptor.size) if said.blob == "stored" else None
    layer = LayerBlob(said.descriptor, said.diff_id, piece, said.uncompressed_size, str(path.with_name(said.listing)), said.level)
    upon, created_by, comment = map(said.text, ("base", "createdBy", "comment"))
    return attrs.evolve(layer, upon=upon, created_by=created_by, comment=comment)
