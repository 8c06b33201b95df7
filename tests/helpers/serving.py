"""``rootless-layer serve`` while a test asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from helpers.users import COMMAND, HANG, User


@attrs.frozen
class Answer:
    """An answer: its status, its headers and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error of the distribution-spec."""
        [error] = json.loads(self.body)["errors"]
        assert error["message"]
        return str(error["code"])


@attrs.frozen
class Serving:
    """A registry of ``serve``: its host and port, the digests of its images by their names, its process, and what it printed."""

    host: str
    images: Mapping[str, str]
    process: subprocess.Popen[bytes]
    said: Path
    printed: str

    def name(self, text: str) -> str:
        """Give the whole name of an image in it."""
        return f"docker://{self.host}/{text}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send a request."""
        return asked(self.host, path, method, **headers)

    def errors(self) -> str:
        """Give all that it has said on stderr so far."""
        return self.said.read_text()


def asked(host: str, path: str, method: str = "GET", **headers: str) -> Answer:
    """Send a request to a registry; where the answer breaks off, :class:`http.client.IncompleteRead` has what came."""
    with contextlib.closing(http.client.HTTPConnection(host, timeout=HANG)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers.items()), answer.read())


@contextlib.contextmanager
def serving(user: User, *words: str | Path, **more: Any) -> Iterator[Serving]:
    """Serve images for as long as the context."""
    said = user.home / "served.err"
    with open(said, "wb") as file:
        command = [*COMMAND, "serve", "--json", *words]
        process = user.start(command, stdout=subprocess.PIPE, stderr=file, env={"MARK": str(user.home)}, **more)
    assert process.stdout is not None
    try:
        told = b""
        while (line := process.stdout.readline()) and not told.endswith(b"\n}\n"):
            told += line
            if line == b"}\n":
                break
        assert told, said.read_text()
        document = json.loads(told)
        yield Serving(
            document["address"], {one["name"]: one["digest"] for one in document["images"]}, process, said, told.decode()
        )
    finally:
        process.terminate()
        process.wait(HANG)
        process.stdout.close()
    assert "Traceback" not in said.read_text()
