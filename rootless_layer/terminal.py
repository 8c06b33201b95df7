"""What a terminal shows: text that cannot steer it, as wide as it is."""

from __future__ import annotations

import json
import os
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_COLUMNS = 80
_MOST_QUOTED = 80
_UNITS = ("KiB", "MiB", "GiB", "TiB")
_UNIT = 1024
_ROUNDED_UP = 0.05
"""As many of a unit would be written as 1024.0 where this much is lacking."""
_LEAST_COLUMNS = 20
"""Where a terminal says less than this, it does not know: a pseudo-terminal says 0."""


def printable(text: str) -> str:
    """Escape what is not printable: control characters, and bytes that are no text."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def quoted(value: object) -> str:
    """Write a value of a document in a message: text in quotes, anything else as JSON, and not more than a glance takes in."""
    if isinstance(value, str):
        shown = repr(value)
    else:
        try:
            shown = printable(json.dumps(value, ensure_ascii=False, default=str))
        except (ValueError, RecursionError):
            return "something that is nested too deeply"
    return shown if len(shown) <= _MOST_QUOTED else f"{shown[:_MOST_QUOTED]}…"


def counted(number: int, noun: str) -> str:
    """Write a number of things: 1 image, 2 images, 3 entries."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def sized(number: int) -> str:
    """Write a number of bytes as a person reads it: 512 bytes, 1.5 KiB, 12.3 MiB."""
    if number < _UNIT:
        return counted(number, "byte")
    size, unit = float(number), ""
    for unit in _UNITS:  # noqa: B007 - the last one is used behind it
        size /= _UNIT
        if size < _UNIT - _ROUNDED_UP:
            break
    return f"{size:.1f} {unit}"


def fitted(text: str, columns: int) -> str:
    """Cut text to so many columns; a wide letter takes two of them, a combining one none."""
    text = printable(text)
    if text.isascii():
        return text[:columns]
    width = 0
    for place, letter in enumerate(text):
        if not unicodedata.combining(letter):
            width += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if width > columns:
            return text[:place]
    return text


def is_live(file: TextIO) -> bool:
    """Say whether a line there may be changed: on a terminal that can, for a person who wants it."""
    return file.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb"} and not os.environ.get("NO_COLOR")


def columns_of(file: TextIO) -> int:
    """Give how many columns a line may have, so that the cursor stays on it."""
    try:
        columns = os.get_terminal_size(file.fileno()).columns
    except OSError:
        columns = 0
    return max(columns or _COLUMNS, _LEAST_COLUMNS) - 1
