"""Requests over HTTP by urllib3: TLS, proxies, redirects, and what is tried again."""

from __future__ import annotations

import os
import ssl
import time
import urllib.request
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import attrs
import urllib3

from rootless_layer.errors import InputError, SourceError
from rootless_layer.version import __version__

from .name import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from urllib3.response import BaseHTTPResponse as Response

    Body = bytes | bytearray | memoryview | Callable[[], BinaryIO] | None

BROKEN = (
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.SSLError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.DecodeError,
    urllib3.exceptions.ResponseError,
    ConnectionError,
)
"""What is raised where a connection does not come about, or breaks."""
ATTEMPTS = 5
_CONNECT_SECONDS, _READ_SECONDS = 20, 120
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 60.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_POOL = 16
_BLOCK_BYTES = 256 << 10
"""So much of a file is sent at once: 16 KiB, as http.client has it, cost a third more processor time."""


def is_certificate_fault(error: BaseException) -> bool:
    """Say whether a connection failed as nobody trusts the other side's certificate."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error) or "doesn't match" in str(error)


@attrs.define(slots=True)
class Transport:
    """Sends requests to any host. Each process has connections of its own, as a fork must not go on with its parent's."""

    tls_verify: bool = True
    ca_file: str = ""
    _pools: dict[tuple[int, str, str], urllib3.PoolManager] = attrs.field(factory=dict)
    _trusted: ssl.SSLContext | None = None

    def send(  # noqa: PLR0913 - as HTTP has it
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: Body = None,
        *,
        again: bool = True,
        follow: bool = True,
    ) -> Response:
        """Send a request and give the answer, whose body is still to be read.

        A broken connection, too many requests and a server's faults are tried ``again``, after a pause. Redirects of a GET
        and a HEAD are followed where ``follow`` says so: to another host goes no ``Authorization``, and never from HTTPS
        to HTTP. Raises what is in :data:`BROKEN`, and :class:`InputError` for redirects that are not followed.
        """
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS or not again
            try:
                answer = self._followed(method, address, headers, body, follow=follow)
            except BROKEN as error:
                if last or is_certificate_fault(error) or isinstance(error, urllib3.exceptions.SSLError):
                    raise
                pause(attempt)
                continue
            if answer.status not in _AGAIN or last:
                return answer
            close(answer)
            pause(attempt, answer.headers.get("Retry-After"))
        raise AssertionError  # the last attempt returns or raises

    def _followed(self, method: str, address: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Response:
        origin, sent = _origin(address), dict(headers)
        for _ in range(_MOST_REDIRECTS):
            answer = self._once(method, address, sent, body)
            if not follow or answer.status not in _REDIRECTS or method not in {"GET", "HEAD"}:
                return answer
            said = answer.headers.get("Location") or ""
            there = address_of(said, address)
            close(answer)
            if not there:
                message = f"{address}: leads to {said!a:.200}, which is no address"
                raise InputError(message)
            if urlsplit(there).scheme == "http" and urlsplit(address).scheme == "https":
                message = f"{address}: leads from HTTPS to {there!a:.200}, which is not followed"
                raise InputError(message)
            if _origin(there) != origin:
                sent.pop("Authorization", None)
            address = there
        message = f"{address}: is reached by more than {_MOST_REDIRECTS} redirects"
        raise InputError(message)

    def _once(self, method: str, address: str, headers: Mapping[str, str], body: Body) -> Response:
        given = {"User-Agent": f"rootless-layer/{__version__}", "Accept-Encoding": "identity", **headers}
        sent = cast("bytes | BinaryIO | None", body() if callable(body) else body)
        return self._pool(address).request(
            method, address, headers=given, body=sent, preload_content=False, redirect=False,
            retries=False, timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
        )  # fmt: skip

    def _pool(self, address: str) -> urllib3.PoolManager:
        parts = urlsplit(address)
        proxy = "" if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme, "")
        key = os.getpid(), parts.scheme, proxy
        if key not in self._pools:
            settings: dict[str, Any] = {"maxsize": _POOL, "blocksize": _BLOCK_BYTES}
            if "https" in {parts.scheme, urlsplit(proxy).scheme}:
                # The machine's certificates take 20 ms to read, which each forked child would take again.
                self._trusted = self._trusted or self._context()
                settings["ssl_context"] = self._trusted
            self._pools[key] = urllib3.ProxyManager(proxy, **settings) if proxy else urllib3.PoolManager(**settings)
        return self._pools[key]

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.ca_file:
            try:
                context.load_verify_locations(self.ca_file)
            except OSError as error:  # ssl.SSLError is one
                missing = isinstance(error, FileNotFoundError)
                message = f"{self.ca_file}: " + ("there is no such file" if missing else "holds no certificate in PEM form")
                raise (SourceError if missing else InputError)(
                    message, hint="Name a file of certificates with --ca-file."
                ) from error
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def close(answer: Response) -> None:
    """Give an answer up; its connection is used again only where all of it was read."""
    answer.close()
    answer.release_conn()


def _origin(address: str) -> tuple[str, str, int | None]:
    parts = urlsplit(address)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def pause(attempt: int, told: str | None = None) -> None:
    """Wait after an attempt: as long as the server has ``told`` (RFC 9110, section 10.2.3), else longer each time."""
    if told is None:
        time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
        return
    try:
        wanted = float(told) if told.strip().isdigit() else parsedate_to_datetime(told).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        wanted = 0.0
    time.sleep(min(max(wanted, _FIRST_PAUSE), _LONGEST_PAUSE))
