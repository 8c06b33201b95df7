"""The hash of a NAR as Nix writes it: ``sha256:`` with base 16 or Nix's base 32, or ``sha256-`` with base 64."""

from __future__ import annotations

import base64
import binascii
import re

_BYTES = 32
_BASE32 = "0123456789abcdfghijklmnpqrsvwxyz"
"""Nix's own digits (``src/libutil/hash.cc``), of which the last that is written is the lowest."""
_BASE32_DIGITS = 52


def nar_hash_digits(text: str) -> str:
    """Give the 64 hexadecimal digits of a sha256 hash that Nix wrote, ``""`` for any other text."""
    kind, separator, digits = re.sub("^sha256-", "sha256:", text).partition(":")
    if kind != "sha256" or not separator:
        return ""
    if re.fullmatch("[0-9a-f]{64}", digits):
        return digits
    if len(digits) == _BASE32_DIGITS and set(digits) <= set(_BASE32):
        number = 0
        for digit in digits:
            number = number << 5 | _BASE32.index(digit)
        return number.to_bytes(_BYTES + 1, "big")[1:][::-1].hex()
    try:
        found = base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return found.hex() if len(found) == _BYTES else ""
