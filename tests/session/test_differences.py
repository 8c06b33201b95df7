"""The differences from real root that docs/scripts.md tells of: each is as it is told, and real root does otherwise."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import pytest
from helpers.corpus import BY_NAME, options_of, shared_contents
from helpers.oracle import Chroot, in_blob
from helpers.place import HERE, in_memory, make_folder, remove
from helpers.stores import Store
from helpers.users import User

PAGE = HERE.parent / "docs/scripts.md"


@attrs.frozen
class Difference:
    """A point of the page, and a command of the shell that succeeds here, or for real root, and never for both.

    ``by_root`` says for which of them; nothing where the oracle, which is confined, cannot do it either.
    """

    title: str
    command: str
    by_root: bool | None


def as_alice(command: str) -> str:
    """Have a command run by another user."""
    return f"chroot --userspec=1000:1000 / bash -c {shlex.quote(command)}"


def perl(text: str) -> str:
    """Have the shell run a program of Perl's."""
    return f"perl -e {shlex.quote(text)}"


PRCTL, SECCOMP, RECVMSG = {"aarch64": (167, 277, 212)}.get(platform.machine(), (157, 317, 47))
LISTEN = f"""\
my $filter = pack("SCCL", 6, 0, 0, 0x7fff0000);  # which allows everything
my $program = pack("Sx6P", 1, $filter);
syscall({PRCTL}, 38, 1, 0, 0, 0);  # PR_SET_NO_NEW_PRIVS
exit(syscall({SECCOMP}, 1, 8, $program) < 0);"""
"""A program that has a seccomp listener of its own."""
RECEIVE = f"""\
socketpair(HERE, THERE, 1, 1, 0);
setsockopt(THERE, 1, 16, 1);  # SO_PASSCRED
syswrite(HERE, "x");
my ($data, $control) = ("x" x 8, "x" x 64);
my $vector = pack("PQ", $data, 8);
my $message = pack("QQPQPQQ", 0, 0, $vector, 1, $control, 64, 0);
syscall({RECVMSG}, fileno(THERE), $message, 0);
my (undef, undef, undef, undef, $user, $group) = unpack("Ql2L3", $control);
exit !($user == 1000 && $group == 1000);"""
"""A program that asks who sent a message."""
DATAGRAM = """\
use Socket;
my $address = pack_sockaddr_un("/free/socket");
socket(HERE, PF_UNIX, SOCK_DGRAM, 0);
bind(HERE, $address) && chmod(0600, "/free/socket") || die;
$> = 1000;
socket(THERE, PF_UNIX, SOCK_DGRAM, 0);
exit !defined(send(THERE, "x", 0, $address));"""
"""A program that writes to a socket of root's as another user."""
SETITIMER = {"aarch64": 103}.get(platform.machine(), 38)
INTERRUPT = f"""\
$SIG{{ALRM}} = sub {{}};  # without SA_RESTART
my $often = pack("q4", 0, 200, 0, 200);
syscall({SETITIMER}, 0, $often, 0);
for (1 .. 50000) {{ $! = 0; mkdir("/free/often") && rmdir("/free/often"); exit if $! == 4; rmdir("/free/often") }}
exit 1;"""
"""A program that makes calls, and gets a signal every 200 µs, until one of the calls is interrupted (EINTR)."""

DIFFERENCES = (
    Difference("Reads.", f"{as_alice('cat /own/closed')} && {as_alice('ls /own/shut')}", by_root=False),
    Difference("Reads.", as_alice("cat /own/shut/open"), by_root=False),
    Difference("Times of an open file", as_alice(perl('open(F, "<", "/free/setid"); exit !utime(1, 1, *F)')), by_root=False),
    Difference("Datagrams", perl(DATAGRAM), by_root=False),
    Difference("Signals", f"sleep 100 & {as_alice('kill $0')} $!", by_root=False),
    Difference(
        "Set-ID bits and capabilities",
        as_alice(perl('open(F, "+<", "/free/setid"); print F "more"; close F; exit !-u "/free/setid"')),
        by_root=False,
    ),
    Difference(
        "Set-ID bits and capabilities",
        f"chmod 6777 /free/setid; {as_alice('echo more')} >> /free/setid; test -u /free/setid",
        by_root=False,
    ),
    Difference("Set-ID bits and capabilities", 'printf m 1<> /own/capable; test -n "$(getcap /own/capable)"', by_root=False),
    Difference(
        "Devices",
        'mknod /dev/own c 1 3; echo back > /dev/own; found=$(cat /dev/own); rm /dev/own; test -n "$found"',
        by_root=False,
    ),
    Difference(
        "Devices", 'mknod /dev/own c 1 3; found=$(find /dev -name own -type f); rm /dev/own; test -n "$found"', by_root=False
    ),
    Difference("Devices", "! rm -f /dev/full", by_root=False),
    Difference(
        "Open files without a name.",
        as_alice(perl('open(F, ">", "/free/last"); unlink "/free/last"; exit !chmod(0640, *F)')),
        by_root=True,
    ),
    Difference("Privileges", perl("exit !setpriority(0, 0, -1)"), by_root=None),
    Difference("`/proc`", as_alice("grep -q '^Uid:.1000' /proc/self/status"), by_root=True),
    Difference("Credentials in a message", as_alice(perl(RECEIVE)), by_root=True),
    Difference("`ulimit -m`", '(ulimit -Sm 5; test "$(ulimit -Sm)" = 5)', by_root=True),
    Difference("`io_uring`", perl("syscall(425, 0, 0); exit($! != 38)"), by_root=False),
    Difference("A signal whose handler has no `SA_RESTART`", perl(INTERRUPT), by_root=False),
    Difference("A seccomp listener", perl(LISTEN), by_root=True),
)
"""Those that a script sees."""
OF_THE_LAYER = {"Hard links of symbolic links, devices and fifos", "Sockets", "Names", "overlayfs's own attributes"}
"""Those that only a layer shows: the tests of sessions and of inputs have them."""
OF_THREADS = {"The ids of a thread"}
"""Those that only a program with threads shows: the test of odd calls has them."""

GROUND = """\
mkdir -p /own/shut /free
chmod 777 /free
echo closed > /own/closed
chmod 600 /own/closed
echo open > /own/shut/open
chmod 700 /own/shut
echo capable > /own/capable
setcap cap_net_raw+ep /own/capable
echo setid > /free/setid
chmod 6777 /free/setid
"""


def script() -> str:
    """Give a script that makes a directory for each command that succeeds."""
    tries = [f"if {{ {each.command}; }} >/dev/null 2>&1; then mkdir /said/{n}; fi\n" for n, each in enumerate(DIFFERENCES)]
    return f"{GROUND}mkdir /said\n{''.join(tries)}rm -r /own /free\n"


@pytest.fixture
def work(shared: Path) -> Iterator[Path]:
    """A directory on a file system that holds owners and attributes."""
    folder = make_folder(in_memory(shared), "differences-")
    yield folder
    remove(folder)


def said(paths: Iterable[bytes]) -> list[str]:
    """Give the commands that succeeded."""
    numbers = {int(path[len(b"said/") :]) for path in paths if path.startswith(b"said/")}
    return [each.command for number, each in enumerate(DIFFERENCES) if number in numbers]


def build(user: User, words: list[str]) -> Path:
    """Build a layer; give its blob."""
    digest: str = user.build(*words).layer["digest"]
    return user.home / "layer/blobs/sha256" / digest.removeprefix("sha256:")


def test_the_page_tells_of_each() -> None:
    """The points of the page are those that have a test."""
    section = PAGE.read_text().partition("## Differences from real root\n")[2].partition("\n## ")[0]
    points = re.findall(r"^- (?:\*\*(.*?)\*\*)", section, re.MULTILINE)
    assert section.count("\n- ") == len(points)
    assert set(points) == {each.title for each in DIFFERENCES} | OF_THE_LAYER | OF_THREADS


def test_a_script_finds_each(user: User, big_store: Store, accounts: Path) -> None:
    """What the page tells of happens, whoever builds."""
    contents = [*shared_contents(big_store), str(accounts)]
    words = [*options_of(BY_NAME["nothing"], "root", big_store, contents), "--script", str(user.script(script()))]
    found = said(in_blob(build(user, words)).nodes)
    assert found == [each.command for each in DIFFERENCES if each.by_root is False]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only real root can be the oracle")
def test_real_root_finds_none(chroot: Chroot, work: Path) -> None:
    """In a real chroot it is the other way round."""
    found = said(chroot.run(script(), work / "tree").nodes)
    assert found == [each.command for each in DIFFERENCES if each.by_root is True]
