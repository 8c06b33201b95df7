"""What callers give: a value of the right type, or an error that names the parameter and what it takes."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

from .errors import InputError

if TYPE_CHECKING:
    from types import UnionType

T = TypeVar("T")
StrPath = str | os.PathLike[str]
_quoting = reprlib.Repr()
_quoting.maxstring = _quoting.maxother = 60


def refuse(name: str, value: object, takes: str) -> NoReturn:
    """Raise :class:`InputError` for a value that a parameter does not take."""
    message = f"{name}: takes {takes}, not {_quoting.repr(value)}"
    raise InputError(message)


def text(name: str, value: object, takes: str = "a string") -> str:
    """Take a string without a NUL, which no system call takes."""
    if not isinstance(value, str):
        refuse(name, value, takes)
    if "\0" in value:
        refuse(name, value, f"{takes} without a NUL")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        refuse(name, value, f"{takes} without a lone surrogate")
    return value


def path(name: str, value: object) -> str:
    """Take a path: a string or an ``os.PathLike`` of one, neither empty nor with a NUL."""
    found = value.__fspath__() if isinstance(value, os.PathLike) else value
    return text(name, found, "a path") or refuse(name, value, "a path, and none is empty")


def several(name: str, value: object, takes: str) -> tuple[Any, ...]:
    """Take any iterable but a string or a mapping, which are iterable by accident, as a tuple."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        refuse(name, value, f"a sequence of {takes}")
    return tuple(value)


def instance(name: str, value: T, kind: type | UnionType, takes: str) -> T:
    """Take a value of a type; a bool is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        refuse(name, value, takes)
    return value


def whole(name: str, value: int, least: int, most: int) -> int:
    """Take a whole number between two."""
    if not least <= instance(name, value, int, "a whole number") <= most:
        refuse(name, value, f"a whole number from {least} to {most}")
    return value


def items(name: str, value: Iterable[T], kind: type[T], takes: str) -> tuple[T, ...]:
    """Take any iterable of values of a type, as a tuple."""
    return tuple(instance(f"{name}[{number}]", each, kind, takes) for number, each in enumerate(several(name, value, takes)))


def function(name: str, value: T) -> T:
    """Take what can be called."""
    if not callable(value):
        refuse(name, value, "a function")
    return value


def one_of(name: str, value: object, literal: object) -> str:
    """Take one of the strings of a ``Literal``."""
    choices = get_args(literal)
    if not isinstance(value, str) or value not in choices:
        message = f"{name}: {_quoting.repr(value)} is none of {', '.join(choices)}"
        raise InputError(message)
    return value
