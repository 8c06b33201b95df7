"""A registry of one image, with faults: LAYOUT LOG [FAULT...]. Prints its host and another one; runs until it is killed."""

import base64
import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LAYOUT, LOG, FAULTS = Path(sys.argv[1]), sys.argv[2], frozenset(sys.argv[3:])
ROW = json.loads((LAYOUT / "index.json").read_text())["manifests"][0]
LOCK = threading.Lock()
COUNTS = {}
UPLOADS, TAKEN = {}, {}
USER = "Basic " + base64.b64encode(b"me:secret").decode()


def digest_of(data):
    """Give the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob(digest):
    """Read a blob of the layout."""
    return (LAYOUT / "blobs" / digest.replace(":", "/")).read_bytes()


def manifest():
    """Give the manifest, with its faults."""
    data = blob(ROW["digest"])
    said = json.loads(data)
    if "lies" in FAULTS:
        said["layers"][0]["size"] -= 1
    if "paths" in FAULTS:
        said["layers"][0]["digest"] = "sha256:../../../../../../etc/passwd"
    if "config-paths" in FAULTS:
        said["config"]["digest"] = "sha256:../../../../../../etc/passwd"
    if "huge-config" in FAULTS:
        said["config"]["size"] = 100 << 20
    return data if said == json.loads(data) else json.dumps(said).encode()


def nth(what):
    """Count how often something was done."""
    with LOCK:
        COUNTS[what] = COUNTS.get(what, 0) + 1
        return COUNTS[what]


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_words):
        """Say nothing."""

    def note(self):
        """Write down what was asked."""
        said = {"host": self.headers.get("Host"), "method": self.command, "path": self.path, "headers": dict(self.headers)}
        with LOCK, open(LOG, "a") as file:
            file.write(json.dumps(said) + "\n")

    def answer(self, status, data=b"", headers=(), length=None):
        """Answer, with a length that need not be true."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def cut(self):
        """Break the connection."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)

    def do_GET(self):
        """Answer a GET or a HEAD."""
        self.note()
        kind, _, reference = self.path.rpartition("/")
        if self.path.startswith("/token"):
            self.token()
        elif not self.let_in():
            pass
        elif self.path == "/v2/":
            self.answer(200, b"{}")
        elif self.command == "HEAD" and "empty" in FAULTS:
            self.answer(200 if {reference, self.path} & TAKEN.keys() else 404)
        elif kind.endswith("/manifests"):
            self.answer(404) if reference.startswith("sha256-") else self.manifest(reference)  # nothing is attached
        elif kind.endswith("/referrers"):
            self.answer(404)
        elif self.path in UPLOADS:
            self.answer(204, headers=[("Range", f"0-{len(UPLOADS[self.path]) - 1}"), ("Location", self.path)])
        else:
            self.blob(reference)

    do_HEAD = do_GET  # noqa: N815 - as the base class has it

    def token(self):
        """Be a token server."""
        if "huge-token" in FAULTS:
            return self.answer(200, b" " * (8 << 20))
        if "no-token" in FAULTS:
            return self.answer(200, b"{}")
        return self.answer(200, b'{"token": "good"}') if self.headers.get("Authorization") == USER else self.answer(401)

    def let_in(self):
        """Ask who it is."""
        wanted = {"token": "Bearer good", "basic": USER}.get(next(iter(FAULTS & {"token", "basic"}), ""))
        if wanted is None or self.headers.get("Authorization") == wanted or self.path.startswith("/elsewhere"):
            return True
        ask = (
            f'Bearer realm="http://{HOST}/token",service="here",scope="repository:app:pull"'
            if "token" in FAULTS
            else 'Basic realm="x"'
        )
        self.answer(401, headers=[("WWW-Authenticate", ask)])
        return False

    def manifest(self, _reference):
        """Give the manifest."""
        if "huge-manifest" in FAULTS:
            self.send_response(200)
            self.send_header("Content-Length", str(100 << 20))
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b" " * (1 << 20))
            return None
        if "wrong-manifest" in FAULTS and _reference.startswith("sha256:"):
            return self.answer(200, manifest() + b" ", [("Content-Type", ROW["mediaType"])])
        return self.answer(200, manifest(), [("Content-Type", ROW["mediaType"])])

    def blob(self, digest):
        """Give a blob, or the fault of one."""
        number = nth("blob")
        if "429" in FAULTS and number <= 2:
            self.answer(429, headers=[("Retry-After", "0")])
        elif ("500" in FAULTS and number <= 2) or "always-500" in FAULTS:
            self.answer(500, b"it broke")
        elif "loop" in FAULTS:
            self.answer(307, headers=[("Location", self.path)])
        elif "nowhere" in FAULTS:
            self.answer(307, headers=[("Location", "http://a..example/")])
        elif "redirect" in FAULTS and not self.path.startswith("/elsewhere"):
            self.answer(307, headers=[("Location", f"http://{OTHER}/elsewhere/blobs/{digest}")])
        else:
            self.give(blob(digest))

    def give(self, data):
        """Give the bytes of a blob, or others."""
        if "wrong" in FAULTS:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if "more" in FAULTS and len(data) > 4096:
            data += bytes(4096)
        begin, status, headers = 0, 200, []
        if (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))) and "no-range" not in FAULTS:
            begin, status = int(found[1]), 206
            headers = [("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")]
        part = data[begin:]
        if ("cut" in FAULTS and len(data) > 4096 and nth("cut") <= 3) or "always-cut" in FAULTS:
            self.answer(status, part[: len(part) // 2], headers, length=len(part))
            return self.cut()
        if "stall" in FAULTS and len(data) > 4096:
            self.answer(status, part[:4096], headers, length=len(part))
            self.wfile.flush()
            time.sleep(100)
            return None
        if "slow" in FAULTS:
            self.answer(status, b"", headers, length=len(part))
            step = len(part) // 20 + 1
            for start in range(0, len(part), step):
                self.wfile.write(part[start : start + step])
                self.wfile.flush()
                time.sleep(0.005)
            return None
        return self.answer(status, part, headers)

    def do_POST(self):
        """Begin an upload."""
        self.note()
        if self.let_in():
            place = f"/upload/{nth('upload')}"
            UPLOADS[place] = b""
            self.answer(202, headers=[("Location", place)])

    def do_PATCH(self):
        """Take a part of an upload."""
        self.note()
        size = int(self.headers["Content-Length"])
        if "cut" in FAULTS and nth("patch") == 1:
            UPLOADS[self.path] += self.rfile.read(size // 2)
            return self.cut()
        begin = int(self.headers["Content-Range"].partition("-")[0])
        data = self.rfile.read(size)
        if begin != len(UPLOADS[self.path]):
            return self.answer(416)
        UPLOADS[self.path] += data
        return self.answer(202, headers=[("Location", self.path), ("Range", f"0-{len(UPLOADS[self.path]) - 1}")])

    def do_PUT(self):
        """Take the end of an upload, or a manifest."""
        self.note()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if "refuse" in FAULTS or ("500" in FAULTS and nth("put") <= 2):
            return self.answer(500 if "500" in FAULTS else 507, b"no room left")
        if "/manifests/" in self.path:
            TAKEN[self.path] = data
            return self.answer(201)
        place, _, query = self.path.partition("?")
        whole = UPLOADS[place] + data
        if query != "digest=" + digest_of(whole).replace(":", "%3A"):
            return self.answer(400, b"DIGEST_INVALID")
        TAKEN[digest_of(whole)] = whole
        return self.answer(201)


servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
HOST, OTHER = f"127.0.0.1:{servers[0].server_port}", f"localhost:{servers[1].server_port}"
print(HOST, OTHER, flush=True)
threading.Thread(target=servers[1].serve_forever, daemon=True).start()
servers[0].serve_forever()
