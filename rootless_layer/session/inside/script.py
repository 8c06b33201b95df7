"""What a script sees, and how it is started there.

In the *root* view the staged tree is ``/`` and nothing else is left of the machine; in the
*directory* view the machine is there, read-only, with the tree as the working directory.
The store paths are read-only mounts in both. Each script gets mounts of its own, which end
with its processes.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from rootless_layer.errors import DaemonError, RootlessLayerError, UnavailableError
from rootless_layer.session.inside import interpreter, seccomp
from rootless_layer.system import namespaces

from .messages import NotStarted, Started, Told, to_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from .faked import Daemon
    from .messages import Command, Isolate, Order

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""The exit statuses of a script that could not be executed, as the shell has them."""
DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
"""The devices of this machine that a script finds in /dev."""
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
_MOST_SAID = 4000
_TREE_SHOWN_AT = "/tmp/root"  # noqa: S108 - below a /tmp of the session's own


def be_script(isolate: Isolate, order: Order, script: Command, daemon: Daemon, caller: socket.socket) -> NoReturn:
    """Become the script, in a forked process: ``caller`` is told :class:`Started`, with the listener, or what is wrong."""
    try:
        try:
            os.setsid()
            os.umask(0o022)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(2, 1)
            forget_signals()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _enter_view(isolate, order)
            listener = seccomp.install(alone=isolate.pid_namespace)
        except RootlessLayerError as error:
            kind = UnavailableError if isinstance(error, UnavailableError) else DaemonError
            caller.send(to_json(Told.of(kind(*error.problems, hint=error.hint))))
            os._exit(1)
        except OSError as error:
            caller.send(to_json(Told("DaemonError", (f"the view of the script cannot be made: {error}",), "")))
            os._exit(1)
        socket.send_fds(caller, [to_json(Started())], [listener])
        os.close(listener)
        given = {os.fsdecode(name): os.fsdecode(value) for name, value in order.environment}
        environment = given | daemon.environment(os.fsdecode(order.preload))
        if extra := given.get("LD_PRELOAD"):
            environment["LD_PRELOAD"] += f":{extra}"
        caller.send(to_json(_exec(script, environment)))
    finally:
        os._exit(NOT_FOUND)


def forget_signals(ignored: Collection[int] = ()) -> None:
    """Block no signal and ignore none but these, whatever the caller does: exec(2) hands both on."""
    for number in signal.valid_signals().difference(ignored):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


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
        (_mount_root_view if order.view == "root" else _mount_directory_view)(isolate, order)
        namespaces.drop_capabilities(namespaces.KEPT_CAPABILITIES)
    elif isolate.isolation == "chroot" and order.view == "root":
        os.chroot(tree)
        os.chdir("/")
        # Real root could leave the chroot by another one, or by a file's handle.
        namespaces.drop_capabilities(namespaces.CONFINED_CAPABILITIES)
    else:
        os.chdir(tree)


def _mount_store(order: Order) -> None:
    namespaces.bind(order.tree, order.tree, read_only=False)
    for source, path in order.binds:
        namespaces.bind(source, order.tree + b"/" + path, read_only=True)


def _mount_root_view(isolate: Isolate, order: Order) -> None:
    tree = order.tree
    _mount_store(order)
    for path, read_only in ((tree + b"/dev", False), (tree + b"/" + order.own, True)):
        # A mount point cannot be renamed (rename(2)): elsewhere what is mounted in it would be left as empty files.
        namespaces.bind(path, path, read_only=read_only)
    for source, path in order.scaffold:
        namespaces.bind(source, tree + b"/" + path, read_only=True)
    if isolate.pid_namespace:
        mount_proc(tree + b"/proc")
    else:
        namespaces.bind(b"/proc", tree + b"/proc", read_only=False, recursive=True)
    namespaces.set_read_only(tree + b"/proc", recursive=True)
    namespaces.pivot_into(tree)


def _mount_directory_view(isolate: Isolate, order: Order) -> None:
    """Show the machine read-only and without its devices, but for the tree and a /tmp of the session's own."""
    _mount_store(order)
    scratch, devices = isolate.work + b"/tmp", isolate.work + b"/dev"
    below = scratch + b"/root"
    os.makedirs(below, exist_ok=True)
    nodes = _make_devices(devices)
    namespaces.restrict(b"/")
    for node in nodes:
        namespaces.allow_devices(node)
    namespaces.bind(scratch, scratch, read_only=False)
    namespaces.set_writable(scratch)
    namespaces.bind(order.tree, below, read_only=False, recursive=True)
    namespaces.set_writable(below)
    # The session's files may lie below /tmp or /dev themselves: one of the two hides them.
    kept = os.open(devices, os.O_PATH | os.O_CLOEXEC)
    namespaces.bind(scratch, b"/tmp", read_only=False, recursive=True)
    namespaces.bind(b"/proc/self/fd/%d" % kept, b"/dev", read_only=False, recursive=True)
    os.chdir(_TREE_SHOWN_AT)


def _make_devices(folder: bytes) -> list[bytes]:
    """Make a /dev with what every program may expect; give the devices mounted in it."""
    os.makedirs(folder, exist_ok=True)
    nodes = []
    for name in DEVICES:
        source, node = f"/dev/{name}".encode(), folder + b"/" + name.encode()
        if os.path.exists(source):
            os.close(os.open(node, os.O_CREAT | os.O_WRONLY, 0o600))
            namespaces.bind(source, node, read_only=False)
            nodes.append(node)
    for name, target in DEVICE_LINKS.items():
        link = folder + b"/" + name.encode()
        if not os.path.lexists(link):
            os.symlink(target, link)
    return nodes


def mount_proc(target: bytes) -> None:
    """Mount a /proc of this PID namespace."""
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
    namespaces.mount(b"proc", target, b"proc", flags)
