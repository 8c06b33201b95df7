"""A derivation's own attributes, as Nix gives them to the builder.

With ``__structuredAttrs`` they are JSON, at ``$NIX_ATTRS_JSON_FILE`` or, where that names a
path outside of the sandbox (Nix 2.8), in ``.attrs.json`` of the build's directory; the outputs
are in it. Without, each is a variable: a list is its words, true is 1, false and null are
empty, and what ``passAsFile`` names is in a file. ``exportReferencesGraph`` is a list of
names and store paths then, whose graphs are files; with JSON the graphs are in it.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs

from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.options.option import Face, rows
from rootless_layer.system.machine import of_reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rootless_layer.options.kinds import Kind

T = TypeVar("T")
Values = TypeVar("Values")
_ATTRIBUTES = ".attrs.json"
_HINT = "docs/nix.md lists the attributes."


@attrs.define
class Attributes:
    """Attributes by name, each read as what it should be; what is wrong is gathered for :meth:`check`.

    ``top`` is the build's directory, ``out`` the output's path, ``graphs`` the references
    graphs by name: a file of one, or the list that the JSON has. ``structured`` says which
    of the two forms they came in.
    """

    values: Mapping[str, Any]
    top: str
    out: str
    graphs: Mapping[str, Any]
    structured: bool
    problems: list[str] = attrs.field(factory=list)
    _kinds: set[type[InputError]] = attrs.field(factory=set)

    @classmethod
    def of_build(cls, environment: Mapping[str, str], top: str) -> Self:
        """Read what the build was given; raises :class:`InputError` outside of one."""
        top = environment.get("NIX_BUILD_TOP") or top
        files = [environment.get("NIX_ATTRS_JSON_FILE"), os.path.join(top, _ATTRIBUTES)]
        file = next((file for file in files if file and os.path.isfile(file)), None)
        made = cls(environment, top, environment.get("out", ""), {}, structured=False)
        if file is not None:
            try:
                with open(file, encoding="utf-8") as opened:
                    values = json.load(opened)
                out = str(values["outputs"]["out"])
                names = values.get("exportReferencesGraph") or {}
                made = cls(values, top, out, {name: values.get(name) for name in names}, structured=True)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                message = f"{file}: does not hold a derivation's attributes: {reason(error)}"
                raise of_reading(error)(message) from error
        else:
            words = environment.get("exportReferencesGraph", "").split()
            made.graphs = {name: os.path.join(top, name) for name in words[::2]}
        if not made.out:
            message = "this is no build of Nix: neither $out nor structured attributes say where the output goes"
            raise InputError(message, hint="Use it as a derivation's builder; elsewhere there are `build` and `image`.")
        return made

    def blame(self, name: str, problem: str) -> None:
        """Note what is wrong with an attribute."""
        self.note(InputError(f"{name}: {problem}"))

    def note(self, error: InputError) -> None:
        """Note an error, with all that it says."""
        self.problems += error.problems
        self._kinds.add(SourceError if isinstance(error, SourceError) else InputError)

    def check(self, prefix: str) -> None:
        """Raise one :class:`InputError` for all that is wrong, and for attributes with this prefix that nobody read.

        It is a :class:`SourceError` where all that is wrong is that something is not there.
        """
        ours = re.compile(f"{prefix}[A-Z]")  # a derivation may have attributes of its own, such as layered
        unknown = [name for name in self.values if ours.match(name) and name not in self._read]
        for name in sorted(unknown):
            self.blame(name, "there is no such attribute")
        if self.problems:
            kind = InputError if InputError in self._kinds else SourceError
            raise kind(*self.problems, hint=_HINT)

    _read: set[str] = attrs.field(factory=set, init=False)

    def _value(self, name: str) -> Any:  # noqa: ANN401 - JSON
        self._read |= {name, f"{name}Path"}
        value = self.values.get(name)
        if self.structured or value is not None or name not in self.values.get("passAsFile", "").split():
            return None if value == "" else value
        path = self.values.get(f"{name}Path", "")
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except OSError as error:
            self.blame(name, f"{path}: cannot be read: {error.strerror}")
            return None

    def take(self, name: str, kind: Kind[T], default: T) -> T:
        """Read an attribute of a kind; where it is none, that is noted."""
        value = self._value(name)
        try:
            return default if value is None else kind.of_attribute(value, structured=self.structured)
        except InputError as error:
            for problem in error.problems:
                self.blame(name, problem)
            return default

    def table(self, prefix: str, table: type[Values]) -> dict[str, Any]:
        """Read the options of a table that Nix may give, by the variables of its rows; ``prefix`` begins their names."""
        return {
            row.variable: self.take(prefix + row.attribute, row.kind, row.default if row.nix_default is None else row.nix_default)
            for row in rows(table)
            if Face.NIX in row.faces
        }

    def graph_files(self, name: str, graphs: tuple[str, ...]) -> Iterator[str]:
        """Give a file for each references graph of an attribute, which ``load_closure`` reads."""
        for graph in graphs:
            there = self.graphs.get(graph)
            if there is None:
                self.blame(name, f"exportReferencesGraph has no graph {graph!r}")
            elif isinstance(there, str):
                yield there
            else:
                yield self._written(graph, there)

    def _written(self, graph: str, there: object) -> str:
        path = os.path.join(self.top, f".rootless-layer-{graph}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(there, file)
        return path
