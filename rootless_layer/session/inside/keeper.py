"""The session's own processes: they isolate the scripts, run them, and record what they change.

The calling process starts this module as a fresh interpreter (it may have threads, which
a fork would break), gives it a plan as one line of JSON on stdin, and reads a result, one
line of JSON, from its stdout. Two processes come of it:

- the *keeper* enters the namespaces and waits. When stdin closes, the caller is gone: the
  keeper ends the session and removes its files, so that also a killed build leaves nothing;
- the *init* of the session (process 1, where there is a PID namespace) runs the scripts: :mod:`.init`.

Only the standard library is used, and of it little: this starts in 30 ms.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
from typing import NoReturn

from rootless_layer.errors import RootlessLayerError
from rootless_layer.session.inside import seccomp
from rootless_layer.system import namespaces
from rootless_layer.system.descendants import kill_children
from rootless_layer.system.removal import remove

from .faked import Keeping
from .init import be_init, told
from .messages import Isolate, Unavailable, first_line, from_json, report
from .script import forget_signals

_GRACE_SECONDS = 10
_ORPHANED_SECONDS = 1
_HOST = "localhost"
"""The host name that scripts see, whatever this machine's is."""
_WISHED = {
    "network": namespaces.CLONE_NEWNET,
    "IPC": namespaces.CLONE_NEWIPC,
    "cgroup": namespaces.CLONE_NEWCGROUP,
    "UTS": namespaces.CLONE_NEWUTS,
}
"""The namespaces that a session has of its own wherever it can."""
_SET_INTERFACE_FLAGS, _UP = 0x8914, 1


def main() -> NoReturn:
    """Be the keeper; never return."""
    os.umask(0o022)
    forget_signals({signal.SIGPIPE, signal.SIGXFSZ})  # else no child's end may be seen, and faked may not end; these are Python's
    isolate = from_json(first_line())
    assert isinstance(isolate, Isolate)  # noqa: S101 - the caller says this first
    work = os.fsdecode(isolate.work)
    for descriptor in isolate.kept:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - os's own
    try:
        refused = _enter_namespaces(isolate)
        namespaces.adopt_orphans()
        seccomp.program()
        keeping = Keeping()
        if isolate.pid_namespace:
            namespaces.unshare(namespaces.CLONE_NEWPID)
    except (OSError, RootlessLayerError) as error:
        report(Unavailable(namespaces.refusal(error) if isinstance(error, OSError) else str(error)))
        os._exit(1)
    keeper = os.getpid()
    orders, relay = os.pipe()
    try:
        init = os.fork()
    except OSError as error:
        report(told(error, work, "no process for the scripts can be started"))
        os._exit(1)
    if init == 0:
        os.close(relay)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # not closed: its number is to be no other file's
        be_init(isolate, refused, keeper, orders, keeping.leave_to_init())
    os.close(orders)
    keeping.leave_to_keeper()
    handle = os.pidfd_open(init)
    if not _wait(relay, handle, init, keeping):
        os.close(relay)  # which tells it whose signal this is
        os.kill(init, signal.SIGTERM)
        if keeping.asked in select.select([handle, keeping.asked], [], [], _GRACE_SECONDS)[0]:
            keeping.end()
        if not select.select([handle], [], [], _GRACE_SECONDS)[0]:
            os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        kill_children(())
        remove(work)
    else:
        os.waitpid(init, 0)
        kill_children(())
    os._exit(0)


def _enter_namespaces(isolate: Isolate) -> dict[str, str]:
    """Leave those of the machine's that can be left; give the others, with the reason for each.

    Raises :class:`OSError` where there are none at all, and that was wanted.
    """
    wished = {name: flag for name, flag in _WISHED.items() if name != "network" or isolate.network == "none"}
    if isolate.isolation == "namespaces":
        refused = namespaces.become_root_of_own_namespace(namespaces.CLONE_NEWNS, wished)
    else:
        refused = namespaces.unshare_wished(0, wished)  # real root may without a user namespace
    if "UTS" not in refused:
        try:
            socket.sethostname(_HOST)
        except OSError as error:  # a container's filter may refuse this alone
            refused["UTS"] = os.strerror(error.errno or 0)
    if "network" in wished and "network" not in refused:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sh22x", b"lo", _UP))
    return refused


def _wait(relay: int, init: int, init_pid: int, keeping: Keeping) -> bool:
    """Hand the caller's words on until the session ends; false when the caller is gone.

    Meanwhile faked is ended when the init asks for that, and the init where faked has ended by itself.
    """
    watched = [0, init, keeping.asked, keeping.handle]
    while True:
        ready = select.select(watched, [], [])[0]
        if init in ready:
            return True
        if keeping.asked in ready:
            keeping.end()
            watched = [0, init]
            continue
        if keeping.handle in ready:
            if select.select([init], [], [], _ORPHANED_SECONDS)[0]:
                return True
            watched.remove(keeping.handle)
            os.kill(init_pid, signal.SIGKILL)  # it waits for an answer that never comes
            continue
        words = os.read(0, 1 << 16)
        if not words:
            return False
        with contextlib.suppress(BrokenPipeError):
            while words:
                words = words[os.write(relay, words) :]
