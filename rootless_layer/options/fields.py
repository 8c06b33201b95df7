"""The keys that a layer or an image may have in a file of ``rootless-layer make``, and what each one takes.

They are named as the options of ``rootless-layer build`` and ``rootless-layer image`` are.
What may be given several times there is a list here, or the one value of it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from rootless_layer.cache.room import parse_size
from rootless_layer.errors import InputError
from rootless_layer.oci.config import word_problem
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Taking = Callable[[Any], Any]


class Wrong(Exception):  # noqa: N818 - a problem, of which a file may have many
    """A value that a key does not take; the message says what it does."""


def text(value: Any) -> str:  # noqa: ANN401 - TOML
    """Take a string."""
    if not isinstance(value, str):
        raise Wrong(f"is a string, and not {quoted(value)}")
    if "\0" in value:
        raise Wrong("holds a NUL")
    return value


def texts(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - TOML
    """Take a string, or a list of them."""
    if isinstance(value, str):
        return (text(value),)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise Wrong(f"is a string or a list of strings, and not {quoted(value)}")
    return tuple(map(text, value))


def _words(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - TOML
    """Take the words of a command line: a list of them, or the one word of it."""
    if isinstance(value, str) and (problem := word_problem(value)):
        raise Wrong(problem)
    return texts(value)


def _flag(value: Any) -> bool:  # noqa: ANN401 - TOML
    if not isinstance(value, bool):
        raise Wrong(f"is true or false, and not {quoted(value)}")
    return value


def _whole(value: Any) -> int:  # noqa: ANN401 - TOML
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong(f"is a whole number, and not {quoted(value)}")
    return value


def _above_zero(value: Any) -> int:  # noqa: ANN401 - TOML
    if _whole(value) < 1:
        raise Wrong(f"is a number above 0, and not {value}")
    return _whole(value)


def _size(value: Any) -> int:  # noqa: ANN401 - TOML
    """Take a number of bytes, or a size as the command takes it."""
    if isinstance(value, str):
        try:
            value = parse_size(value)
        except InputError as error:
            raise Wrong(str(error)) from error
    return _above_zero(value)


def _number(value: Any) -> float:  # noqa: ANN401 - TOML
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong(f"is a number, and not {quoted(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise Wrong(f"is a number that is not as large as {quoted(value)}") from error


def one_of(*choices: str) -> Taking:
    """Take one of some strings."""

    def take(value: Any) -> str:  # noqa: ANN401 - TOML
        if value not in choices:
            raise Wrong(f"is one of {', '.join(choices)}, and not {quoted(value)}")
        return str(value)

    return take


def _pairs(value: Any) -> dict[str, str]:  # noqa: ANN401 - TOML
    """Take a table of strings, or a list of NAME=VALUE."""
    if isinstance(value, dict):
        if not all(isinstance(each, str) for each in value.values()):
            raise Wrong("is a table of strings: write numbers in quotes")
        return {text(name): text(each) for name, each in value.items()}
    pairs = [pair.partition("=") for pair in texts(value)]
    if not all(separator for _, separator, _ in pairs):
        raise Wrong("is a table of strings, or a list of NAME=VALUE")
    return {name: each for name, _, each in pairs}


def _ports(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - TOML
    ports = value if isinstance(value, list) else [value]
    if not all(isinstance(port, str | int) and not isinstance(port, bool) for port in ports):
        raise Wrong(f"is a port, or a list of them, and not {quoted(value)}")
    return tuple(map(str, ports))


def _time(value: Any) -> str:  # noqa: ANN401 - TOML
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(value)


def _scripts(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - TOML
    """Take paths of scripts, their texts or commands, in the order in which they run."""
    scripts = value if isinstance(value, list) else [value]
    taken: list[Any] = []
    for script in scripts:
        match script:
            case str():
                taken.append(text(script))
            case {"text": str() as given, **rest} if not rest:
                taken.append({"text": given})
            case {"command": list() as words, **rest} if not rest and words:
                taken.append({"command": texts(words)})
            case _:
                raise Wrong(f'is the path of a script, {{ text = "…" }} or {{ command = ["…"] }}, and not {quoted(script)}')
    return tuple(taken)


def _config(value: Any) -> Any:  # noqa: ANN401 - TOML
    if not isinstance(value, str | dict):
        raise Wrong(f"is a table, or the path of a JSON file, and not {quoted(value)}")
    return value


LAYER: Mapping[str, Taking] = {
    "base": texts, "platform": text, "most-bytes": _size, "closure": texts, "store-path": texts, "store-root": text,
    "copy-to-root": texts, "link": one_of("hard", "symbolic", "copy"), "keep-dirlinks": _flag,
    "follow-dirlinks": _flag, "conflict": one_of("error", "first", "last"), "tools": texts, "rootfs": text,
    "rootfs-listing": text, "script": _scripts, "run": text, "command": texts, "view": one_of("root", "directory"),
    "env": _pairs, "timeout": _number, "closure-writable": _flag, "stage": one_of("auto", "bind", "hardlink", "copy"),
    "allow-sparse": _flag,
    "compression": text, "blob": one_of("stored", "derived"), "source-date-epoch": _whole, "uid": _whole, "gid": _whole,
    "output": text,
}  # fmt: skip
"""``run`` is a script's text, which runs behind those of ``script``; ``command`` comes last."""

IMAGE: Mapping[str, Taking] = {
    "base": text, "platform": text, "layers": texts, "tag": texts, "config": _config, "env": _pairs, "entrypoint": _words,
    "cmd": _words, "user": text, "workdir": text, "expose": _ports, "volume": texts, "label": _pairs, "stop-signal": text,
    "author": text, "created": _time, "output": text, "format": one_of("layout", "archive", "docker-archive"),
    "closure": texts, "store-root": text, "max-layers": _above_zero, "layering": text, "compression": text,
    "source-date-epoch": _whole, "uid": _whole, "gid": _whole, "allow-sparse": _flag,
}  # fmt: skip

OF_CLOSURE = ("store-root", "max-layers", "layering", "compression", "source-date-epoch", "uid", "gid", "allow-sparse")
"""What an image's key ``closure`` goes with, and nothing else."""

NAMES = frozenset({
    "base", "platform", "layers", "tag", "closure", "store-path", "store-root", "copy-to-root", "tools", "rootfs",
    "rootfs-listing", "compression", "layering", "script", "config", "volume", "stop-signal",
})  # fmt: skip
"""Whose value names something, so that an empty one cannot be meant."""

NO_DEFAULT = frozenset({"output", "tag"})
"""What two of a kind may not share."""
