"""The files of an image, by their names, and the configs and layers that its documents describe.

Digests of other kinds than sha256 are compared with the bytes here: all else knows a blob by its sha256 digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import LayerBlob, Piece
from rootless_layer.oci.config import read_json
from rootless_layer.oci.descriptor import MANIFEST, MEDIA_TYPES, Descriptor, layer_type, sha256
from rootless_layer.oci.documents import MANIFESTS, Document, check_descriptor, check_top, config_faults
from rootless_layer.oci.findings import Finder
from rootless_layer.oci.kinds import check_docker_row
from rootless_layer.registry.manifest import Manifest
from rootless_layer.tar.decompression import MOST_BYTES, decompressed, kind_of

from .files import DAMAGED
from .image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

_BY_DIGEST = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
"""How docker-archives name a config: by its digest, all but a few."""
EMPTY_TARS = {sha256(data): data for data in (b"", bytes(1024))}
"""Layers without a member, by their diff IDs: tools that write for a daemon's eyes leave them out (pack, Kaniko)."""
BY_ITSELF = ("xz", "bzip2")
"""Compressions that engines read in a layer, and that no media type stands for: such a layer is kept as the tar that it is of."""
MOST_READ = 1_000
"""docker runs 127 layers, overlayfs shows 500; each costs a look at what those below it have."""


def kept_document(data: bytes, media_type: str) -> Manifest | None:
    """Give a manifest or an index as it is stored; ``None`` where it is not written in UTF-8, as image-spec has it."""
    try:
        said = json.loads(data.decode())
    except ValueError:
        return None
    own = said.get("mediaType") if isinstance(said, dict) else None
    return Manifest(data, own if isinstance(own, str) and own else media_type, sha256(data))


class AbsentError(InputError):
    """A file that a document refers to is not there."""


def blob_name(digest: str) -> str:
    """Give the name of a blob's file."""
    return "blobs/" + digest.replace(":", "/", 1)


class StoredFiles:
    """The files of an image at ``where``, each read once; ``spool`` names new files for layers of rare compressions."""

    def __init__(self, where: str, find: Callable[[str], Piece | None], spool: Callable[[], str]) -> None:
        """Take what finds a file by its name."""
        self.where, self.find, self.spool = where, find, spool
        self._configs: dict[str, tuple[bytes, list[str]]] = {}
        self._layers: dict[tuple[str, str], LayerBlob] = {}
        self._digests: dict[Piece, dict[str, str]] = {}

    def piece(self, name: str) -> Piece:
        """Find a file; raises :class:`AbsentError`."""
        piece = self.find(name)
        if piece is None:
            message = f"{self.where}: {name or 'a file without a name'} is missing, or is no file"
            raise AbsentError(message, hint=DAMAGED)
        return piece

    def blob(self, digest: str) -> Piece | None:
        """Find a blob by its digest."""
        return self.find(blob_name(digest))

    def json(self, name: str) -> object:
        """Read a document by its name; raises :class:`InputError` for what is no JSON."""
        data = self.piece(name).read()
        try:
            return read_json(data)
        except ValueError as error:
            message = f"{self.where}: {name} is not JSON: {error}"
            raise InputError(message, hint=DAMAGED) from error

    def document(self, digest: str, size: int) -> object:
        """Read the document that a descriptor refers to, and check its digest and size."""
        self._checked(digest, size)
        return self.json(blob_name(digest))

    def refuse(self, what: str, finder: Finder) -> None:
        """Raise :class:`InputError` with the problems of a document, where it has any."""
        if finder.problems:
            raise InputError(*(f"{self.where}: in {what}: {problem.what}" for problem in finder.problems), hint=DAMAGED)

    def image(self, said: object, media_type: str = "", digest: str = "") -> Image:
        """Give the image of a manifest, which is kept by its ``digest``; raises :class:`InputError` for one that is not whole."""
        finder = Finder()
        manifest = Document(said, "", finder)
        check_top(manifest, MANIFESTS, media_type)
        described = manifest.document("config", required=True)
        config = None if described is None else check_descriptor(described)
        rows = manifest.documents("layers")
        layers = [(row, check_descriptor(row)) for row in rows]
        self.refuse("a manifest", finder)
        assert config is not None  # noqa: S101 - else there was a problem
        self._checked(config[1], config[2])
        data, diff_ids = self._config(blob_name(config[1]))
        self._count("a manifest", len(layers), diff_ids)
        given = zip(layers, diff_ids, strict=True)
        own = manifest.given.get("annotations") or {}
        found = tuple(self._layer(row, said, diff_id) for (row, said), diff_id in given if said is not None)
        rows_of = [*(said for _, said in layers if said is not None), config]
        kept = self._kept(digest, media_type, rows_of, found) if digest and not finder.odd else None
        return Image(data, found, annotations=own, kept=kept)

    def _kept(
        self, digest: str, media_type: str, described: list[tuple[str, str, int]], layers: tuple[LayerBlob, ...]
    ) -> Manifest | None:
        """Give a manifest as it is stored, where all that it says of the layers and, last, of the config, is so."""
        own = [(layer.descriptor.media_type, layer.descriptor.digest, layer.descriptor.size) for layer in layers]
        if [(layer_type(kind), *rest) for kind, *rest in described[:-1]] != own or not described[-1][1].startswith("sha256:"):
            return None
        return kept_document(self.piece(blob_name(digest)).read(), media_type or MANIFEST)

    def docker_image(self, row: Document) -> tuple[Image, list[str]]:
        """Give the image of a row of ``manifest.json``, and its names; raises :class:`InputError` for one that is not whole."""
        config, layers, names = check_docker_row(row)
        self.refuse("manifest.json", row.finder)
        data, diff_ids = self._config(config or "")
        self._count("manifest.json", len(layers), diff_ids)
        known = {diff_id: name for name, diff_id in zip(layers, diff_ids, strict=True) if self._holds(name)}
        named = ((known.get(diff_id, name), diff_id) for name, diff_id in zip(layers, diff_ids, strict=True))
        return Image(data, tuple(self._docker_layer(name, diff_id) for name, diff_id in named)), names

    def _config(self, name: str) -> tuple[bytes, list[str]]:
        if name not in self._configs:
            data = self.piece(name).read()
            named = _BY_DIGEST.fullmatch(name)
            if named and sha256(data) != f"sha256:{named[1]}":
                message = f"{self.where}: {name} is not what its name says"
                raise InputError(message, hint=DAMAGED)
            problems = config_faults(data)
            if problems:
                raise InputError(*(f"{self.where}: in the config of an image: {problem}" for problem in problems), hint=DAMAGED)
            diff_ids: list[str] = json.loads(data)["rootfs"].get("diff_ids") or []
            self._configs[name] = data, diff_ids
        return self._configs[name]

    def _count(self, document: str, layers: int, diff_ids: list[str]) -> None:
        if layers != len(diff_ids):
            message = f"{self.where}: {document} has {layers} layers, and the config {len(diff_ids)} diff IDs"
            raise InputError(message, hint=DAMAGED)
        if layers > MOST_READ:
            message = f"{self.where}: an image has {layers} layers, and {MOST_READ} are the most that are read"
            raise InputError(message, hint="No engine runs an image of so many: build it again with fewer.")

    def _layer(self, row: Document, said: tuple[str, str, int], diff_id: str) -> LayerBlob:
        media_type, digest, size = said
        name = blob_name(digest)
        layer_type(media_type)
        if row.given.get("urls") and self.find(name) is None:
            message = f"{self.where}: the layer {digest} is a foreign one, and not in the image: it is to be had at its URLs"
            raise AbsentError(message, hint="Have the image copied with all of its layers.")
        piece = self.piece(name)
        self._check_size(name, piece, size)
        return self._blob(name, piece, digest if digest.startswith("sha256:") else self._checked(digest, size), diff_id)

    def _docker_layer(self, name: str, diff_id: str) -> LayerBlob:
        if (name, diff_id) not in self._layers:
            self._layers[name, diff_id] = self._blob(name, self._docker_piece(name, diff_id), "", diff_id)
        return self._layers[name, diff_id]

    def _docker_piece(self, name: str, diff_id: str) -> Piece:
        """Find a layer's file; one of no bytes stands for a layer that a daemon has, and that is not in the archive."""
        found = self.find(name) if name else None
        if found is not None and (found.size or diff_id == sha256(b"")):
            return found
        if diff_id not in EMPTY_TARS:
            what = f"{name} is missing, or is no file" if found is None and name else f"the layer {diff_id} is not in it"
            message = f"{self.where}: {what}"
            raise AbsentError(message, hint="Whoever wrote it left out what a daemon has: save the image with all of its layers.")
        return self._spooled(EMPTY_TARS[diff_id])

    def _holds(self, name: str) -> bool:
        piece = self.find(name) if name else None
        return piece is not None and piece.size > 0

    def _spooled(self, data: bytes) -> Piece:
        path = self.spool()
        with open(path, "xb") as file:
            file.write(data)
        return Piece(path, len(data), name=self.where)

    def _blob(self, name: str, piece: Piece, digest: str, diff_id: str) -> LayerBlob:
        """Give a layer by its bytes: engines look at them, and not at the media type."""
        kind = "none" if digest == diff_id or not piece.size else self._kind(piece)
        if kind in BY_ITSELF:
            piece, kind, digest = self._plain(piece, name), "none", diff_id
        if kind not in MEDIA_TYPES:
            message = f"{self.where}: {name} is compressed by {kind}, which engines do not read"
            raise InputError(message, hint="Unpack the layer, or get the image again.")
        known = bool(digest)
        digest = digest or (diff_id if kind == "none" else self._digest(piece, "sha256"))
        layer = LayerBlob(Descriptor(MEDIA_TYPES[kind], digest, piece.size), diff_id, piece, trusted=piece.remote is not None)
        if not known and kind != "none":  # nothing else here says what the blob should be
            layer.verify_plain()
        return layer

    def _kind(self, piece: Piece) -> str:
        """Say how a layer is compressed; of one that is still in a registry its media type says it."""
        if piece.remote is not None and not piece.remote.is_here and piece.remote.kind:
            return piece.remote.kind
        return kind_of(piece.path, piece.offset, piece.size)

    def _plain(self, piece: Piece, name: str) -> Piece:
        path, size = self.spool(), 0
        with open(path, "xb") as file:
            for part in decompressed(piece.path, offset=piece.offset, size=piece.size):
                size += len(part)
                if size > MOST_BYTES:
                    message = f"{self.where}: {name} unpacks to more than {MOST_BYTES} bytes"
                    raise InputError(message, hint=DAMAGED)
                file.write(part)
        return Piece(path, size, name=self.where)

    def _checked(self, digest: str, size: int) -> str:
        """Check a blob against its descriptor; give its sha256 digest."""
        name = blob_name(digest)
        piece = self.piece(name)
        self._check_size(name, piece, size)
        if self._digest(piece, digest.partition(":")[0]) != digest:
            message = f"{self.where}: {name} is not what its descriptor says"
            raise InputError(message, hint=DAMAGED)
        return self._digest(piece, "sha256")

    def _check_size(self, name: str, piece: Piece, size: int) -> None:
        if piece.size != size:
            message = f"{self.where}: {name} has {piece.size} bytes, and should have {size}"
            raise InputError(message, hint=DAMAGED)

    def _digest(self, piece: Piece, algorithm: str) -> str:
        known = self._digests.setdefault(piece, {})
        if algorithm not in known:
            digest = hashlib.new(algorithm)
            piece.copy(digest.update)
            known[algorithm] = f"{algorithm}:{digest.hexdigest()}"
        return known[algorithm]
