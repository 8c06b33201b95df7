"""Images and layers checked: every claim that they make is computed again, and all that is wrong is listed."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from .built import check_derived, check_layer
from .claims import Reading, check_compression, check_diff_id, check_digest, read_blob
from .compression import decompress, kind_of
from .errors import InputError, SourceError
from .findings import Finder
from .layout import clean, headers, in_archive, in_directory
from .oci import layer_type
from .schema import CONFIGS, INDEXES, MANIFESTS, Document, check_descriptor, check_image_config, check_top, parse
from .soundness import Soundness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .blob import Piece
    from .contents import Merged
    from .findings import Findings

_NO_IMAGE = "Give an image layout, an OCI archive, a docker-archive, or a layer's directory."
_BLOB = re.compile(r"blobs/([^/]+)/([^/]+)")
_OLD_CONFIG = re.compile(r"([0-9a-f]{64})\.json")


def validate(path: str, spool: Callable[[], str]) -> Findings:
    """Check an image layout, an archive of one, a docker-archive, a derived image, or a layer's directory.

    ``spool`` gives the path of a new file, where an archive has to be decompressed.
    Raises :class:`InputError` only for what is none of these, or no readable archive.
    """
    finder = Finder()
    if os.path.isdir(path):
        if os.path.lexists(f"{path}/layer.json"):
            check_layer(path, finder)
        elif os.path.lexists(f"{path}/image.json"):
            check_derived(path, finder)
        else:
            _Stored(in_directory(path), finder).check(_blobs_of(path), path)
        return finder.found()
    if not os.path.isfile(path):
        message = f"{path}: no such image"
        raise (InputError if os.path.lexists(path) else SourceError)(message, hint=_NO_IMAGE)
    archive = path if kind_of(path) == "none" else decompress(path, spool())
    find = in_archive(archive)
    names = Counter(clean(header.name) for header in headers(archive) if not header.isdir())
    for name, count in names.items():
        if count > 1:
            finder.problem(repr(name)[1:-1], "is in the archive more than once: readers take one or the other")
    _Stored(find, finder).check(names, path)
    return finder.found()


def _blobs_of(path: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(here, name), path)
        for here, _, names in os.walk(f"{path}/blobs")
        for name in names
    )  # fmt: skip


class _Stored:
    """An image layout or an archive, and what of it was looked at already."""

    def __init__(self, find: Callable[[str], Piece | None], finder: Finder) -> None:
        self.find, self.finder = find, finder
        self.hashed: set[str] = set()
        self.entered: set[str] = set()
        self.readings: dict[Piece, Reading] = {}
        self.images: set[tuple[Piece | None, ...]] = set()

    def check(self, names: Iterable[str], path: str) -> None:
        """Check all of it; ``names`` are those of its files, of which the blobs are checked though nothing names them."""
        index, docker = self.find("index.json"), self.find("manifest.json")
        if index is None and docker is None:
            message = f"{path}: holds neither index.json nor manifest.json"
            raise InputError(message, hint=_NO_IMAGE)
        if index is not None:
            self._layout()
            self._index(index, "index.json")
        if docker is not None:
            self._docker(docker)
        for name in names:
            blob = _BLOB.fullmatch(name)
            piece = self.find(name)
            if blob and name not in self.hashed and piece is not None:
                if index is not None:
                    self.finder.note(name, "nothing refers to this blob")
                self._hash(name, piece, f"{blob[1]}:{blob[2]}")

    def _layout(self) -> None:
        piece = self.find("oci-layout")
        if piece is None:
            self.finder.problem("oci-layout", "is missing")
            return
        given = self._document(piece, "oci-layout")
        version = given.get("imageLayoutVersion", str, required=True)
        if version not in {None, "1.0.0"}:
            given.problem("imageLayoutVersion", f"is '1.0.0', and not {version!r}")

    def _json(self, piece: Piece, name: str) -> Any:  # noqa: ANN401 - JSON
        try:
            return parse(piece.read(), name, self.finder)
        except InputError as error:
            self.finder.problem(name, "; ".join(error.problems))
            return None

    def _document(self, piece: Piece, name: str) -> Document:
        given = self._json(piece, name)
        return Document({} if given is None else given, name, self.finder)

    def _hash(self, name: str, piece: Piece, digest: str) -> None:
        if name not in self.hashed:
            self.hashed.add(name)
            check_digest(piece, digest, name, self.finder)

    def _blob(self, given: Document, *, may_miss: bool = False) -> tuple[str, str, Piece] | None:
        """Check a descriptor and its blob; give the media type, the blob's name and where it is."""
        said = check_descriptor(given)
        if said is None:
            return None
        media_type, digest, size = said
        name = "blobs/" + digest.replace(":", "/", 1)
        piece = self.find(name)
        if piece is None and may_miss:
            self.finder.note(name, "is not here, and is to be had elsewhere")
            return None
        if piece is None:
            self.finder.problem(name, f"is missing, or is no regular file; {given.where} refers to it")
            return None
        if piece.size != size:
            self.finder.problem(name, f"has {piece.size} bytes, and should have {size}, says {given.where}")
        self._hash(name, piece, digest)
        return media_type, name, piece

    def _index(self, piece: Piece, name: str, media_type: str = "") -> None:
        if name in self.entered:
            return
        self.entered.add(name)
        given = self._document(piece, name)
        check_top(given, INDEXES, media_type)
        for row in given.documents("manifests", required=True):
            blob = self._blob(row)
            if blob is None:
                continue
            if blob[0] in INDEXES:
                self._index(blob[2], blob[1], blob[0])
            elif blob[0] in MANIFESTS:
                platform = row.given.get("platform")
                self._manifest(blob[2], blob[1], blob[0], platform if isinstance(platform, dict) else {})
            else:
                self.finder.note(blob[1], f"{blob[0]!r} is not an image's media type: it was not looked into")

    def _manifest(self, piece: Piece, name: str, media_type: str, platform: dict[str, Any]) -> None:
        given = self._document(piece, name)
        check_top(given, MANIFESTS, media_type)
        subject = given.document("subject")
        if subject is not None:
            check_descriptor(subject)
        described = given.document("config", required=True)
        config = None if described is None else self._blob(described)
        rows = given.documents("layers", required=True)
        image = config is not None and config[0] in CONFIGS and not given.given.get("artifactType")
        layers: list[tuple[str, Piece] | None] = []
        for row in rows:
            blob = self._blob(row, may_miss=bool(row.given.get("urls")))
            layers.append(None if blob is None else blob[1:])
            if blob is not None and image:
                self._media_type(row, *blob)
        if config is None:
            return
        if not image:
            self.finder.note(name, f"is no image, as its config is {config[0]!r}: its blobs were not looked into")
            return
        if not rows:
            self.finder.note(name, "has no layers, which not every reader takes")
        self._image(config[1:], layers, platform)

    def _media_type(self, row: Document, media_type: str, name: str, piece: Piece) -> None:
        try:
            kind = layer_type(media_type).partition("+")[2] or "none"
        except InputError:
            row.problem("mediaType", f"{media_type!r} is not that of a layer")
            return
        check_compression(piece, kind, name, self.finder)

    def _docker(self, piece: Piece) -> None:
        given = self._json(piece, "manifest.json")
        if not isinstance(given, list):
            self.finder.problem("manifest.json", "is a list")
            return
        for number, value in enumerate(given):
            row = Document(value, "manifest.json", self.finder, f"[{number}]")
            config = self._named(row, row.get("Config", str, required=True))
            layers = [self._named(row, name) for name in row.strings("Layers", required=True)]
            row.strings("RepoTags")
            if config is None:
                continue
            digest = _OLD_CONFIG.fullmatch(config[0])
            if digest:
                self._hash(config[0], config[1], f"sha256:{digest[1]}")
            self._image(config, layers, {})

    def _named(self, row: Document, name: str | None) -> tuple[str, Piece] | None:
        if name is None:
            return None
        piece = self.find(name)
        if piece is None:
            row.problem("", f"{name!r} is missing, or is no regular file")
            return None
        name = repr(clean(name))[1:-1]
        blob = _BLOB.fullmatch(name)
        if blob:
            self._hash(name, piece, f"{blob[1]}:{blob[2]}")
        return name, piece

    def _image(self, config: tuple[str, Piece], layers: list[tuple[str, Piece] | None], platform: dict[str, Any]) -> None:
        given = self._document(config[1], config[0])
        for name in ("os", "architecture", "variant"):
            if platform.get(name) and given.given.get(name) and platform[name] != given.given[name]:
                given.problem(name, f"is {given.given[name]!r}, and the index says {platform[name]!r}")
        key = (config[1], *(None if layer is None else layer[1] for layer in layers))
        if key in self.images:
            return
        self.images.add(key)
        self.finder.images += 1
        diff_ids = check_image_config(given, len(layers))
        below: Merged = {}
        known = True
        for number, layer in enumerate(layers):
            if layer is None:
                known = False
                continue
            reading = self._read(*layer)
            if number < len(diff_ids):
                check_diff_id(reading, diff_ids[number], layer[0], self.finder)
            merged = reading.contents.over(below)
            Soundness(layer[0], reading.contents, below, self.finder, known=known).check(merged)
            below, known = merged, known and reading.whole

    def _read(self, name: str, piece: Piece) -> Reading:
        if piece not in self.readings:
            self.finder.layers += 1
            self.readings[piece] = read_blob(piece, name, self.finder)
        return self.readings[piece]
