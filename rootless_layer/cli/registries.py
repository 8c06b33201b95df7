"""The options by which registries are spoken to, of every verb that may do so."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, TypeVar

import attrs
import click

from rootless_layer.errors import InputError
from rootless_layer.registry.access import current_access, set_access
from rootless_layer.registry.credentials import Credentials
from rootless_layer.registry.name import SCHEME, RegistryName, is_registry

from .values import as_written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = TypeVar("Command", bound=Callable[..., None])

_OF_HOST = re.compile(r"([A-Za-z0-9.\[\]-]+(?::[0-9]+)?)=([^:]+:.*)", re.DOTALL)
_NAMED = re.compile(r"docker://\S+")
_ANY = ""
"""Whose credentials they are where no host was named, until it is known that the command speaks to one only."""


def _said(_context: click.Context, _param: click.Parameter, given: Sequence[str]) -> None:
    found: dict[str, Credentials] = {}
    for each in given:
        named = _OF_HOST.fullmatch(each)
        host, text = (named[1], named[2]) if named else (_ANY, each)
        with as_written("--creds"):
            said = Credentials.parse(text)
        if found.setdefault(host, said) != said:
            message = f"--creds is given twice for {host or 'the same registry'}"
            raise click.UsageError(message)
    set_access(attrs.evolve(current_access(), credentials=found))


def _trusted(_context: click.Context, _param: click.Parameter, given: str | None) -> None:
    set_access(attrs.evolve(current_access(), ca_file=given or ""))


def _verified(_context: click.Context, _param: click.Parameter, given: bool) -> None:  # noqa: FBT001 - as click calls it
    set_access(attrs.evolve(current_access(), tls_verify=given))


def of_registries(command: Command) -> Command:
    """Give a command the options by which it speaks to registries; :func:`.access.current_access` has their values."""
    for add in (
        click.option(
            "--ca-file", metavar="FILE", expose_value=False, callback=_trusted,
            help="Trust a registry by these certificates, too, in PEM form.",
        ),
        click.option(
            "--tls-verify", type=click.BOOL, metavar="BOOL", default=True, expose_value=False, callback=_verified,
            help="With false, look at no registry's certificate, and speak HTTP where it has none.  [default: true]",
        ),
        click.option(
            "--creds", multiple=True, metavar="[HOST=]USER:PASSWORD", expose_value=False, callback=_said,
            help="Who you are to a registry, instead of what `podman login` and `docker login` keep; repeatable.",
        ),
    ):  # fmt: skip
        command = add(command)
    return command


def bind_credentials(args: Sequence[str]) -> None:
    """Have credentials of no host be those of the one registry that a command names; raises :class:`click.UsageError`.

    So that no registry is told a password that is for another.
    """
    said = dict(current_access().credentials)
    if _ANY not in said:
        return
    hosts = set()
    for name in (found for each in args for found in _NAMED.findall(each)):
        with as_written():
            hosts.add(RegistryName.parse(name).host)
    if len(hosts) != 1:
        message = "--creds: which registry is meant is not clear; write it as HOST=USER:PASSWORD"
        raise click.UsageError(message)
    said[hosts.pop()] = said.pop(_ANY)
    set_access(attrs.evolve(current_access(), credentials=said))


def reference_of(given: str, argument: str) -> RegistryName:
    """Read the name of an image in a registry; raises :class:`click.UsageError`."""
    if not is_registry(given):
        written = "docker://HOST[:PORT]/NAME[:TAG][@DIGEST]"
        with contextlib.suppress(InputError):
            RegistryName.parse(SCHEME + given)
            written = SCHEME + given
        message = f"{given}: is no name in a registry: write it as {written}"
        raise click.BadParameter(message, param_hint=argument)
    with as_written(argument):
        return RegistryName.parse(given)
