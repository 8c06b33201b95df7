"""What options name, read: closures, scripts and documents; and with it the spec of a layer, the splitting of a closure."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.oci.config import properties, read_json
from rootless_layer.oci.time import environment_epoch
from rootless_layer.plan.spec import LayerSpec, Script
from rootless_layer.store.closure import Closure
from rootless_layer.store.layering import MOST_LAYERS
from rootless_layer.store.read import closure_of_paths, load_closure
from rootless_layer.system.machine import of_reading, unreadable
from rootless_layer.terminal import quoted
from rootless_layer.tree.ignored import Ignored

from .option import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.layer.of_closure import Splitting

    from .image import ImageOptions
    from .layer import LayerOptions
    from .lists import Document

    T = TypeVar("T")

_LONGEST_PATH = 255
_DOCKERIGNORE = ".dockerignore"


class Attempt(Protocol):
    """How a fault is told: by raising it, or by noting it and giving nothing."""

    def __call__(self, name: str, make: Callable[..., T], *given: object) -> T | None:
        """Give what is made of an option of that name, ``""`` where it is no single one's."""


@attrs.define(slots=True)
class Inputs:
    """Reads what options name, each closure once; paths are relative to the working directory."""

    _closures: dict[tuple[str, str], Closure] = attrs.field(factory=dict)

    def layer(self, options: LayerOptions, attempt: Attempt) -> LayerSpec | None:
        """Give the spec of a layer, without its base; nothing where an attempt gave nothing."""
        told = _Told(attempt)
        root = os.path.abspath(options.store_root)
        closure = self._merged("closure", options.closure, root, told)
        if options.store_path:
            own = told("store-path", closure_of_paths, options.store_path, root)
            closure = own if closure is None or own is None else closure.merge(own)
        tools = self._merged("tools", options.tools, root, told)
        scripts = [script if isinstance(script, Script) else told("script", Script.file, script) for script in options.script]
        if options.run is not None:
            scripts.append(Script.text(options.run, "run"))
        if options.command:
            scripts.append(told("command", Script.command, options.command))
        ignored = told("ignore-file", read_ignored, options.ignore_file) if options.copies else None
        fields = spec_fields(options, told)
        if told.missing:
            return None
        given = tuple(script for script in scripts if script is not None)
        return LayerSpec(closure=closure, tools=tools, scripts=given, ignored=ignored or Ignored(), **fields)

    def splitting(self, options: ImageOptions, attempt: Attempt) -> Splitting | None:
        """Give how an image's closure is split, where it has one; nothing where an attempt gave nothing."""
        if not options.closure:
            return None
        from rootless_layer.layer.of_closure import BALANCED, Splitting, read_strategy  # noqa: PLC0415 - no layer needs it

        told = _Told(attempt)
        closure = self._merged("closure", options.closure, os.path.abspath(options.store_root), told)
        strategy = told("layering", read_strategy, options.layering or BALANCED, closure or Closure())
        fields = spec_fields(options, told)
        if closure is None or strategy is None or told.missing:
            return None
        return Splitting(closure, options.max_layers or MOST_LAYERS, strategy, LayerSpec(**fields))

    def _merged(self, name: str, sources: tuple[str, ...], root: str, told: Attempt) -> Closure | None:
        """Give what some closures come to together."""
        found = [told(name, self._closure, source, root) for source in sources]
        closures = [closure for closure in found if closure is not None]
        return closures[0].merge(*closures[1:]) if closures else None

    def _closure(self, source: str, root: str) -> Closure:
        if (source, root) not in self._closures:
            self._closures[source, root] = load_closure(source, store_root=root)
        return self._closures[source, root]


class _Told:
    """An attempt that knows whether one has failed."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.missing = False

    def __call__(self, name: str, make: Callable[..., T], *given: object) -> T | None:
        made = self._attempt(name, make, *given)
        self.missing = self.missing or made is None
        return made


def spec_fields(options: LayerOptions | ImageOptions, attempt: Attempt) -> dict[str, Any]:
    """Give the fields of :class:`LayerSpec` that options are as they are, each checked by itself."""
    fields: dict[str, Any] = {}
    for row in rows(type(options)):
        value = getattr(options, row.variable)
        if row.field == "source_date_epoch" and value is None:
            value = environment_epoch()
        if row.field and value is not None:
            fields[row.field] = value
            if value != row.default:  # which is as it has to be
                attempt(row.name, partial(LayerSpec, **{row.field: value}))
    return fields


def read_ignored(given: str | None) -> Ignored:
    """Read what copies leave out, of a file or of the working directory's own, where there is one.

    Raises :class:`InputError` for what is no pattern, and :class:`SourceError` for a file that cannot be read.
    """
    path = given or _DOCKERIGNORE
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        if given is None:
            return Ignored()
        raise unreadable(error, path) from error
    except OSError as error:
        raise unreadable(error, path) from error
    return Ignored.of_text(text, path)


def read_document(given: Document) -> dict[str, Any]:
    """Read properties: JSON itself, or a file of it. A whole image's config gives its ``config``.

    Raises :class:`InputError` for what is no object, and :class:`SourceError` where there is no such file.
    """
    if not isinstance(given, str):
        return properties(given, "it")
    text, where = given, "--config"
    start = given.lstrip()[:1]
    if start != "{" and (start != "[" or os.path.exists(given)):
        where = given if len(given) <= _LONGEST_PATH else quoted(given)
        try:
            with open(given, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            message = f"{where}: cannot be read: {reason(error)}"
            hint = "--config takes a JSON object, which begins with {, or a file of one."
            raise of_reading(error)(message, hint=hint) from error
    try:
        said = read_json(text.encode())
    except ValueError as error:
        message = f"{where}: is not JSON: {error}"
        raise InputError(message) from error
    return properties(said, where)
