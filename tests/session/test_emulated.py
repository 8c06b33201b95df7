"""Scripts of another architecture's root run by qemu-user, with nothing set up on the machine; or the error says what to do."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tarfile
from pathlib import Path

import pytest
from helpers.aftermath import assert_nothing_left, assert_said
from helpers.effort import EVERY
from helpers.layers import blob_of, unpacked
from helpers.place import once
from helpers.roots import BUSYBOX, BY_BUSYBOX, BY_GO, below, built, busybox_root, debian_root, go_root
from helpers.users import COMMAND, User, good

from rootless_layer.session.inside import binfmt
from rootless_layer.session.inside.messages import Emulator

pytestmark = [pytest.mark.slow, pytest.mark.skipif(platform.machine() != "x86_64", reason="it is about x86-64's emulators")]

ARM = ("--platform", "linux/arm64")
QEMU = Path("/usr/bin/qemu-aarch64-static")
RULES = Path("/proc/sys/fs/binfmt_misc")


def busybox_of(architecture: str) -> Path:
    """Give a root of nothing but a busybox of one of Debian's architectures."""

    def extract(path: Path) -> None:
        with tarfile.open(debian_root("bookworm", "busybox-static", architecture=architecture, unpacked_only=True)) as archive:
            file = archive.extractfile("./bin/busybox")
            assert file is not None
            path.write_bytes(file.read())
        path.chmod(0o755)

    return busybox_root(str(once(f"busybox-{architecture}", extract)), f"busybox-{architecture}")


@pytest.fixture(scope="session")
def arm() -> Path:
    """A root of nothing but an arm64 busybox."""
    return busybox_of("arm64")


def rules() -> list[str]:
    """Name the rules that this machine has."""
    return sorted(path.name for path in RULES.iterdir()) if RULES.is_dir() else []


KINDS = {
    # Debian's name: the platform's, and what uname says.
    "arm64": ("arm64", "aarch64"), "armhf": ("arm/v7", "armv7l"), "ppc64el": ("ppc64le", "ppc64le"), "s390x": ("s390x", "s390x"),
    "mips64el": ("mips64le", "mips64"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS if EVERY else ["arm64"])
def test_a_root_of_another_architecture(users: list[User], kind: str) -> None:
    """Its busybox leaves what this machine's does, to the byte for everybody; the machine has no rule more."""
    name, machine = KINDS[kind]
    before = rules()
    script = users[0].script(f'{BUSYBOX}test "$(uname -m)" = {machine}\n')
    found = built(users, "--rootfs", busybox_of(kind), "--platform", f"linux/{name}", "--script", script)
    assert below(found, "srv") == BY_BUSYBOX
    assert rules() == before
    for user in users:
        assert_nothing_left(user)


@pytest.mark.skipif(not shutil.which("go"), reason="Go is not installed")
def test_a_program_in_go(users: list[User]) -> None:
    """A program of many threads is recorded right under an emulator, which has as many."""
    assert below(built(users, "--rootfs", go_root("arm64"), *ARM, "--", "/p"), "srv") == BY_GO


def test_a_program_keeps_its_first_argument(user: User, arm: Path) -> None:
    """A program sees the name that it is called by, as login shells need it."""
    script = user.script("su app -c 'test \"$0\" = sh'\nsu -l app -c 'test \"$0\" = -sh'\n")
    result = user.build("--rootfs", arm, *ARM, "--script", script)
    assert result.status == 0, result.err


def test_a_base_of_another_architecture(user: User, arm: Path) -> None:
    """A layer upon an image of that platform, from the cache or built, is what its scripts made; a file of make has both options."""
    good(user.build("--rootfs", arm, *ARM, output="base"))
    good(user.run([*COMMAND, "image", "--layer", user.home / "base", *ARM, "-f", "layout", "-o", user.home / "image"]))
    words = ("--base", user.home / "image", *ARM, "--cache")
    text = "uname -m > /srv/machine; chown 5:6 /srv/machine"
    cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    built_once, again = (user.build(*words, "--", "sh", "-ec", text, env=cache, output=name) for name in ("layer", "again"))
    assert built_once.layer["digest"] == again.layer["digest"]
    found = unpacked(user, built_once)
    assert (found["srv/machine"].data, found["srv/machine"].owner) == (b"aarch64\n", "5:6:644")
    file = user.script(f"""
[layer.change]
base = ["image"]
platform = "linux/arm64"
emulator = "{QEMU}"
run = "{text}"
output = "change"
""", "layers.toml")  # fmt: skip
    good(user.run([*COMMAND, "make", file]))
    assert json.loads((user.home / "change/layer.json").read_text())["digest"] == again.layer["digest"]


def test_an_emulator_that_is_named(user: User, arm: Path) -> None:
    """``--emulator`` names a qemu-user that is found nowhere else; one without what it needs, or without a purpose, is refused."""
    own = user.home / "emulators"
    own.mkdir()
    shutil.copy(QEMU, own / "my qemu")
    nowhere = {"PATH": without_qemu(user)}
    assert user.build("--rootfs", arm, *ARM, "--emulator", own / "my qemu", "--", "true", env=nowhere).status == 0
    for words, said in {
        (*ARM, "--emulator", "/bin/sh"): "loader",
        (*ARM, "--emulator", own): "emulates nothing",
        ("--emulator", str(own / "my qemu")): "--platform",
        (*ARM, "--view", "directory", "--emulator", str(own / "my qemu")): "root view",
    }.items():
        assert_said(user.build("--rootfs", arm, *words, "--", "true"), 65, said)


def without_qemu(user: User) -> str:
    """Give a PATH of fakeroot alone."""
    folder = user.home / "path"
    folder.mkdir()
    for name in ("fakeroot", "fakeroot-sysv", "faked-sysv", "sh", "env", "getopt"):
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(found)
    return str(folder)


def test_what_is_missing_is_said(user: User, arm: Path) -> None:
    """A program that cannot be executed is named with its architecture and what to do: 69."""
    nowhere = {"PATH": without_qemu(user)}
    script = user.script("#!/bin/sh\ntrue\n")
    assert_said(user.build("--rootfs", arm, *ARM, "--", "true", env=nowhere), 69, "/bin/true", "arm64", "qemu-user-static")
    assert_said(user.build("--rootfs", arm, *ARM, "--script", script, env=nowhere), 69, "/bin/sh", "arm64", "qemu-user-static")
    assert_said(user.build("--rootfs", arm, "--", "true"), 69, "arm64", "--platform")
    assert_said(user.build("--rootfs", arm, "--platform", "linux/riscv64", "--", "true"), 69, "arm64", "--platform")
    assert_said(user.build("--rootfs", arm, *ARM, "--view", "directory", "--", "./bin/true"), 69, "arm64", "root view")
    (user.home / "broken").mkdir()
    (user.home / "broken/program").write_bytes(b"\x7fELF")
    (user.home / "broken/program").chmod(0o755)
    assert_said(user.build("--rootfs", user.home / "broken", "--", "/program"), 126, "/program")


def test_this_machines_programs_need_no_emulator(user: User) -> None:
    """What is for another platform may be made by this machine's own programs."""
    env = {"PATH": without_qemu(user)}
    assert user.build("--rootfs", busybox_root(), *ARM, "--", "true", env=env).status == 0
    assert user.build("--rootfs", busybox_root(), "--platform", "linux/386", "--emulator", QEMU, "--", "true").status == 0


def test_a_kernel_without_rules_for_a_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older kernel's refusal is told as such; the machine's own rules hold there."""
    emulator = Emulator(b"qemu-aarch64", os.fsencode(QEMU), b"\x7fELF", b"\xff\xff\xff\xff", wanted=False)
    for number, words in {errno.EPERM: "6.7", errno.ENODEV: "no binfmt_misc"}.items():

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(binfmt.namespaces, "mount", refuse)
        assert words in binfmt.register(emulator, os.fsencode(folder / "rules"))


FIRST_STAGE = "debootstrap --foreign --arch=arm64 --variant=minbase bookworm /srv/root\n"
SECOND_STAGE = """
set -e
/debootstrap/debootstrap --second-stage
useradd -m -G www-data app
su app -c 'touch /home/app/f; mkdir /home/app/m; test "$(id -Gn)" = "app www-data"'
install -d -o www-data -g games -m 2750 /srv/d
su -s /bin/sh www-data -c 'echo log > /srv/d/log'
cp -a /srv/d /srv/e
mknod /srv/null c 1 3; chown 1:2 /srv/null
test "$(dpkg --print-architecture):$(uname -m)" = arm64:aarch64
test -z "$(dpkg --audit)"
find /var/log -type f -delete; rm /var/cache/ldconfig/aux-cache  # which has times and numbers of inodes
"""


@pytest.mark.skipif(not EVERY, reason="it takes minutes, and gets packages from a mirror")
def test_a_debian_of_another_architecture(users: list[User], folder: Path) -> None:
    """debootstrap makes a root in a script's directory; its packages' maintainer scripts, accounts and su run by the emulator."""
    native, root = debian_root("bookworm", "debootstrap", "wget"), folder / "root.tar"
    first = users[-1].build("--rootfs", native, "--script", users[-1].script(FIRST_STAGE), output="first")
    blob = blob_of(users[-1], good(first).layer, "first")
    with tarfile.open(blob) as made, tarfile.open(root, "w") as archive:
        for info in made:
            if info.name.startswith("srv/root/"):
                file = made.extractfile(info) if info.isreg() else None
                info.name, info.linkname = (each.removeprefix("srv/root/") for each in (info.name, info.linkname))
                archive.addfile(info, file)
    root.chmod(0o644)
    found = built(users, "--rootfs", root, *ARM, "--script", users[0].script(SECOND_STAGE))
    assert below(found, "srv") == {
        "srv/d": "33:60:2750", "srv/d/log": "33:60:644", "srv/e": "33:60:2750", "srv/e/log": "33:60:644", "srv/null": "1:2:644",
    }  # fmt: skip
    assert found["home/app/f"] == "1000:1000:644"
    assert found["etc/shadow"] == "0:42:640"
    assert found["usr/bin/chage"] == "0:42:2755"
