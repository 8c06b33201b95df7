"""The values of the OCI image specification that layers and images need."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import InputError
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

MEDIA_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""image-spec ``media-types.md``: how a layer's blob is compressed, by kind."""

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
"""image-spec ``manifest.md``, "Guidance for an Empty Descriptor"."""
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LAYERS = {
    "application/vnd.docker.image.rootfs.diff.tar": "none",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": "none",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip": "gzip",
}
_KINDS = {media_type: kind for kind, media_type in MEDIA_TYPES.items()} | _DOCKER_LAYERS


def canonical(value: object) -> bytes:
    """Write JSON the same on every machine; raises :class:`ValueError` for what JSON cannot say: no text, no number."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def layer_type(media_type: str) -> str:
    """Give the image-spec's media type for a layer's, docker's among them; raises :class:`InputError` for any other."""
    kind = _KINDS.get(media_type.replace("nondistributable.", ""))
    if kind is None:
        message = f"{media_type}: not the media type of a layer"
        raise InputError(message, hint="Layers are read as plain tars, and compressed by gzip or zstd; others are not supported.")
    return MEDIA_TYPES[kind]


def is_layer_type(media_type: str) -> bool:
    """Say whether a media type is a layer's."""
    return media_type.replace("nondistributable.", "") in _KINDS


ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}
"""The digests that are read, and the length of each: image-spec ``descriptor.md`` registers the first and the last.

Engines know sha384 too (``go-digest``); blake3, which image-spec registers as well, none of them does.
"""
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_OTHER = re.compile(r"(?!sha256:)[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{32,256}")


def is_sha256(value: object) -> bool:
    """Say whether a value is a sha256 digest, the one kind that this program makes."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def check_sha256(_value: object, attribute: attrs.Attribute[str], given: object) -> None:
    """Be the validator of a field; raises :class:`InputError`."""
    if isinstance(given, str) and _OTHER.fullmatch(given):
        message = f"{attribute.name}: {given}: no digest but sha256 is supported"
        raise InputError(message, hint="Have the image copied with sha256 digests.")
    if not is_sha256(given):
        message = f"{attribute.name}: {quoted(given)} is not a sha256 digest"
        raise InputError(message)


def check_size(_value: object, attribute: attrs.Attribute[int], given: object) -> None:
    """Be the validator of a field; raises :class:`InputError`."""
    if type(given) is not int or given < 0:
        message = f"{attribute.name}: {quoted(given)} is not a number of bytes"
        raise InputError(message)


@attrs.frozen(slots=True)
class Descriptor:
    """What names a blob (image-spec ``descriptor.md``): its media type, digest and size in bytes."""

    media_type: str
    digest: str = attrs.field(validator=check_sha256)
    size: int = attrs.field(validator=check_size)

    def to_json(self) -> dict[str, str | int]:
        """Give the descriptor's properties by their names in JSON."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@attrs.frozen(slots=True)
class Platform:
    """What an image runs on (image-spec ``config.md``): by Go's names, ``linux``, ``amd64``, ``v8``."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a ``text``, ``OS/ARCHITECTURE[/VARIANT]`` or the architecture alone; raises :class:`InputError`.

        Systems and architectures are Go's, as image-spec ``config.md`` has them; an architecture
        may have the kernel's name for it.
        """
        parts = text.split("/")
        system, machine, *variants = ["linux", *parts] if len(parts) == 1 else parts
        architecture, own = _MACHINES.get(machine, (machine, ""))
        known = system in _SYSTEMS and architecture in _ARCHITECTURES
        if not known or len(variants) > 1 or not all(map(_VARIANT.fullmatch, variants)):
            message = f"{quoted(text)} is not a platform: write it as linux/amd64 or linux/arm/v7"
            raise InputError(message, hint=f"The architectures are {', '.join(sorted(_ARCHITECTURES))}.")
        return cls(system, architecture, *(variants or [own]))

    @classmethod
    def host(cls) -> Self:
        """Give this machine's."""
        machine = os.uname().machine
        architecture, variant = _MACHINES.get(machine, (machine, ""))
        return cls("linux", architecture, variant)

    def runs(self, other: Platform) -> bool:
        """Say whether an image for ``other`` is for this platform; a variant counts where both name one."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        return same and (not self.variant or not other.variant or self.variant == other.variant)

    def filled(self, other: Platform) -> Platform:
        """Take what this one does not say from the platform ``other``."""
        return attrs.evolve(self, os=self.os or other.os, architecture=self.architecture or other.architecture)

    def __str__(self) -> str:
        """Write it as :meth:`parse` reads it."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def to_json(self) -> dict[str, str]:
        """Give its properties by their names in JSON."""
        return {"os": self.os, "architecture": self.architecture} | ({"variant": self.variant} if self.variant else {})


_SYSTEMS = frozenset((
    "aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd", "plan9", "solaris",
    "wasip1", "windows",
))  # fmt: skip
_ARCHITECTURES = frozenset((
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc", "ppc64", "ppc64le", "riscv",
    "riscv64", "s390", "s390x", "sparc64", "wasm",
))  # fmt: skip
_VARIANT = re.compile(r"v[0-9]+(?:\.[0-9]+)?|power[0-9]+|rva[0-9]+[us][0-9]+|sse2|softfloat|hardfloat")
_MACHINES = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", ""), "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""),
    "i686": ("386", ""), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"), "armv5tel": ("arm", "v5"),
    "loongarch64": ("loong64", ""),
}  # fmt: skip
"""What the kernel calls a machine, by Go's names for architecture and variant."""


def sha256(data: bytes) -> str:
    """Give the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Give the chain ID of each layer with all below it (image-spec ``config.md``, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
