"""The documents by which an image is found in a layout or an archive, and the names under which it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs

from rootless_layer.oci.descriptor import INDEX, MANIFEST, Descriptor, canonical, sha256
from rootless_layer.oci.documents import INDEXES
from rootless_layer.oci.reference import FULL_NAME, REF_NAME, full_name, is_reference
from rootless_layer.registry.manifest import Manifest

from .referrers import read_listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rootless_layer.layer.blob import LayerBlob, Piece

    from .read import NamedImage
    from .referrers import Referrer


@attrs.frozen(slots=True)
class OfIndex:
    """What an index says of itself: its annotations, and, where it is stored, its digest and the document.

    ``find`` finds what it lists, and the blobs of that, by their digests.
    """

    annotations: Mapping[str, str] = attrs.field(factory=dict)
    digest: str = ""
    kept: Manifest | None = attrs.field(default=None, repr=False)
    find: Callable[[str], Piece | None] = attrs.field(default=lambda _digest: None, eq=False, repr=False)


NO_INDEX = OfIndex()


@attrs.frozen(slots=True)
class IndexRows:
    """The rows of an index, and what else it says."""

    rows: list[object]
    of_index: OfIndex


def index(images: Sequence[NamedImage], *, several_platforms: bool) -> tuple[bytes, list[bytes]]:
    """Give ``index.json``, and the documents that it refers to beside configs and manifests.

    With ``several_platforms`` all images stand under one index of their own, named as the
    first of them is, with the annotations of the index that they all are of.
    """
    rows = [_row(stored) for stored in images]
    found = referrers(images, several_platforms=several_platforms)
    documents = list(dict.fromkeys(document for each in found for document in each.documents()))
    attached = [each.row for each in found]
    if several_platforms:
        inner = inner_index(images)
        row = _described(inner).to_json()
        beside = (document for each in listed_beside(images) for document in each.documents())
        return _index([*_named(row, images[0].names), *attached]), [inner.data, *beside, *documents]
    named = [each for row, stored in zip(rows, images, strict=True) for each in _named(row, stored.names)]
    return _index([*named, *attached]), documents


def is_index(images: Sequence[NamedImage], *, pushed: bool = False) -> bool:
    """Say whether images are one for several platforms: several are, and one is that an index lists alone, as it is stored."""
    return len(images) > 1 or _kept(images, pushed=pushed) is not None


def inner_index(images: Sequence[NamedImage], *, pushed: bool = False) -> Manifest:
    """Give the index that is one image for several platforms: the one by which it is stored, where that lists no other image.

    What is ``pushed`` goes to a registry, which takes docker's own kinds as well.
    """
    if (kept := _kept(images, pushed=pushed)) is not None:
        return kept[0]
    own = images[0].of_index
    same = all(stored.of_index.annotations == own.annotations for stored in images)
    said = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [_row(stored, pushed=pushed) for stored in images]}
    data = canonical(said | ({"annotations": dict(own.annotations)} if own.annotations and same else {}))
    return Manifest(data, INDEX, sha256(data))


def listed_beside(images: Sequence[NamedImage], *, pushed: bool = False) -> Sequence[Referrer]:
    """Give what :func:`inner_index` lists beside the images, such as attestations: they go with it."""
    kept = _kept(images, pushed=pushed)
    return () if kept is None else kept[1]


def _kept(images: Sequence[NamedImage], *, pushed: bool) -> tuple[Manifest, Sequence[Referrer]] | None:
    """Give the index by which the images are stored, with what it lists beside them, where all of that can go with them."""
    own = images[0].of_index
    if own.kept is None or own.kept.media_type not in (INDEXES if pushed else (INDEX,)):
        return None
    if any(stored.of_index.annotations != own.annotations for stored in images):
        return None
    rows = {row.get("digest"): row for row in json.loads(own.kept.data)["manifests"] if isinstance(row, dict)}
    manifests = {_manifest(stored, pushed=pushed).digest for stored in images}
    if not manifests <= rows.keys():
        return None
    beside = [read_listed(row, own.find) for digest, row in rows.items() if digest not in manifests]
    found = [each for each in beside if each is not None]
    return (own.kept, found) if len(found) == len(beside) else None


def top_digest(images: Sequence[NamedImage], *, several_platforms: bool) -> str:
    """Give the digest by which a registry has an image, or an image for several platforms."""
    fitted = [attrs.evolve(stored, image=stored.fitted()) for stored in images]
    return (inner_index(fitted, pushed=True) if several_platforms else fitted[0].image.pushed).digest


def referrers(images: Sequence[NamedImage], *, several_platforms: bool, pushed: bool = False) -> list[Referrer]:
    """Give what is attached to images as they are written, or to the index that they are: each once.

    What was attached where they come from is left out where the digest is another now. ``pushed`` is as of :func:`inner_index`.
    """
    manifests = [_described(_manifest(stored, pushed=pushed)) for stored in images]
    subjects = {each.digest: each for each in manifests}
    if several_platforms:
        top = _described(inner_index(images, pushed=pushed))
        found = [each.to(top) for stored in images for each in stored.attached]
        subjects[top.digest] = top
    else:
        found = [each.to(own) for stored, own in zip(images, manifests, strict=True) for each in stored.attached]
    kept = [each for stored in images for each in stored.referrers if each.subject in subjects]
    return list({each.digest: each for each in (*kept, *found)}.values())


def _manifest(stored: NamedImage, *, pushed: bool) -> Manifest:
    return stored.image.pushed if pushed else Manifest(stored.image.manifest, MANIFEST, stored.image.manifest_digest)


def _described(document: Manifest) -> Descriptor:
    return Descriptor(document.media_type, document.digest, len(document.data))


def _row(stored: NamedImage, *, pushed: bool = False) -> dict[str, object]:
    return {**_described(_manifest(stored, pushed=pushed)).to_json(), "platform": stored.image.platform.to_json()}


def _index(rows: Sequence[Mapping[str, object]]) -> bytes:
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})


def _named(row: Mapping[str, object], names: Sequence[str]) -> list[Mapping[str, object]]:
    """Repeat a row for each name; other tools' layouts may have mere tags, which are half a name."""
    return [
        {**row, "annotations": {REF_NAME: name} | ({FULL_NAME: full_name(name)} if is_reference(name) else {})} for name in names
    ] or [row]


def docker_manifest(
    images: Sequence[NamedImage], layer_name: Callable[[LayerBlob], str], config_name: Callable[[bytes], str]
) -> bytes:
    """Give ``manifest.json``, by which docker finds configs and layers in an archive."""
    return canonical(
        [
            {
                "Config": config_name(stored.image.config),
                "RepoTags": [name for name in stored.names if is_reference(name)],
                "Layers": [layer_name(layer) for layer in stored.image.layers],
            }
            for stored in images
        ]
    )
