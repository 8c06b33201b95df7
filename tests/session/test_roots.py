"""Scripts run, and are recorded right, in roots of every kind: of another C library, an older one, none at all, of 32 bits."""

from __future__ import annotations

import platform
import shutil
import stat

import pytest
from helpers.effort import EVERY
from helpers.roots import BUSYBOX, BY_BUSYBOX, BY_GO, COMPILERS, bare_root, below, built, busybox_root, debian_root, go_root
from helpers.running import VIEWS
from helpers.users import User

pytestmark = [pytest.mark.slow, pytest.mark.skipif(platform.machine() != "x86_64", reason="the roots are x86-64's and i386's")]

CHANGES = {
    "srv/attribute": "0:0:644", "srv/block": "0:0:600", "srv/file": "33:34:4711", "srv/folder": "0:42:2775",
    "srv/folder/inherits": "6:7:600", "srv/home": "1000:1000:755", "srv/home/file": "1000:1000:644",
    "srv/home/folder": "1000:1000:700", "srv/home/link": "1000:1000:777", "srv/link": "1000:70000:777", "srv/new": "8:8:644",
    "srv/null": "0:0:666", "srv/pipe": "10:10:640",
}  # fmt: skip
"""What the program ``changes`` leaves."""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", COMPILERS)
def test_a_root_of_one_program(users: list[User], kind: str, view: str) -> None:
    """One program's changes are the same from each C library, static or dynamic, in 64 bits and in 32; it sees them as they are."""
    root = bare_root(kind)
    program = "/p" if view == "root" else "./p"
    if view == "directory" and kind.startswith("dynamic"):
        program = "./" + next(path for path in COMPILERS[kind][1] if "/ld-" in path)
        found = built(users, "--rootfs", root, "--view", view, "--", program, "./p")
    else:
        found = built(users, "--rootfs", root, "--view", view, "--", program)
    assert below(found, "srv") == CHANGES


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", COMPILERS)
def test_another_root_in_a_root(users: list[User], kind: str, view: str) -> None:
    """A chroot leads a program into another root, where its changes are recorded as well."""
    command = ["/p", "../inner"] if view == "root" else ["chroot", "inner", "/p"]
    found = built(users, "--rootfs", bare_root(kind), "--view", view, "--", *command)
    assert below(found, "srv") == (CHANGES if view == "root" else {})
    assert below(found, "inner/srv") == {f"inner/{path}": owner for path, owner in CHANGES.items()}


def test_a_root_of_busybox(users: list[User]) -> None:
    """A root of nothing but a static busybox is enough for a shell script with accounts, owners, devices and archives."""
    found = built(users, "--rootfs", busybox_root(), "--script", users[0].script(BUSYBOX))
    assert below(found, "srv") == BY_BUSYBOX


@pytest.mark.skipif(not shutil.which("go"), reason="Go is not installed")
@pytest.mark.parametrize("kind", ["amd64", "386"])
def test_a_program_in_go(users: list[User], kind: str) -> None:
    """Go makes its system calls itself, and becomes another user on all of its threads."""
    found = built(users, "--rootfs", go_root(kind), "--", "/p")
    assert below(found, "srv") == BY_GO


DEBIAN = """
set -e
useradd -m -G www-data app
su app -c 'touch /home/app/f; mkdir /home/app/m; test "$(id -Gn)" = "app www-data"'
install -d -o www-data -g games -m 2750 /srv/d
su -s /bin/sh www-data -c 'echo log > /srv/d/log'
install -o app -g app -m 0600 /etc/hostname /srv/secret
cp -a /srv/secret /srv/copy; sed -i 's/$/ x/' /srv/copy
tar cf /srv/t.tar -C /srv d copy; mkdir /srv/x; tar xpf /srv/t.tar -C /srv/x; rm /srv/t.tar
mknod /srv/null c 1 3; chown 1:2 /srv/null
fakeroot sh -c 'touch /srv/nested; chown 3:4 /srv/nested; test "$(stat -c %u:%g /srv/nested)" = 3:4'
mkdir -p /srv/deb/DEBIAN /srv/deb/opt; echo x > /srv/deb/opt/x; chown 5:6 /srv/deb/opt/x
printf 'Package: own\\nVersion: 1\\nArchitecture: all\\nMaintainer: me <me@example.org>\\nDescription: own\\n' > /srv/deb/DEBIAN/control
printf '#!/bin/sh\\nchown 7:8 /opt/x\\n' > /srv/deb/DEBIAN/postinst; chmod 755 /srv/deb/DEBIAN/postinst
dpkg-deb -b /srv/deb /srv/own.deb; dpkg -i /srv/own.deb
rm -r /srv/deb /srv/own.deb /var/log/dpkg.log
"""
IN_DEBIAN = {
    "srv/copy": "1000:1000:600", "srv/d": "33:60:2750", "srv/d/log": "33:60:644", "srv/null": "1:2:644", "srv/secret": "1000:1000:600",
    "srv/x": "0:0:755", "srv/x/copy": "1000:1000:600", "srv/x/d": "33:60:2750", "srv/x/d/log": "33:60:644",
}  # fmt: skip
RELEASES = {"bullseye": ("bullseye", ""), "i386": ("bookworm", "i386"), "bookworm": ("bookworm", "")}


@pytest.mark.parametrize("kind", RELEASES if EVERY else ["bullseye"])
def test_a_debian(users: list[User], kind: str) -> None:
    """An older release's C library, and one of 32 bits, run accounts, su, dpkg, tar, and a fakeroot of their own."""
    suite, architecture = RELEASES[kind]
    root = debian_root(suite, "fakeroot", "passwd", architecture=architecture)
    found = built(users, "--rootfs", root, "--script", users[0].script(DEBIAN))
    assert {path: owner for path, owner in below(found, "srv").items() if "nested" not in path} == IN_DEBIAN
    assert found["opt/x"] == "7:8:644"
    assert found["home/app/f"] == "1000:1000:644"
    assert found["etc/shadow"] == "0:42:640"
    assert stat.S_IMODE(int(found["home/app"].rpartition(":")[2], 8)) in {0o755, 0o700}
