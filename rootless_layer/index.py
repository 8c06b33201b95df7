"""The documents by which an image is found in a layout or an archive, and the names under which it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .layout import FULL_NAME, REF_NAME
from .oci import INDEX, MANIFEST, Descriptor, canonical, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .blob import LayerBlob
    from .layout import Stored

_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}")
"""distribution's ``reference`` package, by which docker and podman read a name."""


def tag_of(name: str) -> str:
    """Give an image's name with its tag, ``latest`` by default; raises :class:`InputError` for what is no name."""
    full = name if _has_tag(name) else f"{name}:latest"
    if not _NAME.fullmatch(full):
        message = f"{name!r} is not the name of an image: write it as NAME:TAG, in lower case"
        raise InputError(message)
    return full


def _has_tag(name: str) -> bool:
    return ":" in name.rpartition("/")[2]


def index(images: Sequence[Stored], *, several_platforms: bool) -> tuple[bytes, list[bytes]]:
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
    return [row | {"annotations": {REF_NAME: name} | ({FULL_NAME: _full(name)} if _has_tag(name) else {})} for name in names] or [
        row
    ]


def _full(name: str) -> str:
    """Write a name as containerd does, with its registry."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def docker_manifest(
    images: Sequence[Stored], layer_name: Callable[[LayerBlob], str], config_name: Callable[[bytes], str]
) -> bytes:
    """Give ``manifest.json``, by which docker finds configs and layers in an archive."""
    return canonical(
        [
            {
                "Config": config_name(stored.image.config),
                "RepoTags": [name for name in stored.names if _has_tag(name)],
                "Layers": [layer_name(layer) for layer in stored.image.layers],
            }
            for stored in images
        ]
    )
