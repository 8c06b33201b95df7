"""Mounts as they are written: a line of BuildKit's ``RUN --mount``, a table of TOML, or a set of attributes."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, get_args

import attrs

from rootless_layer.cache.room import parse_size
from rootless_layer.errors import InputError
from rootless_layer.oci.number import whole
from rootless_layer.plan.mount import Mount, MountType
from rootless_layer.terminal import quoted
from rootless_layer.tree.tree import MOST_ID

from .kinds import a_text, refuse
from .lists import Several

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OTHER_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "readwrite": "rw"}
_FLAGS = frozenset({"readonly", "rw", "required"})
_TRUE, _FALSE = frozenset({"1", "t", "T", "true", "TRUE", "True"}), frozenset({"0", "f", "F", "false", "FALSE", "False"})
"""As BuildKit reads them."""
_OF_NIX = "a derivation's inputs are all that its result depends on"


class Mounts(Several[Mount]):
    """Mounts, each written by itself."""

    def of_text(self, text: str) -> Mount:
        """Read ``type=TYPE,NAME=VALUE,…``, a line of CSV."""
        try:
            [fields] = list(csv.reader([text], strict=True))
        except (csv.Error, ValueError):
            return refuse(f"{quoted(text)}: write it as type=TYPE,NAME=VALUE")
        words: list[tuple[str, object]] = []
        for field in fields:
            name, separator, value = field.partition("=")
            if not separator and _OTHER_NAMES.get(name, name) not in _FLAGS:
                refuse(f"{quoted(field)}: write it as NAME=VALUE")
            words.append((name.lower(), value if separator else True))
        return _mount(words)

    def of_toml(self, value: object) -> tuple[Mount, ...]:
        """Take a mount, or a list of them: each a table of its words, or a line as on the command line."""
        return tuple(map(self._one, value if isinstance(value, list) else [value]))

    def of_attribute(self, value: object, *, structured: bool) -> tuple[Mount, ...]:
        """Take a list of mounts: what a derivation may depend on, binds of its inputs and memory."""
        found = self.of_toml(value.split() if isinstance(value, str) and not structured else value)
        for mount in found:
            if mount.type in {"cache", "secret"}:
                refuse(f"a {mount.type} is not for Nix: {_OF_NIX}")
        return found

    def _one(self, value: object) -> Mount:
        match value:
            case str():
                return self.of_text(a_text(value))
            case dict():
                return _mount([*value.items()])
        return refuse(f"is a table, or type=TYPE,NAME=VALUE, and not {quoted(value)}")


def _mount(words: list[tuple[str, object]]) -> Mount:
    """Make a mount of its words."""
    known = attrs.fields_dict(Mount)
    values: dict[str, object] = {}
    for word, value in words:
        name = _OTHER_NAMES.get(word, word)
        if name == "from":
            raise InputError(
                "a bind shows what lies on this machine, and `from` is not taken",
                hint="Name its path with source, or copy from a layer or an image by --copy-from.",
            )
        if name != "rw" and name not in known:
            refuse(f"{quoted(word)} is none of {', '.join(known)}")
        if name in values:
            refuse(f"{name} is given twice")
        values[name] = _READ.get(name, _text)(name, value)
    if (kind := values.setdefault("type", "bind")) not in get_args(MountType):
        refuse(f"{quoted(kind)} is none of the types {', '.join(get_args(MountType))}")
    writable, readonly = values.pop("rw", None), values.get("readonly")
    if kind == "bind":
        if writable or readonly is False:
            message = "a bind is read-only, as what a script wrote there would be lost"
            raise InputError(message, hint="Have a script write to a cache or a tmpfs, or copy what is bound.")
        values["readonly"] = False  # of a bind it is no choice
    elif writable is not None and readonly is None:
        values["readonly"] = not writable
    return Mount(**values)  # type: ignore[arg-type]


def _text(name: str, value: object) -> str:
    return value if isinstance(value, str) else refuse(f"{name}: {quoted(value)} is not a text")


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value not in _TRUE | _FALSE:
        refuse(f"{name}: {quoted(value)} is neither true nor false")
    return value in _TRUE


def _id(name: str, value: object) -> int:
    return value if type(value) is int else whole(_text(name, value), highest=MOST_ID)


def _mode(name: str, value: object) -> int:
    if type(value) is int:
        return value
    text = _text(name, value)
    return int(text, 8) if text and set(text) <= set("01234567") else refuse(f"{name}: {quoted(text)} is not octal, as 0750")


def _size(name: str, value: object) -> int:
    return value if type(value) is int else parse_size(_text(name, value))


_READ: Mapping[str, Callable[[str, object], object]] = {
    "readonly": _flag, "rw": _flag, "required": _flag, "uid": _id, "gid": _id, "mode": _mode, "size": _size,
}  # fmt: skip
MOUNTS = Mounts()
