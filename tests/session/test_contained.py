"""Sessions in a container of podman's default profile, as root there and as somebody: what is closed, and what the command says."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.effort import todays
from helpers.person import on_a_terminal
from helpers.place import PLACE, make_folder, remove
from helpers.probes import HEAD
from helpers.roots import busybox_root, debian_root
from helpers.users import COMMAND, SOMEBODY, User, good

from rootless_layer.system.namespaces import CLONE_NEWUSER

pytestmark = pytest.mark.slow

SCRIPT = """
import multiprocessing
multiprocessing.Lock()
terminal = os.openpty()
server = socket.socket()
server.bind(("127.0.0.1", 80))
os.chmod("/proc", 0o555)
if os.getppid() != 1:  # there is no PID namespace
    door("the container's first process", lambda: os.kill(1, 0) is None)
door("namespace", lambda: libc.unshare(0x10000000) == 0)
door("key", lambda: call(250 if ON_X86 else 219, 0, -3, 1) >= 0)
open("made", "w").close()
os.chown("made", 33, 44)
print("the end")
"""


@pytest.fixture
def container() -> Iterator[list[str]]:
    """Begin a command line that runs the rest in a container of this machine's root."""
    if os.geteuid() != 0:
        pytest.skip("only root's podman shows a container this machine's root")
    folder = make_folder(Path(os.environ[PLACE]), "p-")
    runtime = ["--runtime", "runc", "--cgroup-manager", "cgroupfs"] if shutil.which("runc") else []
    storage = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    limits = ["--network", "none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    yield ["podman", *runtime, *storage, "run", "--rm", *limits]
    remove(folder)


SECCOMP = os.environ.get("ROOTLESS_LAYER_TEST_SECCOMP", "")
"""A file with the seccomp profile of an engine, as moby's profiles/seccomp/default.json: else its essence is taken."""
_REFUSED = (
    "unshare setns mount umount umount2 pivot_root mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick"
    " sethostname setdomainname bpf perf_event_open keyctl add_key request_key"
)  # fmt: skip


def filtered(folder: Path) -> list[str]:
    """Give the flag that filters calls as docker's default profile does: without SYS_ADMIN there is no namespace and no mount."""
    path = folder / "seccomp.json"
    refused = {"names": _REFUSED.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    of_users = [{"index": 0, "value": CLONE_NEWUSER, "valueTwo": CLONE_NEWUSER, "op": "SCMP_CMP_MASKED_EQ"}]
    cloned = {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": of_users}
    newer = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    machines = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]  # of any other a call is a death, and proot makes one of x32
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "archMap": machines, "syscalls": [refused, cloned, newer]}))
    return ["--security-opt", f"seccomp={SECCOMP or path}"]


OPEN = {"PID namespace", "UTS namespace", "overlay in TMPDIR", "overlay in the cache"}
RESTRICTED = ["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--user", f"{SOMEBODY}:{SOMEBODY}"]
PROFILES = {
    "default": ([], OPEN),
    "somebody": (["--user", f"{SOMEBODY}:{SOMEBODY}"], OPEN),
    "unmasked": (["--security-opt", "unmask=ALL"], OPEN - {"PID namespace"}),
    "open": (["--security-opt", "unmask=ALL", "--cap-add", "SYS_ADMIN"], OPEN - {"PID namespace", "UTS namespace"}),
    "restricted": (RESTRICTED, OPEN),
    "restricted, unmasked": ([*RESTRICTED, "--security-opt", "unmask=ALL"], OPEN - {"PID namespace"}),
}
"""By profile, its flags, and the points of ``doctor`` that have less there: the rows of docs/containers.md."""
CLOSED = {"user namespaces", "network namespace", "IPC namespace", "cgroup namespace", "UTS namespace", *OPEN} - {"PID namespace"}
AS_SOMEBODY = ["--user", f"{SOMEBODY}:{SOMEBODY}"]
FREED = ["--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL"]
OF_DOCKER = {
    "docker": ([], CLOSED),
    "docker, somebody": (AS_SOMEBODY, CLOSED),
    "docker, freed": (FREED, OPEN - {"PID namespace", "UTS namespace"}),
    "docker, somebody, freed": ([*AS_SOMEBODY, *FREED], OPEN - {"PID namespace", "UTS namespace"}),
}
"""Those of docker, by its filter: what else docker does is podman's here."""


def flags_of(profile: str, user: User) -> tuple[list[str], set[str]]:
    """Give the flags of a profile, and what ``doctor`` says of it."""
    if profile in PROFILES:
        return PROFILES[profile]
    flags, expected = OF_DOCKER[profile]
    return flags if flags[-2:] == FREED[-2:] else [*filtered(user.home), *flags], expected


@pytest.mark.parametrize("profile", todays([*PROFILES, *OF_DOCKER], 4))
def test_what_doctor_says_in_a_container(container: list[str], users: list[User], profile: str) -> None:
    """Each profile lacks nothing that builds need, and has less in the rows of its page alone; each of these has a remedy."""
    flags, expected = flags_of(profile, users[0])
    result = users[0].run([*container, *flags, "--env", "HOME=/tmp", "--rootfs", "/:O", *COMMAND, "doctor", "--json"])
    assert result.status == 0, result.err
    points = json.loads(result.out)["points"]
    assert {point["name"] for point in points if point["state"] != "has"} - {"emulators"} == expected
    assert all(point["cost"] and point["remedy"] for point in points if point["state"] != "has")
    remedies = " ".join(point["remedy"] for point in points)
    assert "SYS_ADMIN" not in remedies or "restricted" not in profile  # nothing there can have it


def test_a_volume_of_a_container(container: list[str], users: list[User]) -> None:
    """A TMPDIR and a cache on a volume have an overlay, which the container's own root has not."""
    root = users[0]
    volume = make_folder(Path(os.environ[PLACE]), "volume-")
    places = ["--volume", f"{volume}:/mnt", "--env", "TMPDIR=/mnt", "--env", "ROOTLESS_LAYER_CACHE=/mnt"]
    result = root.run([*container, *places, "--rootfs", "/:O", *COMMAND, "doctor", "--json"])
    remove(volume)
    assert result.status == 0, result.err
    points = {point["name"]: point["state"] for point in json.loads(result.out)["points"]}
    assert (points["overlay in TMPDIR"], points["overlay in the cache"]) == ("has", "has")


@pytest.mark.parametrize("name", ["root", "somebody"])
def test_a_session_in_podmans_default_profile(container: list[str], users: list[User], name: str) -> None:
    """All but a PID namespace and a host name are the session's own; the command says which are not; the flags that close them do."""
    root = users[0]
    script = root.script(f"#!/usr/bin/python3\n{HEAD}{SCRIPT}")
    become = [] if name == "root" else ["setpriv", "--reuid", str(SOMEBODY), "--regid", str(SOMEBODY), "--clear-groups"]
    build = [*become, *COMMAND, "build", "-o", "/tmp/layer", "--list", "--view", "directory", "--script", str(script)]
    for flags in ([], ["--security-opt", "unmask=ALL", "--cap-add", "SYS_ADMIN"]):
        result = root.run([*container, *flags, "--env", "HOME=/tmp", "--rootfs", "/:O", *build])
        assert result.status == 0, result.err
        assert "the end" in result.err
        assert "REACHED" not in result.err
        assert ("no PID namespace" in result.err) == (not flags), result.err
        assert ("share this machine's host name" in result.err) == (not flags), result.err
        assert "33:44" in result.out


ACCOUNTS = """
groupadd -g 700 team
useradd -m -u 1701 -g team app
mkdir -m 2750 /srv/app
chown app:team /srv/app
su app -c 'umask 027; echo mine > /srv/app/file; id -un > /srv/app/who'
chmod u+s /srv/app/who
"""


def in_container(command: list[str], flags: list[str], *words: str | Path) -> list[str]:
    """Give a command line that runs the command in a container that shows this machine's files."""
    return [*command, *flags, "--env", "HOME=/tmp", "--rootfs", "/:O", *COMMAND, *map(str, words)]


@pytest.mark.parametrize("profile", todays([*PROFILES, *OF_DOCKER], 3))
def test_a_layer_of_a_container_is_that_of_the_machine(container: list[str], users: list[User], profile: str) -> None:
    """Accounts made and used by a script, with set-ID bits, are the same bytes in every profile."""
    root = users[0]
    flags, _ = flags_of(profile, root)
    words = ["--rootfs", debian_root("bookworm", "fakeroot", "passwd"), "--tidy", "--script", root.script(ACCOUNTS)]
    inside = good(root.run(in_container(container, flags, "build", "-o", "/tmp/layer", "--json", *words)))
    assert json.loads(inside.out)["digest"] == root.build(*words).layer["digest"]


@pytest.mark.parametrize("profile", todays(["default", "restricted", "docker", "docker, somebody"], 2))
def test_what_was_built_is_tried_in_a_container(container: list[str], users: list[User], profile: str) -> None:
    """``run`` shows a layer's owners and gives the command's status, and a shell opens where a script fails, in each fallback."""
    root = users[0]
    flags, _ = flags_of(profile, root)
    script = root.script("mkdir /d\ntouch /d/file\nchown 33:44 /d/file\nexit 5\n")
    rootfs = ["--rootfs", busybox_root()]
    good(root.build(*rootfs, "--", "chown", "5:6", "/srv"))
    tried = root.run(in_container(container, flags, "run", root.home / "layer", "--", "sh", "-c", "stat -c %u:%g /srv; exit 7"))
    assert (tried.status, tried.out) == (7, "5:6\n"), tried.err
    podman = [str(shutil.which(container[0])), *container[1:], "--interactive", "--tty"]
    build = in_container(podman, flags, "build", *rootfs, "--script", script, "--on-failure", "shell", "-o", "/tmp/layer")
    with on_a_terminal(root, build) as person:
        person.reads("exit status 5")
        person.type("stat -c 'owner=%u:%g' /d/file; id -u | sed s/^/user-/\n")
        person.reads("owner=33:44")
        person.reads("user-0")
        person.type("exit\n")
        assert person.ends() == 5


UNWILLING = """#!/bin/bash
trap '' INT TERM HUP
setsid bash -c 'trap "" INT TERM HUP; sleep 999' &
sleep 998 & kill -STOP $!
while :; do mkdir d; chown 5:6 d; rmdir d; done &
echo begun
while :; do sleep 1000; done
"""


@pytest.mark.parametrize("profile", ["default", "docker", "docker, somebody"])
def test_an_interrupt_from_the_terminal_of_a_container(container: list[str], users: list[User], profile: str) -> None:
    """Ctrl-C ends a session that has no PID namespace, with all that its scripts started, and no queue or directory is left."""
    root = users[0]
    flags, _ = flags_of(profile, root)
    build = shlex.join(
        ["nice", *COMMAND, "build", "-o", "/tmp/layer", "--view", "directory", "--script", str(root.script(UNWILLING))]
    )
    look = "ps -e -o comm= | grep -c -e sleep -e python -e faked; ipcs -q | grep -c ^0x; ls -A /tmp/layer /tmp | grep -c -e layer -e faked"
    podman = [
        str(shutil.which(container[0])),
        *container[1:],
        "--interactive",
        "--tty",
        *flags,
        "--env",
        "HOME=/tmp",
        "--rootfs",
        "/:O",
    ]
    with on_a_terminal(root, [*podman, "bash", "-c", f"trap : INT; {build}; echo status $?; {look}; echo seen"]) as person:
        person.reads("begun")
        person.type("\x03")
        person.reads("interrupted; nothing was kept")
        person.reads("status 130\r\n")
        assert [line for line in person.reads("seen").split() if line.isdigit()] == ["0", "0", "0"], person.shown
        assert person.ends() == 0
