"""An image: a config and the layers it is for. A change of one is another image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import attrs

from .errors import InputError
from .oci import CONFIG, MANIFEST, Descriptor, Platform, chain_ids, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .blob import LayerBlob

EPOCH = "1970-01-01T00:00:01Z"
"""When an image was created of which nobody says when: as SOURCE_DATE_EPOCH=1 has it."""
_MERGED = ("ExposedPorts", "Volumes", "Labels")
_FIELDS = {
    "User": str, "ExposedPorts": dict, "Env": list, "Entrypoint": list, "Cmd": list, "Volumes": dict, "WorkingDir": str,
    "Labels": dict, "StopSignal": str, "Memory": int, "MemorySwap": int, "CpuShares": int, "Healthcheck": dict,
    "ArgsEscaped": bool, "Shell": list, "OnBuild": list, "Hostname": str, "Domainname": str, "StopTimeout": int,
    "AttachStdin": bool, "AttachStdout": bool, "AttachStderr": bool, "Tty": bool, "OpenStdin": bool, "StdinOnce": bool,
    "NetworkDisabled": bool, "MacAddress": str, "Image": str,
}  # fmt: skip
"""image-spec ``config.md``, "Properties", and docker's own beyond it."""


def canonical(value: object) -> bytes:
    """Write JSON the same on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")


@attrs.frozen(slots=True)
class Image:
    """The bytes of an image's config, kept as they are for as long as nothing changes, and its layers, the lowest first."""

    config: bytes
    layers: tuple[LayerBlob, ...] = ()

    @classmethod
    def empty(cls, platform: Platform, created: str = EPOCH) -> Self:
        """Begin an image without layers; ``created`` is as RFC 3339 writes a time."""
        config = {"created": created, **platform.to_json(), "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
        return cls(canonical(config | {"history": []}))

    @property
    def described(self) -> dict[str, Any]:
        """Give what the config says; raises :class:`InputError` where it is no object."""
        said = json.loads(self.config)
        if not isinstance(said, dict):
            message = f"the config of an image is a JSON object, and not {str(said)[:40]!r}"
            raise InputError(message)
        return said

    @property
    def platform(self) -> Platform:
        """Give the platform that the config names; what is missing is ``""``."""
        said = self.described
        return Platform(*(str(said.get(name) or "") for name in ("os", "architecture", "variant")))

    @property
    def chain_ids(self) -> list[str]:
        """Give each layer's chain ID, the lowest first."""
        return chain_ids(layer.diff_id for layer in self.layers)

    def append(self, layer: LayerBlob, *, created: str = EPOCH, created_by: str = "rootless-layer build") -> Image:
        """Put a layer on top, with a row of the history for it."""
        said = self.described
        rootfs = said.setdefault("rootfs", {"type": "layers"})
        rootfs["diff_ids"] = [*rootfs.get("diff_ids", ()), layer.diff_id]
        said["history"] = [*(said.get("history") or ()), {"created": created, "created_by": created_by}]
        return Image(canonical(said), (*self.layers, layer))

    def configured(
        self, changes: Mapping[str, Any], *, created: str | None = None, platform: Platform | None = None, author: str = ""
    ) -> Image:
        """Merge properties over those of the config.

        ``changes`` are by the names of image-spec ``config.md`` ("Properties"). ``Env`` is
        merged by variable, where the last wins; ports, volumes and labels by name; any
        other takes the place of what was there, and ``None`` removes it. Raises
        :class:`InputError`, with all that is wrong, for an unknown name or a wrong type.
        """
        check_config(changes)
        said = self.described
        inner: dict[str, Any] = dict(said.get("config") or {})
        for name, value in changes.items():
            if value is None:
                inner.pop(name, None)
            elif name == "Env":
                inner[name] = _environment([*(inner.get(name) or ()), *value])
            elif name in _MERGED:
                inner[name] = {**(inner.get(name) or {}), **value}
            else:
                inner[name] = value
        said["config"] = inner
        if created is not None:
            said["created"] = created
        if platform is not None:
            said |= platform.to_json()
        if author:
            said["author"] = author
        return attrs.evolve(self, config=canonical(said))

    @property
    def manifest(self) -> bytes:
        """Give the manifest (image-spec ``manifest.md``)."""
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": Descriptor(CONFIG, sha256(self.config), len(self.config)).to_json(),
                "layers": [layer.descriptor.to_json() for layer in self.layers],
            }
        )

    @property
    def manifest_digest(self) -> str:
        """Give the digest by which a registry knows the image."""
        return sha256(self.manifest)


def check_config(changes: Mapping[str, Any]) -> None:
    """Refuse properties that image-spec ``config.md`` does not have; raises :class:`InputError` with all of them."""
    problems = []
    for name, value in changes.items():
        kind = _FIELDS.get(name)
        if kind is None:
            problems.append(f"config: there is no property {name!r}; there are {', '.join(_FIELDS)}")
        elif value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            problems.append(f"config: {name} is {_NAMES[kind]}, and not {json.dumps(value)[:80]}")
        elif isinstance(value, list) and not all(isinstance(part, str) for part in value):
            problems.append(f"config: {name} is a list of strings")
        elif name == "Env" and isinstance(value, list):
            problems += [f"config: Env: {pair!r} is not NAME=VALUE" for pair in value if "=" not in pair[1:]]
    if problems:
        raise InputError(*problems)


_NAMES = {str: "a string", dict: "an object", list: "a list", int: "a number", bool: "true or false"}


def _environment(pairs: list[str]) -> list[str]:
    """Merge variables by name: the last value wins, at the place of the first."""
    merged = {pair.partition("=")[0]: pair for pair in pairs}
    return list(merged.values())
