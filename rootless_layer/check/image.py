"""An image layout or an archive checked: every claim is computed again, and all that is wrong is listed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import InputError
from rootless_layer.image.admission import MOST_FOR_DOCKER, Accidents
from rootless_layer.image.files import clean
from rootless_layer.image.read import MOST_READ, is_among
from rootless_layer.layer.soundness import Soundness
from rootless_layer.oci.descriptor import is_layer_type, layer_type
from rootless_layer.oci.documents import (
    CONFIGS,
    INDEXES,
    MANIFESTS,
    Document,
    check_descriptor,
    check_image_config,
    check_top,
    parse,
)
from rootless_layer.oci.reference import FULL_NAME, REF_NAME, is_ref_name, is_reference
from rootless_layer.system.machine import NOBODYS_FAULT
from rootless_layer.terminal import quoted
from rootless_layer.tree.hiding import few

from .blob import Reading, check_compression, check_diff_id, check_digest, read_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless_layer.layer.blob import Piece
    from rootless_layer.layer.contents import Merged
    from rootless_layer.oci.findings import Finder

_NO_IMAGE = "Give an image layout, an OCI archive, a docker-archive, or a layer's directory."
_BLOB = re.compile(r"blobs/([^/]+)/([^/]+)")
_OLD_CONFIG = re.compile(r"([0-9a-f]{64})\.json")


def _check_platform(config: Document, platform: dict[str, Any]) -> None:
    """Compare the platform of a row of an index with that of the config."""
    for name in ("os", "architecture", "variant"):
        if platform.get(name) and config.given.get(name) and platform[name] != config.given[name]:
            config.problem(name, f"is {quoted(config.given[name])}, and the index says {quoted(platform[name])}")


class StoredImages:
    """An image layout or an archive, and what of it was looked at already."""

    def __init__(self, find: Callable[[str], Piece | None], finder: Finder, name: str = "") -> None:
        """Take what finds a file by its name, and what keeps the findings; ``name`` is of the one image that is meant."""
        self.find, self.finder, self.name = find, finder, name
        self.named = False
        self.hashed: set[str] = set()
        self.entered: set[str] = set()
        self.readings: dict[Piece, Reading] = {}
        self.documents: dict[Piece, Document] = {}
        self.manifests: dict[tuple[str, str, bool], Document | None] = {}
        self.images: set[tuple[Piece | None, ...]] = set()
        self.chains: set[tuple[Piece | None, ...]] = set()

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
        if self.name and not self.named:
            message = f"{path}: holds no image of the name {self.name}"
            raise InputError(message, hint="`rootless-layer inspect` says which there are.")
        for name in () if self.name else names:
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
        given.spelled(("imageLayoutVersion",))
        version = given.get("imageLayoutVersion", str, required=True)
        if version not in {None, "1.0.0"}:
            given.problem("imageLayoutVersion", f"is '1.0.0', and not {quoted(version)}")

    def _json(self, piece: Piece, name: str) -> Any:  # noqa: ANN401 - JSON
        try:
            return parse(piece.read(), name, self.finder)
        except NOBODYS_FAULT:
            raise
        except InputError as error:
            self.finder.problem(name, "; ".join(error.problems))
            return None

    def _document(self, piece: Piece, name: str) -> Document:
        """Read a document, of which an index may list the same one any number of times."""
        if piece not in self.documents:
            given = self._json(piece, name)
            self.documents[piece] = Document({} if given is None else given, name, self.finder)
        return self.documents[piece]

    def _hash(self, name: str, piece: Piece, digest: str) -> None:
        if name not in self.hashed:
            self.hashed.add(name)
            check_digest(piece, digest, name, self.finder)

    def _blob(self, given: Document, *, may_miss: str = "") -> tuple[str, str, Piece] | None:
        """Check a descriptor and its blob; give the media type, the blob's name and where it is."""
        said = check_descriptor(given)
        if said is None:
            return None
        media_type, digest, size = said
        name = "blobs/" + digest.replace(":", "/", 1)
        piece = self.find(name)
        if piece is None and may_miss:
            self.finder.note(name, f"is not here: {may_miss}")
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
        rows = given.documents("manifests", required=True)
        if not rows:
            self.finder.note(name, "lists no image")
        if name == "index.json":
            rows = [row for row in rows if self._is_meant(_names(row))]
        some = any(self._is_here(row) for row in rows)
        for row in rows:
            _check_name(row)
            blob = self._blob(row, may_miss=_ABSENT if some and isinstance(row.given.get("platform"), dict) else "")
            if blob is None:
                continue
            if blob[0] in INDEXES:
                self._index(blob[2], blob[1], blob[0])
            elif blob[0] in MANIFESTS:
                platform = row.given.get("platform")
                platform = platform if isinstance(platform, dict) else {}
                config = self._manifest(blob[2], blob[1], blob[0], runs=platform.get("architecture") != "unknown")
                if config is not None:
                    _check_platform(config, platform)
            else:
                self.finder.note(blob[1], f"{quoted(blob[0])} is not an image's media type: it was not looked into")

    def _is_meant(self, names: Iterable[str]) -> bool:
        meant = not self.name or is_among(self.name, names)
        self.named = self.named or meant
        return meant

    def _is_here(self, row: Document) -> bool:
        digest = row.given.get("digest")
        return isinstance(digest, str) and self.find("blobs/" + digest.replace(":", "/", 1)) is not None

    def _manifest(self, piece: Piece, name: str, media_type: str, *, runs: bool) -> Document | None:
        """Check a manifest, once; give the config of the image that it is of."""
        key = (name, media_type, runs)
        if key not in self.manifests:
            self.manifests[key] = self._checked_manifest(self._document(piece, name), name, media_type, runs=runs)
        return self.manifests[key]

    def _checked_manifest(self, given: Document, name: str, media_type: str, *, runs: bool) -> Document | None:
        check_top(given, MANIFESTS, media_type)
        subject = given.document("subject")
        if subject is not None:
            check_descriptor(subject)
        described = given.document("config", required=True)
        config = None if described is None else self._blob(described)
        rows = given.documents("layers", required=True)
        if len(rows) > MOST_READ:
            given.problem("layers", f"there are {len(rows)}, and {MOST_READ} are the most that are looked into")
            return None
        other = _other_than_image(given, "" if config is None else config[0], runs=runs)
        layers: list[tuple[str, Piece] | None] = []
        for row in rows:
            blob = self._blob(row, may_miss="it is to be had elsewhere" if row.given.get("urls") else "")
            layers.append(None if blob is None else blob[1:])
            if blob is not None and not other:
                self._media_type(row, *blob)
        if config is None:
            return None
        if other:
            self.finder.note(name, f"is no image, as {other}: its blobs were not looked into")
            return None
        if not rows:
            self.finder.note(name, "has no layers, which not every reader takes")
        return self._image(config[1:], layers)

    def _media_type(self, row: Document, media_type: str, name: str, piece: Piece) -> None:
        try:
            kind = layer_type(media_type).partition("+")[2] or "none"
        except InputError:
            row.problem("mediaType", f"{quoted(media_type)} is not that of a layer")
            return
        check_compression(piece, kind, name, self.finder)

    def _docker(self, piece: Piece) -> None:
        given = self._json(piece, "manifest.json")
        if not isinstance(given, list):
            self.finder.problem("manifest.json", "is a list")
            return
        if not given:
            self.finder.problem("manifest.json", "lists no image")
        for number, value in enumerate(given):
            row = Document(value, "manifest.json", self.finder, f"[{number}]")
            row.spelled(("Config", "RepoTags", "Layers", "Parent", "LayerSources"))
            if not self._is_meant(row.strings("RepoTags")):
                continue
            config = self._named(row, row.get("Config", str, required=True))
            names = row.strings("Layers", required=True)
            if len(names) > MOST_READ:
                row.problem("Layers", f"there are {len(names)}, and {MOST_READ} are the most that are looked into")
                continue
            layers = [self._named(row, name) for name in names]
            for name in row.strings("RepoTags"):
                _check_text(row, "RepoTags", name)
                if not is_reference(name):
                    self.finder.note("manifest.json", f"RepoTags: {quoted(name)} is no name that docker takes")
            if config is None:
                continue
            digest = _OLD_CONFIG.fullmatch(config[0])
            if digest:
                self._hash(config[0], config[1], f"sha256:{digest[1]}")
            self._image(config, layers)

    def _named(self, row: Document, name: str | None) -> tuple[str, Piece] | None:
        if name is None:
            return None
        piece = self.find(name)
        if piece is None:
            row.problem("", f"{quoted(name)} is missing, or is no regular file")
            return None
        name = repr(clean(name))[1:-1]
        blob = _BLOB.fullmatch(name)
        if blob:
            self._hash(name, piece, f"{blob[1]}:{blob[2]}")
        return name, piece

    def _image(self, config: tuple[str, Piece], layers: list[tuple[str, Piece] | None]) -> Document:
        given = self._document(config[1], config[0])
        key = (config[1], *(None if layer is None else layer[1] for layer in layers))
        if key in self.images:
            return given
        self.images.add(key)
        self.finder.images += 1
        diff_ids = check_image_config(given, len(layers))
        for number, layer in enumerate(layers[: len(diff_ids)]):
            if layer is not None:
                check_diff_id(self._read(*layer), diff_ids[number], layer[0], self.finder)
        if key[1:] not in self.chains:
            self.chains.add(key[1:])
            self._check_tree(layers, given)
        return given

    def _check_tree(self, layers: list[tuple[str, Piece] | None], config: Document) -> None:
        """Check layers one upon the other, and what they hide of each other."""
        below: Merged = {}
        known = True
        seen = Accidents.of(config.given.get("config"))
        for number, layer in enumerate(layers):
            if layer is None:
                known = False
                continue
            reading = self._read(*layer)
            changes = reading.contents.changes(below)
            Soundness(layer[0], reading.contents, below, self.finder, known=known).check(changes.added)
            seen.see(layer[0], reading.contents, below, changes, own=number > 0 and known)
            changes.apply(below)
            known = known and reading.whole
        for note in (*few(seen.notes), *seen.lost):
            self.finder.note(*note.split(": ", 1))
        if len(layers) > MOST_FOR_DOCKER:
            self.finder.note(config.where, f"has {len(layers)} layers, and docker takes {MOST_FOR_DOCKER} at most")

    def _read(self, name: str, piece: Piece) -> Reading:
        if piece not in self.readings:
            self.finder.layers += 1
            self.readings[piece] = read_blob(piece, name, self.finder)
        return self.readings[piece]


_ABSENT = "an image for another platform may be left out where images are saved"


def _other_than_image(given: Document, config: str, *, runs: bool) -> str:
    """Say what shows that a manifest is of an attestation, a signature or another artifact, ``""`` where it is an image's."""
    if given.given.get("artifactType"):
        return "it has an artifactType"
    if config and config not in CONFIGS:
        return f"its config is {quoted(config)}"
    if not runs:
        return "it is for no platform"
    rows = given.given.get("layers")
    kinds = [str(row.get("mediaType")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return "" if not kinds or any(map(is_layer_type, kinds)) else f"what it holds is {quoted(kinds[0])}"


def _check_name(row: Document) -> None:
    """Check the name under which an index lists an image."""
    for name in _names(row):
        _check_text(row, "annotations", name)
        if name.isprintable() and not is_ref_name(name):
            row.finder.note(row.where, f"{quoted(name)} is no name that other tools take")


def _names(row: Document) -> list[str]:
    given = row.given.get("annotations")
    names = [given.get(key) for key in (FULL_NAME, REF_NAME)] if isinstance(given, dict) else []
    return [name for name in names if isinstance(name, str)]


def _check_text(row: Document, where: str, name: str) -> None:
    if not name.isprintable():
        row.problem(where, f"{name!a:.80} is no name")
