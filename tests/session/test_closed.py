"""What a script cannot reach of the machine: its network, cgroups, keys, and the processes of others."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.aftermath import CONFINED, marked, members, until
from helpers.layers import unpacked
from helpers.place import PLACE, make_folder
from helpers.probes import options, probe, program, python_store
from helpers.running import VIEWS, say, started
from helpers.users import COMMAND, HANG, User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


@pytest.fixture
def services() -> Iterator[tuple[str, int]]:
    """Services of this machine's: at an abstract address, and at a port of 127.0.0.1."""
    name = f"rootless-layer-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract, socket.socket() as port:
        abstract.bind(f"\0{name}")
        abstract.listen()
        port.bind(("127.0.0.1", 0))
        port.listen()
        yield name, port.getsockname()[1]


SERVICES = """
def abstract():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\\0" + os.environ["NAME"])
        return True
door("abstract", abstract)
door("port", lambda: socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))))
"""


@pytest.mark.parametrize("view", VIEWS)
def test_no_service_of_this_machine_is_reached(user: User, services: tuple[str, int], view: str) -> None:
    """Neither an abstract socket nor a port: with --network host both, and so with a network that is refused the command says so."""
    words = ["--env", f"NAME={services[0]}", "--env", f"PORT={services[1]}"]
    assert "REACHED" not in probe(user, view, SERVICES, *words).err
    reached = [
        line.split()[1] for line in probe(user, view, SERVICES, *words, "--network", "host").err.splitlines() if "REACHED" in line
    ]
    assert reached == ["abstract", "port"]


@pytest.mark.parametrize("view", VIEWS)
def test_a_network_of_the_scripts_own(user: User, view: str) -> None:
    """Programs of a script reach each other by 127.0.0.1 and ::1, at any port, and see no other interface."""
    text = """
for kind, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    server, client = socket.socket(kind), socket.socket(kind)
    server.bind((address, 80))
    server.listen()
    client.connect((address, 80))
    server.accept()[0].send(b"hello")
    print(address, "says", client.recv(5).decode())
print(sorted(name for _, name in socket.if_nameindex()))
"""
    said = probe(user, view, text).err
    assert "127.0.0.1 says hello" in said
    assert "::1 says hello" in said
    with open("/proc/net/dev", encoding="ascii") as file:
        own = [line.partition(":")[0].strip() for line in file if ":" in line]
    assert not [name for name in own if f"'{name}'" in said and name.startswith(("eth", "en", "wl"))]


@pytest.mark.parametrize("view", VIEWS)
def test_no_cgroup_is_reached(user: User, view: str) -> None:
    """A script is in no user namespace but its session's, by whatever call; in one of its own it would be free to mount cgroups."""
    text = """
NEW_USER = 0x10000000
def in_child(enter):
    child = os.fork()
    if child == 0:
        os._exit(enter() != 0)
    return os.waitpid(child, 0)[1] == 0
def cloned():
    child = call(56 if ON_X86 else 220, NEW_USER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child > 0
def cloned_by_structure():
    arguments = (ctypes.c_uint64 * 11)(NEW_USER, 0, 0, 0, signal.SIGCHLD)
    child = libc.syscall(ctypes.c_long(435), arguments, ctypes.c_long(88))
    if child == 0:
        os._exit(0)
    return child > 0
door("unshare", lambda: in_child(lambda: libc.unshare(NEW_USER)))
door("clone", cloned)
door("clone3", cloned_by_structure)
for kind in ("cgroup", "cgroup2"):
    os.mkdir("at-" + kind)
    door(kind, lambda: libc.mount(b"x", b"at-" + kind.encode(), kind.encode(), 0, None) == 0)
for here, folders, files in os.walk("/sys/fs/cgroup"):
    for name in files:
        door(here + "/" + name, lambda: os.open(os.path.join(here, name), os.O_WRONLY))
print("in", open("/proc/self/cgroup").read().split())
"""
    said = probe(user, view, text).err
    assert "REACHED" not in said
    lines = next(line for line in said.splitlines() if line.startswith("in ["))
    assert all(group.strip("[]'").endswith(":/") for group in lines.removeprefix("in ").split(", ")), lines


@pytest.mark.parametrize("view", VIEWS)
def test_no_key_is_reached(user: User, view: str) -> None:
    """The keyrings of the session, the user and the process are not there, and no key can be added."""
    text = """
KEYCTL, ADD = (250, 248) if ON_X86 else (219, 217)
for ring in (-1, -2, -3, -4, -5):
    door(f"keyring {ring}", lambda: call(KEYCTL, 0, ring, 1) >= 0)
    door(f"add to {ring}", lambda: call(ADD, b"user", b"planted", b"x", 1, ring) >= 0)
"""
    assert "REACHED" not in probe(user, view, text).err


OTHERS = """
victim = int(os.environ["VICTIM"])
while os.getpgid(victim) != victim:
    pass
info = bytes(128)
door("kill", lambda: os.kill(victim, signal.SIGUSR1) is None)
door("kill the group", lambda: os.killpg(os.getpgid(victim), signal.SIGUSR1) is None)
door("kill everybody", lambda: os.kill(-1, signal.SIGUSR1) is None)
door("tkill", lambda: call(200 if ON_X86 else 130, victim, signal.SIGUSR1) == 0)
door("tgkill", lambda: call(234 if ON_X86 else 131, victim, victim, signal.SIGUSR1) == 0)
door("rt_sigqueueinfo", lambda: call(129 if ON_X86 else 138, victim, signal.SIGUSR1, info) == 0)
door("rt_tgsigqueueinfo", lambda: call(297 if ON_X86 else 240, victim, victim, signal.SIGUSR1, info) == 0)
door("pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(victim), signal.SIGUSR1) is None)
door("proc", lambda: signal.pidfd_send_signal(os.open(f"/proc/{victim}", os.O_RDONLY), signal.SIGUSR1) is None)
door("ptrace", lambda: call(101 if ON_X86 else 117, 0x4206, victim, 0, 0) == 0)
import resource
door("prlimit", lambda: resource.prlimit(victim, resource.RLIMIT_CORE, (0, 0)) is not None)
door("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, victim, 19) is None)
door("affinity", lambda: os.sched_setaffinity(victim, os.sched_getaffinity(0)) is None)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.pause()
while os.getpgid(child) != child:
    pass
resource.prlimit(child, resource.RLIMIT_CORE, (0, 0))
os.setpriority(os.PRIO_PROCESS, child, 5)
os.killpg(child, signal.SIGCONT)
os.kill(child, signal.SIGTERM)
print("own child ended by", os.WTERMSIG(os.waitpid(child, 0)[1]))
os.kill(0, 0)
os.kill(os.getpid(), 0)
"""


@pytest.mark.parametrize("who", ["root", "user"])
def test_without_namespaces_no_other_process_is_reached(users: list[User], who: str) -> None:
    """Where scripts have no PID namespace, they signal, trace and limit their own processes, and no other of whoever runs them."""
    user = users[0 if who == "root" else -1]
    if user.is_root != (who == "root"):
        pytest.skip("these tests were not started by root")
    view, store = ("root" if user.is_root else "directory"), python_store()
    bystander = 'setsid sleep 1000 & "$@" --env VICTIM=$!; status=$?; kill -0 $! && echo ALIVE >&2; kill $!; exit $status'
    result = user.run([
        sys.executable, CONFINED, who, "sh", "-c", bystander, "sh", *COMMAND, "build", "-o", user.home / "layer",
        *options(store, view), *marked(user), "--script", program(store, user, view, OTHERS),
    ])  # fmt: skip
    assert "the end" in result.err, result.err
    assert "REACHED" not in result.err, result.err
    assert "own child ended by 15" in result.err
    assert "ALIVE" in result.err
    assert result.status == 0, result.err


def test_a_namespace_that_is_refused_is_told(user: User) -> None:
    """A machine that has no network namespace to give runs the scripts all the same, and says what they reach."""
    limit = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"'
    store = python_store()
    result = user.run([
        "unshare", "--user", "--map-root-user", "sh", "-ec", limit, "sh", *COMMAND, "build", "-o", user.home / "layer",
        *options(store, "directory"), *marked(user), "--script", program(store, user, "directory", "open('made', 'w').close()"),
    ])  # fmt: skip
    assert result.status == 0, result.err
    assert "share this machine's network" in result.err
    assert "made" in members(user)


@pytest.mark.parametrize("view", VIEWS)
def test_names_are_found_on_this_machines_network(user: User, view: str) -> None:
    """With --network host a script has this machine's name servers and hosts, whatever its tree has; none of it is in the layer."""
    content = user.home / "content"
    (content / "etc").mkdir(parents=True)
    (content / "etc/hosts").write_text("the tree's own\n")
    text = "print('hosts:', open('/etc/hosts').read().encode())\nprint('servers:', open('/etc/resolv.conf').read().encode())"
    for own in ([], ["--copy-to-root", content]):
        said = probe(user, view, text, *own, "--network", "host").err
        assert f"hosts: {Path('/etc/hosts').read_bytes()!r}" in said
        assert f"servers: {Path('/etc/resolv.conf').read_bytes()!r}" in said
        assert [path for path in members(user) if path.startswith("etc")] == (["etc", "etc/hosts"] if own else [])
        assert json.loads((user.home / "layer/layer.json").read_text())["madeFrom"]["network"] == "host"
    with contextlib.suppress(FileNotFoundError):
        (content / "etc/hosts").unlink()
    (content / "etc/resolv.conf").symlink_to("../run/name/servers")
    said = probe(user, view, text, "--copy-to-root", content, "--network", "host").err
    assert f"servers: {Path('/etc/resolv.conf').read_bytes()!r}" in said
    assert [path for path in members(user) if path.startswith(("etc", "run"))] == ["etc", "etc/resolv.conf"]


DOORS = """
import fcntl
folder = os.environ["FOLDER"]
def connects():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(folder + "/socket")
        return True
door("pipe", lambda: os.write(os.open(folder + "/pipe", os.O_WRONLY | os.O_NONBLOCK), b"written by the script"))
door("pipe, made anew", lambda: os.write(os.open(folder + "/pipe", os.O_RDWR | os.O_CREAT | os.O_NONBLOCK), b"written by the script") and False)
door("socket", connects)
with open(folder + "/file") as file:
    print("reads", file.read())
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.lockf(file, fcntl.LOCK_SH)
    sys.stdout.flush()
    os.mkdir("holds")
    while not os.path.exists("go on"):
        pass
"""


def test_no_pipe_socket_or_lock_of_this_machine_is_reached(user: User) -> None:
    """The directory view shows the machine's files, and neither who reads a pipe there, nor who serves a socket, nor their locks."""
    folder = make_folder(Path(os.environ[PLACE]), "machine-")
    folder.chmod(0o755)
    (folder / "file").write_text("the machine's")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as server, open(folder / "file", encoding="ascii") as file:
        server.bind(str(folder / "socket"))
        server.listen()
        for path in (folder / "pipe", folder / "socket"):
            path.chmod(0o666)
        pipe = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        process = started_probe(user, folder)
        found: list[Path] = []
        assert until(lambda: process.poll() is not None or bool(found.extend((user.home / "tmp").glob("*/tree/holds")) or found))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it
        (found[0].parent / "go on").touch()
        assert process.wait(HANG) == 0, say(user)
        said = say(user)
        with contextlib.suppress(BlockingIOError):
            assert os.read(pipe, 100) == b""
        os.close(pipe)
    assert "reads the machine's" in said
    assert "the end" in said
    assert "REACHED" not in said


def started_probe(user: User, folder: Path) -> subprocess.Popen[bytes]:
    """Start a build that tries the doors of a directory of this machine."""
    script = program(python_store(), user, "directory", DOORS)
    return started(user, "--view", "directory", "--env", f"FOLDER={folder}", "--script", script)


def test_the_sessions_own_files_are_not_shown(user: User) -> None:
    """Wherever they lie: else a script that goes through the machine would find all of it there once more."""
    script = user.script(f"find '{user.home}/tmp' -mindepth 2 > found\nls '{user.home}' > seen\n")
    result = user.build("--view", "directory", "--script", script)
    assert result.status == 0, result.err
    found = unpacked(user, result)
    assert found["found"].data == b""
    assert b"script" in found["seen"].data.split()
