"""Registries of a test's own, on this machine: Debian's, and one that does what it should not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import until
from helpers.users import COMMAND, Result, User

FAULTY = Path(__file__).parent.parent / "programs/faulty_registry.py"
LISTING = Path(__file__).parent.parent / "programs/listing_registry.py"
_TRIES = 20
_LISTEN = "0A"
"""The state of a socket that listens (proc(5))."""


@attrs.frozen
class Registry:
    """A registry that runs: its host and port, and the file of what it was asked for."""

    host: str
    log: Path

    def name(self, text: str) -> str:
        """Give the whole name of an image in it."""
        return f"docker://{self.host}/{text}"

    def requests(self) -> list[str]:
        """Give each request that came so far, as ``METHOD PATH``."""
        lines = (line.partition('] "')[2].split(" ") for line in self.log.read_text().splitlines() if '] "' in line)
        return [f"{words[0]} {words[1]}" for words in lines if len(words) > 1]

    def asked(self, *methods: str, below: str = "") -> list[str]:
        """Give the requests of some methods, for paths in which a text is."""
        return [each for each in self.requests() if each.split(" ")[0] in methods and below in each]


@contextlib.contextmanager
def docker_registry(user: User, name: str = "registry", **more: Any) -> Iterator[Registry]:
    """Run Debian's registry for as long as the context; ``more`` is added to its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    http, log = more.pop("http", {}), user.home / f"{name}.log"
    for _ in range(_TRIES):  # somebody else may take a port that is free before the registry does
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        storage = {"filesystem": {"rootdirectory": f"{user.home}/{name}"}}
        config = {"version": "0.1", "storage": storage, "http": {"addr": f"127.0.0.1:{port}", **http}, **more}
        (user.home / f"{name}.json").write_text(json.dumps(config))
        with open(log, "wb") as file:
            server = user.start([program, "serve", user.home / f"{name}.json"], stdout=file, stderr=subprocess.DEVNULL)
        assert until(lambda: _listens(server, port) or server.poll() is not None)  # noqa: B023 - it is called at once
        if server.poll() is None:
            break
    else:
        raise AssertionError(log.read_text())
    try:
        yield Registry(f"127.0.0.1:{port}", log)
    finally:
        server.terminate()
        server.wait()


def _listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Say whether it is this process that listens at a port (proc(5))."""
    try:
        held = {os.readlink(each) for each in Path(f"/proc/{server.pid}/fd").iterdir()}
    except OSError:  # it has just begun, or ended
        return False
    rows = map(str.split, Path(f"/proc/{server.pid}/net/tcp").read_text().splitlines()[1:])
    return any(row[3] == _LISTEN and row[1].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in held for row in rows)


@attrs.frozen
class Faulty:
    """The registry that has faults: its host, another host that it leads to, and the requests that came, as JSON."""

    host: str
    other: str
    log: Path

    def name(self, text: str = "app:1") -> str:
        """Give the whole name of an image in it."""
        return f"docker://{self.host}/{text}"

    def requests(self) -> list[dict[str, Any]]:
        """Give each request that came so far: host, method, path and headers."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextlib.contextmanager
def faulty_registry(user: User, layout: Path, *faults: str) -> Iterator[Faulty]:
    """Run a registry that has the image of a layout under every name, and these faults."""
    log = user.home / "faulty.log"
    log.write_text("")
    command = [sys.executable, str(FAULTY), str(layout), str(log), *faults]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        host, other = server.stdout.readline().split()
        yield Faulty(host, other, log)
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


@contextlib.contextmanager
def listing_registry(user: User) -> Iterator[Registry]:
    """Run a registry that lists referrers, in memory, for as long as the context."""
    server = subprocess.Popen([sys.executable, str(LISTING)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield Registry(server.stdout.readline().strip(), user.home / "listing.log")
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()


def run(user: User, *words: str | Path, env: Mapping[str, str] | None = None) -> Result:
    """Run the command, without anybody's passwords."""
    before = user.leftovers()  # what programs of others were made to leave behind, as a Nix that was killed
    done = user.run([*COMMAND, *words], env={"MARK": str(user.home), **(env or {})})
    assert "Traceback" not in done.err
    assert set(user.leftovers()) <= set(before)
    return done


def password_file(path: Path, user: str, password: str) -> None:
    """Write a file of Apache's, with one user."""
    salt = "$2y$05$abcdefghijklmnopqrstuu"
    code = "print crypt($ARGV[0], $ARGV[1])"
    done = subprocess.run(["perl", "-e", code, password, salt], check=True, capture_output=True, text=True)
    path.write_text(f"{user}:{done.stdout}\n")


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate for this machine, which is the authority of itself."""
    key, made = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "30",
        *subject,
    ]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    for path in (key, made):
        os.chmod(path, 0o644)
    return key, made


def blobs_of(layout: Path) -> Sequence[str]:
    """Name the blobs of a layout."""
    return sorted(path.name for path in (layout / "blobs/sha256").iterdir())
