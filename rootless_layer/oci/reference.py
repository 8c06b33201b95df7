"""Names of images, as docker, podman and registries read them (distribution's ``reference`` grammar)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

_LABEL = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})+(?::[0-9]+)?|{_LABEL}:[0-9]+|localhost)"
"""A name's first part is a registry only where it has a dot or a port, or is localhost.

The grammar has IPv6 addresses in brackets as well: podman 4.3 and older load no image of such a name.
"""
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"((?:{_HOST}/)?{_PART}(?:/{_PART})*):[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}")
_LONGEST = 255
_SCHEMES = ("docker://", "http://", "https://")
_REF_NAME = re.compile(r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*")
"""image-spec ``annotations.md``, at ``org.opencontainers.image.ref.name``."""


def is_reference(name: str) -> bool:
    """Say whether a text is a name with its tag that docker takes."""
    found = _NAME.fullmatch(name)
    return found is not None and len(found[1]) <= _LONGEST


def is_ref_name(name: str) -> bool:
    """Say whether a text may name an image in a layout: a reference, or what image-spec has as well, such as a mere tag."""
    return is_reference(name) or _REF_NAME.fullmatch(name) is not None


def tag_of(name: str) -> str:
    """Give an image's name with its tag, ``latest`` by default; raises :class:`InputError` for what is no name."""
    full = name if has_tag(name) else f"{name}:latest"
    if not is_reference(full):
        message = f"{quoted(name)} is not the name of an image: write it as NAME:TAG or REGISTRY/NAME:TAG, the name in lower case"
        raise InputError(message)
    return full


def with_registry(name: str) -> str:
    """Say how an image of a registry is named, where a path may be meant as its name; ``""`` for what is no such name."""
    name = name.partition("://")[2] if name.startswith(_SCHEMES) else name
    file = bool(os.path.splitext(name)[1]) and not has_tag(name)
    if file or not is_reference(name if has_tag(name) else f"{name}:latest"):
        return ""
    return f"If an image in a registry is meant, write it as docker://{name}."


def has_tag(name: str) -> bool:
    """Say whether a name has a tag; a registry's port is none."""
    return ":" in name.rpartition("/")[2]


def full_name(name: str) -> str:
    """Write a name as containerd does, with its registry."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def rank(wanted: str, name: str) -> int:
    """Say how well a name is meant by another: 3 to the letter, 2 as engines read both, 1 by its tag alone, 0 not at all.

    Engines read ``busybox`` as ``docker.io/library/busybox:latest``, and podman as ``localhost/busybox:latest`` too.
    """
    if wanted == name:
        return 3
    full = _canonical(wanted)
    if _canonical(name) in {full, "localhost/" + full.removeprefix("docker.io/").removeprefix("library/")}:
        return 2
    return int(name.rpartition(":")[2] == wanted)


def is_among(name: str, names: Iterable[str]) -> bool:
    """Say whether a name is meant by one of several."""
    return any(rank(name, one) for one in names)


def _canonical(name: str) -> str:
    full = full_name(name)
    full = "docker.io/" + full.removeprefix("index.docker.io/") if full.startswith("index.docker.io/") else full
    if full.count("/") == 1 and full.startswith("docker.io/"):
        full = full.replace("docker.io/", "docker.io/library/")
    return full if has_tag(full) else f"{full}:latest"


def path_and_name(given: str) -> tuple[str, str]:
    """Split ``PATH#NAME``, by which one of several images is meant; the name is ``""`` where there is none.

    A path may have a ``#`` in it: what is there under the whole text is meant by it.
    """
    if "#" not in given or os.path.lexists(given):
        return given, ""
    path, _, name = given.rpartition("#")
    return path, name
