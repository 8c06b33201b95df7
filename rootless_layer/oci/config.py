"""The properties of an image's config (image-spec ``config.md``, "Properties"): what each one may be, and how it is merged.

Whoever takes or checks a property asks :func:`problems`: the command, a file of ``make``, Nix and ``validate``.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import InputError
from rootless_layer.terminal import quoted

from .descriptor import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

_MERGED = ("ExposedPorts", "Volumes", "Labels")
_MOST_DEEP = 100
_TOO_DEEP = "it is nested too deep"
_TYPES: Mapping[str, type] = {
    "User": str, "ExposedPorts": dict, "Env": list, "Entrypoint": list, "Cmd": list, "Volumes": dict, "WorkingDir": str,
    "Labels": dict, "StopSignal": str, "Memory": int, "MemorySwap": int, "CpuShares": int, "Healthcheck": dict,
    "ArgsEscaped": bool, "Shell": list, "OnBuild": list, "Hostname": str, "Domainname": str, "StopTimeout": int,
    "AttachStdin": bool, "AttachStdout": bool, "AttachStderr": bool, "Tty": bool, "OpenStdin": bool, "StdinOnce": bool,
    "NetworkDisabled": bool, "MacAddress": str, "Image": str,
}  # fmt: skip
"""image-spec's properties, and docker's own beyond it."""
OF_ANY_CASE = {name.casefold(): (name, kind) for name, kind in _TYPES.items()}  # as engines know them, for whoever repairs names
_NAMES = {str: "a string", dict: "an object", list: "a list", int: "a number", bool: "true or false"}
_HEALTH: Mapping[str, type] = {
    "Test": list, "Interval": int, "Timeout": int, "StartPeriod": int, "StartInterval": int, "Retries": int,
}  # fmt: skip
_MOST = 2**63
_MOST_PORT, _MOST_ID, _MOST_SIGNAL = 65535, 2**31 - 1, 64
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(?:tcp|udp|sctp))?", re.IGNORECASE)
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]")
"""Where a path begins, on Windows as well."""
_SIGNALS = frozenset((
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL", "PROF", "PWR",
    "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM",
    "WINCH", "XCPU", "XFSZ", "RTMIN", *(f"RTMIN+{number}" for number in range(1, 16)),
    "RTMAX", *(f"RTMAX-{number}" for number in range(1, 15)),
))  # fmt: skip
"""Linux's signals by the names that docker and podman know."""


def _refuse(name: str) -> None:
    message = f"an object has {quoted(name)} twice"
    raise ValueError(message)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        message = f"{text} is not a number"
        raise ValueError(message)
    return value


def read_json(data: bytes, repeated: Callable[[str], object] = _refuse) -> Any:  # noqa: ANN401 - JSON
    """Read a JSON document that can be written again.

    ``repeated`` is called with a name that an object has twice, of which readers take one or the
    other. Raises :class:`ValueError` for that, for what is no JSON (RFC 8259: ``NaN`` is none) or
    not UTF-8, for half a character, and for what is nested too deep.
    """

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        given = dict(pairs)
        if len(given) < len(pairs):
            for name, count in Counter(name for name, _ in pairs).items():
                if count > 1:
                    repeated(name)
        return given

    try:
        said = json.loads(data.decode(), object_pairs_hook=once, parse_float=_finite, parse_constant=_finite)
        if b"\\ud" in data.lower():  # half of a character can only be written so
            canonical(said)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if not _is_shallow(said):
        raise ValueError(_TOO_DEEP)
    return said


def is_known(name: str) -> bool:
    """Say whether image-spec or docker knows a property of that name."""
    return name in _TYPES


def misspelt(given: Iterable[str], known: Collection[str]) -> list[str]:
    """Say which names an engine takes for a known one, although their case is another.

    Engines decode JSON by Go's ``encoding/json``, which ignores the case of names (``Unmarshal``).
    """
    spelt = {name.casefold(): name for name in known}
    other = {name: spelt[name.casefold()] for name in given if name.casefold() in spelt and name not in known}
    return [f"{quoted(name)} is written {right}, for which engines take it" for name, right in other.items()]


def misspelt_properties(names: Iterable[str]) -> list[str]:
    """Say which names an engine takes for those of other properties."""
    return misspelt(names, _TYPES)


def form_problems(name: str, value: object) -> list[str]:
    """Say where a known property is not of its type: no engine reads such a config at all. ``None`` stands for no value."""
    if value is None:
        return []
    try:
        text = canonical(value).decode() if _is_shallow(value) else ""
    except ValueError:
        text = ""
    if not text:
        return [f"{name}: {str(value)!a:.80} cannot be written as JSON: it is no UTF-8, no number or too deep"]
    kind = _TYPES[name]
    if not is_of(value, kind):
        large = kind is int and isinstance(value, int) and not isinstance(value, bool)
        return [f"{name} is {'from -2^63 to 2^63 - 1' if large else _NAMES[kind]}, and not {text:.80}"]
    if isinstance(value, list) and not all(isinstance(part, str) for part in value):
        return [f"{name} is a list of strings"]
    if isinstance(value, dict):
        return _members(name, value)
    return []


def is_of(value: object, kind: type) -> bool:
    """Say whether a value is of a type; a number is a whole one of 64 bits, as engines read them."""
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -_MOST <= value < _MOST
    return isinstance(value, kind)


def _members(name: str, value: Mapping[str, object]) -> list[str]:
    """Say which members of an object are not of their type."""
    if name == "Healthcheck":
        wrong = [key for key, kind in _HEALTH.items() if value.get(key) is not None and not is_of(value[key], kind)]
        if isinstance(test := value.get("Test"), list) and not all(isinstance(word, str) for word in test):
            return [f"{name}: Test is a list of strings"]
        return [f"{name}: {key} is {_NAMES[_HEALTH[key]]}" for key in wrong] + [
            f"{name}: {problem}" for problem in misspelt(value, _HEALTH)
        ]
    return [_has(name, key) for key, each in value.items() if each is not None and not isinstance(each, _member(name))]


def _member(name: str) -> type:
    return str if name == "Labels" else dict


def _has(name: str, key: str) -> str:
    return f"{name}: {quoted(key)} has {_NAMES[_member(name)]}"


def unknown_members(name: str, value: object) -> list[str]:
    """Give the members of a property that engines pass over: they know no such name."""
    if name != "Healthcheck" or not isinstance(value, dict):
        return []
    known = {each.casefold() for each in _HEALTH}
    return [key for key in value if key.casefold() not in known]


def problems(name: str, value: object) -> list[str]:
    """Say all that is wrong with a property: its name, its type, and what no engine could run."""
    if not is_known(name):
        return [f"there is no property {quoted(name)}"]
    found = form_problems(name, value)
    if found or value is None:
        return found
    if any("\0" in text for text in _texts(value)):
        return [f"{name} holds a NUL, which no process can be given"]
    return _MEANINGS[name](value) if name in _MEANINGS else []


def _texts(value: object) -> Iterable[str]:
    """Give the strings in a property, the names of an object's members among them."""
    if isinstance(value, str):
        return [value]
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in _texts(each)]


def _env(pairs: list[str]) -> list[str]:
    return [f"Env: {quoted(pair)} is not NAME=VALUE" for pair in pairs if "=" not in pair[1:]]


def _exposed(ports: Mapping[str, object]) -> list[str]:
    wrong = [port for port in ports if not _ports(port) or _is_range_of_one(port)]
    return [f"ExposedPorts: {quoted(port)} is not a port: write 1 to {_MOST_PORT}, with /tcp, /udp or /sctp" for port in wrong]


def _ports(text: str) -> range:
    """Give the ports that a text names; none where it names none that there can be."""
    found = _PORT.fullmatch(text)
    if found is None:
        return range(0)
    first, last = int(found[1]), int(found[2] or found[1])
    return range(first, last + 1) if 1 <= first <= last <= _MOST_PORT else range(0)


def _is_range_of_one(text: str) -> bool:
    """Say whether a text is of the form 90-90, of which podman makes no container."""
    return "-" in text and len(_ports(text)) == 1


def _volumes(folders: Mapping[str, object]) -> list[str]:
    wrong = [folder for folder in folders if not _ABSOLUTE.match(folder) or not folder.strip("/.")]
    return [f"Volumes: {quoted(folder)} is not an absolute path below /" for folder in wrong]


def _labels(labels: Mapping[str, str]) -> list[str]:
    return ["Labels: a label has no name"] if "" in labels else []


def _folder(folder: str) -> list[str]:
    return [] if not folder or _ABSOLUTE.match(folder) else [f"WorkingDir: {quoted(folder)} is not an absolute path"]


def _signal(name: str) -> list[str]:
    """Check a signal as docker and podman read it: a name, with SIG before it or not, or a number."""
    if name.isascii() and name.isdecimal():
        known = 1 <= int(name[:9]) <= _MOST_SIGNAL
    else:
        known = not name or name.upper().removeprefix("SIG") in _SIGNALS
    if known:
        return []
    return [f"StopSignal: {quoted(name)} is not a signal: write it as SIGTERM, SIGRTMIN+3 or a number up to {_MOST_SIGNAL}"]


def _user(user: str) -> list[str]:
    parts = user.split(":")
    odd = len(parts) > 2 or not user.isprintable() or (" " in user and "\\" not in user)  # noqa: PLR2004 - Windows has DOMAIN\\a b
    if odd or any(part.isascii() and part.isdecimal() and int(part[:11]) > _MOST_ID for part in parts):
        return [f"User: {quoted(user)} is not USER or USER:GROUP: names, or numbers up to {_MOST_ID}"]
    return []


_MEANINGS: Mapping[str, Callable[[Any], list[str]]] = {
    "Env": _env, "ExposedPorts": _exposed, "Volumes": _volumes, "Labels": _labels, "WorkingDir": _folder,
    "StopSignal": _signal, "User": _user,
}  # fmt: skip


def _all(name: str, value: object) -> list[str]:
    """Say all that is wrong with what somebody asks for: engines read ``null`` in an object as nothing, which nobody means."""
    empty = [key for key, each in value.items() if each is None] if name in _MERGED and isinstance(value, dict) else []
    unknown = [f"{name}: there is no {quoted(key)}: it has {', '.join(_HEALTH)}" for key in unknown_members(name, value)]
    return problems(name, value) + [_has(name, key) for key in empty] + unknown


def check_config(*several: Mapping[str, object]) -> None:
    """Refuse properties that no image may have; raises :class:`InputError` with all that is wrong."""
    found = [f"config: {problem}" for changes in several for name, value in changes.items() for problem in _all(name, value)]
    if found:
        unknown = any(not is_known(name) for changes in several for name in changes)
        raise InputError(*found, hint=f"The properties are {', '.join(_TYPES)}." if unknown else "")


def merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, object]:
    """Merge properties over others.

    ``Env`` is merged by variable, where the last wins; ports, volumes and labels by name; any
    other takes the place of what was there, and ``None`` removes it.
    """
    inner = dict(before)
    for name, value in changes.items():
        if value is None:
            inner.pop(name, None)
        elif name == "Env":
            inner[name] = _environment([*(inner.get(name) or ()), *value])
        elif name in _MERGED:
            inner[name] = {**(inner.get(name) or {}), **value}
        else:
            inner[name] = value
    return inner


def _environment(pairs: list[str]) -> list[str]:
    """Merge variables by name: the last value wins, at the place of the first."""
    return list({pair.partition("=")[0]: pair for pair in pairs}.values())


def exposed(given: Iterable[str]) -> dict[str, dict[str, object]]:
    """Give ``ExposedPorts`` for ports as a Dockerfile's EXPOSE has them: ``80``, ``53/udp``, ``8000-8010/tcp``.

    What is no port stays as it is, for :func:`problems` to name.
    """
    ports: dict[str, dict[str, object]] = {}
    for text in given:
        protocol = text.lower().partition("/")[2] or "tcp"
        ports |= {f"{port}/{protocol}": {} for port in _ports(text.lower())} or {text: {}}
    return ports


_OF_A_SHELL = frozenset("|&;<>()$`*?[]~\n")
"""What a shell does something with, so that a line with one of them is hardly a program's arguments."""


def word_problem(text: str) -> str:
    """Say why a text cannot be the one word of a command line; ``""`` where it can."""
    if not text:
        return "is empty: write [] for no word at all"
    if len(text.split()) > 1 or text != text.strip():
        parts = [] if _OF_A_SHELL & set(text) else _split(text)
        split, shell, own = (json.dumps(words, ensure_ascii=False) for words in (parts, ["/bin/sh", "-c", text], [text]))
        program = f"{split} for a program with its arguments, " if parts else ""
        return f"{quoted(text)} is one word, and has blanks: write {program}{shell} for a shell's line, or {own} for one word"
    return ""


def _split(text: str) -> list[str]:
    """Give the words of a line as a shell has them; none where a quote is left open."""
    try:
        return shlex.split(text)
    except ValueError:
        return []


def properties(said: object, where: str) -> dict[str, object]:
    """Give the properties that a document has: of a whole image's config they are its ``config``.

    Raises :class:`InputError`, which names ``where`` it is from, for what is no object.
    """
    if isinstance(said, dict) and "rootfs" in said:
        said = said.get("config") or {}
    if not isinstance(said, dict):
        message = f"{where}: is not a JSON object"
        raise InputError(message)
    return said


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(_MOST_DEEP):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return True
    return False


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
