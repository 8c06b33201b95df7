"""The kinds of value that are several: lists, words of a command line, pairs, scripts, documents."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from rootless_layer.errors import InputError
from rootless_layer.oci.config import word_problem
from rootless_layer.plan.spec import Script
from rootless_layer.terminal import quoted

from .kinds import Kind, T, a_text, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

Pairs = Mapping[str, str | None]
Document = str | Mapping[str, Any]


class Several(Kind[tuple[T, ...]]):
    """Several values of which each is written by itself."""

    several = True

    def gather(self, parts: Sequence[T]) -> tuple[T, ...]:
        """Keep their order."""
        return tuple(parts)


class Texts(Several[str]):
    """Several texts."""

    def of_text(self, text: str) -> str:
        """Take one."""
        return text

    def of_toml(self, value: object) -> tuple[str, ...]:
        """Take a string, or a list of them."""
        if isinstance(value, str):
            return (a_text(value),)
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            refuse(f"is a string or a list of strings, and not {quoted(value)}")
        return tuple(map(a_text, value))

    def of_attribute(self, value: object, *, structured: bool) -> tuple[str, ...]:
        """Take a list of texts without white space, or one of them alone."""
        if isinstance(value, str):
            return (value,) if structured else tuple(value.split())
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return tuple(value)
        return refuse(f"{quoted(value)} is not a list of texts")


class Command(Texts):
    """A program and its arguments."""

    def of_toml(self, value: object) -> tuple[str, ...]:
        """Take a list of words, or a program alone."""
        return super().of_toml(value) or refuse("a command needs at least one argument, the program")


class Words(Texts):
    """The words of an image's own command: one value, which may have none."""

    several = False

    def of_text(self, text: str) -> Any:  # noqa: ANN401 - whether JSON is a list of words is asked with all of the config
        """Read JSON, or take the one word."""
        if not text.startswith("["):
            return self._one(text)
        try:
            return tuple(json.loads(text))
        except (ValueError, RecursionError) as error:
            return refuse(f"{quoted(text)}: is not JSON: {error}")

    def of_toml(self, value: object) -> tuple[str, ...]:
        """Take a list of words, or the one word."""
        return self._one(a_text(value)) if isinstance(value, str) else super().of_toml(value)

    @staticmethod
    def _one(text: str) -> tuple[str, ...]:
        return refuse(problem) if (problem := word_problem(text)) else (text,)


class ShellWords(Texts):
    """The words of a program that is to be run: one value, which may be written as a shell's line."""

    several = False

    def of_text(self, text: str) -> Any:  # noqa: ANN401 - the words; of other kinds it is a part
        """Read a JSON list, or split the words as a shell does."""
        try:
            if not text.startswith("["):
                return tuple(shlex.split(text))
            return super().of_toml(json.loads(text))
        except (ValueError, RecursionError) as error:
            return refuse(f"{quoted(text)}: is neither a JSON list of words nor words: {error}")

    def of_toml(self, value: object) -> tuple[str, ...]:
        """Take a list of words, or a line of them."""
        words: tuple[str, ...] = self.of_text(a_text(value)) if isinstance(value, str) else super().of_toml(value)
        return words

    def of_attribute(self, value: object, *, structured: bool) -> tuple[str, ...]:
        """Take a list of words, or a line of them."""
        return self.of_toml(value) if isinstance(value, str) else super().of_attribute(value, structured=structured)


class Ports(Texts):
    """Ports as ``EXPOSE`` has them."""

    def of_toml(self, value: object) -> tuple[str, ...]:
        """Take a port, or a list of them, numbers or text."""
        ports = value if isinstance(value, list) else [value]
        if not all(isinstance(port, str | int) and not isinstance(port, bool) for port in ports):
            refuse(f"is a port, or a list of them, and not {quoted(value)}")
        return tuple(map(str, ports))


class NamedValues(Kind[Pairs]):
    """Values by their names; in a table of defaults, each name by itself."""

    several = True

    def __init__(self, *, bare: bool) -> None:
        """Say whether a command line may have a name alone, of which the config says whether it is right."""
        self.bare = bare

    def of_text(self, text: str) -> tuple[str, str | None]:
        """Read ``NAME=VALUE``."""
        name, separator, value = text.partition("=")
        if not self.bare and not (separator and name):
            refuse(f"{text}: write it as NAME=VALUE")
        return name, value if separator else None

    def gather(self, parts: Sequence[tuple[str, str | None]]) -> Pairs:
        """Let the last value of a name count."""
        return dict(parts)

    def of_toml(self, value: object) -> Pairs:
        """Take a table of strings, or a list of ``NAME=VALUE``."""
        if isinstance(value, dict):
            if not all(isinstance(each, str) for each in value.values()):
                refuse("is a table of strings: write numbers in quotes")
            return {a_text(name): a_text(each) for name, each in value.items()}
        pairs = [pair.partition("=") for pair in TEXTS.of_toml(value)]
        if not all(separator for _, separator, _ in pairs):
            refuse("is a table of strings, or a list of NAME=VALUE")
        return {name: each for name, _, each in pairs}

    def of_attribute(self, value: object, *, structured: bool) -> Pairs:
        """Take a set of attributes."""
        return {name: str(each) for name, each in a_set(value, structured=structured).items()}

    def over(self, default: Pairs, value: Pairs) -> Pairs:
        """Give those of both, each name's own where it is in both."""
        return {**default, **value}


class Scripts(Several[str | Script]):
    """Scripts by their paths, or as they are."""

    def of_text(self, text: str) -> str:
        """Take a path."""
        return text

    def of_toml(self, value: object) -> tuple[str | Script, ...]:
        """Take paths of scripts, their texts or commands, in the order in which they run."""
        return tuple(map(self._one, value if isinstance(value, list) else [value]))

    def of_attribute(self, value: object, *, structured: bool) -> tuple[str | Script, ...]:
        """Take paths."""
        return TEXTS.of_attribute(value, structured=structured)

    @staticmethod
    def _one(script: object) -> str | Script:
        match script:
            case str():
                return a_text(script)
            case {"text": str() as text, **rest} if not rest:
                return Script.text(text)
            case {"command": list() as words, **rest} if not rest and words:
                return Script.command(TEXTS.of_toml(words))
            case _:
                return refuse(f'is the path of a script, {{ text = "…" }} or {{ command = ["…"] }}, and not {quoted(script)}')


class Documents(Several[Document]):
    """Documents of JSON: by their paths, or as they are."""

    def of_text(self, text: str) -> str:
        """Take a path, or JSON itself."""
        return text

    def of_toml(self, value: object) -> tuple[Document, ...]:
        """Take a table, or a path."""
        if not isinstance(value, str | dict):
            refuse(f"is a table, or the path of a JSON file, and not {quoted(value)}")
        return (value,)

    def of_attribute(self, value: object, *, structured: bool) -> tuple[Document, ...]:
        """Take a set of attributes."""
        return (a_set(value, structured=structured),)

    def over(self, default: tuple[Document, ...], value: tuple[Document, ...]) -> tuple[Document, ...]:
        """Give the properties of both, where both are tables."""
        match default, value:
            case (Mapping() as before,), (Mapping() as own,):
                return ({**before, **own},)
        return value


def a_set(value: object, *, structured: bool) -> dict[str, Any]:
    """Take a set of attributes; without structured attributes, the JSON of one."""
    value = of_json(value, structured=structured)
    if not isinstance(value, dict):
        refuse(f"{quoted(value)} is not a set of attributes")
    return value


def of_json(value: object, *, structured: bool) -> Any:  # noqa: ANN401 - JSON
    """Take anything; without structured attributes, the JSON of it."""
    if structured:
        return value
    try:
        return json.loads(cast("str", value))
    except (ValueError, RecursionError) as error:
        message = f"is not JSON: {error}"
        raise InputError(message) from error


TEXTS, COMMAND, WORDS, PORTS, SCRIPTS, DOCUMENTS = Texts(), Command(), Words(), Ports(), Scripts(), Documents()
SHELL = ShellWords()
VARIABLES, PAIRS = NamedValues(bare=False), NamedValues(bare=True)
