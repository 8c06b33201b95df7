"""Machines that build for a Nix, on this one: each is an sshd on loopback with a store of its own."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import CONFINED, processes, until
from helpers.nix_pkgs import LET, Nix
from helpers.place import remove
from helpers.users import Result

NAMED = """
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd /run/nix
mount --bind "$1/state" /run/nix
shift
exec "$@"
"""
"""Runs a command with the account files of a test: ssh and sshd refuse whoever has no name.

A directory of the test's is ``/run/nix``: newer versions of Nix build as other users below no directory that all may write to.
"""
_BUILD_GROUP, _BUILD_USERS = 30000, range(30001, 30009)

CONTAINER = """
top=$1 store=$2
shift 2
mount -t tmpfs tmpfs "$top"
for place in /*; do
    if [ -L "$place" ]; then cp -P "$place" "$top"; fi
    if [ -d "$place" ] && [ ! -L "$place" ]; then mkdir "$top$place" && mount --rbind "$place" "$top$place"; fi
done
mkdir -p "$top/nix" "$top/before"
mount --bind "$store/nix" "$top/nix"
cd "$top"
pivot_root . before
umount -l /before
cd /
exec "$@"
"""
"""Runs a command where a builder's store is the machine's own, as Nix without a sandbox needs it."""

SERVER = """
ListenAddress {address}:{port}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
ForceCommand {folder}/{name}/serve
"""
CLIENT = """
Host {name}
HostName {address}
Port {port}
User builder
IdentityFile {folder}/key
IdentitiesOnly yes
UserKnownHostsFile {folder}/hosts
StrictHostKeyChecking yes
BatchMode yes
"""
SOON = "build-poll-interval = 1\n"
"""Nix asks busy builders again after so many seconds."""
AS_USERS = "build-users-group = nixbld\nbuild-dir = /run/nix/builds\n"
_PATH = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"


@attrs.frozen
class Builder:
    """A machine that builds for another: its name for ssh, and its Nix."""

    name: str
    nix: Nix

    def built(self) -> dict[str, int]:
        """Name the derivations that it has built, without their digests, and when each log was written."""
        logs = self.nix.store.glob("nix/var/log/nix/drvs/*/*")
        return {f"{log.parent.name}{log.name}".partition(".drv")[0][33:]: log.stat().st_mtime_ns for log in logs}


@attrs.frozen
class Machines:
    """A Nix that builds nothing itself, and those that build for it."""

    nix: Nix
    folder: Path
    prefix: str = ""
    """Where the programs of the builders' Nix are, if it is another version than this one's."""

    def words(self, expression: str, builders: Sequence[Builder]) -> list[str]:
        """Give the words of a ``nix-build`` by which the builders, one job at a time each, build all of an expression."""
        rows = " ; ".join(f"ssh-ng://{one.name} {platform.machine()}-linux - 1 1" for one in builders)
        return ["--no-out-link", "--max-jobs", "0", "--builders", rows, "-E", LET + expression]

    def build(self, expression: str, builders: Sequence[Builder]) -> Result:
        """Build an expression on the builders."""
        return self.nix.run("nix-build", *self.words(expression, builders), before=self.named(), settings=SOON)

    def start(self, expression: str, builders: Sequence[Builder]) -> subprocess.Popen[bytes]:
        """Start to build an expression on the builders, in a process group of its own."""
        command = [*self.named(), "nix-build", "--store", str(self.nix.store), *self.words(expression, builders)]
        return self.nix.user.start(command, env=self.nix.environment(SOON), start_new_session=True, stderr=subprocess.DEVNULL)

    def named(self) -> list[str]:
        """Give the words of a command that runs another where the user has a name, and the keys of the builders."""
        return [*_named(self.nix, self.folder), "env", f"NIX_SSHOPTS=-F {self.folder}/client"]

    @contextlib.contextmanager
    def builder(self, name: str, *, settings: str = "", confined: bool = False, as_users: bool = False) -> Iterator[Builder]:
        """Run a builder with an empty store, for as long as the context.

        A ``confined`` one is in a container without user namespaces. One of root's builds ``as_users`` that have no privilege.
        """
        folder = self.folder / name
        nix = attrs.evolve(self.nix, store=folder / "store", prefix=self.prefix or self.nix.prefix)
        for path in (folder, nix.store, nix.store / "nix", folder / "top", folder / "tmp"):
            path.mkdir()
            _give(nix, path)
        before: list[str] = []
        store = str(nix.store)
        if confined:
            before = [*in_container(nix, folder / "top"), sys.executable, str(CONFINED), "root" if nix.user.is_root else "user"]
            settings += "sandbox = false\n"
            store = "local"
        environment = nix.environment(settings + (AS_USERS if as_users else ""))
        # The state is that of the locks of build users, which are not in the store's own.
        environment |= {"TMPDIR": f"{folder}/tmp"} | ({"NIX_STATE_DIR": "/run/nix"} if as_users else {})
        variables = [f"{key}={value}" for key, value in environment.items()]
        daemon = shutil.which("nix-daemon", path=nix.environment()["PATH"]) or "nix-daemon"
        words = ["env", *variables, *before, daemon, "--stdio", "--store", store]
        serve = self.folder / name / "serve"
        serve.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n")
        serve.chmod(0o755)
        server = self._serve(name)
        try:
            yield Builder(name, nix)
        finally:
            server.terminate()
            server.wait()

    def _serve(self, name: str) -> subprocess.Popen[bytes]:
        """Start an sshd, at an address of loopback's that nobody else is likely to use."""
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        with socket.socket() as probe:
            probe.bind((address, 0))
            port = probe.getsockname()[1]
        values = {"address": address, "port": port, "folder": self.folder, "name": name}
        config = self.folder / name / "config"
        config.write_text(SERVER.format(**values))
        with open(self.folder / "client", "a") as client, open(self.folder / "hosts", "a") as hosts:
            client.write(CLIENT.format(**values))
            kind, public, *_ = (self.folder / "key.pub").read_text().split()
            hosts.write(f"[{address}]:{port} {kind} {public}\n")
        program = shutil.which("sshd", path=_PATH) or "sshd"
        server = self.nix.user.start([*_named(self.nix, self.folder), program, "-D", "-f", config], stderr=subprocess.DEVNULL)
        assert until(lambda: _answers(address, port) or server.poll() is not None)
        assert server.poll() is None
        return server


def valid_paths(nix: Nix) -> dict[str, int]:
    """Give the store paths of a Nix, and of each the bytes that it takes to send."""
    done = nix.run("nix", "path-info", "--all", "--size")
    assert done.status == 0, done.err
    return {path: int(size) for path, size in map(str.split, done.out.splitlines())}


@contextlib.contextmanager
def machines(nix: Nix, prefix: str = "") -> Iterator[Machines]:
    """Give a Nix what it needs to have builders, for as long as the context; skip where there is no sshd.

    ``prefix`` is where the programs of the builders' Nix are, if it is another version.
    """
    if shutil.which("sshd", path=_PATH) is None:
        pytest.skip("openssh-server is not installed")
    folder = nix.user.home / "machines"
    (folder / "state/builds").mkdir(parents=True)
    uid, gid = _ids(nix)
    names = {number: f"nixbld{number}" for number in _BUILD_USERS}
    users = "".join(f"{name}:*:{number}:{_BUILD_GROUP}::/var/empty:/bin/false\n" for number, name in names.items())
    own = f"builder:*:{uid}:{gid}::{nix.user.home}:/bin/sh\nsshd:*:65534:65534::/run/sshd:/bin/false\n"
    (folder / "passwd").write_text(own + users)
    (folder / "group").write_text(f"nixbld:*:{_BUILD_GROUP}:{','.join(names.values())}\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    _give(nix, folder, folder / "key")
    try:
        yield Machines(nix, folder, prefix)
        assert until(lambda: not any(str(folder) in each for each in processes(nix.user)))
    finally:
        remove(folder)


def _named(nix: Nix, folder: Path) -> list[str]:
    """Give the words of a command that runs another where the user has a name, which is ``builder``."""
    return _mounting(nix, ["bash", "-ec", NAMED, "-", str(folder)])


def in_container(nix: Nix, top: Path) -> list[str]:
    """Give the words of a command that runs another where the store is the machine's own; ``top`` is an empty directory."""
    return _mounting(nix, ["bash", "-ec", CONTAINER, "-", str(top), str(nix.store)])


def _mounting(nix: Nix, run: list[str]) -> list[str]:
    """Give the words of a command that mounts something, and then runs another as the user."""
    if nix.user.is_root:
        return ["unshare", "--mount", *run]
    uid, gid = _ids(nix)
    return ["unshare", "--map-root-user", "--mount", *run, "unshare", f"--map-user={uid}", f"--map-group={gid}"]


def _ids(nix: Nix) -> tuple[int, int]:
    ids = nix.user.arguments()
    return ids.get("user", os.getuid()), ids.get("group", os.getgid())


def _give(nix: Nix, *paths: Path) -> None:
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, *_ids(nix))


def _answers(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port)):
        return True
    return False
