"""Names of images in registries: ``docker://[HOST[:PORT]/]NAME[:TAG][@DIGEST]``, by distribution's ``reference`` grammar."""

from __future__ import annotations

import ipaddress
import re
from typing import Self
from urllib.parse import urljoin, urlsplit

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import ALGORITHMS
from rootless_layer.oci.documents import is_digest
from rootless_layer.terminal import quoted

SCHEME = "docker://"
HUB = "docker.io"
_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", HUB)
_HUB_ADDRESS = "registry-1.docker.io"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # no longer than a name server takes (RFC 1035)
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LONGEST = 255
_LAST_PORT = 65535


def is_registry(given: str) -> bool:
    """Say whether a text names an image of a registry, and no path."""
    return given.startswith(SCHEME)


@attrs.frozen(slots=True)
class RegistryName:
    """The name of an image in a registry.

    ``host`` has the port where one is given; ``tag`` is ``""`` where there is only a ``digest``, and that is ``""`` where
    none is given.
    """

    host: str
    repository: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, given: str) -> Self:
        """Read ``docker://[HOST[:PORT]/]NAME[:TAG][@DIGEST]``; raises :class:`InputError` for what is no such name.

        As docker reads names, the first part is a host only where it has a dot or a port, or is localhost; else the
        host is Docker Hub, where a name of one part is below ``library/``.
        """
        text = given.removeprefix(SCHEME)
        rest, at, digest = text.partition("@")
        if at and (not is_digest(digest) or digest.partition(":")[0] not in ALGORITHMS):
            raise _wrong(given, f"{quoted(digest)} is no digest")
        first, slash, after = rest.partition("/")
        named = bool(slash) and (any(sign in first for sign in ".:[") or first == "localhost")
        host, path = (first, after) if named else (HUB, rest)
        repository, colon, tag = path.partition(":")
        if colon and not TAG.fullmatch(tag):
            raise _wrong(given, f"{quoted(tag)} is no tag")
        if host in _HUB_NAMES:
            host = HUB
            repository = repository if "/" in repository else f"library/{repository}"
        if not _HOST.fullmatch(host) or _port(host) > _LAST_PORT or not address_of(f"https://{host}/"):
            raise _wrong(given, f"{quoted(host)} is no host")
        if not REPOSITORY.fullmatch(repository) or len(f"{host}/{repository}") > _LONGEST:
            raise _wrong(given, f"{quoted(repository)} is no name: it is in lower case, with parts between slashes")
        return cls(host, repository, tag or ("" if digest else "latest"), digest)

    @property
    def address(self) -> str:
        """Give the host that is asked, with its port: Docker Hub's differs from its name."""
        return _HUB_ADDRESS if self.host == HUB else self.host

    @property
    def reference(self) -> str:
        """Give what is asked for: the digest, where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def full_name(self) -> str:
        """Give the name with its registry and tag, by which a layout names the image; ``""`` where it has no tag."""
        return f"{self.host}/{self.repository}:{self.tag}" if self.tag else ""

    def __str__(self) -> str:
        """Write it as :meth:`parse` reads it."""
        tag, digest = f":{self.tag}" if self.tag else "", f"@{self.digest}" if self.digest else ""
        return f"{SCHEME}{self.host}/{self.repository}{tag}{digest}"


def _wrong(given: str, problem: str) -> InputError:
    message = f"{quoted(given)} is not the name of an image in a registry: {problem}"
    return InputError(message, hint="Write it as docker://HOST[:PORT]/NAME[:TAG][@DIGEST].")


def _port(host: str) -> int:
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    return int(port or 0)


def address_of(said: str, base: str = "") -> str:
    """Give the address of HTTP that a registry names, which may be relative to another; ``""`` for what is none."""
    try:
        address = urljoin(base, said)
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        return ""
    return address if parts.scheme in {"https", "http"} and host and parts.netloc.isprintable() else ""


def is_loopback(host: str) -> bool:
    """Say whether a host, with or without a port, is this machine itself: docker needs no TLS there."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
