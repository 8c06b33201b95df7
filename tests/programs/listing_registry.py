"""A registry in memory that lists referrers (distribution-spec 1.1), one on each page; its host is printed when it listens."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
BLOBS, MANIFESTS, UPLOADS = {}, {}, {}
LOCK = threading.Lock()


def digest_of(data):
    """Give the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def referrers(repository, subject):
    """Give the descriptors of what is attached to a digest, in order."""
    found = {}
    for (where, reference), (kind, data) in sorted(MANIFESTS.items()):
        said = json.loads(data)
        if where == repository and reference.startswith("sha256:") and (said.get("subject") or {}).get("digest") == subject:
            row = {"mediaType": kind, "digest": reference, "size": len(data)}
            found[reference] = row | {"artifactType": said.get("artifactType") or said["config"]["mediaType"]}
    return [*found.values()]


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def answer(self, status, data=b"", **headers):
        """Answer; the names of headers have lines for dashes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self):
        """Answer a GET or a HEAD."""
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        found = re.fullmatch(r"/v2/(.+)/(blobs|manifests|referrers)/([^/]+)", path)
        if path == "/v2/":
            self.answer(200, b"{}")
        elif found is None:
            self.answer(404)
        elif found[2] == "blobs" and (found[1], found[3]) in BLOBS:
            self.answer(200, BLOBS[found[1], found[3]], Content_Type="application/octet-stream")
        elif found[2] == "manifests" and (found[1], found[3]) in MANIFESTS:
            kind, data = MANIFESTS[found[1], found[3]]
            self.answer(200, data, Content_Type=kind, Docker_Content_Digest=digest_of(data))
        elif found[2] == "referrers":
            with LOCK:
                rows = referrers(found[1], found[3])
            page = int(query.get("page", ["0"])[0])
            said = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows[page : page + 1]}
            more = {"Link": f'<{path}?page={page + 1}>; rel="next"'} if page + 1 < len(rows) else {}
            self.answer(200, json.dumps(said).encode(), Content_Type=INDEX, **more)
        else:
            self.answer(404)

    do_HEAD = do_GET  # noqa: N815 - as the base class has it

    def do_POST(self):
        """Begin an upload."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with LOCK:
            place = f"{urlsplit(self.path).path.rstrip('/')}/{len(UPLOADS)}"
            UPLOADS[place] = b""
        self.answer(202, Location=place)

    def do_PATCH(self):
        """Take a part of an upload."""
        place = urlsplit(self.path).path
        UPLOADS[place] += self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(202, Location=place, Range=f"0-{len(UPLOADS[place]) - 1}")

    def do_PUT(self):
        """Take the end of an upload, or a manifest."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        found = re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", path)
        if found is None:
            data = UPLOADS[path] + data
            BLOBS[path.removeprefix("/v2/").partition("/blobs/")[0], digest_of(data)] = data
            self.answer(201)
            return
        with LOCK:
            for reference in {found[2], digest_of(data)}:
                MANIFESTS[found[1], reference] = self.headers["Content-Type"], data
        subject = (json.loads(data).get("subject") or {}).get("digest")
        self.answer(201, **({"OCI_Subject": subject} if subject else {}))


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
