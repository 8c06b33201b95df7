"""What programs are told when they ask who they are, and who others are: the values that real root has."""

from __future__ import annotations

import json

import pytest
from helpers.layers import unpacked
from helpers.users import User

pytestmark = pytest.mark.slow


def told(user: User, text: str) -> object:
    """Run a program in Python, in the directory view, and give the JSON that it prints."""
    prelude = "import ctypes, json, os, socket, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    program = user.script(prelude + text, "program.py")
    script = user.script(f"python3 {program} > told")
    found: object = json.loads(unpacked(user, user.build("--view", "directory", "--script", script))["told"].data)
    return found


def test_the_other_end_of_a_socket_is_who_it_became(user: User) -> None:
    """SO_PEERCRED, by which databases know their users, has the ids that a process was given by setuid(2)."""
    text = """
def peer(one, size=12):
    return struct.unpack(f"{size // 4}I", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
server = socket.socket(socket.AF_UNIX)
server.bind("socket")
os.chmod("socket", 0o777)
server.listen()
child = os.fork()
if not child:
    os.setgid(8)
    os.setuid(7)
    client = socket.socket(socket.AF_UNIX)
    client.connect("socket")
    client.send(json.dumps([peer(client)[0] == os.getppid(), peer(client)[1:]]).encode())
    client.recv(1)
    os._exit(0)
accepted = server.accept()[0]
seen = accepted.recv(100)
found = [peer(accepted)[0] == child, peer(accepted)[1:], peer(accepted, 4)[0] == child, json.loads(seen)]
accepted.send(b"x")
os.waitpid(child, 0)
os.unlink("socket")
number = ctypes.create_string_buffer(12)
size = ctypes.c_int(12)
for descriptor in (os.open("/dev/null", os.O_RDONLY), 999):
    assert libc.getsockopt(descriptor, socket.SOL_SOCKET, socket.SO_PEERCRED, number, ctypes.byref(size)) < 0
    found.append(os.strerror(ctypes.get_errno()))
print(json.dumps(found))
"""
    here = [True, [7, 8], True, [True, [0, 0]]]
    assert told(user, text) == [*here, "Socket operation on non-socket", "Bad file descriptor"]


def test_supplementary_groups_are_in_order(user: User) -> None:
    """getgroups(2) gives the groups as the kernel keeps them."""
    assert told(user, "os.setgroups([30, 4, 1000, 4])\nprint(json.dumps(os.getgroups()))\n") == [4, 4, 30, 1000]


def test_capabilities_end_where_the_kernels_do(user: User) -> None:
    """Programs count the capabilities until one is refused; a dropped one is not in the bounding set, and gone after execve(2)."""
    text = """
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_CAP_AMBIENT, IS_SET, RAISE = 23, 24, 47, 1, 2
CHOWN, MKNOD = 0, 27
found = [
    libc.prctl(PR_CAP_AMBIENT, IS_SET, 63, 0, 0), libc.prctl(PR_CAP_AMBIENT, IS_SET, CHOWN, 0, 0),
    libc.prctl(PR_CAP_AMBIENT, RAISE, CHOWN, 0, 0), libc.prctl(PR_CAPBSET_READ, 63, 0, 0, 0),
    libc.prctl(PR_CAPBSET_READ, MKNOD, 0, 0, 0), libc.prctl(PR_CAPBSET_DROP, MKNOD, 0, 0, 0),
    libc.prctl(PR_CAPBSET_READ, MKNOD, 0, 0, 0),
]
print(json.dumps(found), flush=True)
os.execvp("sh", ["sh", "-c", "mknod device c 1 3 2>/dev/null && echo made >> told; chown 5 told"])
"""
    assert told(user, text) == [-1, 0, -1, -1, 1, 0, 0]


def test_the_bounding_set_of_proc_has_all_that_prctl_tells_of(user: User) -> None:
    """libcap-ng, and so setpriv(1), drops each capability that /proc does not show: root would lose chown with mknod."""
    text = """
import subprocess
def bits(name):
    return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1], 16)
there = sum(libc.prctl(23, number, 0, 0, 0) << number for number in range(41))
begin = bits("CapPrm")
subprocess.run(["setpriv", "--bounding-set", "-mknod", "chown", "3:4", "told"], check=True)
refused = subprocess.run(["setpriv", "--bounding-set", "-mknod", "mknod", "device", "c", "1", "3"], stderr=subprocess.DEVNULL)
after = subprocess.run(["sh", "-c", "exec grep CapPrm /proc/self/status"], capture_output=True, text=True, check=True)
status = os.stat("told")
more = int(after.stdout.split()[1], 16) & ~begin | begin & 1 << 21
print(json.dumps([there & ~bits("CapBnd"), [status.st_uid, status.st_gid], refused.returncode, more]))
"""
    assert told(user, text) == [0, [3, 4], 1, 0]


def test_descriptors_of_a_process_are_its_own(user: User) -> None:
    """A path through /proc/self/fd leads to what the process has open, and a number that it has not is a bad one."""
    text = """
high = os.dup2(os.open("file", os.O_CREAT | os.O_RDWR), 900)
path = f"/proc/self/fd/{high}"
os.chown(path, 5, 6)
os.chmod(path, 0o640)
found = [[status.st_mode & 0o7777, status.st_uid, status.st_gid] for status in (os.stat(path), os.stat("file"))]
for call in (lambda: os.fchown(901, 1, 1), lambda: os.fchmod(901, 0o600), lambda: os.chmod("x", 0o600, dir_fd=901)):
    try:
        call()
    except OSError as error:
        found.append(error.strerror)
print(json.dumps(found))
"""
    assert told(user, text) == [[0o640, 5, 6], [0o640, 5, 6], *["Bad file descriptor"] * 3]
