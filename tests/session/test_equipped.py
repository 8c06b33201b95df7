"""What a script finds beside its tree: shared memory, terminals, the kernel's files, and variables that are the same everywhere."""

from __future__ import annotations

import pytest
from helpers.aftermath import members
from helpers.probes import options, probe, program, python_store
from helpers.running import VIEWS
from helpers.users import User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


def made_by_the_script(user: User) -> set[str]:
    """Name all that is in the layer but the store."""
    return {path for path in members(user) if not path.startswith("nix")}


@pytest.mark.parametrize("view", VIEWS)
def test_shared_memory(user: User, view: str) -> None:
    """POSIX semaphores and shared memory are there for processes of a script; what is left in them is not in the layer."""
    text = """
import multiprocessing
from multiprocessing import shared_memory
def work(lock, number):
    with lock:
        number.value += 1
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    lock, number = context.Lock(), context.Value("i", 0)
    children = [context.Process(target=work, args=(lock, number)) for _ in range(4)]
    [child.start() for child in children]
    [child.join() for child in children]
    print("counted", number.value)
    memory = shared_memory.SharedMemory("left", create=True, size=1 << 20)
    memory.buf[:5] = b"bytes"
    print("left", os.listdir("/dev/shm"))
    os.chown("/dev/shm/left", 33, 44)
    print(oct(os.stat("/dev/shm").st_mode), os.stat("/dev/shm/left").st_uid)
    sys.stdout.flush()
    print("the end", flush=True)
    os._exit(0)
"""
    said = probe(user, view, text).err
    for line in ("counted 4", "left ['left']", "0o41777 33"):
        assert line in said
    assert made_by_the_script(user) == set()


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_that_fills_its_memory_ends_in_order(user: User, view: str) -> None:
    """/dev/shm has an end, the same on every machine, and the script is told of that as of a full disk."""
    text = """
import errno
written = 0
try:
    with open("/dev/shm/all", "wb", buffering=0) as file:
        while True:
            written += file.write(bytes(1 << 20))
except OSError as error:
    print("full:", error.errno == errno.ENOSPC, written >> 20)
"""
    assert "full: True 64" in probe(user, view, text).err
    assert made_by_the_script(user) == set()


@pytest.mark.parametrize("view", VIEWS)
def test_terminals(user: User, view: str) -> None:
    """A terminal can be opened, has a name, and is one for the program that runs on it; its owner can be changed."""
    text = """
import pty
child, terminal = pty.fork()
if child == 0:
    os.write(2, f"on {os.ttyname(0)} of {os.isatty(1)}".encode())
    with open("/dev/tty", "w") as own:
        own.write(" and of itself")
    os._exit(0)
said = b""
try:
    while part := os.read(terminal, 100):
        said += part
except OSError:
    pass
print(said.decode())
ours, theirs = os.openpty()
os.chown(os.ttyname(theirs), 0, 5)
os.chmod(os.ttyname(theirs), 0o620)
print("group", os.fstat(theirs).st_gid)
"""
    said = probe(user, view, text).err
    assert "on /dev/pts/0 of True and of itself" in said
    assert "group 5" in said
    assert made_by_the_script(user) == set()


@pytest.mark.parametrize("view", VIEWS)
def test_the_kernels_own_directories_can_be_changed_in_vain(user: User, view: str) -> None:
    """Packages give /proc and /sys modes, owners and times: that succeeds, and nothing of it is in the layer."""
    text = """
for path in ("/proc", "/sys"):
    os.chmod(path, 0o555)
    os.chown(path, 0, 0)
    os.utime(path, (1, 1))
    print(path, "has", len(os.listdir(path)) > 3)
os.mkdir("d")
os.utime("d", (7, 7))
print("time", os.stat("d").st_mtime)
"""
    said = probe(user, view, text).err
    assert "/proc has True" in said
    assert "/sys has True" in said
    assert "time 7.0" in said
    assert made_by_the_script(user) == {"d"}


def test_directories_of_the_tree_stay_below_what_is_mounted(user: User) -> None:
    """A tree's own /sys, /dev/shm, /dev/pts and /dev/ptmx are in the layer as they are; a link there stays one, and is used."""
    content = user.home / "content"
    for path in ("sys/own", "dev/shm/own", "dev/pts/own"):
        (content / path).mkdir(parents=True)
    (content / "dev/shm").chmod(0o775)
    (content / "dev/ptmx").symlink_to("nowhere")
    text = "print(*(os.listdir(path) for path in ('/dev/shm', '/dev/pts')), os.readlink('/dev/ptmx'))"
    assert "[] ['ptmx'] nowhere" in probe(user, "root", text, "--copy-to-root", content).err
    found = members(user)
    assert made_by_the_script(user) == {
        "dev", "dev/ptmx", "dev/pts", "dev/pts/own", "dev/shm", "dev/shm/own", "sys", "sys/own",
    }  # fmt: skip
    assert found["dev/shm"].mode == 0o775


def test_a_terminal_opens_where_a_tree_has_the_device(user: User) -> None:
    """A root filesystem with device nodes, as debootstrap makes it, has a /dev/ptmx that works and is in the layer as it was."""
    listing = user.home / "listing"
    listing.write_text(
        "#mtree\n. type=dir\n./dev type=dir mode=755\n./dev/ptmx type=char device=native,5,2 mode=666 uid=0 gid=5\n"
    )
    (user.home / "rootfs/dev").mkdir(parents=True)
    (user.home / "rootfs/dev/ptmx").touch()
    text = "print('opened', len(os.openpty()))"
    said = probe(user, "root", text, "--rootfs", user.home / "rootfs", "--rootfs-listing", listing).err
    assert "opened 2" in said
    node = members(user)["dev/ptmx"]
    assert (node.ischr(), node.devmajor, node.devminor, node.gid, node.mode) == (True, 5, 2, 5, 0o666)


def test_the_directory_views_tmp_is_everybodys(user: User) -> None:
    """Another user makes files in /tmp there, and takes none of root's away."""
    text = """
open("/tmp/of-root", "w").close()
os.setgid(8)
os.setuid(7)
with open("/tmp/own", "w") as own:
    print("made by", os.fstat(own.fileno()).st_uid)
door("another's", lambda: os.unlink("/tmp/of-root") is None)
"""
    said = probe(user, "directory", text).err
    assert "made by 7" in said
    assert "REACHED" not in said
    assert made_by_the_script(user) == set()


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_seen_is_the_same_everywhere(user: User, view: str) -> None:
    """No variable of the caller's or of chance, one umask, one host name, one boot ID, and no locale."""
    text = """
mask = os.umask(0)
os.umask(mask)
print("SEEN", oct(mask), socket.gethostname(), open("/proc/sys/kernel/random/boot_id").read().strip())
own = {"MARK", "PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PATH", "LC_CTYPE"}  # the last is Python's doing
print("SEEN", sorted(f"{name}={value}" for name, value in os.environ.items() if name not in own))
"""
    seen = []
    for caller in ({}, {"LANG": "C.UTF-8", "FAKEROOTKEY": "7", "RANDOM_OF_MINE": "1"}):
        store = python_store()
        words = [*options(store, view), "--env", f"MARK={user.home}", "--script", program(store, user, view, text)]
        result = user.build(*words, env=caller, umask=0o077 if caller else 0o022)
        assert result.status == 0, result.err
        seen.append([line for line in result.err.splitlines() if "SEEN" in line])
    assert seen[0] == seen[1]
    first, variables = seen[0]
    assert first.split()[1:3] == ["0o22", "localhost"]
    fixed = ["HOME=/root", "LOGNAME=root", "SOURCE_DATE_EPOCH=1", "TERM=dumb", "USER=root"]
    assert variables == f"SEEN {sorted(fixed + ([] if view == 'root' else ['TMPDIR=/tmp']))}"
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        assert file.read().strip() not in first
