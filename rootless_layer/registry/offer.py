"""The content of a registry that is served: repositories, with their tags, manifests and blobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import INDEX, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .blob import Blob
    from .manifest import Manifest


@attrs.frozen(slots=True)
class Repository:
    """The images of one name: manifests by their digests, the digests by their tags, and blobs by their digests."""

    tags: dict[str, str] = attrs.field(factory=dict)
    manifests: dict[str, Manifest] = attrs.field(factory=dict)
    blobs: dict[str, Blob] = attrs.field(factory=dict)

    def find(self, reference: str) -> Manifest | None:
        """Find a manifest by its tag or digest."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, digest: str, kind: str) -> bytes:
        """Give the index of the manifests whose subject is a digest (distribution-spec, "Listing Referrers").

        With a ``kind`` it is of those with that artifact type.
        """
        rows = [row for row in map(_referrer, self.manifests.values()) if row is not None and row.pop("subject") == digest]
        listed = [row for row in rows if not kind or row.get("artifactType") == kind]
        return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed})


def _referrer(manifest: Manifest) -> dict[str, Any] | None:
    """Give the row of a manifest that has a subject, whose digest stands beside; ``None`` for any other."""
    said = json.loads(manifest.data)
    subject = said.get("subject") if isinstance(said, dict) else None
    if not isinstance(subject, dict):
        return None
    config = said.get("config")
    kind = said.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    row = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(manifest.data)}
    more = {"artifactType": kind, "annotations": said.get("annotations")}
    return row | {name: value for name, value in more.items() if value} | {"subject": subject.get("digest")}


@attrs.frozen(slots=True)
class Offer:
    """The repositories of a registry by their names."""

    repositories: Mapping[str, Repository]

    def find(self, name: str) -> Repository | None:
        """Find a repository; Docker Hub's own images are below ``library/`` for whoever asks in its stead."""
        return self.repositories.get(name) or self.repositories.get(name.removeprefix("library/"))

    def images(self) -> Iterator[tuple[str, str]]:
        """Give each ``NAME:TAG``, and the digest that it stands for."""
        for name, repository in sorted(self.repositories.items()):
            for tag, digest in sorted(repository.tags.items()):
                yield f"{name}:{tag}", digest


def tag(repository: Repository, name: str, tag: str, digest: str) -> None:
    """Give a manifest of a repository a tag; raises :class:`InputError` where that is another's."""
    if repository.tags.setdefault(tag, digest) != digest:
        message = f"{name}:{tag}: is the name of two images, {repository.tags[tag]} and {digest}"
        raise InputError(message, hint="Give one of them another name: NAME=IMAGE.")
