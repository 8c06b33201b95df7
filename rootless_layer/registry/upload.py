"""A blob brought to a registry (distribution-spec, "Pushing blobs"): mounted, put at once, or a chunk after the other."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from rootless_layer.errors import OutputError, RootlessLayerError

from .transport import ATTEMPTS, close, pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3.response import BaseHTTPResponse as Response

    from .blob import Blob
    from .client import Client

CHUNK_BYTES = 16 << 20
_CREATED, _ACCEPTED, _NO_CONTENT, _BAD = 201, 202, 204, 400
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_HINT = "Try again later, or ask whoever runs the registry."


def mount(client: Client, digest: str) -> str | None:
    """Have the registry take a blob from the repository ``client.also``: ``None`` where it did, else where to upload it to."""
    query = urlencode({"mount": digest, "from": client.also})
    answer = client.request("POST", f"blobs/uploads/?{query}", {"Content-Length": "0"})
    if answer.status == _CREATED:
        close(answer)
        return None
    return _begun(client, answer, digest)


def upload(client: Client, given: Blob, count: Callable[[int], object], begun: str = "") -> None:
    """Bring a blob to the registry; ``begun`` is the address of an upload that :func:`mount` came to, if any.

    What a file holds, and what is small, is put at once; what is made as it goes is sent in chunks, so that little of it
    is in memory. Both are tried again where a connection breaks. Raises :class:`OutputError` where the registry does not
    take it, and what ``given`` raises.
    """
    digest, size = given.digest, given.size
    for attempt in range(1, ATTEMPTS + 1):
        last = attempt == ATTEMPTS
        try:
            address = begun or _begun(client, client.request("POST", "blobs/uploads/", {"Content-Length": "0"}), digest)
            begun = ""
            if given.file is None and size > CHUNK_BYTES:
                _Chunks(client, digest, size, address, count).send(given)
            else:
                _put(client, digest, size, address, given)
                count(size)
        except OutputError:
            if last:
                raise
            pause(attempt)
        else:
            return


def _begun(client: Client, answer: Response, digest: str) -> str:
    client.check(answer, (_ACCEPTED,), f"{client.where}: an upload of {digest}")
    close(answer)
    return client.location(answer)


def _finishing(address: str, digest: str) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode({'digest': digest})}"


def _put(client: Client, digest: str, size: int, address: str, given: Blob) -> None:
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    if given.file is None:
        data = bytearray()
        given.copy(data.extend)
        answer = client.request("PUT", _finishing(address, digest), headers, data, again=False)
    else:
        path, offset = given.file
        answer = client.request("PUT", _finishing(address, digest), headers, lambda: _Section(path, offset, size), again=False)
    if answer.status == _BAD:
        given.copy(lambda _part: None)  # bytes that are not what the digest says are the reason, where that is so
    client.check(answer, (_CREATED, _NO_CONTENT), f"{client.where}: the blob {digest}")
    close(answer)


class _Section(io.FileIO):
    """A run of bytes in a file, read as if there were no more."""

    def __init__(self, path: str, offset: int, size: int) -> None:
        super().__init__(path)
        self.seek(offset)
        self.left = size

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        data = super().read(wanted) or b""
        self.left -= len(data)
        if not data:
            self.close()
        return data


class _Chunks:
    """An upload in chunks; where a connection breaks, the registry is asked how far it has come."""

    def __init__(self, client: Client, digest: str, size: int, address: str, count: Callable[[int], object]) -> None:
        self.client, self.digest, self.size, self.address, self.count = client, digest, size, address, count
        self.sent = self.held = 0
        self.buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
        """What the next chunk is of; so many of its bytes are ``held``."""

    def send(self, given: Blob) -> None:
        given.copy(self._take)
        self._flush()
        answer = self.client.request("PUT", _finishing(self.address, self.digest), {"Content-Length": "0"}, again=False)
        self.client.check(answer, (_CREATED, _NO_CONTENT), f"{self.client.where}: the blob {self.digest}")
        close(answer)

    def _take(self, part: memoryview) -> None:
        while part:
            taken = part[: len(self.buffer) - self.held]
            self.buffer[self.held : self.held + len(taken)] = taken
            self.held += len(taken)
            part = part[len(taken) :]
            if self.held == len(self.buffer):
                self._flush()

    def _flush(self) -> None:
        failures = 0
        while self.held:
            try:
                self._patch()
            except RootlessLayerError:
                failures += 1
                if failures == ATTEMPTS:
                    raise
                pause(failures)
                self._look()

    def _patch(self) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{self.sent}-{self.sent + self.held - 1}"}
        answer = self.client.request("PATCH", self.address, headers, self.buffer[: self.held], again=False)
        self.client.check(answer, (_ACCEPTED, _NO_CONTENT), f"{self.client.where}: a part of the blob {self.digest}")
        close(answer)
        self.address = self.client.location(answer)
        self._gone(self.held)

    def _look(self) -> None:
        """Ask how far the upload has come (distribution-spec, "Resuming a push")."""
        answer = self.client.request("GET", self.address)
        self.client.check(answer, (_NO_CONTENT,), f"{self.client.where}: the upload of {self.digest}")
        close(answer)
        found = _RANGE.fullmatch(answer.headers.get("Range") or "")
        come = int(found[1]) + 1 if found is not None and found[1] != "0" else 0
        if answer.headers.get("Location"):
            self.address = self.client.location(answer)
        if not self.sent <= come <= self.sent + self.held:
            message = f"{self.client.where}: the upload of {self.digest} came to {come} bytes of {self.size}, not {self.sent}"
            raise OutputError(message, hint=_HINT)
        self._gone(come - self.sent)

    def _gone(self, length: int) -> None:
        self.buffer[: self.held - length] = self.buffer[length : self.held]
        self.held -= length
        self.sent += length
        self.count(length)
