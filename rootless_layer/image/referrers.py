"""What is attached to an image: manifests of artifacts that name it as their subject (image-spec ``manifest.md``)."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError
from rootless_layer.layer.blob import Piece
from rootless_layer.oci.config import read_json
from rootless_layer.oci.descriptor import ALGORITHMS, EMPTY, EMPTY_CONFIG, MANIFEST, Descriptor, canonical, sha256
from rootless_layer.oci.documents import MANIFESTS, Document, is_digest
from rootless_layer.oci.findings import Finder
from rootless_layer.oci.kinds import UNKNOWN, listed_platform, other_than_image
from rootless_layer.system.machine import unreadable
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MOST_BYTES = 64 << 20
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_KNOWN = {
    "spdxVersion": "application/spdx+json",
    "bomFormat": "application/vnd.cyclonedx+json",
    "predicateType": "application/vnd.in-toto+json",
}
"""The media types of documents, by a property that each has."""
TITLE = "org.opencontainers.image.title"


@attrs.frozen(slots=True)
class Referrer:
    """An artifact as it is stored: its manifest, and its blobs by their digests; ``subject`` is the digest of what it is of."""

    manifest: bytes = attrs.field(repr=False)
    media_type: str
    artifact_type: str
    subject: str
    annotations: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    blobs: Mapping[str, bytes | Piece] = attrs.field(factory=dict, eq=False, repr=False)

    @property
    def digest(self) -> str:
        """Give the manifest's digest."""
        return sha256(self.manifest)

    @property
    def row(self) -> dict[str, Any]:
        """Give the descriptor by which an index lists it: with the artifact's type and annotations, as a registry does."""
        said: dict[str, Any] = Descriptor(self.media_type, self.digest, len(self.manifest)).to_json()
        said |= {"artifactType": self.artifact_type} if self.artifact_type else {}
        return said | ({"annotations": dict(self.annotations)} if self.annotations else {})

    def documents(self) -> list[bytes]:
        """Give the bytes of its blobs, and its manifest's last."""
        return [*(blob.read() if isinstance(blob, Piece) else blob for blob in self.blobs.values()), self.manifest]


@attrs.frozen(slots=True)
class Attachment:
    """A file that is to be attached to an image, whatever its digest comes to: its media type, its bytes and its name."""

    media_type: str
    data: bytes = attrs.field(repr=False)
    title: str = ""

    def to(self, subject: Descriptor) -> Referrer:
        """Make the manifest of an artifact of this one file, attached to the manifest or index that ``subject`` describes."""
        file: dict[str, Any] = Descriptor(self.media_type, sha256(self.data), len(self.data)).to_json()
        if self.title:
            file["annotations"] = {TITLE: self.title}
        manifest = canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": self.media_type,
                "config": Descriptor(EMPTY_CONFIG, sha256(EMPTY), len(EMPTY)).to_json(),
                "layers": [file],
                "subject": subject.to_json(),
            }
        )
        blobs = {sha256(EMPTY): EMPTY, sha256(self.data): self.data}
        return Referrer(manifest, MANIFEST, self.media_type, subject.digest, blobs=blobs)


def attachments(value: Iterable[Attachment]) -> tuple[Attachment, ...]:
    """Be the converter of a field; raises :class:`InputError` for what is no attachment."""
    return given.items("attached", value, Attachment, "an Attachment")


def read_attachment(text: str) -> Attachment:
    """Read ``FILE[:TYPE]``; bills of materials and in-toto's statements in JSON are known without a type.

    Raises :class:`InputError` for a type that is none and where nobody knows it, :class:`SourceError` for a file that cannot
    be read.
    """
    path, colon, media_type = text.rpartition(":")
    if not colon or "/" not in media_type or os.path.exists(text):
        path, media_type = text, ""
    if media_type and not _MEDIA_TYPE.fullmatch(media_type):
        message = f"{quoted(media_type)} is not a media type"
        raise InputError(message, hint="Write it as FILE:application/spdx+json.")
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(error, path) from error
    if len(data) > _MOST_BYTES:  # a device has no size of its own
        message = f"{path}: more than {_MOST_BYTES} bytes are too many to attach"
        raise InputError(message)
    media_type = media_type or _type_of(data)
    if not media_type:
        message = f"{path}: of which type it is does not follow from its content"
        raise InputError(message, hint="Name its media type: FILE:TYPE.")
    return Attachment(media_type, data, os.path.basename(path))


def _type_of(data: bytes) -> str:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    keys = said.keys() if isinstance(said, dict) else ()
    return next((media_type for key, media_type in _KNOWN.items() if key in keys), "")


def subject_of(said: object) -> str:
    """Give the digest of what a manifest is attached to, ``""`` where it says none that is one."""
    found = said.get("subject") if isinstance(said, dict) else None
    digest = found.get("digest") if isinstance(found, dict) else None
    known = isinstance(digest, str) and is_digest(digest) and digest.partition(":")[0] in ALGORITHMS
    return digest if known and isinstance(digest, str) else ""


def artifact_type_of(said: Mapping[str, Any]) -> str:
    """Give a manifest's type as the referrers API tells it: its own, else its config's media type."""
    config = said.get("config")
    kinds = said.get("artifactType"), config.get("mediaType") if isinstance(config, dict) else ""
    return next((kind for kind in kinds if isinstance(kind, str) and kind), "")


def read_referrer(data: bytes, said: object, media_type: str, find: Callable[[str], Piece | None]) -> Referrer | None:
    """Read the manifest of an artifact, whose files ``find`` finds by their digests; nothing of one that is not whole."""
    return _read(data, said, media_type, find) if subject_of(said) else None


def read_listed(row: Mapping[str, Any], find: Callable[[str], Piece | None]) -> Referrer | None:
    """Read what a ``row`` of an index lists beside images, such as an attestation: nothing of an image, or where it is not whole.

    ``find`` is as of :func:`read_referrer`; the ``subject`` is ``""`` where it has none.
    """
    digest, media_type = str(row.get("digest")), row.get("mediaType")
    piece = find(digest) if is_digest(digest) else None
    if piece is None or media_type not in MANIFESTS or sha256(data := piece.read()) != digest:
        return None
    try:
        said = read_json(data)
    except ValueError:
        return None
    platform, manifest = listed_platform(Document(row, "", Finder())), Document(said, "", Finder())
    config = manifest.given.get("config")
    kind = config.get("mediaType") if isinstance(config, dict) else ""
    is_image = platform is None or UNKNOWN not in {platform.os, platform.architecture}
    if is_image and not other_than_image(manifest, kind if isinstance(kind, str) else ""):
        return None
    return _read(data, said, media_type, find)


def _read(data: bytes, said: object, media_type: str, find: Callable[[str], Piece | None]) -> Referrer | None:
    if not isinstance(said, dict):
        return None
    layers, annotations = said.get("layers"), said.get("annotations")
    blobs: dict[str, bytes | Piece] = {}
    for row in (said.get("config"), *(layers if isinstance(layers, list) else ())):
        digest = row.get("digest") if isinstance(row, dict) else None
        piece = find(digest) if isinstance(digest, str) and is_digest(digest) else None
        if piece is None or not isinstance(digest, str) or not digest.startswith("sha256:"):
            return None
        blobs[digest] = piece
    texts = {key: value for key, value in (annotations or {}).items() if isinstance(value, str)}
    return Referrer(data, media_type or MANIFEST, artifact_type_of(said), subject_of(said), texts, blobs)
