"""Docker 20.10, the oldest that is promised, loads every archive that this program writes.

``dockerd`` is started by hand, on a socket and in directories of the test's own. That takes real root and a kernel
that lets it mount and make control groups: where it does not start, the test says why, and is skipped.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import pytest
from helpers.aftermath import until
from helpers.place import remove
from helpers.users import COMMAND, HANG, User, make_user

from rootless_layer import Image, NamedImage, Platform, open_layer, serve_images

ALONE = 'mount -t tmpfs -o mode=755 tmpfs /run; exec "$@"'
"""Runs a daemon in a mount namespace of its own, as it makes directories in /run beside those that it is given."""
JSON, TAR = "application/json", "application/x-tar"


@attrs.frozen
class Docker:
    """A daemon, by its socket."""

    socket: Path

    def ask(self, method: str, path: str, body: bytes | BinaryIO | None = None, kind: str = JSON) -> bytes:
        """Send a request that has to succeed, and give what the answer holds."""
        connection = http.client.HTTPConnection("docker")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers={"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
        assert answer.status < 300, said
        return said

    def load(self, archive: Path) -> None:
        """Load an archive."""
        with archive.open("rb") as file:
            assert "error" not in self.ask("POST", "/images/load", file, TAR).decode()

    def image(self, name: str) -> dict[str, Any]:
        """Give what the daemon knows of an image."""
        found: dict[str, Any] = json.loads(self.ask("GET", f"/images/{name}/json"))
        return found

    def file(self, name: str, path: str) -> bytes:
        """Give a file of a container of an image; the container is never started."""
        asked = {"Image": name, "Cmd": ["/none"], "NetworkDisabled": True}
        container = json.loads(self.ask("POST", "/containers/create", json.dumps(asked).encode()))["Id"]
        with tarfile.open(fileobj=io.BytesIO(self.ask("GET", f"/containers/{container}/export"))) as tar:
            member = tar.extractfile(path)
            assert member is not None
            return member.read()


@pytest.fixture
def docker() -> Iterator[Docker]:
    """A daemon of Debian's docker.io, which is gone in the end with all that it made."""
    dockerd = shutil.which("dockerd")
    if dockerd is None or os.geteuid() != 0:
        pytest.skip("dockerd needs real root" if dockerd else "dockerd is not installed")
    place = Path(tempfile.mkdtemp(prefix="rl-docker-", dir="/var/tmp"))  # a socket's path has 107 bytes at most
    made = Docker(place / "socket")
    words = [
        "unshare", "--mount", "sh", "-ec", ALONE, "-", dockerd, "-H", f"unix://{made.socket}", "--data-root", place / "data", "--exec-root", place / "exec",
        "--pidfile", place / "pid", "--group", "root", "--storage-driver", "vfs", "--bridge", "none",
        "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
    ]  # fmt: skip
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        assert until(lambda: made.socket.exists() or daemon.poll() is not None)
        if not made.socket.exists():
            last = (place / "log").read_text(errors="replace").splitlines()[-1:]
            pytest.skip(f"dockerd does not start here: {last}")
        yield made
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(HANG)
        remove(place)


@pytest.mark.parametrize("layers", [1, 3])
def test_what_docker_saves_is_read(docker: Docker, users: list[User], layers: int) -> None:
    """Of what ``docker save`` writes, by this daemon's version, each image is built upon by its short name, and all is valid."""
    user = users[-1]
    tree = user.home / "tree"
    words = []
    for number in range(layers):
        tree.mkdir(exist_ok=True)
        (tree / f"name{number}").write_text("value")
        assert user.build("--copy-to-root", tree, output=f"layer{number}").status == 0
        words += ["--layer", user.home / f"layer{number}"]
    docker.load(image(user, *words, "-t", "x:1", output="x.tar"))
    docker.load(image(user, *words, "--label", "a=b", "-t", "y:2", output="y.tar"))
    saved = user.home / "saved.tar"
    saved.write_bytes(docker.ask("GET", "/images/get?names=x:1&names=y:2"))
    saved.chmod(0o644)
    assert user.run([*COMMAND, "validate", saved]).status == 0
    for name in ("x:1", "docker.io/library/y:2"):
        assert user.build("--base", f"{saved}#{name}", output="upon").status == 0
        done = user.run([*COMMAND, "diff", f"{saved}#{name}", user.home / f"{name.rpartition('/')[2][0]}.tar"])
        assert (done.status, done.out) == (0, ""), done.err


def image(user: User, *words: str | Path, output: str) -> Path:
    """Run ``rootless-layer image``, and give the archive."""
    made = user.run([*COMMAND, "image", "-q", *words, "-o", user.home / output])
    assert made.status == 0, made.err
    return user.home / output


def test_docker_loads_what_is_written(docker: Docker, shared: Path) -> None:
    """Archives with layers of each compression, of the old shape and for several platforms load; the files are right.

    Of several platforms docker gets this machine's, wherever in the archive it stands.
    """
    user = make_user(shared, "somebody")
    (user.home / "tree").mkdir()
    (user.home / "tree/name").write_text("value")
    for kind in ("none", "gzip", "zstd"):
        assert user.build("--copy-to-root", user.home / "tree", "--compression", kind, output=kind).status == 0
        docker.load(image(user, "--layer", user.home / kind, "-t", f"x:{kind}", output=f"{kind}.tar"))
    every = [word for kind in ("zstd", "gzip") for word in ("--layer", user.home / kind)]
    docker.load(image(user, *every, "-t", "x:old", "-f", "docker-archive", output="old.tar"))
    for name in ("none", "gzip", "zstd", "old"):
        assert docker.file(f"x:{name}", "name") == b"value"
    host = Platform.host()
    for platform in (str(host), "linux/s390x", "linux/riscv64"):
        words = ["--layer", user.home / "gzip", "--platform", platform, "-t", "m:1"]
        image(user, *words, output=f"{platform.replace('/', '-')}.tar")
    for order in (0, 1, 2):
        parts = sorted(user.home.glob("linux-*.tar"))
        merged = user.home / f"{order}.tar"
        words = [*COMMAND, "merge", "-q", "--index", f"m:{order}", *parts[order:], *parts[:order], "-o", merged]
        assert user.run(words).status == 0
        docker.load(merged)
        assert docker.image(f"m:{order}")["Architecture"] == host.architecture
    remove(user.home)


def test_docker_pulls_what_is_served(docker: Docker, users: list[User]) -> None:
    """The daemon pulls an image whose layers are made as it asks for them; of a second one it asks for what it lacks only."""
    user = users[0]
    for name in ("low", "high"):
        (user.home / name).mkdir()
        (user.home / name / name).write_text(name)
        words = ["--copy-to-root", user.home / name, "--blob", "derived", "--compression", "gzip"]
        assert user.build(*words, output=f"{name}-layer").status == 0
    low, high = (open_layer(user.home / f"{name}-layer") for name in ("low", "high"))
    made = Image.empty(Platform.host())
    with serve_images([NamedImage(made.append(low), ("a:1",)), NamedImage(made.append(low, high), ("b:1",))]) as served:
        for name in ("a", "b"):
            whole = f"{served.address}/{name}"
            said = docker.ask("POST", f"/images/create?fromImage={whole}&tag=1").decode()
            assert "error" not in said, said
            assert docker.file(f"{whole}:1", "low") == b"low"
            remove(user.home / "low")
        assert docker.file(f"{served.address}/b:1", "high") == b"high"
