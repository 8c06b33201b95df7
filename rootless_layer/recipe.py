"""A node's options as the values of the core: a layer's spec, an image's config and layers."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from .closure import closure_of_paths, load_closure
from .errors import InputError, RootlessLayerError, SourceError, of_reading, reason
from .fields import MOST_LAYERS
from .image import BY_CLOSURE, Image, check_config, properties
from .moment import rfc3339
from .oci import Platform
from .spec import Compression, LayerSpec, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .blob import LayerBlob
    from .closure import Closure
    from .graph import Node
    from .layered import Splitting

T = TypeVar("T")
_SAME = {
    "rootfs": "rootfs", "rootfs-listing": "rootfs_listing", "view": "view", "timeout": "timeout", "link": "link",
    "closure-writable": "writable_closure", "keep-dirlinks": "keep_dirlinks", "follow-dirlinks": "follow_dirlinks",
    "conflict": "conflict",
    "uid": "uid", "gid": "gid", "copy-to-root": "contents", "env": "environment",
}  # fmt: skip
"""Options that are a spec's values as they are, by the spec's names."""
_WORDS = {"entrypoint": "Entrypoint", "cmd": "Cmd"}
_TEXTS = {"user": "User", "workdir": "WorkingDir", "stop-signal": "StopSignal"}


@attrs.define(slots=True)
class Recipes:
    """Reads what nodes name, each closure once; paths are relative to the working directory."""

    closures: dict[tuple[str, str], Closure] = attrs.field(factory=dict)

    def read(self, nodes: Iterable[Node]) -> tuple[dict[str, LayerSpec], dict[str, Splitting]]:
        """Give each layer's spec, without its base, and how each image's closure is split, by name.

        What images say of themselves is checked. Raises one :class:`InputError` with all that is wrong.
        """
        gathered = _Gathered()
        specs: dict[str, LayerSpec] = {}
        splittings: dict[str, Splitting] = {}
        for node in nodes:
            gathered.place = f"{node.kind}.{node.name}"
            gathered.attempt(_platform, node.options)
            if node.kind == "image":
                gathered.attempt(_check_config, node.options)
                gathered.attempt(created, node.options)
                if (splitting := self._splitting(node.options, gathered)) is not None:
                    splittings[node.name] = splitting
            elif (spec := self._spec(node.options, gathered)) is not None:
                specs[node.name] = spec
        if gathered.problems:
            raise gathered.kind(*gathered.problems, hint="\n".join(dict.fromkeys(gathered.hints)))
        return specs, splittings

    def _splitting(self, options: Mapping[str, Any], gathered: _Gathered) -> Splitting | None:
        """Read how an image's closure is split, where it has one."""
        if "closure" not in options:
            return None
        from .layered import Splitting, read_strategy  # noqa: PLC0415 - needed by few

        closure = gathered.attempt(self._closures, options, os.path.abspath(options.get("store-root", "/")))
        layering = options.get("layering", "popularity")
        strategy = None if closure is None else gathered.attempt(read_strategy, layering, closure)
        compression = gathered.attempt(_compression, options.get("compression", "none"))
        epoch = gathered.attempt(_epoch, options)
        if closure is None or strategy is None or compression is None or epoch is None:
            return None
        owner = {name: options[name] for name in ("uid", "gid") if name in options}
        asked = gathered.attempt(lambda: LayerSpec(epoch=epoch, compression=compression, **owner))
        if asked is None:
            return None
        return Splitting(closure, options.get("max-layers", MOST_LAYERS), strategy, asked)

    def _spec(self, options: Mapping[str, Any], gathered: _Gathered) -> LayerSpec | None:
        before = len(gathered.problems)
        root = os.path.abspath(options.get("store-root", "/"))
        closure = gathered.attempt(self._closures, options, root)
        tools = gathered.attempt(self._tools, options, root)
        scripts = _scripts(options, gathered)
        compression = gathered.attempt(_compression, options.get("compression", "none"))
        epoch = gathered.attempt(_epoch, options)
        spec = gathered.attempt(
            lambda: LayerSpec(
                closure=closure,
                tools=tools,
                scripts=scripts,
                epoch=epoch or 0,
                compression=compression or Compression(),
                **{field: options[name] for name, field in _SAME.items() if name in options},
            )
        )
        return spec if len(gathered.problems) == before else None

    def _closures(self, options: Mapping[str, Any], root: str) -> Closure | None:
        closures = [self._closure(source, root) for source in options.get("closure", ())]
        if options.get("store-path"):
            closures.append(closure_of_paths(options["store-path"], root))
        return closures[0].merge(*closures[1:]) if closures else None

    def _tools(self, options: Mapping[str, Any], root: str) -> Closure | None:
        closures = [self._closure(source, root) for source in options.get("tools", ())]
        return closures[0].merge(*closures[1:]) if closures else None

    def _closure(self, source: str, root: str) -> Closure:
        if (source, root) not in self.closures:
            self.closures[source, root] = load_closure(source, store_root=root)
        return self.closures[source, root]


@attrs.define(slots=True)
class _Gathered:
    """Everything that is wrong, each with the node that it is of."""

    place: str = ""
    problems: list[str] = attrs.field(factory=list)
    hints: list[str] = attrs.field(factory=list)
    kind: type[InputError] = SourceError  # where nothing is wrong but that inputs are missing

    def attempt(self, make: Callable[..., T], *given: Any) -> T | None:  # noqa: ANN401 - whatever it takes
        """Give a value, or keep what is wrong with it."""
        try:
            return make(*given)
        except RootlessLayerError as error:
            self.problems += [f"{self.place}: {problem}" for problem in error.problems]
            self.hints += [error.hint] if error.hint else []
            self.kind = self.kind if isinstance(error, SourceError) else InputError
            return None


def _scripts(options: Mapping[str, Any], gathered: _Gathered) -> tuple[Script, ...]:
    given = [*options.get("script", ())]
    given += [{"run": options["run"]}] if "run" in options else []
    given += [{"command": options["command"]}] if "command" in options else []
    scripts = (gathered.attempt(_script, each) for each in given)
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


def _compression(given: str) -> Compression:
    kind, _, level = given.partition(":")
    if level and not level.isdigit():
        message = f"compression: {given!r}: write it as KIND or KIND:LEVEL"
        raise InputError(message)
    return Compression(kind, int(level) if level else -1)  # type: ignore[arg-type]


def _epoch(options: Mapping[str, Any]) -> int:
    epoch: int | None = options.get("source-date-epoch")
    if epoch is not None:
        return epoch
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


def _check_config(options: Mapping[str, Any]) -> None:
    check_config(*changes(options))


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
        message = f"config: {path}: cannot be read as JSON: {reason(error)}"
        raise of_reading(error)(message) from error
    return properties(said, f"config: {path}")


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
