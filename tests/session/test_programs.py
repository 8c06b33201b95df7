"""Programs of a system that need more of it than files: terminals, accounts, shared memory, ports, and an end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.aftermath import assert_said
from helpers.effort import EVERY
from helpers.packages import INSTALL, Packages
from helpers.place import in_memory, make_folder, remove
from helpers.roots import busybox_root, debian_root
from helpers.users import User, good

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

by_choice = pytest.mark.skipif(not EVERY, reason="it takes minutes, and gets packages from a mirror")
in_roots_place = pytest.mark.skipif(os.geteuid() != 0, reason="the packages are kept in root's place")


def test_a_program_on_a_terminal_of_its_own(users: list[User]) -> None:
    """script(1) makes a terminal for a program, which knows its name and size, and keeps what is written there."""
    text = "script -qec 'tty; stty rows 9 columns 77; stty size; exit 3' /kept || echo status-$?\n"
    for user in users:
        built = good(user.build("--rootfs", debian_root("bookworm", "fakeroot", "passwd"), "--script", user.script(text)))
        said = built.err.split()
        assert said[-4:] == ["/dev/pts/0", "9", "77", "status-3"], built.err


ENDLESS = {
    "chain": "f() { (sleep 1000 & f) & sleep 0.02; }\nf\nsleep 1000\n",
    "flood": "trap '' TERM HUP INT\nwhile :; do (setsid sleep 1000 &) ; done\n",
    "busy": "while :; do :; done & while :; do :; done\n",
    "memory": "while :; do cat /dev/zero >> /dev/shm/all || sleep 0.1; done\n",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_script_without_end_ends_in_order(users: list[User], kind: str) -> None:
    """Whatever it starts or fills meanwhile, a script whose time is up is ended with all of it, and nothing is left."""
    for user in users:
        script = user.script(ENDLESS[kind])
        result = user.build("--rootfs", busybox_root(), "--script", script, "--timeout", "0.5")
        assert_said(result, 124, "0.5 seconds", "killed")
        assert not (user.home / "layer").exists()


SERVERS = """
nginx -t
nginx
printf 'GET / HTTP/1.0\\r\\n\\r\\n' | perl -MIO::Socket::INET -e '
    my $server = IO::Socket::INET->new("127.0.0.1:80") or die; print $server <STDIN>; print while <$server>' | grep -q 'Welcome to nginx'
nginx -s stop
bin=$(ls -d /usr/lib/postgresql/*/bin)
mkdir /srv/db
chown postgres: /srv/db
su postgres -s /bin/sh -c "set -e; $bin/initdb -D /srv/db >/dev/null
grep -x 'dynamic_shared_memory_type = posix.*' /srv/db/postgresql.conf
$bin/pg_ctl -D /srv/db -w -l /srv/db/log start >/dev/null
psql -Atc 'select 6 * 7'
$bin/pg_ctl -D /srv/db -w stop >/dev/null"
rm -r /srv/db
"""


@by_choice
@in_roots_place
def test_servers_run_in_a_session(users: list[User], shared: Path) -> None:
    """nginx checks its configuration and serves port 80; a cluster of postgres is made, with shared memory, and answers."""
    packages, offered = Packages(), make_folder(in_memory(shared), "offered-") / "tree"
    packages.offer(["nginx-light", "postgresql", "perl"], offered)
    for user in users:
        script = user.script(INSTALL + SERVERS)
        built = good(user.build("--rootfs", packages.root, "--copy-to-root", offered, "--script", script))
        assert "42" in built.err.splitlines()
    remove(offered.parent)


@by_choice
def test_apt_with_the_network(users: list[User]) -> None:
    """With the machine's network apt gets its lists and a package; tidy layers of two users are the same."""
    text = "apt-get -q update\napt-get -qy --no-install-recommends install hello\nhello > /srv/said\n"
    root = debian_root("bookworm", "ca-certificates", "fakeroot", "passwd")
    words = ["--rootfs", root, "--network", "host", "--tidy"]
    digests = {good(user.build(*words, "--script", user.script(text))).layer["digest"] for user in users}
    assert len(digests) == 1
