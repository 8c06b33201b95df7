"""An image's config as nixpkgs takes it: as it is, which docker then reads by Go's ``encoding/json``, and not by a schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rootless_layer.oci.config import OF_ANY_CASE

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = frozenset({"Entrypoint", "Cmd"})
"""Properties of which docker takes a text alone, too (``strslice``)."""
_SETS = frozenset({"ExposedPorts", "Volumes"})


def read_config(said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the properties that an image can have, as the image-spec writes them, and those that nobody knows, as they are.

    Names are in any case, and of two for one property the later one counts. A number, true and false stand for the text
    where a property is one, or has several; null stands for a port and a volume. What is wrong besides stays wrong.
    """
    known, unknown = {}, {}
    for name, value in said.items():
        found = OF_ANY_CASE.get(name.casefold())
        if found is None:
            unknown[name] = value
        else:
            known[found[0]] = _value(*found, value)
    return known, unknown


def _value(name: str, kind: type, value: Any) -> Any:  # noqa: ANN401 - JSON
    if kind is str:
        return _text(value)
    if kind is list:
        words = [value] if name in _WORDS and isinstance(value, str) else value
        return [_text(word) for word in words] if isinstance(words, list) else words
    if kind is dict and isinstance(value, dict):
        if name in _SETS:
            return {key: {} if each is None else each for key, each in value.items()}
        if name == "Labels":
            return {key: "" if each is None else _text(each) for key, each in value.items()}
    return value


def _text(value: Any) -> Any:  # noqa: ANN401 - JSON
    return json.dumps(value) if isinstance(value, bool | int | float) else value
