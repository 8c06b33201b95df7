"""The answers of a registry that gives images and takes none (distribution-spec 1.1, "Pull" and "Content Discovery")."""

from __future__ import annotations

import contextlib
import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from rootless_layer.errors import InputError, RootlessLayerError
from rootless_layer.oci.descriptor import INDEX
from rootless_layer.oci.documents import is_digest
from rootless_layer.version import __version__

from .name import REPOSITORY, TAG
from .ranges import Range, Window, parse_range, send_file, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .blob import Blob
    from .offer import Repository
    from .server import Server

_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)")
_SECONDS = 60
"""How long a connection waits for its next request, or for a reader that takes nothing."""
_MOST_NAMES = 1000


class _Refused(Exception):  # noqa: N818 - it is an answer
    """An answer of the kind that distribution-spec has for errors."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Gone(Exception):  # noqa: N818 - no error: the client has gone
    """Nobody takes the bytes."""


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS

    # --- the verbs of HTTP ---

    def give(self) -> None:
        """Answer with a document or a blob."""
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would be taken for the next request
        try:
            self._answer()
        except _Refused as refused:
            self._refuse(refused)
        except RootlessLayerError as error:
            self._fail(error)
        except (_Gone, ConnectionError, TimeoutError):
            self.close_connection = True

    def take_nothing(self) -> None:
        """Refuse what would change the registry."""
        self.close_connection = True
        self._refuse(_Refused(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry gives images, and takes none"))

    def send_error(self, code: int, message: str | None = None, _explain: str | None = None) -> None:
        """Answer a request that is none."""
        self.close_connection = True
        status = HTTPStatus(code)
        if not hasattr(self, "command") or self.command is None:
            self.command = ""
        self._refuse(_Refused(status, "UNSUPPORTED", message or status.phrase))

    def version_string(self) -> str:
        """Give the name of this program."""
        return f"rootless-layer/{__version__}"

    def log_message(self, *_words: object) -> None:
        """Log no request."""

    # --- answers ---

    def _answer(self) -> None:
        try:
            address = urlsplit(self.path)
        except ValueError as error:  # no host, as in http://[
            raise _Refused(HTTPStatus.BAD_REQUEST, "UNSUPPORTED", "this is no address") from error
        path, query = unquote(address.path), parse_qs(address.query)
        if path in {"/v2", "/v2/"}:
            self._send(b"{}", "application/json")
        elif path == "/v2/_catalog":
            self._listed(sorted(self.server.offer.repositories), query, lambda names: {"repositories": names})
        elif (found := _ROUTE.fullmatch(path)) is not None:
            self._about(found["name"], found["kind"], found["reference"], query)
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "there is no such place in a registry")

    def _about(self, name: str, kind: str, reference: str, query: Mapping[str, list[str]]) -> None:
        if not REPOSITORY.fullmatch(name):
            raise _Refused(HTTPStatus.BAD_REQUEST, "NAME_INVALID", "this is not the name of a repository")
        repository = self.server.offer.find(name)
        if repository is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", f"{name}: is not served here")
        if kind == "tags" and reference == "list":
            self._listed(sorted(repository.tags), query, lambda tags: {"name": name, "tags": tags})
        elif kind == "manifests":
            self._manifest(repository, reference)
        elif kind in {"blobs", "referrers"}:
            if not is_digest(reference):
                raise _Refused(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", "this is not a digest")
            if kind == "blobs":
                self._blob(repository, reference)
            else:
                wanted = query.get("artifactType", [""])[0]
                filtered = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
                self._send(repository.referrers(reference, wanted), INDEX, filtered)
        else:
            raise _Refused(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "there is no such place in a registry")

    def _manifest(self, repository: Repository, reference: str) -> None:
        if not (is_digest(reference) if ":" in reference else TAG.fullmatch(reference)):
            code = "DIGEST_INVALID" if ":" in reference else "TAG_INVALID"
            raise _Refused(HTTPStatus.BAD_REQUEST, code, "this is neither a tag nor a digest")
        found = repository.find(reference)
        if found is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"{reference}: is not served here")
        self._send(found.data, found.media_type, {"Docker-Content-Digest": found.digest, "ETag": f'"{found.digest}"'})

    def _listed(
        self, names: Iterable[str], query: Mapping[str, list[str]], document: Callable[[list[str]], Mapping[str, object]]
    ) -> None:
        """Answer with names behind the ``last`` one that the client has, ``n`` of them at most."""
        last, said = query.get("last", [""])[0], query.get("n", [str(_MOST_NAMES)])[0]
        if not said.isascii() or not said.isdigit():
            raise _Refused(HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number")
        count = min(int(said[:9]), _MOST_NAMES)
        behind = [name for name in names if name > last]
        given = behind[:count]
        path = quote(urlsplit(self.path).path)
        more = {"Link": f'<{path}?n={count}&last={quote(given[-1])}>; rel="next"'} if given and len(behind) > count else {}
        self._send(json.dumps(document(given)).encode(), "application/json", more)

    def _blob(self, repository: Repository, digest: str) -> None:
        blob = repository.blobs.get(digest)
        if blob is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"{digest}: is not served here")
        etag = f'"{digest}"'
        headers = {"Docker-Content-Digest": digest, "ETag": etag, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if self.headers.get("If-Range", etag) != etag:
            asked = ""
        wanted = parse_range(asked, blob.size)
        if wanted is None:
            self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, headers | {"Content-Range": f"bytes */{blob.size}"})
            return
        status = HTTPStatus.PARTIAL_CONTENT if wanted.asked else HTTPStatus.OK
        if wanted.asked:
            headers |= {"Content-Range": f"bytes {wanted.begin}-{wanted.end - 1}/{blob.size}"}
        headers |= {"Content-Type": "application/octet-stream"}
        if self.command == "HEAD":
            self._head(status, wanted.size, headers)
            return
        blob = blob.checked()
        self._head(status, wanted.size, headers)
        try:
            self._bytes(blob, wanted)
        except RootlessLayerError as error:
            self.close_connection = True  # without the last byte
            self._tell(error)

    def _bytes(self, blob: Blob, wanted: Range) -> None:
        """Send a range of a blob: straight from a file that was compared with the digest, else as all of the blob is read."""
        file = blob.file
        try:
            before = state_of(file[0]) if file is not None else ()
            if file is not None and self.server.known.get(blob.digest) == before:
                if not send_file(*file, wanted, before, self._write):
                    message = f"{file[0]}: was changed while it was read"
                    raise InputError(message)
                return
        except OSError as error:
            message = f"{file[0] if file else blob.digest}: cannot be read: {error.strerror}"
            raise InputError(message) from error
        window = Window(wanted, self._write)
        blob.copy(window.take)
        if file is not None:
            self.server.known[blob.digest] = before
        window.finish()

    def _write(self, part: memoryview) -> None:
        try:
            self.wfile.write(part)
        except (OSError, ValueError) as error:
            raise _Gone from error

    def _send(self, data: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._head(HTTPStatus.OK, len(data), {"Content-Type": media_type, **(headers or {})})
        if self.command != "HEAD":
            self._write(memoryview(data))

    def _head(self, status: HTTPStatus, size: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        self.send_header("Content-Length", str(size))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _refuse(self, refused: _Refused) -> None:
        """Answer with an error (distribution-spec, "Error Codes")."""
        data = json.dumps({"errors": [{"code": refused.code, "message": refused.message}]}).encode()
        with contextlib.suppress(_Gone, OSError):
            self._head(refused.status, len(data), {"Content-Type": "application/json"})
            if self.command != "HEAD":
                self._write(memoryview(data))

    def _fail(self, error: RootlessLayerError) -> None:
        """Answer for a blob that cannot be read, of which nothing was sent."""
        self._tell(error)
        ours = not isinstance(error, InputError)
        status = HTTPStatus.INTERNAL_SERVER_ERROR if ours else HTTPStatus.NOT_FOUND
        self._refuse(_Refused(status, "UNKNOWN" if ours else "BLOB_UNKNOWN", "; ".join(error.problems)))

    def _tell(self, error: RootlessLayerError) -> None:
        for problem in error.problems:
            self.server.tell(problem)


for _verbs, _answer in ((("GET", "HEAD"), Handler.give), (("PUT", "POST", "PATCH", "DELETE"), Handler.take_nothing)):
    for _verb in _verbs:
        setattr(Handler, f"do_{_verb}", _answer)
