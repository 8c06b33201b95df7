"""A derivation's own attributes, as Nix gives them to the builder.

With ``__structuredAttrs`` they are JSON, at ``$NIX_ATTRS_JSON_FILE`` or, where that names a
path outside of the sandbox (Nix 2.8), in ``.attrs.json`` of the build's directory; the outputs
are in it. Without, each is a variable: a list is its words, true is 1, false and null are
empty, and what ``passAsFile`` names is in a file. ``exportReferencesGraph`` is a list of
names and store paths then, whose graphs are files; with JSON the graphs are in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, Self

import attrs

from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.oci.number import seconds, whole
from rootless_layer.system.machine import of_reading
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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

    def text(self, name: str, default: str = "") -> str:
        """Read a text; a number is one as well."""
        value = self._value(name)
        if value is None:
            return default
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value)
        self.blame(name, f"{quoted(value)} is not a text")
        return default

    def one_of(self, name: str, choices: tuple[str, ...], default: str) -> Any:  # noqa: ANN401 - a literal
        """Read one of several words."""
        value = self.text(name, default)
        if value not in choices:
            self.blame(name, f"{value!r} is none of {', '.join(choices)}")
            return default
        return value

    def flag(self, name: str) -> bool:
        """Read true or false."""
        value = self._value(name)
        if value in (None, False, "0", "false"):
            return False
        if value in (True, "1", "true"):
            return True
        self.blame(name, f"{quoted(value)} is neither true nor false")
        return False

    def number(self, name: str, default: int) -> int:
        """Read a whole number."""
        value = self._value(name)
        if value is None:
            return default
        if type(value) is int:
            return value
        with contextlib.suppress(InputError):
            if isinstance(value, str):
                return whole(value, lowest=-(2**63))
        self.blame(name, f"{quoted(value)} is not a whole number")
        return default

    def seconds(self, name: str) -> float | None:
        """Read a number of seconds, or none."""
        value = self._value(name)
        try:
            return value if value is None or type(value) in {int, float} else seconds(str(value))
        except InputError:
            self.blame(name, f"{quoted(value)} is not a number of seconds")
            return None

    def words(self, name: str) -> list[str]:
        """Read a list of texts without white space, or one of them alone."""
        value = self._value(name)
        if value is None:
            return []
        if isinstance(value, str):
            return [value] if self.structured else value.split()
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return value
        self.blame(name, f"{quoted(value)} is not a list of texts")
        return []

    def table(self, name: str) -> dict[str, Any]:
        """Read a set of attributes; without structured attributes, the JSON of one."""
        value = self.json(name)
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self.blame(name, f"{quoted(value)} is not a set of attributes")
        return {}

    def json(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """Read anything; without structured attributes, the JSON of it."""
        value = self._value(name)
        if self.structured or value is None:
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            self.blame(name, f"is not JSON: {error}")
            return None

    def graph_files(self, name: str, default: tuple[str, ...] = ()) -> Iterator[str]:
        """Read names of references graphs; give a file for each, which ``load_closure`` reads."""
        for graph in self.words(name) or default:
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
