"""Mirrors, other locations and blocks of registries, as podman and skopeo have them (containers-registries.conf(5)).

A name ``docker://NAME`` says its registry, so that aliases of short names and registries to search are not for it.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.system.machine import of_reading
from rootless_layer.terminal import quoted

from .name import SCHEME, RegistryName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE = "CONTAINERS_REGISTRIES_CONF"
_MACHINE = "/etc/containers/registries.conf"
_ENDS = ("", ":", "/", "@")


@attrs.frozen(slots=True)
class Endpoint:
    """A place where an image may be; without TLS, or with a certificate that nobody vouches for, where it is ``insecure``."""

    name: RegistryName
    insecure: bool = False


@attrs.frozen(slots=True)
class _Place:
    """A location, ``HOST[:PORT][/PATH]``, and which names are pulled from there."""

    location: str
    insecure: bool = False
    pulls: str = "all"

    def has(self, name: RegistryName) -> bool:
        return self.pulls == "all" or (self.pulls == "digest-only") == bool(name.digest)


@attrs.frozen(slots=True)
class _Rule:
    """A table ``[[registry]]``, of the file ``path``."""

    path: str
    prefix: str
    own: _Place
    blocked: bool = False
    mirrors: tuple[_Place, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Raise :class:`TypeError` for a prefix of another kind than text."""
        if not isinstance(self.prefix, str):
            raise TypeError

    def matched(self, text: str) -> int:
        """Give the length of what the prefix matches of a name; 0 where it does not."""
        if self.prefix.startswith("*."):
            host = text.partition("/")[0]
            return len(host) if host.partition(":")[0].endswith(self.prefix[1:]) else 0
        return len(self.prefix) if text.startswith(self.prefix) and text[len(self.prefix) :][:1] in _ENDS else 0


def endpoints(name: RegistryName, environment: Mapping[str, str]) -> list[Endpoint]:
    """Give the places where an image is to be looked for, one after the other: mirrors first, and the registry itself last.

    Raises :class:`InputError` for a registry that is blocked, and for a file that cannot be read as one.
    """
    rule, length = _rule(name, environment)
    if rule is None:
        return [Endpoint(name)]
    rest = str(name).removeprefix(SCHEME)[length:]
    places = [*(mirror for mirror in rule.mirrors if mirror.has(name)), rule.own]
    return [Endpoint(_at(place, rest, rule) if place.location else name, place.insecure) for place in places]


def written_to(name: RegistryName, environment: Mapping[str, str]) -> Endpoint:
    """Give the place to which an image is pushed: no other than its name says. Raises as :func:`endpoints` does."""
    rule, _ = _rule(name, environment)
    return Endpoint(name, rule is not None and rule.own.insecure)


def _rule(name: RegistryName, environment: Mapping[str, str]) -> tuple[_Rule | None, int]:
    """Find the rule with the longest prefix for a name, and the length of what that matches."""
    text = str(name).removeprefix(SCHEME)
    found = {rule.prefix: rule for rule in _rules(environment)}.values()  # a later file's counts
    best = max(found, key=lambda rule: (rule.matched(text), len(rule.prefix)), default=None)
    if best is None or not best.matched(text):
        return None, 0
    if best.blocked:
        message = f"{name}: {best.path} blocks the registry {best.prefix}"
        raise InputError(message, hint="Take an image of another registry, or have the file changed (`blocked = false`).")
    return best, best.matched(text)


def _at(place: _Place, rest: str, rule: _Rule) -> RegistryName:
    try:
        return RegistryName.parse(f"{SCHEME}{place.location}{rest}")
    except InputError as error:
        message = f"{rule.path}: the location {quoted(place.location)} for {rule.prefix} gives no name: {error.problems[0]}"
        raise InputError(message, hint="Write it as HOST[:PORT][/PATH].") from error


def _rules(environment: Mapping[str, str]) -> Iterator[_Rule]:
    for path in _files(environment):
        try:
            with open(path, "rb") as file:
                said = tomllib.load(file)
            yield from _of_file(path, said)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{path}: cannot be read as a registries.conf: {reason(error)}"
            raise of_reading(error)(message, hint=f"Mend it, or name another file in {VARIABLE}.") from error


def _files(environment: Mapping[str, str]) -> Iterator[str]:
    """Name the files that are there, the least important first."""
    if environment.get(VARIABLE):
        yield environment[VARIABLE]
        return
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(environment.get("HOME") or "/", ".config")
    own = os.path.join(home, "containers/registries.conf")
    main = own if os.path.isfile(own) else _MACHINE
    if os.path.isfile(main):
        yield main
    for folder in (f"{_MACHINE}.d", f"{own}.d"):
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        yield from (os.path.join(folder, name) for name in names if name.endswith(".conf"))


def _of_file(path: str, said: Mapping[str, Any]) -> Iterator[_Rule]:
    for table in said.get("registry", ()):
        prefix = table.get("prefix") or table["location"]
        by_digest = table.get("mirror-by-digest-only") is True
        mirrors = tuple(_place(mirror, "digest-only" if by_digest else "all") for mirror in table.get("mirror", ()))
        wild = prefix.startswith("*.")
        own = _Place(table.get("location") or ("" if wild else prefix), table.get("insecure") is True)
        yield _Rule(path, prefix, own, table.get("blocked") is True, mirrors)
    for kind in ("insecure", "block"):  # the first version of the format
        for location in said.get("registries", {}).get(kind, {}).get("registries", ()):
            yield _Rule(path, location, _Place(location, kind == "insecure"), kind == "block")


def _place(table: Mapping[str, Any], pulls: str) -> _Place:
    return _Place(table["location"], table.get("insecure") is True, table.get("pull-from-mirror") or pulls)
