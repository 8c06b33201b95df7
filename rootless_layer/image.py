"""An image: a config and the layers it is for. A change of one is another image."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Self

import attrs

from .errors import InputError
from .oci import CONFIG, MANIFEST, Descriptor, Platform, canonical, chain_ids, is_digest, sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .blob import LayerBlob

EPOCH = "1970-01-01T00:00:01Z"
"""When an image was created of which nobody says when: as SOURCE_DATE_EPOCH=1 has it."""
BY_CLOSURE = "rootless-layer image --closure"
"""What made a layer of an image's own closure, as its history says."""
_MERGED = ("ExposedPorts", "Volumes", "Labels")
_MOST_DEEP = 100
_FIELDS = {
    "User": str, "ExposedPorts": dict, "Env": list, "Entrypoint": list, "Cmd": list, "Volumes": dict, "WorkingDir": str,
    "Labels": dict, "StopSignal": str, "Memory": int, "MemorySwap": int, "CpuShares": int, "Healthcheck": dict,
    "ArgsEscaped": bool, "Shell": list, "OnBuild": list, "Hostname": str, "Domainname": str, "StopTimeout": int,
    "AttachStdin": bool, "AttachStdout": bool, "AttachStderr": bool, "Tty": bool, "OpenStdin": bool, "StdinOnce": bool,
    "NetworkDisabled": bool, "MacAddress": str, "Image": str,
}  # fmt: skip
"""image-spec ``config.md``, "Properties", and docker's own beyond it."""


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

    @functools.cached_property
    def platform(self) -> Platform:
        """Give the platform that the config names; what is missing is ``""``."""
        said = self.described
        return Platform(*(str(said.get(name) or "") for name in ("os", "architecture", "variant")))

    @property
    def described(self) -> dict[str, Any]:
        """Give what the config says; raises :class:`InputError` where it is no object."""
        said = json.loads(self.config)
        if not isinstance(said, dict):
            message = f"the config of an image is a JSON object, and not {str(said)[:40]!r}"
            raise InputError(message)
        return said

    @functools.cached_property
    def chain_ids(self) -> list[str]:
        """Give each layer's chain ID, the lowest first."""
        return chain_ids(layer.diff_id for layer in self.layers)

    @property
    def chain_id(self) -> str:
        """Give the chain ID of all layers, ``""`` where there is none."""
        return self.chain_ids[-1] if self.layers else ""

    def append(self, *layers: LayerBlob, created: str = EPOCH, created_by: str = "rootless-layer build") -> Image:
        """Put layers on top, the lowest first, with a row of the history for each."""
        said = self.described
        rootfs = said.setdefault("rootfs", {"type": "layers"})
        rootfs["diff_ids"] = [*(rootfs.get("diff_ids") or ()), *(layer.diff_id for layer in layers)]
        history = said.get("history") or []
        # Readers count: there is a row for each layer, or there is an error.
        unrecorded = len(self.layers) - sum(not row.get("empty_layer") for row in history)
        history += [{"comment": "not recorded"}] * unrecorded
        said["history"] = [*history, *({"created": created, "created_by": created_by} for _ in layers)]
        return Image(canonical(said), (*self.layers, *layers))

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

    @functools.cached_property
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

    @functools.cached_property
    def manifest_digest(self) -> str:
        """Give the digest by which a registry knows the image."""
        return sha256(self.manifest)


def faults(config: bytes) -> list[str]:
    """Say what keeps the config of an image from being one to build upon.

    What this package reads or merges is of its type; all else may be as it is, if it can
    be written again.
    """
    try:
        said = json.loads(config)
        canonical(said)
    except (ValueError, RecursionError) as error:
        return [f"it is not JSON: {error}"]
    if not isinstance(said, dict):
        return ["it is not an object"]
    problems = [] if _is_shallow(said) else ["it is nested too deep"]
    rootfs = said.get("rootfs")
    diff_ids = (rootfs.get("diff_ids") or []) if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(map(is_digest, diff_ids)):
        problems.append("rootfs.diff_ids is not a list of sha256 digests")
    elif isinstance(rootfs, dict) and rootfs.get("type", "layers") != "layers":
        problems.append("rootfs.type is not 'layers'")
    rows = said.get("history") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        problems.append("history is not a list of objects")
    problems += [f"{name} is not a string" for name in _TEXTS if not isinstance(said.get(name) or "", str)]
    inner = said.get("config") or {}
    if not isinstance(inner, dict):
        return [*problems, "config is not an object"]
    problems += [f"config.{name} is not an object" for name in _MERGED if not isinstance(inner.get(name) or {}, dict)]
    pairs = inner.get("Env") or []
    if not isinstance(pairs, list) or not all(isinstance(pair, str) for pair in pairs):
        problems.append("config.Env is not a list of strings")
    return problems


_TEXTS = ("os", "architecture", "variant")


def _is_shallow(value: Any) -> bool:  # noqa: ANN401 - JSON
    level = [value]
    for _ in range(_MOST_DEEP):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return True
    return False


def _inner(value: Any) -> Iterable[Any]:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def properties(said: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Give the properties that a document has: of a whole image's config they are its ``config``.

    Raises :class:`InputError`, which names ``where`` it is from, for what is no object.
    """
    if isinstance(said, dict) and "rootfs" in said:
        said = said.get("config") or {}
    if not isinstance(said, dict):
        message = f"{where}: is not a JSON object"
        raise InputError(message)
    return said


def check_config(*several: Mapping[str, Any]) -> None:
    """Refuse properties that image-spec ``config.md`` does not have; raises :class:`InputError` with all of them."""
    problems = [problem for changes in several for name, value in changes.items() for problem in _problems(name, value)]
    if problems:
        unknown = any(name not in _FIELDS for changes in several for name in changes)
        raise InputError(*problems, hint=f"The properties are {', '.join(_FIELDS)}." if unknown else "")


def _problems(name: str, value: Any) -> list[str]:  # noqa: ANN401 - JSON
    """Say what is wrong with a property."""
    kind = _FIELDS.get(name)
    if kind is None:
        return [f"config: there is no property {name!r}"]
    if value is None:
        return []
    try:
        text = canonical(value).decode() if _is_shallow(value) else ""
    except ValueError:
        text = ""
    if not text:
        return [f"config: {name}: {str(value)!a:.80} cannot be written as JSON: it is no UTF-8, no number or too deep"]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return [f"config: {name} is {_NAMES[kind]}, and not {text:.80}"]
    return _inner_problems(name, value)


def _inner_problems(name: str, value: Any) -> list[str]:  # noqa: ANN401 - JSON
    if isinstance(value, list) and not all(isinstance(part, str) for part in value):
        return [f"config: {name} is a list of strings"]
    if name == "Env":
        return [f"config: Env: {pair!r} is not NAME=VALUE" for pair in value if "=" not in pair[1:]]
    if name in _MERGED:
        kind = str if name == "Labels" else dict
        return [f"config: {name}: {key!r} has {_NAMES[kind]}" for key, each in value.items() if not isinstance(each, kind)]
    return []


_NAMES = {str: "a string", dict: "an object", list: "a list", int: "a number", bool: "true or false"}


def _environment(pairs: list[str]) -> list[str]:
    """Merge variables by name: the last value wins, at the place of the first."""
    merged = {pair.partition("=")[0]: pair for pair in pairs}
    return list(merged.values())
