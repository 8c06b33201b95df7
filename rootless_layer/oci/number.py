"""A number as a person writes it: ASCII digits. Python itself takes ``1_000``, ``+1`` and the digits of every script as well."""

from __future__ import annotations

import re

from rootless_layer.errors import InputError
from rootless_layer.terminal import quoted

_WHOLE = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
_LARGEST = 2**63 - 1


def whole(text: str, lowest: int = 0, highest: int = _LARGEST) -> int:
    """Read a whole number within bounds; raises :class:`InputError`."""
    if _WHOLE.fullmatch(text) and lowest <= int(text) <= highest:
        return int(text)
    bounds = f"of {lowest} or more" if highest == _LARGEST else f"from {lowest} to {highest}"
    message = f"{quoted(text)} is not a whole number {bounds}"
    raise InputError(message)


def seconds(text: str) -> float:
    """Read a time of more than 0 seconds, as 30 or 0.5; raises :class:`InputError`."""
    if _DECIMAL.fullmatch(text) and float(text):
        return float(text)
    message = f"{quoted(text)} is not a number of seconds above 0"
    raise InputError(message)
