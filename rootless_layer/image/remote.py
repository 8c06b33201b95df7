"""An image in a registry, read as if it lay in a layout: its documents are, and its layers come when somebody reads them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import Piece
from rootless_layer.layer.made import INDEX_JSON, OCI_LAYOUT
from rootless_layer.oci.descriptor import ALGORITHMS, INDEX, MANIFEST, MEDIA_TYPES, canonical, is_layer_type, layer_type
from rootless_layer.oci.documents import INDEXES, MANIFESTS, is_digest
from rootless_layer.oci.kinds import UNKNOWN
from rootless_layer.oci.reference import FULL_NAME, REF_NAME
from rootless_layer.registry.client import Client, find
from rootless_layer.registry.download import download
from rootless_layer.registry.name import RegistryName
from rootless_layer.registry.referrers import MOST_REFERRERS, list_referrers
from rootless_layer.tar.decompression import kind_of

from .bring import EVERYTHING, Fetching, bring_pieces
from .files import in_directory
from .stored import StoredFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rootless_layer.registry.manifest import Manifest


_KINDS = {media_type: kind for kind, media_type in MEDIA_TYPES.items()}
_MOST_MANIFESTS = 1_000
_MOST_NESTED = 4
_LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})


@attrs.frozen(slots=True)
class RemoteBlob:
    """A blob of a registry's repository, and the file in which it is to be.

    One that comes ``later`` is known by its media type until then, so that it has to be of that.
    """

    client: Client = attrs.field(eq=False, repr=False)
    digest: str
    size: int
    media_type: str
    target: str
    later: bool = False

    @property
    def is_here(self) -> bool:
        """Say whether it was brought here."""
        return os.path.exists(self.target)

    @property
    def kind(self) -> str:
        """Say how it is compressed, by its media type; ``""`` where that is no layer's."""
        return _KINDS[layer_type(self.media_type)] if is_layer_type(self.media_type) else ""

    def bring(self, count: Callable[[int], object]) -> None:
        """Bring it to its file, whole or not at all; raises as :func:`.download` does."""
        if self.is_here:
            return
        download(self.client, self.digest, self.size, self.target, count)
        found = kind_of(self.target) if self.later and self.size and self.kind else self.kind
        if found != self.kind:
            message = f"{self.client.where}: the layer {self.digest} is compressed by {found}, and said to be {self.media_type}"
            raise InputError(
                message, hint="Pull it (`rootless-layer pull`), and name the file: its layers are read by their bytes."
            )


@attrs.frozen(slots=True)
class RemoteReferrer:
    """The manifest of an artifact of a registry: the descriptor that lists it, and the digest of what it is attached to."""

    row: Mapping[str, Any]
    manifest: Manifest
    subject: str


@attrs.frozen(slots=True)
class RemoteImage:
    """The documents of a registry's image in a directory, as a layout, and its blobs by the names of their files.

    ``top`` is what the name stands for; ``manifests`` has all that were read, each after what it refers to, and
    ``configs`` the documents beside them, by their digests. ``parts`` are the digests of what each manifest refers to.
    ``referrers`` are what is attached, where that was asked for; ``apart`` has the names of blobs that only these have.
    """

    name: RegistryName
    folder: str
    top: Manifest
    manifests: tuple[Manifest, ...]
    configs: Mapping[str, bytes]
    blobs: Mapping[str, RemoteBlob]
    parts: Mapping[str, Sequence[str]]
    referrers: tuple[RemoteReferrer, ...] = ()
    apart: frozenset[str] = frozenset()

    def find(self, name: str) -> Piece | None:
        """Find a file of the layout by its name."""
        known = self.blobs.get(name)
        return in_directory(self.folder)(name) if known is None else self.piece(known)

    def piece(self, blob: RemoteBlob) -> Piece:
        """Give the bytes of a blob."""
        return Piece(blob.target, blob.size, name=str(self.name), remote=blob)

    def pieces(self) -> Iterator[Piece]:
        """Give every blob of images that may still be to be brought here; what is attached comes when somebody reads it."""
        return (self.piece(blob) for name, blob in self.blobs.items() if name not in self.apart)


def read_remote(given: str, folder: str, fetching: Fetching = EVERYTHING) -> RemoteImage:
    """Read what a name ``docker://…`` stands for into a new directory, but for its layers; of an index what ``fetching`` says.

    Raises :class:`InputError` for what is no such name or no image, and :class:`SourceError` for what the registry does
    not have or where it cannot be reached.
    """
    name = RegistryName.parse(given)
    client, top = find(name)
    reader = _Reader(client, folder, fetching)
    os.makedirs(folder, exist_ok=True)
    reader.add(top, 0)
    names = {REF_NAME: name.full_name, FULL_NAME: name.full_name} if name.full_name else {}
    row = {"mediaType": media_type_of(top), "digest": top.digest, "size": len(top.data)}
    manifests = tuple(reader.manifests)
    own = frozenset(reader.blobs)
    attached = reader.referrers() if fetching.referrers else ()
    listed = [row | ({"annotations": names} if names else {}), *(each.row for each in attached)]
    reader.write(INDEX_JSON, canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}))
    reader.write(OCI_LAYOUT, _LAYOUT)
    apart = frozenset(reader.blobs) - own
    return RemoteImage(name, folder, top, manifests, reader.configs, reader.blobs, reader.parts, attached, apart)


def remote_files(given: str, spool: Callable[[], str], fetching: Fetching) -> StoredFiles:
    """Give the files of a registry's image, by which it is read; raises as :func:`read_remote` does.

    ``spool`` is as of :func:`.read.read_all`.
    """
    remote = read_remote(given, spool(), fetching)
    if not fetching.later:
        bring_pieces(remote.pieces(), fetching.progress)
    return StoredFiles(str(remote.name), remote.find, spool)


def pulled(given: str, folder: str) -> str:
    """Bring all of a registry's image into a new directory, as a layout, and give that; raises as :func:`read_remote` does."""
    bring_pieces(read_remote(given, folder).pieces())
    return folder


def media_type_of(manifest: Manifest) -> str:
    """Give a document's media type: what it says itself counts, as engines have it, else what the registry says."""
    said = _parsed(manifest.data)
    own = said.get("mediaType")
    if isinstance(own, str) and own:
        return own
    if manifest.media_type in {*INDEXES, *MANIFESTS}:
        return manifest.media_type
    return INDEX if "manifests" in said else MANIFEST


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return {}  # whoever reads the layout says what is wrong
    return said if isinstance(said, dict) else {}


class _Reader:
    """Follows what documents refer to."""

    def __init__(self, client: Client, folder: str, fetching: Fetching) -> None:
        self.client, self.folder, self.fetching = client, folder, fetching
        self.manifests: list[Manifest] = []
        self.seen: set[str] = set()
        self.configs: dict[str, bytes] = {}
        self.blobs: dict[str, RemoteBlob] = {}
        self.parts: dict[str, list[str]] = {}

    def write(self, name: str, data: bytes) -> str:
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def add(self, found: Manifest, depth: int) -> None:
        """Keep a document, and get what it refers to."""
        self.write(_file(found.digest), found.data)
        said, parts = _parsed(found.data), list[str]()
        if media_type_of(found) in INDEXES:
            for row in self._rows(said.get("manifests")):
                if self._is_wanted(row):
                    self._follow(row["digest"], depth + 1)
        else:
            configs, layers = self._rows([said.get("config")]), self._rows(said.get("layers"))
            for row in configs:
                self._config(row["digest"], row["size"])
            for row in layers:
                self._layer(row)
            parts = [row["digest"] for row in (*configs, *layers)]
        self.parts[found.digest] = parts
        self.manifests.append(found)

    def referrers(self) -> tuple[RemoteReferrer, ...]:
        """Get what is attached to all that was read, and to that in turn: a signature of a bill of materials, too."""
        found: list[RemoteReferrer] = []
        subjects = [each.digest for each in self.manifests]
        known = set(subjects)
        for subject in subjects:
            for row in self._rows(list_referrers(self.client, subject)):
                if row["digest"] in known:
                    continue
                known.add(row["digest"])
                if len(found) == MOST_REFERRERS:
                    message = f"{self.client.name}: has more than {MOST_REFERRERS} artifacts attached to it"
                    raise InputError(message)
                manifest = self.client.manifest(row["digest"])
                self.add(manifest, 0)
                listed: dict[str, Any] = {key: row[key] for key in ("artifactType", "annotations") if key in row}
                listed |= {"mediaType": media_type_of(manifest), "digest": manifest.digest, "size": len(manifest.data)}
                found.append(RemoteReferrer(listed, manifest, subject))
                subjects.append(row["digest"])
        return tuple(found)

    def _rows(self, given: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - JSON
        """Give the descriptors that can be followed: a digest becomes a path, and a part of an address."""
        return [row for row in given if isinstance(row, dict) and _is_usable(row)] if isinstance(given, list) else []

    def _is_wanted(self, row: Mapping[str, Any]) -> bool:
        if self.fetching.platform is None:
            return row.get("mediaType") in {None, "", *INDEXES, *MANIFESTS}
        said = row.get("platform")
        if not isinstance(said, dict) or row.get("mediaType") in INDEXES:
            return True
        system, machine = said.get("os"), said.get("architecture")
        if UNKNOWN in {system, machine}:
            return False
        return not system or not machine or (system, machine) == (self.fetching.platform.os, self.fetching.platform.architecture)

    def _follow(self, digest: str, depth: int) -> None:
        if digest in self.seen:
            return
        self.seen.add(digest)
        if depth > _MOST_NESTED or len(self.seen) > _MOST_MANIFESTS:
            message = f"{self.client.name}: its indexes are nested too deep, or list more than {_MOST_MANIFESTS} images"
            raise InputError(message, hint="Name one image by its digest: docker://NAME@DIGEST.")
        self.add(self.client.manifest(digest), depth)

    def _config(self, digest: str, size: int) -> None:
        if digest not in self.configs:
            self.configs[digest] = self.client.document(digest, size)
            self.write(_file(digest), self.configs[digest])

    def _layer(self, row: Mapping[str, Any]) -> None:
        digest, size, name = row["digest"], row["size"], _file(row["digest"])
        if digest in self.configs:
            return
        target, media_type = os.path.join(self.folder, name), row.get("mediaType")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        said = media_type if isinstance(media_type, str) else ""
        self.blobs[name] = RemoteBlob(self.client, digest, size, said, target, self.fetching.later)


def _is_usable(row: Mapping[str, Any]) -> bool:
    digest, size = row.get("digest"), row.get("size")
    known = isinstance(digest, str) and is_digest(digest) and digest.partition(":")[0] in ALGORITHMS
    return known and type(size) is int and size >= 0


def _file(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)
