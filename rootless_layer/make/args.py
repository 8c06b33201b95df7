"""Variables of a file: ``[args]``, ``--arg NAME=VALUE``, and ``${NAME}`` in the values of layers and images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.terminal import quoted

from .graph import unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .faults import Faults

Value = str | int | bool
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)(\}?))")
_KEYS = 3
"""The names that lead to the value of an option: the kind, the layer or image, and the key."""
_HINT = "Write $${NAME} for what a script is to see as ${NAME}: in a file with [args], ${NAME} is replaced, and $$ is a $."


def with_args(said: Mapping[str, Any], given: Mapping[str, str], faults: Faults) -> dict[str, Any]:
    """Give a file's tables without ``args``, and with the values of these in the place of their names.

    ``given`` has values of the command line, which take the place of the file's. Where the file has no ``args``, its values
    are as they are. A value that is ``${NAME}`` and nothing else has the type of what it names. What is wrong goes to the
    ``faults``.
    """
    tables = {name: value for name, value in said.items() if name != "args"}
    declared = said.get("args", {})
    if not isinstance(declared, dict):
        faults.add("args", "is a table of names and values")
        return tables
    for name in given.keys() - declared.keys():
        faults.add("", unknown_name("name in [args]", name, declared), key=f"--arg {name}")
    if "args" not in said:
        return tables
    values = {name: _value(name, value, given, faults) for name, value in declared.items()}
    replacing = _Replacing(values, faults)
    replaced = {name: replacing.replace(value, (name,)) for name, value in tables.items()}
    for name in sorted(given.keys() & declared.keys() - replacing.used):
        faults.add("args", f"--arg gives it a value, and nothing in the file has ${{{name}}}", key=name)
    return replaced


def _value(name: str, default: object, given: Mapping[str, str], faults: Faults) -> Value:
    """Give a variable's value: of the type of the file's own, which it has where no other is given."""
    if not _NAME.fullmatch(name):
        faults.add("args", "is no name: it has letters, digits and _, and begins with no digit", key=quoted(name))
    if not isinstance(default, Value):
        faults.add("args", "is a string, a whole number, true or false", key=name)
        return ""
    if name not in given:
        return default
    text = given[name]
    if isinstance(default, bool):
        if text not in {"true", "false"}:
            faults.add("args", f"is true or false, and --arg gives {quoted(text)}", key=name)
        return text == "true"
    if isinstance(default, int):
        if not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
            faults.add("args", f"is a whole number, and --arg gives {quoted(text)}", key=name)
            return default
        return int(text)
    return text


@attrs.frozen(slots=True)
class _Replacing:
    """Replaces names by their values, and knows which were used."""

    values: Mapping[str, Value]
    faults: Faults
    used: set[str] = attrs.field(factory=set)

    def replace(self, value: Any, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - TOML
        match value:
            case dict():
                return {name: self.replace(each, (*path, name)) for name, each in value.items()}
            case list():
                return [self._text(each, path) if isinstance(each, str) else self.replace(each, path) for each in value]
            case str():
                whole = _REFERENCE.fullmatch(value)
                if len(path) == _KEYS and whole is not None and whole[2] and whole[1] in self.values:
                    self.used.add(whole[1])
                    return self.values[whole[1]]  # of its own type: an option may take a number, or true
                return self._text(value, path)
        return value

    def _text(self, text: str, path: tuple[str, ...]) -> str:
        return _REFERENCE.sub(lambda found: self._reference(found, path), text)

    def _reference(self, found: re.Match[str], path: tuple[str, ...]) -> str:
        name = found[1]
        if name is None:
            return "$"
        place, key = ".".join(path[:2]), ".".join(path[2:])
        if not found[2]:
            self.faults.add(place, f"${{ has no }} behind it: {quoted(found[0])}", key=key, hint=_HINT)
        elif name not in self.values:
            self.faults.add(place, f"${{{name}}}: {unknown_name('name in [args]', name, self.values)}", key=key, hint=_HINT)
        else:
            self.used.add(name)
            value = self.values[name]
            return str(value).lower() if isinstance(value, bool) else str(value)
        return found[0]
