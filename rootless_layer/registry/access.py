"""How registries are spoken to: by which credentials, and whom to trust. The command's options set it for all that follows."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .credentials import Credentials


@attrs.frozen(slots=True)
class Access:
    """What was said of registries: ``credentials`` by their hosts, and certificates.

    ``ca_file`` is the path of certificates that are trusted besides the machine's. Without ``tls_verify`` certificates
    are not looked at, and a registry may speak HTTP.
    """

    tls_verify: bool = True
    ca_file: str = ""
    credentials: Mapping[str, Credentials] = attrs.field(factory=lambda: MappingProxyType({}), repr=False)


_DEFAULT = Access()
_current: ContextVar[Access] = ContextVar("_current")


def current_access() -> Access:
    """Give what was said last."""
    return _current.get(_DEFAULT)


def set_access(access: Access) -> None:
    """Have all that follows speak to registries so."""
    _current.set(access)


@contextlib.contextmanager
def accessing(access: Access) -> Iterator[None]:
    """Have all within the context speak to registries so."""
    token = _current.set(access)
    try:
        yield
    finally:
        _current.reset(token)
