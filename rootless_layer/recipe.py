"""A node's options as the values of the core: a layer's spec, an image's config and layers."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import attrs

from .closure import closure_of_paths, load_closure
from .errors import InputError, RootlessLayerError
from .image import Image, check_config
from .moment import rfc3339
from .oci import Platform
from .spec import Compression, LayerSpec, Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .blob import LayerBlob
    from .closure import Closure
    from .graph import Node

_SAME = {
    "rootfs": "rootfs", "rootfs-listing": "rootfs_listing", "view": "view", "timeout": "timeout", "link": "link",
    "closure-writable": "writable_closure", "keep-dirlinks": "keep_dirlinks", "uid": "uid", "gid": "gid",
    "copy-to-root": "contents", "env": "environment",
}  # fmt: skip
"""Options that are a spec's values as they are, by the spec's names."""
_WORDS = {"entrypoint": "Entrypoint", "cmd": "Cmd"}
_TEXTS = {"user": "User", "workdir": "WorkingDir", "stop-signal": "StopSignal"}


@attrs.define(slots=True)
class Recipes:
    """Reads what nodes name, each closure once; paths are relative to the working directory."""

    closures: dict[tuple[str, str], Closure] = attrs.field(factory=dict)

    def specs(self, nodes: Iterable[Node]) -> dict[str, LayerSpec]:
        """Give each layer's spec, without its base, by name, and check the images' configs.

        Raises one :class:`InputError` with all that is wrong.
        """
        problems: list[str] = []
        hints: list[str] = []
        specs: dict[str, LayerSpec] = {}
        for node in nodes:
            try:
                if node.kind == "layer":
                    specs[node.name] = self._spec(node.options)
                else:
                    check_config(*changes(node.options))
                    _platform(node.options)
                    created(node.options)
            except RootlessLayerError as error:
                problems += [f"{node.kind}.{node.name}: {problem}" for problem in error.problems]
                hints += [error.hint] if error.hint else []
        if problems:
            raise InputError(*problems, hint="\n".join(dict.fromkeys(hints)))
        return specs

    def _spec(self, options: Mapping[str, Any]) -> LayerSpec:
        root = os.path.abspath(options.get("store-root", "/"))
        closures = [self._closure(source, root) for source in options.get("closure", ())]
        if options.get("store-path"):
            closures.append(closure_of_paths(options["store-path"], root))
        kind, _, level = str(options.get("compression", "none")).partition(":")
        if level and not level.isdigit():
            message = f"compression: {options['compression']!r}: write it as KIND or KIND:LEVEL"
            raise InputError(message)
        _platform(options)
        epoch = options.get("source-date-epoch")
        return LayerSpec(
            closure=closures[0].merge(*closures[1:]) if closures else None,
            scripts=tuple(_scripts(options)),
            epoch=_environments_epoch() if epoch is None else epoch,
            compression=Compression(kind, int(level) if level else -1),  # type: ignore[arg-type]
            **{field: options[name] for name, field in _SAME.items() if name in options},
        )

    def _closure(self, source: str, root: str) -> Closure:
        if (source, root) not in self.closures:
            self.closures[source, root] = load_closure(source, store_root=root)
        return self.closures[source, root]


def _scripts(options: Mapping[str, Any]) -> Iterable[Script]:
    for script in options.get("script", ()):
        if isinstance(script, str):
            yield Script.file(script)
        elif "text" in script:
            yield Script.text(script["text"])
        else:
            yield Script.command(script["command"])
    if "run" in options:
        yield Script.text(options["run"], "run")
    if "command" in options:
        yield Script.command(options["command"])


def _environments_epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "1")
    if not (text.isascii() and text.isdecimal()):
        message = f"SOURCE_DATE_EPOCH: {text!r} is not a number of seconds"
        raise InputError(message)
    return int(text)


def _platform(options: Mapping[str, Any]) -> Platform | None:
    return Platform.parse(options["platform"]) if options.get("platform") else None


def platform_of(options: Mapping[str, Any]) -> Platform:
    """Give the platform that a node is for: by default this machine's."""
    return _platform(options) or Platform.host()


def created(options: Mapping[str, Any]) -> str:
    """Give when an image was created, as RFC 3339 has it; raises :class:`InputError`."""
    return rfc3339(options.get("created") or os.environ.get("SOURCE_DATE_EPOCH", "1"))


def changes(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what ``config`` says, and over it what the other keys say; raises :class:`InputError`."""
    given = options.get("config", {})
    config = _document(given) if isinstance(given, str) else given
    named: dict[str, Any] = {field: list(options[name]) for name, field in _WORDS.items() if name in options}
    named |= {field: options[name] for name, field in _TEXTS.items() if name in options}
    if "env" in options:
        named["Env"] = [f"{name}={value}" for name, value in options["env"].items()]
    if "expose" in options:
        named["ExposedPorts"] = {port if "/" in port else f"{port}/tcp": {} for port in options["expose"]}
    if "volume" in options:
        named["Volumes"] = {volume: {} for volume in options["volume"]}
    if "label" in options:
        named["Labels"] = dict(options["label"])
    return config, named


def _document(path: str) -> dict[str, Any]:
    """Read properties from a file; of a whole image's config they are its ``config``."""
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        message = f"config: {path}: cannot be read as JSON: {getattr(error, 'strerror', None) or error}"
        raise InputError(message) from error
    if isinstance(said, dict) and "rootfs" in said:
        said = said.get("config") or {}
    if not isinstance(said, dict):
        message = f"config: {path}: is not a JSON object"
        raise InputError(message)
    return said


def assemble(options: Mapping[str, Any], base: Image | None, chains: Iterable[tuple[LayerBlob, ...]]) -> Image:
    """Put an image together: upon its base, of each chain the layers that are not there yet."""
    when, platform = created(options), _platform(options)
    image = Image.empty(platform or Platform.host()) if base is None else base
    for chain in chains:
        for layer in missing(image.layers, chain):
            image = image.append(layer, created=when)
    for properties in changes(options):
        image = image.configured(properties)
    return image.configured({}, created=when, platform=None if base is not None else platform, author=options.get("author", ""))


def missing(there: Iterable[LayerBlob], chain: Iterable[LayerBlob]) -> list[LayerBlob]:
    """Give the layers of a chain that are not there: two chains may be built upon the same layers."""
    known = {layer.diff_id for layer in there}
    return [layer for layer in chain if layer.diff_id not in known]
