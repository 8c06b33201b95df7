"""What a registry asks for by a 401, and the token that answers it (distribution's ``token`` authentication; RFC 6750)."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import attrs

from rootless_layer.errors import InputError

from .name import address_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .credentials import Credentials

_SCHEME = re.compile(r"(?:^|,)\s*(bearer|basic)(?=\s|$|,)", re.IGNORECASE)
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_CLIENT = "rootless-layer"
_SECONDS, _MARGIN = 60, 10
"""How long a token holds where nobody says it, and how long before its end another is asked for."""


@attrs.frozen(slots=True)
class Challenge:
    """How a registry wants to be told who asks: ``basic`` or ``bearer``, with the place and the service of the tokens."""

    scheme: str
    realm: str = ""
    service: str = ""

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Read a header ``WWW-Authenticate`` (RFC 9110, section 11.6.1), a token preferred; ``None`` for other schemes."""
        found = list(_SCHEME.finditer(header))
        for wanted in ("bearer", "basic"):
            for number, one in enumerate(found):
                if one[1].lower() == wanted:
                    end = found[number + 1].start() if number + 1 < len(found) else len(header)
                    said = {name.lower(): re.sub(r"\\(.)", r"\1", quoted or plain)
                            for name, quoted, plain in _PARAMETER.findall(header[one.end():end])}  # fmt: skip
                    return cls(wanted, said.get("realm", ""), said.get("service", ""))
        return None


@attrs.frozen(slots=True)
class Token:
    """The header that a request carries, and until when, by the machine's monotonic clock in seconds."""

    header: str = attrs.field(repr=False)
    until: float = float("inf")

    @property
    def holds(self) -> bool:
        """Say whether it is still good."""
        return time.monotonic() < self.until


@attrs.frozen(slots=True)
class TokenRequest:
    """A request for a token: its method, address, headers and body."""

    method: str
    address: str
    headers: dict[str, str] = attrs.field(repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)


def token_request(challenge: Challenge, scopes: Sequence[str], credentials: Credentials | None, *, plain: bool) -> TokenRequest:
    """Give the request by which a token for those scopes is got; ``plain`` allows one by HTTP.

    Raises :class:`InputError` for an address that nothing secret may be sent to.
    """
    if not address_of(challenge.realm):
        message = f"its tokens are said to be at {challenge.realm!a:.200}, which is no address"
        raise InputError(message)
    address = urlsplit(challenge.realm)
    if address.scheme == "http" and not plain:
        message = f"its tokens are said to be at {challenge.realm!a:.200}: nothing secret is sent without TLS"
        raise InputError(message)
    said = [("service", challenge.service), *(("scope", scope) for scope in scopes)]
    said = [(name, value) for name, value in said if value]
    if credentials is not None and credentials.is_token:
        form = [("grant_type", "refresh_token"), ("client_id", _CLIENT), ("refresh_token", credentials.password)]
        joined = [("scope", " ".join(scopes))] if scopes else []
        body = urlencode([*form, *(pair for pair in said if pair[0] != "scope"), *joined]).encode()
        return TokenRequest("POST", challenge.realm, {"Content-Type": "application/x-www-form-urlencoded"}, body)
    headers = {} if credentials is None else {"Authorization": credentials.basic}
    query = urlencode(said + ([] if credentials is None else [("account", credentials.user)]))
    sign = "&" if address.query else "?"
    return TokenRequest("GET", f"{challenge.realm}{sign}{query}" if query else challenge.realm, headers)


def read_token(answer: bytes) -> Token:
    """Read what a token server has answered; raises :class:`InputError`."""
    try:
        said: Any = json.loads(answer)
        token = said.get("token") or said.get("access_token")
        seconds = said.get("expires_in")
    except (ValueError, AttributeError, RecursionError):
        token, seconds = None, None
    if not isinstance(token, str) or not token.isprintable() or not token.isascii():
        message = "its token server's answer has no token"
        raise InputError(message)
    lasting = seconds if isinstance(seconds, int) and seconds > 0 else _SECONDS
    return Token(f"Bearer {token}", time.monotonic() + max(lasting - _MARGIN, 1))
