"""An image layout or an archive checked: every claim is computed again, and all that is wrong is listed.

What is read of it is what :mod:`rootless_layer.image.read` reads: where ``index.json`` gives no whole image,
``manifest.json`` counts, and an image that is listed and not there is no fault where another one is whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.image.files import clean
from rootless_layer.image.read import MOST_IMAGES, MOST_NESTED
from rootless_layer.image.stored import EMPTY_TARS, MOST_READ, blob_name
from rootless_layer.oci.descriptor import Platform, is_sha256, layer_type, sha256
from rootless_layer.oci.documents import (
    INDEXES,
    MANIFESTS,
    Document,
    check_descriptor,
    check_top,
    is_digest,
)
from rootless_layer.oci.findings import Finder
from rootless_layer.oci.kinds import (
    UNKNOWN,
    check_docker_row,
    kind_of_document,
    listed_names,
    listed_platform,
    other_than_image,
)
from rootless_layer.oci.reference import is_among, is_ref_name
from rootless_layer.terminal import quoted

from .blob import check_compression
from .looked import NO_MEMBER, Looked, StoredLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless_layer.layer.blob import Piece


_NO_IMAGE = "Give an image layout, an OCI archive, a docker-archive, or a layer's directory."
_BLOB = re.compile(r"blobs/([^/]+)/([^/]+)")
_OLD_CONFIG = re.compile(r"([0-9a-f]{64})\.json")
_BY_INDEX = "podman, skopeo and containerd read manifest.json where index.json gives no image"
_BY_DOCKER = "podman, skopeo and containerd read index.json; docker before 25 reads this"


class StoredImages(Looked):
    """An image layout or an archive, and what of it was looked at already."""

    def __init__(self, find: Callable[[str], Piece | None], finder: Finder, name: str = "") -> None:
        """Take what finds a file by its name, and what keeps the findings; ``name`` is of the one image that is meant."""
        super().__init__(find, finder)
        self.name = name
        self.named = False
        self.listed = self.whole = 0
        self.entered: set[str] = set()
        self.absent: list[tuple[str, str]] = []

    def check(self, names: Iterable[str], path: str) -> None:
        """Check all of it; ``names`` are those of its files, of which the blobs are checked though nothing names them."""
        index, docker = self.find("index.json"), self.find("manifest.json")
        if index is None and docker is None:
            message = f"{path}: holds neither index.json nor manifest.json"
            raise InputError(message, hint=_NO_IMAGE)
        whole = self._check_documents(index, docker)
        if self.name and not self.named:
            message = f"{path}: holds no image of the name {self.name}"
            raise InputError(message, hint="`rootless-layer inspect` says which there are.")
        if not whole and not self.finder.problems:
            self.finder.problem("index.json" if index is not None else "manifest.json", "lists no image")
        for name in () if self.name else names:
            blob = _BLOB.fullmatch(name)
            piece = self.find(name)
            if blob and name not in self.hashed and piece is not None:
                if index is not None:
                    self.finder.note(name, "nothing refers to this blob")
                self.hash(name, piece, f"{blob[1]}:{blob[2]}")

    def _check_documents(self, index: Piece | None, docker: Piece | None) -> bool:
        """Check what both documents list, and say whether there is a whole image; the findings of one give way to the other's."""
        of_index, of_docker = Finder(), Finder()
        if index is not None:
            of_index = self.apart(lambda: self._check_index(index))
        in_index, self.whole = self.whole, 0
        if docker is not None:
            of_docker = self.apart(lambda: self._docker(docker))
        if in_index and not of_index.problems and of_docker.problems:
            of_docker.unusual("manifest.json", f"is not whole: {_BY_DOCKER}")
            self.finder.take(of_docker, give_way=True)
        else:
            self.finder.take(of_docker)
        if self.whole and of_index.problems:
            of_index.unusual("index.json", f"is not whole: {_BY_INDEX}")
        self.finder.take(of_index, give_way=bool(self.whole))
        whole = bool(in_index or self.whole)
        for where, what in self.absent:
            keep = self.finder.note if whole else self.finder.problem
            keep(where, f"is missing, or is no regular file; {what}")
        return whole

    def _check_index(self, piece: Piece) -> None:
        self.finder.take(self.apart(self._layout), give_way=True)
        self._index(piece, "index.json")

    def _layout(self) -> None:
        """Check the document that says that a directory is a layout: podman and skopeo do not look at it."""
        piece = self.find("oci-layout")
        if piece is None:
            self.finder.problem("oci-layout", "is missing: podman and skopeo do not look for it")
            return
        given = self.document(piece, "oci-layout")
        given.spelled(("imageLayoutVersion",))
        version = given.given.get("imageLayoutVersion")
        if version != "1.0.0":
            given.problem("imageLayoutVersion", f"is '1.0.0', and not {quoted(version)}")

    def _blob(self, given: Document, *, typed: bool = True, may_miss: bool = False) -> tuple[str, str, Piece] | None:
        """Check a descriptor and its blob; give the media type, the blob's name and where it is."""
        said = check_descriptor(given, typed=typed)
        if said is None:
            return None
        media_type, digest, size = said
        name = blob_name(digest)
        piece = self.find(name)
        if piece is None:
            if may_miss:
                self.absent.append((name, f"{given.where} refers to it, and an image that is not here may be left out"))
            else:
                self.finder.problem(name, f"is missing, or is no regular file; {given.where} refers to it")
            return None
        if piece.size != size:
            self.finder.problem(name, f"has {piece.size} bytes, and should have {size}, says {given.where}")
        self.hash(name, piece, digest)
        return media_type, name, piece

    def _index(self, piece: Piece, name: str, media_type: str = "", depth: int = 0) -> None:
        if name in self.entered:
            return
        self.entered.add(name)
        given = self.document(piece, name)
        check_top(given, INDEXES, media_type)
        rows = given.documents("manifests")
        self.listed += len(rows)
        if self.listed > MOST_IMAGES or depth > MOST_NESTED:
            given.problem("manifests", f"they are nested too deep, or more than {MOST_IMAGES}, which are not read")
            return
        if not rows:
            self.finder.note(name, "lists no image")
        for row in rows:
            names = listed_names(row)
            if depth == 0 and not self._is_meant(names):
                continue
            for one in names:
                if one.isprintable() and not is_ref_name(one):
                    self.finder.unusual(row.where, f"{quoted(one)} is no name that other tools take")
            self._row(row, depth)

    def _row(self, row: Document, depth: int) -> None:
        platform = listed_platform(row)
        none = platform is not None and UNKNOWN in {platform.os, platform.architecture}
        blob = self._blob(row, typed=False, may_miss=True)
        if blob is None:
            return
        media_type, name, piece = blob
        if media_type not in {"", *INDEXES, *MANIFESTS}:
            self.finder.note(name, f"{quoted(media_type)} is not an image's media type: it was not looked into")
            return
        media_type = kind_of_document(self.json(piece, name), media_type)
        if none:
            self._other(self.document(piece, name), "it is for no platform")
        elif media_type in INDEXES:
            self._index(piece, name, media_type, depth + 1)
        else:
            self._manifest(piece, name, media_type, platform)

    def _is_meant(self, names: Iterable[str]) -> bool:
        meant = not self.name or is_among(self.name, names)
        self.named = self.named or meant
        return meant

    def _manifest(self, piece: Piece, name: str, media_type: str, platform: Platform | None) -> None:
        """Check a manifest, once for each platform by which it is listed."""
        key = "manifest", name, media_type, platform
        config, whole = self.once(key, lambda: self._checked_manifest(self.document(piece, name), name, media_type, platform))
        self.whole += whole and not self._kept[key][1].problems
        if config is None:
            return
        said = listed_platform(Document({"platform": config.given}, "", Finder()))
        if platform is not None and said is not None and not platform.runs(said):
            self.finder.unusual(
                config.where, f"is for {said}, and the index says {platform}: podman, docker and containerd choose by the index"
            )

    def _checked_manifest(
        self, given: Document, name: str, media_type: str, platform: Platform | None
    ) -> tuple[Document | None, bool]:
        """Give the config of the image that a manifest is of, and whether all of the image is here."""
        check_top(given, MANIFESTS, media_type)
        subject = given.document("subject")
        if subject is not None:
            check_descriptor(subject)
        described, rows = given.document("config", required=True), given.documents("layers")
        kind = "" if described is None else described.given.get("mediaType")
        other = other_than_image(given, kind if isinstance(kind, str) else "")
        if other:
            self._other(given, other)
            return None, False
        if len(rows) > MOST_READ:
            given.problem("layers", f"there are {len(rows)}, and {MOST_READ} are the most that are read")
            return None, False
        may_miss = platform is not None
        config = None if described is None else self._blob(described, may_miss=may_miss)
        layers = [self._layer(row, may_miss=may_miss) for row in rows]
        if not rows:
            self.finder.unusual(name, "has no layers, which not every reader takes")
        if config is None:
            return None, False
        return self.image(config[1:], layers), None not in layers

    def _other(self, given: Document, what: str) -> None:
        """Take note of what is no image: of its blobs, which need not be here, the digests are computed."""
        self.finder.note(given.where, f"is no image, as {what}: its blobs were not looked into")
        config, layers = given.given.get("config"), given.given.get("layers")
        for row in (config, *layers) if isinstance(layers, list) else (config,):
            digest = str(row.get("digest")) if isinstance(row, dict) else ""
            piece = self.find(blob_name(digest)) if is_digest(digest) else None
            if piece is not None:
                self.hash(blob_name(digest), piece, digest)

    def _layer(self, row: Document, *, may_miss: bool) -> StoredLayer | None:
        blob = self._blob(row, may_miss=may_miss)
        if blob is None:
            return None
        media_type, name, piece = blob
        try:
            kind = layer_type(media_type).partition("+")[2] or "none"
        except InputError:
            row.problem("mediaType", f"{quoted(media_type)} is not that of a layer")
            return name, piece
        check_compression(piece, kind, name, self.finder, told=self._by_the_bytes)
        return name, piece

    def _by_the_bytes(self, where: str, what: str) -> None:
        self.finder.unusual(where, f"{what}: docker, podman and containerd go by the bytes")

    def _docker(self, piece: Piece) -> None:
        given = self.json(piece, "manifest.json")
        if not isinstance(given, list) or len(given) > MOST_IMAGES:
            self.finder.problem("manifest.json", f"is a list of {MOST_IMAGES} rows at most")
            return
        for number, value in enumerate(given):
            inner = self.apart(lambda: self._docker_row(value, number))  # noqa: B023 - it is called at once
            self.whole += bool(inner.images) and not inner.problems
            self.finder.take(inner)

    def _docker_row(self, value: object, number: int) -> None:
        row = Document(value, "manifest.json", self.finder, f"[{number}]")
        name, paths, names = check_docker_row(row)
        if not self._is_meant(names):
            return
        if len(paths) > MOST_READ:
            row.problem("Layers", f"there are {len(paths)}, and {MOST_READ} are the most that are read")
            return
        config = None if name is None else self._named(row, name)
        if config is None:
            self._docker_layers(row, paths, [])
            return
        digest = _OLD_CONFIG.fullmatch(config[0])
        if digest:
            self.hash(config[0], config[1], f"sha256:{digest[1]}")
        rootfs = self.document(config[1], config[0]).given.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        layers = self._docker_layers(row, paths, diff_ids if isinstance(diff_ids, list) else [])
        self.image(config, layers)

    def _docker_layers(self, row: Document, paths: list[str], diff_ids: list[object]) -> list[StoredLayer | None]:
        """Find layers, ``None`` for one that is not here.

        Engines pass over the file of a layer that they have, so that some tools leave it empty, or do not name one.
        """
        there = [(path, diff_id) for path, diff_id in zip(paths, diff_ids, strict=False) if is_sha256(diff_id)]
        full = {diff_id: path for path, diff_id in there if (piece := self._file(path)) is not None and piece.size}
        found: list[StoredLayer | None] = []
        for number, path in enumerate(paths):
            piece, diff_id = self._file(path), diff_ids[number] if number < len(diff_ids) else None
            if piece is not None and (piece.size or diff_id == sha256(b"")):
                found.append(self._named(row, path))
            elif isinstance(diff_id, str) and (diff_id in full or diff_id in EMPTY_TARS):
                row.unusual("Layers", f"{quoted(path)} stands for a layer that podman and docker have by then")
                found.append(self._named(row, full[diff_id]) if diff_id in full else NO_MEMBER)
            else:
                found.append(None)
                what = "is missing, or is no regular file" if piece is None else "is empty"
                row.problem("Layers", f"{quoted(path)} {what}: the layer is not here")
        return found

    def _file(self, name: str) -> Piece | None:
        return self.find(name) if name else None

    def _named(self, row: Document, name: str) -> StoredLayer | None:
        piece = self._file(name)
        if piece is None:
            row.problem("", f"{quoted(name)} is missing, or is no regular file")
            return None
        name = repr(clean(name))[1:-1]
        blob = _BLOB.fullmatch(name)
        if blob:
            self.hash(name, piece, f"{blob[1]}:{blob[2]}")
        return name, piece
