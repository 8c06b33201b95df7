"""The kinds of value that an option may have: each is read from a command line's text, a value of TOML or an attribute of Nix.

What a kind reads in one place is the same value in all. It raises :class:`InputError` for anything
else, which says what the option takes.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, get_args

from rootless_layer.cache.room import parse_limit, parse_size
from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.number import seconds, whole
from rootless_layer.oci.time import created, parse_time, rfc3339
from rootless_layer.system.date import date_seconds
from rootless_layer.tar.compression import Compression
from rootless_layer.terminal import quoted
from rootless_layer.tree.tree import MOST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
_LARGEST = 2**63 - 1


def refuse(problem: str) -> NoReturn:
    """Say what is wrong with a value; whoever knows the option adds its name."""
    raise InputError(problem)


class Kind(Generic[T]):
    """A kind of value; ``name`` is what help calls one on the command line.

    Where ``several`` is set the option may be given several times, each time with a part of the value.
    """

    name = "text"
    several = False

    def of_text(self, text: str) -> object:
        """Read it, or a part of it, as it is written on a command line."""
        raise NotImplementedError

    def of_toml(self, value: object) -> T:
        """Take a value of TOML."""
        raise NotImplementedError

    def of_attribute(self, value: object, *, structured: bool) -> T:
        """Take an attribute of a derivation: ``structured`` is a value of JSON, else it is text."""
        raise NotImplementedError

    def gather(self, parts: Sequence[Any]) -> T:
        """Put the parts together that were read of a command line, where there may be several."""
        raise NotImplementedError

    def over(self, _default: T, value: T) -> T:
        """Give what a value comes to over that of a table of defaults: itself, unless it has parts with names."""
        return value


def a_text(value: object) -> str:
    """Take a string of TOML."""
    if not isinstance(value, str):
        refuse(f"is a string, and not {quoted(value)}")
    if "\0" in value:
        refuse("holds a NUL")
    return value


def an_attribute(value: object) -> str:
    """Take a text of Nix; a number is one as well."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        refuse(f"{quoted(value)} is not a text")
    return str(value)


class Text(Kind[str]):
    """Any text."""

    def of_text(self, text: str) -> str:
        """Take it."""
        return text

    def of_toml(self, value: object) -> str:
        """Take a string."""
        return a_text(value)

    def of_attribute(self, value: object, *, structured: bool) -> str:  # noqa: ARG002 - both are text
        """Take a text, or a number."""
        return an_attribute(value)


class Flag(Kind[bool]):
    """True or false; on a command line it is there or not."""

    def of_toml(self, value: object) -> bool:
        """Take true or false."""
        if not isinstance(value, bool):
            refuse(f"is true or false, and not {quoted(value)}")
        return value

    def of_attribute(self, value: object, *, structured: bool) -> bool:  # noqa: ARG002 - Nix has its own text for them
        """Take true or false, or the text for it."""
        if value in (True, "1", "true"):
            return True
        if value in (False, "0", "false"):
            return False
        return refuse(f"{quoted(value)} is neither true nor false")


class OneOf(Kind[str]):
    """One of the words of a ``Literal``."""

    def __init__(self, literal: object) -> None:
        """Take the ``Literal``."""
        self.choices: tuple[str, ...] = get_args(literal)

    def of_text(self, text: str) -> str:
        """Take one of them."""
        if text not in self.choices:
            refuse(f"{text!r} is none of {', '.join(self.choices)}")
        return text

    def of_toml(self, value: object) -> str:
        """Take one of them."""
        if value not in self.choices:
            refuse(f"is one of {', '.join(self.choices)}, and not {quoted(value)}")
        return str(value)

    def of_attribute(self, value: object, *, structured: bool) -> str:  # noqa: ARG002 - both are text
        """Take one of them."""
        return self.of_text(an_attribute(value))


class Whole(Kind[int]):
    """A whole number."""

    name = "integer"

    def __init__(self, lowest: int = 0, highest: int = _LARGEST) -> None:
        """Take the bounds of those that a command line may have; of others :class:`LayerSpec` knows them."""
        self.lowest, self.highest = lowest, highest

    def of_text(self, text: str) -> int:
        """Read one within the bounds."""
        return whole(text, self.lowest, self.highest)

    def of_toml(self, value: object) -> int:
        """Take a number."""
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(f"is a whole number, and not {quoted(value)}")
        if self.lowest == 1 > value:
            refuse(f"is a number above 0, and not {value}")
        return value

    def of_attribute(self, value: object, *, structured: bool) -> int:  # noqa: ARG002 - Nix has numbers as text, too
        """Take a number, or the text of one."""
        if type(value) is int:
            return value
        try:
            return whole(value if isinstance(value, str) else "", lowest=-(2**63))
        except InputError:
            return refuse(f"{quoted(value)} is not a whole number")


class Epoch(Whole):
    """A time in seconds since 1970; Nix may write it as RFC 3339 does, too."""

    def of_attribute(self, value: object, *, structured: bool) -> int:
        """Read it as nixpkgs does."""
        return int(_moment(value, structured=structured).timestamp())


class Size(Whole):
    """A number of bytes, or one with a unit."""

    name = "text"

    def __init__(self) -> None:
        """Nothing is no size."""
        super().__init__(lowest=1)

    def of_text(self, text: str) -> int:
        """Read it as ``500M``."""
        return parse_size(text) or refuse(f"{text} is nothing: a size is above 0")

    def of_toml(self, value: object) -> int:
        """Take a number, or a text as a command line has it."""
        return super().of_toml(parse_size(value) if isinstance(value, str) else value)


class Seconds(Kind[float]):
    """A time of more than 0 seconds."""

    name = "float"

    def of_text(self, text: str) -> float:
        """Read it as 30 or 0.5."""
        return seconds(text)

    def of_toml(self, value: object) -> float:
        """Take a number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(f"is a number, and not {quoted(value)}")
        try:
            return float(value)
        except OverflowError:
            return refuse(f"is a number that is not as large as {quoted(value)}")

    def of_attribute(self, value: object, *, structured: bool) -> float:  # noqa: ARG002 - Nix has numbers as text, too
        """Take a number, or the text of one."""
        if type(value) in {int, float}:
            return value  # type: ignore[return-value]
        try:
            return seconds(str(value))
        except InputError:
            return refuse(f"{quoted(value)} is not a number of seconds")


class Read(Kind[T]):
    """A text that a function reads."""

    def __init__(self, read: Callable[[str], T]) -> None:
        """Take the function, which raises :class:`InputError`."""
        self.read = read

    def of_text(self, text: str) -> T:
        """Read it."""
        return self.read(text)

    def of_toml(self, value: object) -> T:
        """Read a string."""
        return self.read(a_text(value))

    def of_attribute(self, value: object, *, structured: bool) -> T:  # noqa: ARG002 - both are text
        """Read a text."""
        return self.read(an_attribute(value))


class _Compression(Read[Compression]):
    """A kind and a level, of which Nix calls one otherwise."""

    def of_attribute(self, value: object, *, structured: bool) -> Compression:
        """Read it as nixpkgs does."""
        kind, colon, level = an_attribute(value).partition(":")
        return super().of_attribute({"gz": "gzip"}.get(kind, kind) + colon + level, structured=structured)


class _Time(Read[str]):
    """A point in time, as an image has it: RFC 3339."""

    def of_toml(self, value: object) -> str:
        """Take a time of TOML, seconds since 1970, or a string."""
        if isinstance(value, dt.datetime):
            return self.read(value.isoformat())
        if isinstance(value, int) and not isinstance(value, bool):
            return self.read(str(value))
        return super().of_toml(value)

    def of_attribute(self, value: object, *, structured: bool) -> str:
        """Read it as nixpkgs does."""
        return rfc3339(_moment(value, structured=structured))


def _moment(value: object, *, structured: bool) -> dt.datetime:
    """Read a time as nixpkgs takes it, by date(1), or ``now``; a number, which JSON alone tells from text, is in seconds."""
    text = an_attribute(value)
    if text == "now" or isinstance(value, int) or (text.isdecimal() and not structured):
        return parse_time(text)
    since = date_seconds(text)
    return parse_time(str(since)) if since >= 0 else refuse(f"{quoted(text)} is before 1970")


def _limit(text: str) -> str:
    """Check what a cache may hold, which is passed on as text: whoever adds to it reads it of a variable."""
    parse_limit(text)
    return text


TEXT, FLAG = Text(), Flag()
WHOLE, COUNT, ID, EPOCH = Whole(), Whole(lowest=1), Whole(highest=MOST_ID), Epoch()
SIZE, SECONDS, LIMIT = Size(), Seconds(), Read(_limit)
COMPRESSION, PLATFORM, TIME = _Compression(Compression.parse), Read(Platform.parse), _Time(created)
