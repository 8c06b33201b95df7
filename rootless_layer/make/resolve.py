"""A node's options as the values of the core: a layer's spec, an image's config and layers."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.image.image import BY_CLOSURE, Image
from rootless_layer.oci.config import check_config, exposed, properties
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.time import created as created_at
from rootless_layer.oci.time import environment_epoch
from rootless_layer.options.output import image_format
from rootless_layer.plan.spec import LayerSpec, Script
from rootless_layer.store.closure import Closure
from rootless_layer.store.layering import MOST_LAYERS
from rootless_layer.store.read import closure_of_paths, load_closure
from rootless_layer.system.machine import of_reading
from rootless_layer.tar.compression import Compression
from rootless_layer.tar.decompression import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from rootless_layer.image.write import Format
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.layer.of_closure import Splitting
    from rootless_layer.progress import Progress
    from rootless_layer.system.temporary import Temporary
    from rootless_layer.tree.base import Base

    from .faults import Faults
    from .graph import Node

    Attempt = Callable[..., Any]
    """:meth:`.Faults.attempt` for one node."""

_SAME = {
    "rootfs": "rootfs", "rootfs-listing": "rootfs_listing", "view": "view", "timeout": "timeout", "link": "link",
    "closure-writable": "writable_closure", "keep-dirlinks": "keep_dirlinks", "follow-dirlinks": "follow_dirlinks",
    "conflict": "conflict", "allow-sparse": "allow_sparse",
    "uid": "uid", "gid": "gid", "copy-to-root": "contents", "env": "environment",
}  # fmt: skip
"""Options that are a spec's values as they are, by the spec's names."""
_WORDS = {"entrypoint": "Entrypoint", "cmd": "Cmd"}
_TEXTS = {"user": "User", "workdir": "WorkingDir", "stop-signal": "StopSignal"}


@attrs.define(slots=True)
class Recipes:
    """Reads what nodes name, each closure once; paths are relative to the working directory.

    What is wrong goes to the ``faults``. ``outputs`` and the ``cache`` are left out of the inputs that
    they lie in: all of the file, so that a layer is the same whatever the targets are.
    """

    faults: Faults
    outputs: Sequence[str] = ()
    cache: str | os.PathLike[str] | None = None
    closures: dict[tuple[str, str], Closure] = attrs.field(factory=dict)

    def read(self, nodes: Iterable[Node]) -> tuple[dict[str, LayerSpec], dict[str, Splitting]]:
        """Give each layer's spec, without its base, and how each image's closure is split, by name.

        What images say of themselves is checked. What is wrong is added to the faults, and left out.
        """
        specs: dict[str, LayerSpec] = {}
        splittings: dict[str, Splitting] = {}
        for node in nodes:
            attempt = partial(self.faults.attempt, f"{node.kind}.{node.name}")
            attempt("platform", _platform, node.options)
            if node.kind == "image":
                _check_image(node.options, attempt)
                if (splitting := self._splitting(node.options, attempt)) is not None:
                    splittings[node.name] = splitting
            elif (spec := self._spec(node.options, attempt)) is not None:
                specs[node.name] = spec
        return specs, splittings

    def _splitting(self, options: Mapping[str, Any], attempt: Attempt) -> Splitting | None:
        """Read how an image's closure is split, where it has one."""
        if "closure" not in options:
            return None
        from rootless_layer.layer.of_closure import Splitting, read_strategy  # noqa: PLC0415 - needed by few

        asked = self._values(options, {"uid": "uid", "gid": "gid", "allow-sparse": "allow_sparse"}, attempt)
        closure = self._closures("closure", options, attempt)
        strategy = None
        if (name := options.get("layering", "popularity")) != "":  # which is known
            strategy = attempt("layering", read_strategy, name, closure or Closure())
        if closure is None or strategy is None or asked is None:
            return None
        return Splitting(closure, options.get("max-layers", MOST_LAYERS), strategy, LayerSpec(**asked))

    def _spec(self, options: Mapping[str, Any], attempt: Attempt) -> LayerSpec | None:
        before = len(self.faults.problems)
        closure, tools = self._closures("closure", options, attempt), self._closures("tools", options, attempt)
        scripts = _scripts(options, attempt)
        values = self._values(options, _SAME, attempt)
        if values is None or len(self.faults.problems) != before:
            return None
        spec = LayerSpec(closure=closure, tools=tools, scripts=scripts, **values)
        if not (spec.closure or spec.inputs() or spec.scripts or options.get("base")):
            attempt("", _nothing, "a layer")
        caches = () if self.cache is None else (self.cache,)
        apart: LayerSpec | None = attempt("output", partial(spec.apart_from, *self.outputs, caches=caches))
        return apart

    def _values(self, options: Mapping[str, Any], names: Mapping[str, str], attempt: Attempt) -> dict[str, Any] | None:
        """Give a spec's values by its names, each checked by itself; nothing where one of them is wrong."""
        before = len(self.faults.problems)
        values = {field: options[name] for name, field in names.items() if name in options}
        values["epoch"] = options.get("source-date-epoch", environment_epoch())
        keys = {field: name for name, field in names.items()} | {"epoch": "source-date-epoch"}
        for field, value in values.items():
            attempt(keys[field], partial(LayerSpec, **{field: value}))
        values["compression"] = attempt("compression", Compression.parse, options.get("compression", "none"))
        return values if len(self.faults.problems) == before else None

    def _closures(self, key: str, options: Mapping[str, Any], attempt: Attempt) -> Closure | None:
        """Give what the closures of a key come to, with what ``store-path`` adds to ``closure``; nothing where one is wrong."""
        found = [attempt(key, self._closure, source, options) for source in options.get(key, ()) if source]
        if key == "closure" and options.get("store-path"):
            found.append(attempt("store-path", closure_of_paths, options["store-path"], _root(options)))
        closures: list[Closure] = [closure for closure in found if closure is not None]
        return closures[0].merge(*closures[1:]) if closures and len(closures) == len(found) else None

    def _closure(self, source: str, options: Mapping[str, Any]) -> Closure:
        root = _root(options)
        if (source, root) not in self.closures:
            self.closures[source, root] = load_closure(source, store_root=root)
        return self.closures[source, root]


def _nothing(what: str) -> None:
    message = f"there is nothing to make {what} of"
    raise InputError(message)


def _root(options: Mapping[str, Any]) -> str:
    return os.path.abspath(str(options.get("store-root", "/")))


def _scripts(options: Mapping[str, Any], attempt: Attempt) -> tuple[Script, ...]:
    given = [("script", each) for each in options.get("script", ())]
    given += [("run", {"run": options["run"]})] if "run" in options else []
    given += [("command", {"command": options["command"]})] if "command" in options else []
    scripts = [attempt(key, _script, each) for key, each in given]
    return tuple(script for script in scripts if script is not None)


def _script(given: Any) -> Script:  # noqa: ANN401 - what the reader of the file took
    match given:
        case {"command": words}:
            return Script.command(words)
        case {"text": text}:
            return Script.text(text)
        case {"run": text}:
            return Script.text(text, "run")
        case _:
            return Script.file(given)


def _platform(options: Mapping[str, Any]) -> Platform | None:
    return Platform.parse(options["platform"]) if options.get("platform") else None


def platform_of(options: Mapping[str, Any]) -> Platform:
    """Give the platform that a node is for: by default this machine's."""
    return _platform(options) or Platform.host()


def created(options: Mapping[str, Any]) -> str:
    """Give when an image was created, as RFC 3339 has it; raises :class:`InputError`."""
    return created_at(options.get("created"))


def format_of(options: Mapping[str, Any]) -> Format:
    """Give the form in which an image is written; raises :class:`InputError` as :func:`image_format` does."""
    return image_format(options["output"], options.get("format"))


def _check_image(options: Mapping[str, Any], attempt: Attempt) -> None:
    """Look at all that an image says of itself, a key after the other."""
    if not any(options.get(name) for name in ("base", "closure", "layers")):
        attempt("", _nothing, "an image")
    attempt("config", lambda: check_config(_config(options)))
    for key, changed in _named(options).items():
        attempt(key, check_config, changed)
    attempt("created", created, options)


def changes(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what ``config`` says, and over it what the other keys say; raises :class:`InputError`."""
    named: dict[str, Any] = {}
    for changed in _named(options).values():
        named |= changed
    return _config(options), named


def _config(options: Mapping[str, Any]) -> dict[str, Any]:
    given = options.get("config", {})
    config: dict[str, Any] = _document(given) if isinstance(given, str) else given
    return config


def _named(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give what each of the other keys says, in the config's own words."""
    named: dict[str, dict[str, Any]] = {name: {field: list(options[name])} for name, field in _WORDS.items() if name in options}
    named |= {name: {field: options[name]} for name, field in _TEXTS.items() if name in options}
    if "env" in options:
        named["env"] = {"Env": [f"{name}={value}" for name, value in options["env"].items()]}
    if "expose" in options:
        named["expose"] = {"ExposedPorts": exposed(options["expose"])}
    if "volume" in options:
        named["volume"] = {"Volumes": {volume: {} for volume in options["volume"]}}
    if "label" in options:
        named["label"] = {"Labels": dict(options["label"])}
    return named


def _document(path: str) -> dict[str, Any]:
    """Read properties from a file; of a whole image's config they are its ``config``."""
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        message = f"config: {path}: cannot be read as JSON: {reason(error)}"
        raise of_reading(error)(message) from error
    return properties(said, f"config: {path}")


def open_below(
    below: Image, options: Mapping[str, Any], cache: Path, tell: Callable[[Progress], object], temporary: Temporary
) -> Base:
    """Open what a layer is built upon, in the child that builds it."""
    from rootless_layer.cache.bases import open_base  # noqa: PLC0415 - not needed to look up

    most = options.get("most-bytes", MOST_BYTES)
    return open_base(below, cache, temporary, most_bytes=most, progress=tell)


def assemble(options: Mapping[str, Any], base: Image | None, closure: Iterable[LayerBlob], layers: Iterable[LayerBlob]) -> Image:
    """Put an image together: its closure's layers and others upon its base, and what its options say."""
    when, platform = created(options), _platform(options)
    image = Image.empty(platform or Platform.host()) if base is None else base
    for layer in closure:
        image = image.append(layer, created=when, created_by=BY_CLOSURE)
    for layer in layers:
        image = image.append(layer, created=when)
    for each in changes(options):
        image = image.configured(each)
    new = platform if base is None else None
    return image.configured({}, created=when, platform=new, author=options.get("author", ""))
