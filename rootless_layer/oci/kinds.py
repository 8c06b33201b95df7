"""The kinds of things that an index or a docker-archive lists: images, and what is none.

Whoever reads, checks, shows or merges images asks here, so that all say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rootless_layer.terminal import quoted

from .descriptor import Platform, is_layer_type
from .documents import CONFIGS, INDEXES, MANIFESTS
from .reference import FULL_NAME, REF_NAME, is_among, is_reference

if TYPE_CHECKING:
    from .documents import Document

UNKNOWN = "unknown"
"""buildx's word for the system and the architecture of an attestation."""
_LAYERS = "application/vnd.oci.image.layer."
"""How the types of layers begin, those that this program does not read among them."""
_DOCKER_ROW = ("Config", "RepoTags", "Layers", "Parent", "LayerSources")


def listed_names(row: Document) -> tuple[str, ...]:
    """Give the names under which an index lists something; one that no terminal should show is a problem."""
    given = row.given.get("annotations")
    found = [given.get(key) for key in (FULL_NAME, REF_NAME)] if isinstance(given, dict) else []
    names: tuple[str, ...] = ()
    for name in found:
        if isinstance(name, str) and name and not is_among(name, names):
            names += (name,)
            check_text(row, "annotations", name)
    return names


def check_text(row: Document, where: str, name: str) -> None:
    """Check that a name can be shown."""
    if not name.isprintable():
        row.problem(where, f"{name!a:.80} is no name")


def listed_platform(row: Document) -> Platform | None:
    """Give the platform that an index says of something; ``None`` where it says none, or half of one."""
    given = row.given.get("platform")
    parts = [given.get(name) or "" for name in ("os", "architecture", "variant")] if isinstance(given, Mapping) else []
    if not parts or not all(isinstance(part, str) for part in parts) or not (parts[0] and parts[1]):
        return None
    return Platform(*parts)


def kind_of_document(said: object, media_type: str) -> str:
    """Give the media type of an index's row, guessed as podman does where there is none."""
    if media_type or not isinstance(said, Mapping):
        return media_type
    return INDEXES[0] if "manifests" in said else MANIFESTS[0]


def other_than_image(manifest: Document, config: str) -> str:
    """Say what shows that a manifest is of an attestation, a signature or another artifact; ``""`` for an image's.

    ``config`` is the config's media type.
    """
    if config and config not in CONFIGS:
        return f"its config is {quoted(config)}"
    rows = manifest.given.get("layers")
    kinds = [str(row.get("mediaType") or "") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    if any(kinds) and not any(is_layer_type(kind) or kind.startswith(_LAYERS) for kind in kinds):
        return f"what it holds is {quoted(next(filter(None, kinds)))}"
    return "it has an artifactType, and no layer" if manifest.given.get("artifactType") and not any(kinds) else ""


def check_docker_row(row: Document) -> tuple[str | None, list[str], list[str]]:
    """Check a row of a docker-archive's ``manifest.json``; give the names of its config, its layers, and its own."""
    row.spelled(_DOCKER_ROW)
    names = row.strings("RepoTags")
    for name in filter(None, names):
        check_text(row, "RepoTags", name)
        if not is_reference(name):
            row.finder.unusual(row.where, f"RepoTags: {quoted(name)} is no name that docker takes")
    return row.get("Config", str, required=True), row.strings("Layers"), [name for name in names if name]
