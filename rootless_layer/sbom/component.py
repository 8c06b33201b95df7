"""The parts of a bill of materials: packages and store paths, each with the layer that it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(slots=True, kw_only=True)
class Package:
    """A package as a database of packages, or a store, has it.

    ``kind`` is the type of its package URL. ``needs`` are names of what it depends on, a tuple of alternatives each, and
    ``provides`` further names that it has. ``hashes`` are by the algorithm, in hexadecimal digits. ``path`` is a store path.
    """

    kind: str
    name: str
    version: str = ""
    architecture: str = ""
    source: str = ""
    license: str = ""
    supplier: str = ""
    needs: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()
    hashes: tuple[tuple[str, str], ...] = ()
    path: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Give what tells it from any other in the same image: of rpm's there may be several versions at once."""
        return self.kind, self.path or self.name, self.architecture, self.version if self.kind == "rpm" else ""

    def url(self, distribution: Distribution) -> str:
        """Give the package URL (purl-spec): the type, the distribution as a namespace, name, version and qualifiers."""
        space = "" if self.kind == "nix" else f"{_quoted(distribution.name or _NAMESPACES[self.kind])}/"
        said = {"arch": self.architecture, **dict(self.qualifiers)}
        if self.kind != "nix":
            said["distro"] = distribution.full
        query = "&".join(f"{key}={_quoted(value)}" for key, value in sorted(said.items()) if value)
        version = f"@{_quoted(self.version)}" if self.version else ""
        return f"pkg:{self.kind}/{space}{_quoted(self.name)}{version}{'?' if query else ''}{query}"


_NAMESPACES = {"deb": "debian", "apk": "alpine", "rpm": "redhat"}
"""Whose packages they are where the image does not say of which distribution it is."""


def _quoted(text: str) -> str:
    return quote(text, safe=".-_~:")


@attrs.frozen(slots=True)
class Distribution:
    """What ``os-release`` says: the ``ID`` and the ``VERSION_ID``."""

    name: str = ""
    version: str = ""

    @property
    def full(self) -> str:
        """Give both, as scanners write them."""
        return f"{self.name}-{self.version}" if self.name and self.version else self.name

    @classmethod
    def parse(cls, data: bytes) -> Distribution:
        """Read an ``os-release``; what it does not say is ``""``."""
        pairs = (line.partition("=") for line in data.decode(errors="replace").splitlines() if not line.startswith("#"))
        said = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
        return cls(said.get("ID", ""), said.get("VERSION_ID", ""))


@attrs.frozen(slots=True)
class Layer:
    """A layer: its digest and its diff ID."""

    digest: str
    diff_id: str


@attrs.frozen(slots=True)
class Component:
    """A package of an image: its URL, the number of its layer, and the numbers of the components that it depends on."""

    package: Package
    url: str
    layer: int
    depends: tuple[int, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class Bill:
    """All that is known of an image's content.

    ``name`` is the image's, ``digest`` its manifest's and ``created`` a time as RFC 3339 has it, in whole seconds.
    ``components`` are in order; what each ``depends`` on are numbers of them. ``unread`` has, by their paths, databases
    that are not read, and why.
    """

    name: str
    digest: str
    architecture: str
    created: str
    layers: tuple[Layer, ...]
    components: tuple[Component, ...]
    distribution: Distribution
    unread: Mapping[str, str]
