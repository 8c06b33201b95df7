"""A registry's client (distribution-spec 1.1): who asks, which documents there are, and which blobs."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import attrs

from rootless_layer.errors import InputError, OutputError, SourceError
from rootless_layer.oci.descriptor import sha256
from rootless_layer.oci.documents import INDEXES, MANIFESTS
from rootless_layer.system.machine import NOBODYS_FAULT

from .access import Access, current_access
from .challenge import Challenge, Token, read_token, token_request
from .conf import endpoints, written_to
from .credentials import Credentials, find_credentials
from .manifest import Manifest
from .name import address_of, is_loopback
from .transport import ATTEMPTS, BROKEN, Transport, close, is_certificate_fault, pause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3.response import BaseHTTPResponse as Response

    from .conf import Endpoint
    from .name import RegistryName
    from .transport import Body

MOST_DOCUMENT = 4 << 20
"""A manifest, an index or a config may have so many bytes, as engines have it."""
_MOST_ANSWER = 1 << 20
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="?next\b')
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _PARTIAL = 200, 201, 202, 204, 206
_UNKNOWN, _FORBIDDEN, _ABSENT = 401, 403, 404


@attrs.define(slots=True)
class Client:
    """Speaks to one registry about one repository; ``writes`` where it may push there.

    ``also`` names a repository that blobs are to be mounted from.
    """

    name: RegistryName
    access: Access
    writes: bool = False
    also: str = ""
    transport: Transport = attrs.field(
        default=attrs.Factory(lambda self: Transport(self.access.tls_verify, self.access.ca_file), takes_self=True)
    )
    _scheme: str = ""
    _challenge: Challenge | None = None
    _tokens: dict[str, Token] = attrs.field(factory=dict, repr=False)
    _asked: bool = False
    _credentials: Credentials | None = attrs.field(default=None, repr=False)

    # --- documents ---

    def manifest(self, reference: str) -> Manifest:
        """Get a manifest or an index by its tag or digest; the digest is computed, and compared where one was asked for.

        Raises :class:`SourceError` where there is none, and :class:`InputError` for one that is not what it should be.
        """
        where = f"{self.where}: {reference}"
        data, media_type, said = self._document(f"manifests/{reference}", {"Accept": _ACCEPT}, MOST_DOCUMENT, where)
        algorithm = reference.partition(":")[0] if ":" in reference else "sha256"
        digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        said = said or digest
        if (":" in reference and digest != reference) or (said.partition(":")[0] == algorithm and said != digest):
            message = f"{where}: what the registry gives is {digest}" + ("" if ":" in reference else f", and it says {said}")
            raise InputError(message, hint="The registry is damaged, or something between changes what it gives: ask another.")
        return Manifest(data, media_type.partition(";")[0].strip(), digest)

    def document(self, digest: str, size: int) -> bytes:
        """Get a blob that is a document, such as a config; raises as :meth:`manifest` does."""
        where = f"{self.where}: blob {digest}"
        if size > MOST_DOCUMENT:
            message = f"{where}: {size} bytes are too many for a config: {MOST_DOCUMENT} are the most"
            raise InputError(message)
        data, _, _ = self._document(f"blobs/{digest}", {}, size, where)
        if f"{digest.partition(':')[0]}:{hashlib.new(digest.partition(':')[0], data).hexdigest()}" != digest:
            message = f"{where}: what the registry gives is {sha256(data)}, of {len(data)} bytes"
            raise InputError(message, hint="The registry is damaged: push the image there again, or take another.")
        return data

    def _document(self, below: str, headers: Mapping[str, str], most: int, where: str) -> tuple[bytes, str, str]:
        """Get a document of ``most`` bytes; give it, with its media type and its digest as far as the registry says them."""
        for attempt in range(1, ATTEMPTS + 1):
            answer = self.request("GET", below, headers)
            if answer.status == _ABSENT:
                close(answer)
                missing = below.rpartition("/")[2]
                message = f"{self.name}: the registry has no {missing}" if ":" in missing else f"{self.name}: is not there"
                raise SourceError(message, hint="See that the name and the tag are right, and that you may read it.")
            self.check(answer, (_OK,), where)
            try:
                data = self._read(answer, most, where)
            except BROKEN as error:
                if attempt == ATTEMPTS:
                    message = f"{where}: broke off in {ATTEMPTS} attempts: {_said(error)}"
                    raise self.fault(message, hint="Try again later, or ask whoever runs the registry.") from error
                pause(attempt)
            else:
                return data, answer.headers.get("Content-Type") or "", answer.headers.get("Docker-Content-Digest") or ""
        raise AssertionError  # the last attempt returns or raises

    def put_manifest(self, reference: str, media_type: str, data: bytes) -> str:
        """Put a manifest or an index, once all that it refers to is there; raises :class:`OutputError`.

        What is given is the digest of the subject under which the registry lists it now, ``""`` where it does not.
        """
        answer = self.request("PUT", f"manifests/{reference}", {"Content-Type": media_type}, data)
        self.check(answer, (_CREATED, _OK, _ACCEPTED, _NO_CONTENT), f"{self.where}: the manifest {reference}")
        close(answer)
        return answer.headers.get("OCI-Subject") or ""

    def read_document(self, answer: Response, where: str) -> bytes:
        """Read the document of an answer, as large as a manifest may be; raises an error for an answer that is none."""
        self.check(answer, (_OK,), where)
        try:
            return self._read(answer, MOST_DOCUMENT, where)
        except BROKEN as error:
            message = f"{where}: breaks off: {_said(error)}"
            raise self.fault(message, hint="Try again.") from error

    def next_page(self, answer: Response) -> str:
        """Give the address of what a list goes on with (RFC 5988), of this registry alone; ``""`` at its end."""
        found = _NEXT.search(answer.headers.get("Link") or "")
        address = address_of(found[1], f"{self._address()}/v2/") if found else ""
        return address if address.startswith(f"{self._address()}/") else ""

    # --- blobs ---

    def has(self, digest: str, *, manifest: bool = False) -> bool:
        """Say whether a blob, or a manifest, is there by its digest, or its tag: by one HEAD."""
        what = f"{'manifests' if manifest else 'blobs'}/{digest}"
        answer = self.request("HEAD", what, {"Accept": _ACCEPT} if manifest else {})
        close(answer)
        if answer.status == _ABSENT:
            return False
        self.check(answer, (_OK,), f"{self.where}: {digest}")
        said = answer.headers.get("Docker-Content-Digest") or digest
        return said == digest or ":" not in digest

    # --- requests ---

    @property
    def where(self) -> str:
        """Give what messages call the repository."""
        return f"docker://{self.name.host}/{self.name.repository}"

    @property
    def fault(self) -> type[OutputError | SourceError]:
        """Give the kind of the errors of what cannot be reached."""
        return OutputError if self.writes else SourceError

    def request(
        self, method: str, below: str, headers: Mapping[str, str] | None = None, body: Body = None, *, again: bool = True
    ) -> Response:
        """Send a request about the repository, ``below`` its path or by a whole address, as who the user is.

        Raises an error of the kind :attr:`fault` where the registry cannot be reached, and :class:`InputError` where it
        does not let the user in.
        """
        address = below if "://" in below else f"{self._address()}/v2/{self.name.repository}/{below}"
        own = urlsplit(address).netloc == self.name.address
        given = dict(headers or {})
        for renewed in (False, True):
            if own and (header := self._header(renew=renewed)):
                given["Authorization"] = header
            answer = self._send(method, address, given, body, again=again)
            if answer.status != _UNKNOWN or renewed or not own:
                break
            self._challenge = Challenge.parse(answer.headers.get("WWW-Authenticate") or "") or self._challenge
            close(answer)
        if answer.status in {_UNKNOWN, _FORBIDDEN}:
            who = "nobody" if self._credentials is None else f"the user {self._credentials.user}"
            close(answer)
            may = "push to" if self.writes else "read"
            message = f"{self.where}: the registry does not let {who} {may} it (status {answer.status})"
            raise InputError(message, hint="Log in with `podman login` or `docker login`, or give --creds USER:PASSWORD.")
        return answer

    def location(self, answer: Response) -> str:
        """Give the address at which an upload goes on; raises :class:`OutputError` where the registry says none."""
        said = answer.headers.get("Location") or ""
        address = address_of(said, f"{self._address()}/v2/")
        if not said or not address or (address.startswith("http:") and self._scheme == "https"):
            message = f"{self.where}: the registry leads an upload to {said!a:.200}"
            raise OutputError(message, hint="Ask whoever runs the registry.")
        return address

    def check(self, answer: Response, wanted: tuple[int, ...], where: str) -> None:
        """Raise an error for an answer that is none of these statuses, with what the registry says of it."""
        if answer.status in wanted:
            return
        try:
            said = answer.read(2000, decode_content=False).decode(errors="replace").strip()
        except BROKEN:
            said = ""
        close(answer)
        text = f": {' '.join(said.split())!a:.300}" if said else ""
        message = f"{where}: the registry answers with the status {answer.status}{text}"
        raise self.fault(message, hint="Try again later, or ask whoever runs the registry.")

    def _read(self, answer: Response, most: int, where: str) -> bytes:
        data = answer.read(most + 1, decode_content=False)
        while len(data) <= most and (more := answer.read(most + 1 - len(data), decode_content=False)):
            data += more
        if len(data) > most:
            close(answer)
            message = f"{where}: the answer has more than {most} bytes, which is refused"
            raise InputError(message)
        answer.release_conn()
        return data

    def _send(self, method: str, address: str, headers: Mapping[str, str], body: Body, *, again: bool = True) -> Response:
        try:
            return self.transport.send(method, address, headers, body, again=again)
        except BROKEN as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> InputError | OutputError:
        message = f"{self.where}: {self.name.address} cannot be reached: {_said(error)}"
        hint = "See that the name is right, and that the registry runs."
        if is_certificate_fault(error):
            hint = "Name a file of certificates to trust with --ca-file, or trust anybody with --tls-verify=false."
        return self.fault(message, hint=hint)

    def _address(self) -> str:
        """Give the registry's address, found by asking it once: HTTP only where nobody is to be sure of the other side."""
        if not self._scheme:
            plain = not self.access.tls_verify or is_loopback(self.name.host)
            failed: BaseException | None = None
            for scheme in ("https", "http") if plain else ("https",):
                try:
                    answer = self.transport.send("GET", f"{scheme}://{self.name.address}/v2/", {}, again=not plain, follow=False)
                except BROKEN as error:
                    failed = failed or error
                    if is_certificate_fault(error):
                        break
                    continue
                self._scheme = scheme
                if answer.status == _UNKNOWN:
                    self._challenge = Challenge.parse(answer.headers.get("WWW-Authenticate") or "")
                close(answer)
                break
            if not self._scheme:
                assert failed is not None  # noqa: S101 - one of both was tried
                raise self._unreachable(failed) from failed
        return f"{self._scheme}://{self.name.address}"

    # --- who asks ---

    def _header(self, *, renew: bool) -> str:
        if self._challenge is None:
            return ""
        if not self._asked:
            self._asked = True
            known = self.access.credentials.get(self.name.host)
            self._credentials = known or find_credentials(self.name.host, self.name.repository, os.environ)
        if self._challenge.scheme == "basic":
            return "" if self._credentials is None else self._credentials.basic
        scopes = [f"repository:{self.name.repository}:{'pull,push' if self.writes else 'pull'}"]
        scopes += [f"repository:{self.also}:pull"] if self.also else []
        key = " ".join(scopes)
        if renew or key not in self._tokens or not self._tokens[key].holds:
            self._tokens[key] = self._token(self._challenge, scopes)
        return self._tokens[key].header

    def _token(self, challenge: Challenge, scopes: list[str]) -> Token:
        try:
            wanted = token_request(challenge, scopes, self._credentials, plain=self._scheme == "http")
        except InputError as error:
            raise InputError(*(f"{self.where}: {problem}" for problem in error.problems)) from error
        answer = self._send(wanted.method, wanted.address, wanted.headers, wanted.body)
        where = f"{self.where}: the token server {urlsplit(wanted.address).netloc}"
        if answer.status in {_UNKNOWN, _FORBIDDEN}:
            close(answer)
            who = "nobody" if self._credentials is None else f"the user {self._credentials.user}"
            message = f"{where} does not let {who} in (status {answer.status})"
            raise InputError(message, hint="Log in with `podman login` or `docker login`, or give --creds USER:PASSWORD.")
        self.check(answer, (_OK,), where)
        try:
            return read_token(self._read(answer, _MOST_ANSWER, where))
        except BROKEN as error:
            message = f"{where} breaks off: {_said(error)}"
            raise self.fault(message, hint="Try again.") from error
        except InputError as error:
            raise InputError(*(f"{self.where}: {problem}" for problem in error.problems)) from error


def _said(error: BaseException) -> str:
    """Say in a line why a connection did not come about: urllib3's errors begin with the names of its objects."""
    text = " ".join(str(error).split())
    return f"{text.rpartition('>: ')[2]:.300}" or type(error).__name__


def connect(name: RegistryName, *, also: str = "") -> Client:
    """Give the client that pushes to a name, as :func:`.access.current_access` and ``registries.conf`` have it."""
    return _client(written_to(name, os.environ), writes=True, also=also)


def find(name: RegistryName) -> tuple[Client, Manifest]:
    """Give the client for the first place that has a name, and the name's manifest: a mirror, or the registry itself.

    Raises what the registry itself raises, where no place has it.
    """
    *mirrors, itself = (_client(endpoint) for endpoint in endpoints(name, os.environ))
    for client in mirrors:
        try:
            return client, client.manifest(name.reference)
        except NOBODYS_FAULT:
            raise
        except InputError:
            continue
    return itself, itself.manifest(name.reference)


def _client(endpoint: Endpoint, *, writes: bool = False, also: str = "") -> Client:
    access = current_access()
    if endpoint.insecure:
        access = attrs.evolve(access, tls_verify=False)
    return Client(endpoint.name, access, writes, also)
