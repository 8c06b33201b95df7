"""What a script sees, and how it is started there.

In the *root* view the staged tree is ``/`` and nothing else is left of the machine; in the
*directory* view the machine is there, read-only, with the tree as the working directory.
The store paths are read-only mounts in both. Each script gets mounts of its own, which end
with its processes.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import termios
from typing import TYPE_CHECKING, NoReturn

from rootless_layer.errors import DaemonError, RootlessLayerError, UnavailableError
from rootless_layer.session.inside import extras, interpreter, seccomp
from rootless_layer.system import namespaces

from .credentials import Users
from .messages import NotStarted, Started, Told, to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .messages import Command, Isolate, Order

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""The exit statuses of a script that could not be executed, as the shell has them."""
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
"""The devices of this machine that a script finds in /dev."""
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
TERMINALS = {"ptmx": "pts/ptmx"}
"""What opens a new terminal (pts(4))."""
MOUNTED = ("dev/shm", "dev/pts", "sys")
"""Where file systems of the kernel's are mounted, as it has them of its own for a session."""
_PROTECTED = namespaces.MS_NOSUID | namespaces.MS_NOEXEC
_MEMORY = b"mode=1777,size=64m"
"""Shared memory has as much room as a container has by default, on every machine."""
_SHARED = b"/shm"
"""Where it is mounted, below the session's directory."""
_PSEUDO_TERMINALS = b"newinstance,ptmxmode=0666,mode=0620"
_BOOT = "proc/sys/kernel/random/boot_id"
_BOOT_ID = b"726f6f74-6c65-4373-8173-206c61796572\n"
"""What every session has for the random number that the machine drew when it was booted."""
MACHINE = b"/machine"
"""Where this machine is shown, below the session's directory."""
_MOST_SAID = 4000
TREE_SHOWN_AT = "/tmp/root"  # noqa: S108 - below a /tmp of the session's own


def be_script(isolate: Isolate, order: Order, script: Command, code: bytes, caller: socket.socket) -> NoReturn:
    """Become the script, in a forked process under a filter, of which this is the code.

    ``caller`` is told :class:`Started`, with the listener, or what is wrong. It says a word when the script may begin.
    """
    try:
        try:
            os.setsid()
            os.umask(0o022)
            if script.attached:
                _attach(order.streams)
            else:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(2, 1)
            forget_signals()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _enter_view(isolate, order)
            Users.begin()
            listener = seccomp.install(code)
        except RootlessLayerError as error:
            kind = UnavailableError if isinstance(error, UnavailableError) else DaemonError
            caller.send(to_json(Told.of(kind(*error.problems, hint=error.hint))))
            os._exit(1)
        except OSError as error:
            caller.send(to_json(Told("DaemonError", (f"the view of the script cannot be made: {error}",), "")))
            os._exit(1)
        socket.send_fds(caller, [to_json(Started())], [listener])
        os.close(listener)
        caller.recv(1)
        environment = {os.fsdecode(name): os.fsdecode(value) for name, value in (*order.environment, *script.variables)}
        caller.send(to_json(_beginning(script.folder) or _exec(script, environment)))
    finally:
        os._exit(NOT_FOUND)


def _attach(streams: tuple[int, ...]) -> None:
    """Have the caller's streams; a terminal among them that is nobody's else controls the script from now on."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    with contextlib.suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def forget_signals(ignored: Collection[int] = ()) -> None:
    """Block no signal and ignore none but these, whatever the caller does: exec(2) hands both on."""
    for number in signal.valid_signals().difference(ignored):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _beginning(folder: bytes) -> NotStarted | None:
    """Go to the directory in which a script starts, from the tree's top, where the view has left us."""
    try:
        os.chdir(folder or b".")
    except OSError as error:
        about = f"/{os.fsdecode(folder)}: no script can start there: {os.strerror(error.errno or errno.EIO)}"
        return NotStarted(NOT_EXECUTABLE, "refused", about[:_MOST_SAID])
    return None


def _exec(script: Command, environment: dict[str, str]) -> NotStarted:
    """Become the script; come back with what is wrong where that cannot be."""
    arguments = list(map(os.fsdecode, script.arguments))
    search = environment["PATH"].split(":")
    problem = ""
    for candidate in [arguments[0]] if "/" in arguments[0] else [f"{folder}/{arguments[0]}" for folder in search]:
        try:
            os.execve(candidate, arguments, environment)  # noqa: S606
        except FileNotFoundError:
            if os.path.exists(candidate):
                about, carriage_return = interpreter.missing(candidate)
                return NotStarted(NOT_FOUND, "carriage return" if carriage_return else "interpreter", about[:_MOST_SAID])
        except NotADirectoryError:
            continue
        except OSError as error:
            if error.errno == errno.E2BIG:
                return NotStarted(NOT_EXECUTABLE, "too long", _longest(arguments, environment)[:_MOST_SAID])
            if error.errno == errno.ENOEXEC:
                program, architecture = interpreter.foreign(candidate)
                if program:
                    about = f"{program} is a program for {architecture}, which this machine does not run by itself"
                    return NotStarted(NOT_EXECUTABLE, "foreign", about[:_MOST_SAID])
            problem = problem or f"{candidate}: cannot be executed: {os.strerror(error.errno or errno.EIO)}"
    if problem:
        return NotStarted(NOT_EXECUTABLE, "refused", problem[:_MOST_SAID])
    return NotStarted(NOT_FOUND, "absent", arguments[0][:_MOST_SAID])


def _longest(arguments: list[str], environment: dict[str, str]) -> str:
    """Say which of the variables and arguments is the longest, as Linux limits each and the sum of them (execve(2))."""
    lengths = {f"the variable {name}": len(os.fsencode(f"{name}={value}")) for name, value in environment.items()}
    lengths |= {f"argument {number}": len(os.fsencode(argument)) for number, argument in enumerate(arguments)}
    longest = max(lengths, key=lambda name: lengths[name])
    return f"{longest} has {lengths[longest]} bytes, of {sum(lengths.values())} in all"


def _enter_view(isolate: Isolate, order: Order) -> None:
    tree = order.tree
    if isolate.isolation == "namespaces":
        namespaces.unshare(namespaces.CLONE_NEWNS)
        namespaces.make_private()
        sources = extras.hold_sources(order.extras)
        (_mount_root_view if order.view == "root" else _mount_directory_view)(isolate, order, sources)
        namespaces.drop_capabilities(namespaces.KEPT_CAPABILITIES, bounding=False)
    elif isolate.isolation == "chroot" and order.view == "root":
        os.chroot(tree)
        os.chdir("/")
        # Real root could leave the chroot by another one, or by a file's handle.
        namespaces.drop_capabilities(namespaces.CONFINED_CAPABILITIES, bounding=True)
    else:
        os.chdir(tree)


def _mount_store(order: Order) -> None:
    namespaces.bind(order.tree, order.tree, read_only=False)
    for source, path in order.binds:
        namespaces.bind(source, order.tree + b"/" + path, read_only=True)


def _mount_root_view(isolate: Isolate, order: Order, sources: Iterable[int]) -> None:
    tree = order.tree
    _mount_store(order)
    for path, read_only in ((tree + b"/dev", False), (tree + b"/" + order.own, True)):
        # A mount point cannot be renamed (rename(2)): elsewhere what is mounted in it would be left as empty files.
        namespaces.bind(path, path, read_only=read_only)
    for source, path in order.scaffold:
        namespaces.bind(source, tree + b"/" + path, read_only=True)
    _mount_memory_and_terminals(isolate, tree + b"/dev")
    _mount_sys(tree + b"/sys")
    if isolate.pid_namespace:
        mount_proc(tree + b"/proc")
    else:
        namespaces.bind(b"/proc", tree + b"/proc", read_only=False, recursive=True)
    _hide_boot_id(isolate, tree + b"/")
    namespaces.set_read_only(tree + b"/proc", recursive=True)
    extras.put_up(order.extras, sources, tree)
    namespaces.pivot_into(tree)


def _mount_directory_view(isolate: Isolate, order: Order, sources: Iterable[int]) -> None:
    """Show the machine read-only and without its devices, but for the tree and a /tmp of the session's own."""
    _mount_store(order)
    machine, scratch, devices = isolate.work + MACHINE, isolate.work + b"/tmp", isolate.work + b"/dev"
    os.makedirs(scratch + b"/root", exist_ok=True)
    os.chmod(scratch, 0o1777)  # noqa: S103 - as any /tmp
    _make_devices(devices)
    namespaces.bind(scratch, machine + b"/tmp", read_only=False)
    namespaces.bind(order.tree, machine + os.fsencode(TREE_SHOWN_AT), read_only=False, recursive=True)
    namespaces.bind(devices, machine + b"/dev", read_only=False, recursive=True)
    _mount_memory_and_terminals(isolate, machine + b"/dev")
    _hide_boot_id(isolate, machine + b"/")
    if os.path.isdir(machine + isolate.work):  # else all that the view shows would be in it once more
        flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
        namespaces.mount(b"machine", machine + isolate.work, b"tmpfs", flags, b"mode=700")
        namespaces.set_read_only(machine + isolate.work, recursive=False)
    extras.put_up(order.extras, sources, machine, scratch=b"tmp", tree=os.fsencode(TREE_SHOWN_AT).lstrip(b"/"))
    namespaces.pivot_into(machine)
    os.chdir(TREE_SHOWN_AT)


def _make_devices(folder: bytes) -> None:
    """Make a /dev with what every program may expect."""
    os.makedirs(folder, exist_ok=True)
    for name in DEVICES:
        source, node = f"/dev/{name}".encode(), folder + b"/" + name.encode()
        if os.path.exists(source):
            os.close(os.open(node, os.O_CREAT | os.O_WRONLY, 0o600))
            namespaces.bind(source, node, read_only=False)
    for name, target in (DEVICE_LINKS | TERMINALS).items():
        link = folder + b"/" + name.encode()
        if not os.path.lexists(link):
            os.symlink(target, link)
    for below in (b"/shm", b"/pts"):
        os.makedirs(folder + below, exist_ok=True)


def mount_memory(isolate: Isolate) -> None:
    """Make the shared memory of a session: one for all scripts, so that the rows of its inodes are no other file's."""
    os.mkdir(isolate.work + _SHARED)
    namespaces.mount(b"shm", isolate.work + _SHARED, b"tmpfs", _PROTECTED | namespaces.MS_NODEV, _MEMORY)


def _mount_memory_and_terminals(isolate: Isolate, devices: bytes) -> None:
    """Show the session's shared memory, and mount pseudo-terminals of the script's own, in a /dev."""
    memory, terminals, opener = devices + b"/shm", devices + b"/pts", devices + b"/ptmx"
    if _is_directory(memory):
        namespaces.bind(isolate.work + _SHARED, memory, read_only=False)
        namespaces.set_writable(memory)
    if _is_directory(terminals):
        namespaces.mount(b"devpts", terminals, b"devpts", _PROTECTED, _PSEUDO_TERMINALS)
        if not os.path.islink(opener) and os.path.isfile(opener):  # the tree's own device
            namespaces.bind(terminals + b"/ptmx", opener, read_only=False)


def _mount_sys(place: bytes) -> None:
    """Mount a /sys, which shows the session's own network, where the kernel gives one: in a container it may not."""
    if _is_directory(place):
        with contextlib.suppress(OSError):
            flags = _PROTECTED | namespaces.MS_NODEV | namespaces.MS_RDONLY
            namespaces.mount(b"sysfs", place, b"sysfs", flags)


def _hide_boot_id(isolate: Isolate, top: bytes) -> None:
    """Show the same boot ID in every session, where there is one."""
    own, place = isolate.work + b"/boot-id", top + _BOOT.encode()
    if os.path.exists(place):
        with open(own, "wb") as file:
            file.write(_BOOT_ID)
        namespaces.bind(own, place, read_only=True)


def _is_directory(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def mount_proc(target: bytes) -> None:
    """Mount a /proc of this PID namespace."""
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    namespaces.mount(b"proc", target, b"proc", flags)
