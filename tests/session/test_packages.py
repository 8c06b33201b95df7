"""Debian's packages, installed in a script by somebody without privilege: their files are what real root's installation leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.effort import EVERY, todays
from helpers.layers import blob_of
from helpers.oracle import differences, in_blob
from helpers.packages import INSTALL, Packages, comparable, unexplained
from helpers.place import in_memory, make_folder, remove
from helpers.users import User

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="only real root can be the oracle")]

LIGHT = (
    "man-db",  # its trigger works as the user man
    "munge",  # a key that a user makes
    "cron",  # a set-group-ID program, and a spool of its group
    "at",  # a spool of a user's
    "screen",  # a set-group-ID program, and a directory of its group in /run
    "dbus",  # a set-user-ID program of another group
    "sudo",  # modes below 0444
    "redis-server",  # a user, directories and files of a user's
    "systemd",  # users, access control lists
)
HEAVY = (
    "postgresql-15 ssl-cert",  # a cluster of a user's, who reads a key by a supplementary group
    "mariadb-server",  # a server that becomes a user, and its data
    "exim4-daemon-light",  # a set-user-ID program that empties its environment
    "openssh-server nginx-light",
    "polkitd",  # modes of a user's alone
    "rabbitmq-server",  # a user who makes a secret file
    "ca-certificates-java default-jre-headless",  # a trigger that runs Java
    "tex-common",
)

WORKS = {
    # A package, and a script that uses it.
    "sudo": """
mkdir /srv/d
sudo chown 33:33 /srv/d
sudo -u www-data id > /srv/who
sudo -u www-data -g daemon touch /srv/d/daemons
echo 'www-data ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/www
chmod 440 /etc/sudoers.d/www
su www-data -s /bin/sh -c 'sudo -n touch /srv/d/roots; sudo -n -u daemon -g adm id; sudo -n -i id; touch /srv/refused || true' >> /srv/who
su daemon -s /bin/sh -c 'sudo -n touch /srv/d/none || echo none' >> /srv/who
chmod u-s /usr/bin/sudo
su www-data -s /bin/sh -c 'sudo -n touch /srv/d/none || echo none' >> /srv/who
""",
    "cron": """
echo '1 * * * * true' | crontab -u www-data -
su daemon -s /bin/sh -c "echo '2 * * * * true' | crontab -; crontab -l" > /srv/list
su bin -s /bin/sh -c "echo '2 * * * * true' | crontab -; crontab -r; crontab -u daemon -l || ls /var/spool/cron/crontabs/daemon || echo hidden" > /srv/none
su bin -s /bin/sh -c 'echo more >> /var/spool/cron/crontabs/daemon' || echo refused >> /srv/none
""",
}


@pytest.fixture(scope="session")
def packages() -> Packages:
    """A small Debian, and packages for it."""
    return Packages()


@pytest.fixture
def work(shared: Path) -> Iterator[Path]:
    """A directory of a test's own on a file system that holds owners and attributes."""
    folder = make_folder(in_memory(shared), "packages-")
    yield folder
    remove(folder)


@pytest.mark.parametrize("name", LIGHT + HEAVY if EVERY else todays(LIGHT, 2))
def test_a_package_is_as_real_root_installs_it(name: str, somebody: User, packages: Packages, work: Path) -> None:
    """Every path has the kind, owner, mode, device, attributes, links and bytes that real root gives it.

    But for bytes that are others each time, which are named.
    """
    offered = work / "offered"
    packages.offer(name.split(), offered)
    real = packages.install_as_real_root(offered, work / "tree")
    script = somebody.script(INSTALL)
    layer = somebody.build("--rootfs", packages.root, "--copy-to-root", offered, "--script", script).layer
    ours = comparable(in_blob(blob_of(somebody, layer)))
    assert unexplained(differences(real, ours)) == {}


@pytest.mark.parametrize("name", WORKS)
def test_a_package_works_as_with_real_root(name: str, somebody: User, packages: Packages, work: Path) -> None:
    """What set-ID programs of a package make, allow and refuse is what they do for real root."""
    offered, text = work / "offered", INSTALL + WORKS[name]
    packages.offer([name], offered)
    real = packages.install_as_real_root(offered, work / "tree", text)
    layer = somebody.build("--rootfs", packages.root, "--copy-to-root", offered, "--script", somebody.script(text)).layer
    assert unexplained(differences(real, comparable(in_blob(blob_of(somebody, layer))))) == {}
