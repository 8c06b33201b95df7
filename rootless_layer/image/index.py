"""The documents by which an image is found in a layout or an archive, and the names under which it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rootless_layer.oci.descriptor import INDEX, MANIFEST, Descriptor, canonical, sha256
from rootless_layer.oci.reference import FULL_NAME, REF_NAME, full_name, is_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.layer.blob import LayerBlob

    from .read import NamedImage


def index(images: Sequence[NamedImage], *, several_platforms: bool) -> tuple[bytes, list[bytes]]:
    """Give ``index.json``, and the documents that it refers to beside configs and manifests.

    With ``several_platforms`` all images stand under one index of their own, named as the
    first of them is.
    """
    rows = [
        {**Descriptor(MANIFEST, stored.image.manifest_digest, len(stored.image.manifest)).to_json(),
         "platform": stored.image.platform.to_json()}
        for stored in images
    ]  # fmt: skip
    if several_platforms:
        inner = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})
        row = Descriptor(INDEX, sha256(inner), len(inner)).to_json()
        return _index(_named(row, images[0].names)), [inner]
    named = [each for row, stored in zip(rows, images, strict=True) for each in _named(row, stored.names)]
    return _index(named), []


def _index(rows: list[dict[str, Any]]) -> bytes:
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})


def _named(row: dict[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Repeat a row for each name; other tools' layouts may have mere tags, which are half a name."""
    return [
        row | {"annotations": {REF_NAME: name} | ({FULL_NAME: full_name(name)} if is_reference(name) else {})} for name in names
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
