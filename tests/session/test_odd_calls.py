"""Calls that few programs make: the values and errors that Linux gives, in both views and by real root on the disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from helpers.aftermath import members, owner
from helpers.probes import HEAD, probe
from helpers.running import VIEWS
from helpers.users import User

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("view", VIEWS)]

RELEASE = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
SAY = """
import errno, struct, threading
os.makedirs("odd"); os.chdir("odd")
open("f", "w").close(); os.mkdir("d"); os.symlink("f", "l"); os.mkfifo("p")

def say(name, act):
    try:
        found = act()
    except OSError as error:
        found = errno.errorcode[error.errno]
    print(f"odd {name}: {found}", flush=True)

def c(function, *numbers):
    result = function(*(number if isinstance(number, (bytes, ctypes.Array)) else ctypes.c_long(number) for number in numbers))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result

def as_somebody(act):
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([]); os.setgid(1000); os.setuid(1000)
            act()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
"""


def said(text: str) -> dict[str, str]:
    """Read what a program says of its calls."""
    lines = [line.removeprefix("odd ").rpartition(": ") for line in text.splitlines() if line.startswith("odd ")]
    return {name: found for name, _, found in lines}


def by_real_root(user: User, text: str) -> dict[str, str]:
    """Give what a program says that real root runs on the disk."""
    words = [sys.executable, "-c", HEAD + SAY + text]
    return said(subprocess.run(words, cwd=user.home, capture_output=True, text=True, check=True).stdout)


def check(user: User, view: str, text: str, right: dict[str, str]) -> None:
    """See that a program's calls end like this, and by real root on the disk as well."""
    assert said(probe(user, view, SAY + text).err) == right
    if user.is_root and RELEASE >= (6, 6):  # an older one has no fchmodat2
        assert by_real_root(user, text) == right


ATTRIBUTES = """
os.mkdir("s"); os.chmod("s", 0o1777); os.chmod("f", 0o646)
put = lambda path, name, value=b"v", flags=0: os.setxattr(path, name, value, flags, follow_symlinks=False)
get = lambda path, name: os.getxattr(path, name, follow_symlinks=False)
def names(who):
    for path in "fdslp":
        for name in ("user.x", "trusted.x", "security.x", "user.", "trusted.", "system.x", "other.x", "system.posix_acl_access"):
            say(f"{who} get {path} {name}", lambda: get(path, name))
            say(f"{who} remove {path} {name}", lambda: os.removexattr(path, name, follow_symlinks=False))
            if "acl" not in name:
                say(f"{who} set {path} {name}", lambda: put(path, name))
                forget(path, name)
def forget(path, name):
    try:
        os.removexattr(path, name, follow_symlinks=False)
    except OSError:
        pass
names("root")
as_somebody(lambda: names("somebody"))
say("none", lambda: get("f", ""))
say("set none", lambda: put("f", ""))
say("255", lambda: put("f", "user." + "n" * 250))
say("256", lambda: put("f", "user." + "n" * 251))
say("get 256", lambda: get("f", "user." + "n" * 251))
say("65536", lambda: put("f", "user.large", b"v" * 65537))
say("flags", lambda: put("f", "user.y", b"v", 4))
say("flags first", lambda: put("f", "", b"v", 4))
say("replace", lambda: put("f", "user.y", b"v", 2))
say("both", lambda: put("f", "user.y", b"v", 3))
say("create", lambda: put("f", "user.y", b"value", 1))
say("create again", lambda: put("f", "user.y", b"value", 1))
say("both again", lambda: put("f", "user.y", b"value", 3))
say("small", lambda: c(libc.getxattr, b"f", b"user.y", ctypes.create_string_buffer(9), 4))
say("enough", lambda: c(libc.getxattr, b"f", b"user.y", ctypes.create_string_buffer(9), 5))
say("size", lambda: c(libc.getxattr, b"f", b"user.y", 0, 0))
say("nowhere", lambda: c(libc.getxattr, b"f", b"user.y", 0, 5))
say("default list", lambda: put("f", "system.posix_acl_default", struct.pack("<IHHIHHIHHI", 2, 1, 7, 0, 4, 5, 0, 32, 5, 0)))
say("empty default list", lambda: put("f", "system.posix_acl_default", struct.pack("<I", 2)))
say("no default list", lambda: os.removexattr("f", "system.posix_acl_default"))
say("no list", lambda: put("l", "system.posix_acl_access", b"v"))
"""


def names_of(who: str, kinds: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    """Write out what three calls give, by the files and the name of an attribute."""
    result: dict[str, str] = {}
    for files_name, found in kinds.items():
        files, name = files_name.split(" ")
        for path in files:
            calls = ("get", "remove") if "acl" in name else ("get", "remove", "set")
            result |= {f"{who} {call} {path} {name}": value for call, value in zip(calls, found, strict=False)}
    return result


OF_ATTRIBUTES = {
    **names_of("root", {
        "fds user.x": ("ENODATA", "ENODATA", "None"), "lp user.x": ("ENODATA", "EPERM", "EPERM"),
        "fdslp trusted.x": ("ENODATA", "ENODATA", "None"), "fdslp security.x": ("ENODATA", "ENODATA", "None"),
        "fds user.": ("EINVAL", "EINVAL", "EINVAL"), "lp user.": ("ENODATA", "EPERM", "EPERM"),
        "fdslp trusted.": ("EINVAL", "EINVAL", "EINVAL"), "fdslp system.x": ("ENOTSUP", "ENOTSUP", "ENOTSUP"),
        "fdslp other.x": ("ENOTSUP", "ENOTSUP", "ENOTSUP"), "fdsp system.posix_acl_access": ("ENODATA", "None", ""),
        "l system.posix_acl_access": ("ENOTSUP", "ENOTSUP", ""),
    }),
    **names_of("somebody", {
        "f user.x": ("ENODATA", "ENODATA", "None"), "d user.x": ("ENODATA", "EACCES", "EACCES"), "slp user.x": ("ENODATA", "EPERM", "EPERM"),
        "fdslp trusted.x": ("ENODATA", "EPERM", "EPERM"), "fdslp security.x": ("ENODATA", "EPERM", "EPERM"),
        "f user.": ("EINVAL", "EINVAL", "EINVAL"), "d user.": ("EINVAL", "EACCES", "EACCES"),
        "s user.": ("EINVAL", "EPERM", "EPERM"), "lp user.": ("ENODATA", "EPERM", "EPERM"),
        "fdslp trusted.": ("ENODATA", "EPERM", "EPERM"), "fdslp system.x": ("ENOTSUP", "ENOTSUP", "ENOTSUP"),
        "fsl other.x": ("ENOTSUP", "ENOTSUP", "ENOTSUP"), "dp other.x": ("ENOTSUP", "EACCES", "EACCES"),
        "fdsp system.posix_acl_access": ("ENODATA", "EPERM", ""), "l system.posix_acl_access": ("ENOTSUP", "ENOTSUP", ""),
    }),
    "none": "ERANGE", "set none": "ERANGE", "255": "None", "256": "ERANGE", "get 256": "ERANGE", "65536": "E2BIG", "flags": "EINVAL",
    "flags first": "EINVAL", "replace": "ENODATA", "both": "ENODATA", "create": "None", "create again": "EEXIST", "both again": "EEXIST",
    "small": "ERANGE", "enough": "5", "size": "5", "nowhere": "EFAULT", "default list": "EACCES", "empty default list": "None", "no default list": "None",
    "no list": "EINVAL",
}  # fmt: skip


def test_names_of_attributes(user: User, view: str) -> None:
    """Which attributes there may be, of which file, for whom; and what is too long, too small or there already."""
    check(user, view, ATTRIBUTES, OF_ATTRIBUTES)


DESCRIPTORS = """
def calls(who):
    held, opened, for_ioctl = os.open("f", os.O_PATH), os.open("f", os.O_RDONLY), os.open("f", 3)
    for name, number in (("held", held), ("open", opened), ("ioctl", for_ioctl), ("none", 99)):
        say(f"{who} fchown {name}", lambda: c(libc.fchown, number, 5, 6))
        say(f"{who} fchmod {name}", lambda: c(libc.fchmod, number, 0o640))
        say(f"{who} fsetxattr {name}", lambda: c(libc.fsetxattr, number, b"user.x", b"v", 1, 0))
        say(f"{who} fgetxattr {name}", lambda: c(libc.fgetxattr, number, b"user.x", 0, 0))
        say(f"{who} fremovexattr {name}", lambda: c(libc.fremovexattr, number, b"user.x"))
        say(f"{who} flistxattr {name}", lambda: c(libc.flistxattr, number, 0, 0))
        say(f"{who} fchownat {name}", lambda: c(libc.fchownat, number, b"", 7, 8, 0x1000))
        say(f"{who} fchmodat2 {name}", lambda: c(libc.syscall, 452, number, b"", 0o604, 0x1000))
    say(f"{who} no path", lambda: c(libc.fchownat, opened, 0, 7, 8, 0x1000))
    say(f"{who} fchownat flag", lambda: c(libc.fchownat, opened, b"", 7, 8, 0x1200))
    say(f"{who} fchmodat2 flag", lambda: c(libc.syscall, 452, opened, b"", 0o604, 0x1200))
    say(f"{who} unlinkat flag", lambda: c(libc.unlinkat, -100, b"f", 0x100))
    say(f"{who} linkat flag", lambda: c(libc.linkat, -100, b"f", -100, b"g", 0x100))
    for number in (held, opened, for_ioctl):
        os.close(number)
calls("process")
thread = threading.Thread(target=lambda: calls("thread")); thread.start(); thread.join()
os.chown("f", 7, 8)
"""
_TAKEN = {"fchown": "0", "fchmod": "0", "fsetxattr": "0", "fgetxattr": "1", "fremovexattr": "0", "flistxattr": "0"}
_AT = {"fchownat": "0", "fchmodat2": "0"}
OF_DESCRIPTORS = {
    f"{who} {name}": value
    for who in ("process", "thread")
    for name, value in {
        **{f"{call} held": "EBADF" for call in _TAKEN},
        **{f"{call} {kind}": value for kind in ("open", "ioctl") for call, value in _TAKEN.items()},
        **{f"{call} {kind}": value for kind in ("held", "open", "ioctl") for call, value in _AT.items()},
        **{f"{call} none": "EBADF" for call in (*_TAKEN, *_AT)},
        **dict.fromkeys(("fchownat flag", "fchmodat2 flag", "unlinkat flag", "linkat flag"), "EINVAL"),
        "no path": "EFAULT",
    }.items()
}


def test_descriptors_that_only_hold_a_file(user: User, view: str) -> None:
    """O_PATH is EBADF for calls of an open file, and enough for those with AT_EMPTY_PATH; unknown flags are EINVAL."""
    check(user, view, DESCRIPTORS, OF_DESCRIPTORS)
    assert owner(members(user)["odd/f"]) == (7, 8, 0o604)


LINKS = """
os.symlink("/proc/self", "me"); os.symlink("/proc/self/fd", "fds"); os.symlink("fds/77", "file"); os.symlink("/proc/thread-self", "thread")
number = os.open("f", os.O_RDWR); os.dup2(number, 77); os.dup2(os.open("d", os.O_RDONLY), 78)
for mode, way in ((0o601, "fds/77"), (0o602, "me/fd/77"), (0o603, "file"), (0o604, "thread/fd/77"), (0o605, "fds/../fd/77"), (0o606, f"{os.getcwd()}/fds/77")):
    say(way.removeprefix(os.getcwd()), lambda: (os.chmod(way, mode), oct(os.stat("f").st_mode))[1])
say("above", lambda: os.mkdir("fds/78/new"))
say("chown", lambda: os.chown("fds/78/new", 5, 6))
say("move", lambda: os.rename("fds/78/new", "fds/78/../moved"))
say("owner", lambda: os.stat("moved").st_uid)
say("remove", lambda: os.rmdir("me/cwd/moved"))
say("missing", lambda: os.chmod("fds/99", 0o600))
say("missing below", lambda: os.chmod("me/cwd/nothing", 0o600))
os.chmod("f", 0o604); os.chown("f", 0, 0)
def opens():
    for way in ("fds/77", "/proc/self/fd/77", "file"):
        say(f"somebody {way}", lambda: os.open(way, os.O_RDWR))
as_somebody(opens)
"""
OF_LINKS = {
    "fds/77": "0o100601", "me/fd/77": "0o100602", "file": "0o100603", "thread/fd/77": "0o100604", "fds/../fd/77": "0o100605",
    "/fds/77": "0o100606", "above": "None", "chown": "None", "move": "None", "owner": "5", "remove": "None", "missing": "ENOENT",
    "missing below": "ENOENT", **dict.fromkeys(("somebody fds/77", "somebody /proc/self/fd/77", "somebody file"), "EACCES"),
}  # fmt: skip


def test_links_of_other_names_to_descriptors(user: User, view: str) -> None:
    """A link to /proc/self/fd leads to the caller's descriptors, which nobody opens anew who may not open the file."""
    check(user, view, LINKS, OF_LINKS)


WAYS = """
open("d/f", "w").close(); os.mkdir("d/e"); os.mkdir("d/root"); open("d/root/f", "w").close(); os.symlink("/proc/self/fd", "d/fds")
for name, target in (("link", "f"), ("up", "../f"), ("absolute", os.getcwd() + "/f"), ("inside", "/root/f"), ("new", "/root/new"), ("out", "../out")):
    os.symlink(target, "d/" + name)
for path in ("f", "d/f", "d/root/f"):
    os.chmod(path, 0o666)
for path in (".", "d", "d/e", "d/root"):
    os.chmod(path, 0o777)
def ways(who):
    top = os.open("d", os.O_PATH); os.dup2(os.open("f", os.O_RDWR), 77)
    def opened(path, flags, resolve, mode=0, size=24, more=b""):
        number = c(libc.syscall, 437, top, path.encode(), ctypes.create_string_buffer(struct.pack("=QQQ", flags, mode, resolve) + more), size)
        found = os.readlink(f"/proc/self/fd/{number}").removeprefix(os.getcwd() + "/")
        os.close(number)
        return found
    for name, resolve in (("any", 0), ("beneath", 8), ("in root", 16), ("no links", 4), ("no magic", 2), ("no mounts", 1)):
        for path in ("f", "link", "up", "absolute", "inside", "../f", "e/../f", "fds/77"):
            if (name, path) not in {("any", "inside"), ("no magic", "inside"), ("no mounts", "inside"), ("no mounts", "absolute")}:
                say(f"{who} {name} {path}", lambda: opened(path, os.O_WRONLY, resolve))
    for name, resolve, path in (("beneath", 8, "out"), ("beneath", 8, "e/new"), ("in root", 16, "new"), ("in root", 16, "out"), ("no links", 4, "out")):
        say(f"{who} {name} makes {path}", lambda: opened(path, os.O_WRONLY | os.O_CREAT, resolve, 0o600))
    for made in ("d/e/new", "d/root/new", "d/out"):
        if os.path.isfile(made) and not os.path.islink(made):
            os.unlink(made)
    say(f"{who} both", lambda: opened("f", 1, 24))
    say(f"{who} unknown", lambda: opened("f", 1, 64))
    say(f"{who} mode", lambda: opened("f", 1, 0, 0o600))
    say(f"{who} flag", lambda: opened("f", 1 | 1 << 40, 0))
    say(f"{who} short", lambda: opened("f", 1, 0, size=16))
    say(f"{who} long", lambda: opened("f", 1, 0, size=32, more=bytes(8)))
    say(f"{who} longer", lambda: opened("f", 1, 0, size=32, more=b"12345678"))
    say(f"{who} temporary", lambda: opened("e", os.O_TMPFILE, 0, 0o600))
    say(f"{who} directory", lambda: opened("e", os.O_CREAT | os.O_DIRECTORY | os.O_WRONLY, 0, 0o600))
    say(f"{who} no time", lambda: c(libc.openat, top, b"f", os.O_NOATIME | 1, 0) > 0)
    say(f"{who} old flag", lambda: c(libc.openat, top, b"f", 1 | 1 << 31, 0) > 0)
ways("root")
as_somebody(lambda: ways("somebody"))
os.chmod("d", 0o2777)
ways("set-ID")
"""
_EVERY_WAY = {
    "any": ("d/f", "d/f", "f", "f", "", "f", "d/f", "f"),
    "beneath": ("d/f", "d/f", "EXDEV", "EXDEV", "EXDEV", "EXDEV", "d/f", "EXDEV"),
    "in root": ("d/f", "d/f", "d/f", "ENOENT", "d/root/f", "d/f", "d/f", "ENOENT"),
    "no links": ("d/f", "ELOOP", "ELOOP", "ELOOP", "ELOOP", "f", "d/f", "ELOOP"),
    "no magic": ("d/f", "d/f", "f", "f", "", "f", "d/f", "ELOOP"),
    "no mounts": ("d/f", "d/f", "f", "", "", "f", "d/f", "EXDEV"),
}
_PATHS = ("f", "link", "up", "absolute", "inside", "../f", "e/../f", "fds/77")
OF_WAYS = {
    f"{who} {name}": value
    for who in ("root", "somebody", "set-ID")
    for name, value in {
        **{f"{way} {path}": value for way, values in _EVERY_WAY.items() for path, value in zip(_PATHS, values, strict=True) if value},
        "beneath makes out": "EXDEV", "beneath makes e/new": "d/e/new", "in root makes new": "d/root/new", "in root makes out": "ELOOP",
        "no links makes out": "ELOOP", **dict.fromkeys(("both", "unknown", "mode", "flag", "short", "temporary", "directory"), "EINVAL"),
        "long": "d/f", "longer": "E2BIG", "old flag": "True", "no time": "EPERM" if who == "somebody" else "True",
    }.items()
}  # fmt: skip


def test_ways_that_openat2_leaves_open(user: User, view: str) -> None:
    """The flags of openat2 that close ways hold for whoever opens, and in directories that hand on a group."""
    check(user, view, WAYS, OF_WAYS)


NAMELESS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
files = [os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600) for _ in range(450)]
for group, file in enumerate(files):
    os.fchown(file, 5, group)
say("groups", lambda: [os.fstat(file).st_gid for file in files] == list(range(450)))
say("link", lambda: c(libc.linkat, -100, b"/proc/self/fd/%d" % files[449], -100, b"last", 0x400))
"""


def test_many_files_without_a_name(user: User, view: str) -> None:
    """More of them may have an owner at once than a few hundred, and the one that gets a name keeps its own."""
    if os.sysconf("SC_OPEN_MAX") < 2048:
        pytest.skip("few files may be open at once")
    check(user, view, NAMELESS, {"groups": "True", "link": "0"})
    assert owner(members(user)["odd/last"]) == (5, 449, 0o600)


NOWHERE = """
def changes(who, own):
    pipe, memory, end = os.pipe()[0], os.memfd_create("memory"), socket.socket().detach()
    for name, number in (("pipe", pipe), ("memory", memory), ("socket", end)):
        say(f"{who} {name}", lambda: (os.fchmod(number, 0o640), os.fchown(number, own, own), os.fstat(number).st_uid, oct(os.fstat(number).st_mode & 0o777))[2:])
        say(f"{who} {name} given away", lambda: os.fchown(number, 33, -1))
    say(f"{who} nobody", lambda: os.chown("f", -1, -1))
    say(f"{who} same", lambda: os.chown("f", 0, -1))
changes("root", 7)
as_somebody(lambda: changes("somebody", 1000))
"""
OF_NOWHERE = {
    **{f"root {name}": "(7, '0o640')" for name in ("pipe", "memory", "socket")},
    **{f"root {name}": "None" for name in ("pipe given away", "memory given away", "socket given away", "nobody", "same")},
    **{f"somebody {name}": "(1000, '0o640')" for name in ("pipe", "memory", "socket")},
    **{f"somebody {name} given away": "EPERM" for name in ("pipe", "memory", "socket")},
    "somebody nobody": "None", "somebody same": "EPERM",
}  # fmt: skip


def test_files_that_are_nowhere(user: User, view: str) -> None:
    """Pipes, sockets and memory are their maker's; who gives a file to nobody needs not be its owner."""
    check(user, view, NOWHERE, OF_NOWHERE)


THREADS = """
os.chmod("d", 0o777)
thread = threading.Thread(target=lambda: libc.setfsuid(1000)); thread.start(); thread.join()
say("owner", lambda: (os.mkdir("d/made"), os.stat("d/made").st_uid)[1])
"""


def test_ids_are_of_a_process(user: User, view: str) -> None:
    """What a thread makes of its own ids is its process's: a difference from Linux, of which docs/scripts.md tells."""
    assert said(probe(user, view, SAY + THREADS).err) == {"owner": "1000"}
    if user.is_root:
        assert by_real_root(user, THREADS) == {"owner": "0"}
