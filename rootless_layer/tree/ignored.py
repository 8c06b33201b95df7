"""The language of ``.dockerignore``, and the patterns of a Dockerfile's COPY.

The rules are those of moby's patternmatcher and ignorefile packages, and of Go's ``path/filepath`` (Match, Clean). They
are not git's: a pattern without a slash means the top alone, and the last pattern that a path, or a directory that it is
in, matches decides.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPECIAL = frozenset("*?[")


def is_pattern(text: str) -> bool:
    """Say whether a path of COPY's is a pattern."""
    return not _SPECIAL.isdisjoint(text)


def compiled(pattern: str, *, deep: bool) -> re.Pattern[str]:
    r"""Compile a pattern: ``*`` and ``?`` pass no slash, ``[a-z]`` and ``[^a]`` are one character.

    A backslash takes the next character as it is. With ``deep``, ``**`` passes any number of directories. Raises
    :class:`ValueError` for a class that does not end, and a backslash with nothing behind it.
    """
    return re.compile("".join(_parts(pattern, deep=deep)))


def _parts(pattern: str, *, deep: bool) -> Iterator[str]:
    place = 0
    while place < len(pattern):
        character = pattern[place]
        place += 1
        if deep and character == "*" and pattern.startswith("*", place):
            place += 2 if pattern.startswith("/", place + 1) else 1
            yield "(?:.*/)?" if place < len(pattern) else ".*"
        elif character == "*":
            yield "[^/]*"
        elif character == "?":
            yield "[^/]"
        elif character == "[":
            text, place = _class(pattern, place)
            yield text
        elif character == "\\":
            yield re.escape(_escaped(pattern, place))
            place += 1
        else:
            yield re.escape(character)


def _escaped(pattern: str, place: int) -> str:
    if place >= len(pattern):
        message = "nothing follows the backslash at the end"
        raise ValueError(message)
    return pattern[place]


def _class(pattern: str, place: int) -> tuple[str, int]:
    """Read a class behind its bracket; give it as a regular expression, and the place behind it."""
    negated = pattern.startswith("^", place)
    place += negated
    ranges: list[str] = []
    while not pattern.startswith("]", place) or not ranges:
        first, place = _member(pattern, place)
        last = first
        if pattern.startswith("-", place):
            last, place = _member(pattern, place + 1)
        if last < first:
            message = f"no character is from {first} to {last}"
            raise ValueError(message)
        ranges.append(f"{re.escape(first)}-{re.escape(last)}")
    return f"(?!/)[{'^' if negated else ''}{''.join(ranges)}]", place + 1


def _member(pattern: str, place: int) -> tuple[str, int]:
    if place >= len(pattern) or pattern[place] in "]-":
        message = "a class in brackets has no end, no member, or half a range"
        raise ValueError(message)
    if pattern[place] == "\\":
        return _escaped(pattern, place + 1), place + 2
    return pattern[place], place + 1


@attrs.frozen(slots=True)
class Rule:
    """A line of such a file: what it matches, and whether that is an exception (``!``), which is not left out."""

    matches: re.Pattern[str]
    exception: bool


@attrs.frozen(slots=True)
class Ignored:
    """What is left out of a directory that files are copied from; nothing by default. ``name`` is the file that says so."""

    rules: tuple[Rule, ...] = ()
    name: str = ".dockerignore"

    @classmethod
    def of_text(cls, text: str, name: str = ".dockerignore") -> Self:
        """Read a file's ``text``; ``name`` is the file's, for messages.

        Raises :class:`InputError`, which names the line, for what is no pattern.
        """
        rules, problems = [], []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            pattern = line.strip()
            if line.startswith("#") or not pattern:
                continue
            exception = pattern.startswith("!")
            cleaned = _cleaned(pattern.removeprefix("!").strip())
            if not cleaned:
                problems.append(f"{name}:{number}: ! stands before no pattern")
                continue
            try:
                rules.append(Rule(compiled(cleaned, deep=True), exception))
            except ValueError as error:
                problems.append(f"{name}:{number}: {pattern} is no pattern: {error}")
        if problems:
            raise InputError(*problems)
        return cls(tuple(rules), name)

    @property
    def has_exceptions(self) -> bool:
        """Say whether something in a directory that is left out may be none the less."""
        return any(rule.exception for rule in self.rules)

    def hides(self, path: str) -> bool:
        """Say whether a ``path`` below the directory, without a leading slash, is left out."""
        hidden = False
        ways = [path[: found.start()] for found in re.finditer("/", path)] + [path]
        for rule in self.rules:
            if rule.exception == hidden and any(rule.matches.fullmatch(way) for way in ways):
                hidden = not rule.exception
        return hidden


def _cleaned(pattern: str) -> str:
    """Write a pattern as Go's Clean does, below the directory."""
    found = posixpath.normpath(re.sub("/+", "/", pattern)) if pattern else ""
    return found.removeprefix("/") or found
