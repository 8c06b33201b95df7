"""Who somebody is to a registry: by the files and helper programs of docker and podman.

The files are ``containers-auth.json``'s (its manual page has them) and docker's ``config.json``; helpers are programs
``docker-credential-NAME`` with docker's protocol: the registry on stdin, a JSON object on stdout.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, Self

import attrs

from rootless_layer.errors import InputError, UnavailableError, reason

from .name import HUB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_KEYS = ("index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_IDENTITY = "<token>"
_SECONDS = 120
_LOG_IN = "Log in again with `podman login` or `docker login`."


@attrs.frozen(slots=True)
class Credentials:
    """A user and a password; with ``is_token`` the password is an identity token of the registry's."""

    user: str
    password: str = attrs.field(repr=False)
    is_token: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``USER:PASSWORD``; raises :class:`InputError`, whose message does not repeat the text."""
        user, colon, password = text.partition(":")
        if not user or not colon:
            message = "credentials are written as USER:PASSWORD"
            raise InputError(message)
        return cls(user, password)

    @property
    def basic(self) -> str:
        """Give the header by which a password is told (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(host: str, repository: str, environment: Mapping[str, str]) -> Credentials | None:
    """Give what the user's files have for a repository of a host, the first that have some; ``None`` where there are none.

    Raises :class:`InputError` for a file that cannot be read as one, and :class:`UnavailableError` where the program that
    it names is not there.
    """
    for path in _files(environment):
        said = _read(path)
        if said is not None and (found := _of_file(path, said, host, repository)) is not None:
            return found
    return None


def _files(environment: Mapping[str, str]) -> Iterator[str]:
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield named
        return
    home = environment.get("HOME") or os.path.expanduser("~")
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield f"{runtime}/containers/auth.json"
    yield f"{environment.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers/auth.json"
    yield f"{environment.get('DOCKER_CONFIG') or f'{home}/.docker'}/config.json"


def _read(path: str) -> Mapping[str, Any] | None:
    try:
        with open(path, "rb") as file:
            said = json.loads(file.read() or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path}: the credentials for registries cannot be read: {reason(error)}"
        raise InputError(message, hint=_LOG_IN) from error
    if not isinstance(said, dict):
        message = f"{path}: the credentials for registries are a JSON object"
        raise InputError(message, hint=_LOG_IN)
    return said


def _of_file(path: str, said: Mapping[str, Any], host: str, repository: str) -> Credentials | None:
    helpers, auths, store = (said.get(name) for name in ("credHelpers", "auths", "credsStore"))
    keyed = {_plain(key): value for key, value in auths.items()} if isinstance(auths, dict) else {}
    helper = {_plain(key): value for key, value in helpers.items()}.get(host) if isinstance(helpers, dict) else None
    if isinstance(helper, str) and helper:
        return _ask(path, helper, host)
    parts = [host, *repository.split("/")]
    for count in range(len(parts), 0, -1):
        entry = keyed.get("/".join(parts[:count]))
        if isinstance(entry, dict) and (found := _of_entry(path, entry)) is not None:
            return found
    return _ask(path, store, host) if isinstance(store, str) and store else None


def _plain(key: str) -> str:
    """Write a file's key as a host or a host's repository: docker writes addresses, too."""
    scheme, there, rest = key.partition("://")
    plain = (rest if there else scheme).rstrip("/")
    if there:
        plain = plain.partition("/")[0]
    return HUB if plain in _HUB_KEYS else plain


def _of_entry(path: str, entry: Mapping[str, Any]) -> Credentials | None:
    token, auth = entry.get("identitytoken"), entry.get("auth")
    if isinstance(token, str) and token:
        return Credentials(_IDENTITY, token, is_token=True)
    if not isinstance(auth, str) or not auth:
        return None
    try:
        user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        user, colon, password = "", "", ""
    if not colon:
        message = f"{path}: an auth in it is no base64 of USER:PASSWORD"
        raise InputError(message, hint=_LOG_IN)
    return Credentials(user, password.rstrip("\0"))


def _ask(path: str, name: str, host: str) -> Credentials | None:
    """Ask a helper; of a registry that it does not know it says so and fails."""
    if not _HELPER.fullmatch(name):
        message = f"{path}: {name!a:.80} is no name of a credential helper"
        raise InputError(message, hint="A helper NAME is the program docker-credential-NAME.")
    program = f"docker-credential-{name}"
    asked = _HUB_KEY if host == HUB else host
    try:
        done = subprocess.run(  # noqa: S603 - the user's own file names it, and its name has no path
            [program, "get"], input=f"{asked}\n".encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except OSError as error:
        message = f"{path}: names the credential helper {program}, which cannot be run: {error.strerror}"
        raise UnavailableError(message, hint="Install it, or take it out of that file.") from error
    except subprocess.TimeoutExpired as error:
        message = f"{program}: gave no answer within {_SECONDS} s"
        raise UnavailableError(message, hint="See whether it waits for somebody to unlock a keyring.") from error
    if done.returncode:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        message = f"{program}: failed with the status {done.returncode}"
        raise UnavailableError(message, hint=f"Run `echo {asked} | {program} get` to see why.")
    try:
        said = json.loads(done.stdout)
        user, secret = said["Username"], said["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"{program}: its answer has no Username and no Secret"
        raise InputError(message, hint=f"Run `echo {asked} | {program} get` to see its answer.") from error
    return Credentials(str(user), str(secret), is_token=user == _IDENTITY)
