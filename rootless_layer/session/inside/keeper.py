"""The session's own processes: they isolate the scripts, run them, and watch over them.

The calling process starts this module as a fresh interpreter (it may have threads, which
a fork would break), gives it a plan as one line of JSON on stdin, and reads a result, one
line of JSON, from its stdout. Two processes come of it:

- the *keeper* enters the namespaces and waits. When stdin closes, the caller is gone: the
  keeper ends the session and removes its files, so that also a killed build leaves nothing;
- the *init* of the session (process 1, where there is a PID namespace) starts faked, runs
  the scripts one after the other, answers the seccomp listener, ends what the scripts leave
  running, and has the extended attributes read before the daemon ends.

Only the standard library is used, and of it little: this starts in 30 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

from rootless_layer.errors import DaemonError, RootlessLayerError, UnavailableError
from rootless_layer.session.inside import seccomp
from rootless_layer.system import namespaces
from rootless_layer.system.descendants import kill_children
from rootless_layer.system.removal import remove

from .faked import Daemon
from .listener import Watch
from .overlay import Overlay
from .script import STARTED, be_script, forget_signals, mount_proc
from .words import first_line, native, told

TIMED_OUT = 124
_GRACE_SECONDS = 10
_LONGEST_MS = 1 << 30
"""What poll(2) is given at most, whose milliseconds are an int of C: it is asked again as long as there is time."""

Plan = dict[str, Any]


class _Aborted(BaseException):
    """The keeper wants the session to end now."""


def _raise_aborted(_number: int, _frame: object) -> NoReturn:
    raise _Aborted


def main() -> NoReturn:
    """Be the keeper; never return."""
    os.umask(0o022)
    forget_signals({signal.SIGPIPE, signal.SIGXFSZ})  # else no child's end may be seen, and faked may not end; these are Python's
    plan = native(json.loads(first_line()))
    try:
        if plan["isolation"] == "namespaces":
            namespaces.become_root_of_own_namespace(
                namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | (namespaces.CLONE_NEWPID if plan["pid_namespace"] else 0)
            )
        namespaces.adopt_orphans()
        seccomp.program()
    except (OSError, RootlessLayerError) as error:
        _report({"unavailable": namespaces.refusal(error) if isinstance(error, OSError) else str(error)})
        os._exit(1)
    keeper = os.getpid()
    orders, relay = os.pipe()
    try:
        init = os.fork()
    except OSError as error:
        _report({"error": told(error, plan["work"], "no process for the scripts can be started")})
        os._exit(1)
    if init == 0:
        os.close(relay)
        os.close(0)
        _be_init(plan, keeper, orders)
    os.close(orders)
    handle = os.pidfd_open(init)
    if not _wait(relay, handle):
        os.kill(init, signal.SIGTERM)
        if not select.select([handle], [], [], _GRACE_SECONDS)[0]:
            os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        kill_children(())
        remove(plan["work"])
    else:
        os.waitpid(init, 0)
        kill_children(())
    os._exit(0)


def _wait(relay: int, init: int) -> bool:
    """Hand the caller's words on until the session ends; false when the caller is gone."""
    while True:
        ready = select.select([0, init], [], [])[0]
        if init in ready:
            return True
        words = os.read(0, 1 << 16)
        if not words:
            return False
        with contextlib.suppress(BrokenPipeError):
            while words:
                words = words[os.write(relay, words) :]


def _report(result: Plan) -> None:
    data = json.dumps(result).encode() + b"\n"
    with contextlib.suppress(BrokenPipeError):  # the caller has gone, and the keeper knows
        while data:
            data = data[os.write(1, data) :]


def _be_init(plan: Plan, keeper: int, orders: int) -> NoReturn:
    try:
        signal.signal(signal.SIGTERM, _raise_aborted)
        namespaces.die_with_parent(keeper, signal.SIGTERM)
        unavailable = _isolate(plan)
        if unavailable:
            _report({"unavailable": unavailable})
            os._exit(1)
        _report({"ready": True})
        with open(orders, "rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):
            os._exit(1)
        result = _Session(plan | native(json.loads(line))).run()
    except RootlessLayerError as error:
        result = {"error": [type(error).__name__, list(error.problems), error.hint]}
    except (OSError, MemoryError) as error:
        result = {"error": told(error, plan["work"], "the session cannot keep its files there")}
    except _Aborted:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _report(result)
    os._exit(0)


class _Session:
    """The scripts of one plan and what watches over them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        _raise_descriptor_limit()
        self.overlay = Overlay(plan["overlay"]) if plan["overlay"] else None
        self.watch = Watch(self._rows, None if self.overlay is None else self.overlay.check_moved)
        self.daemon: Daemon | None = None

    def run(self) -> Plan:
        """Run every script, and give what the caller is to know."""
        plan = self.plan
        refused = _set_id_refused(plan["work"])
        overlay = self.overlay
        if overlay is not None:
            with open(plan["load"], "ab") as file:
                file.write(overlay.rows())
        daemon = self.daemon = Daemon(plan["faked"], plan["save_file"], plan["load"])
        result: Plan = {"set_id_refused": refused, "held": []}
        try:
            if plan["xattrs"]:
                result |= self._agent(daemon, "put", plan["xattrs"])
            for index, script in enumerate(plan["scripts"]):
                if "error" in result:
                    break
                _report({"script": index})
                status = self._script(daemon, script)
                if status:
                    result["failed"] = [index, *status]
                    break
            else:
                result |= self._collect(daemon) if overlay is None else self._collect_above(daemon, overlay)
        finally:
            kill_children({daemon.pid})
            daemon.stop()
        result["bypasses"] = self.watch.bypasses
        result["unseen"] = [[*inode, name] for inode, name in self.watch.unseen_modes.items()]
        return result

    def _collect(self, daemon: Daemon, upper: str = "", known: Plan | None = None) -> Plan:
        """Have the extended attributes read, where they are the daemon's."""
        tops = [self.plan["tree"], *(source for source, _ in self.plan["binds"]), *self.plan["nodes"]]
        tools = [source for source, _ in self.plan["tools"]]
        return self._agent(daemon, "collect", {"tops": tops, "tools": tools, "upper": upper, "known": known or {}})

    def _collect_above(self, daemon: Daemon, overlay: Overlay) -> Plan:
        """Do so above a base, and say how the overlay showed what has a row."""
        moved = overlay.changes()
        known = {str(number): path.decode("latin-1") for number, path in overlay.paths.items()}
        result = self._collect(daemon, os.fsdecode(overlay.upper), known)
        if "error" in result:
            return result
        overlay.check_lost(result["rowed"], result["left"])
        paths = [[int(number), path] for number, path in (known | result["named"]).items()]
        shown = {"device": overlay.device, "paths": paths, "moved": [[path.decode("latin-1"), n] for path, n in moved.items()]}
        return result | {"overlay": shown}

    def _script(self, daemon: Daemon, script: Plan) -> tuple[int, str, str] | None:
        """Run one script to its end, and everything it started; give a number, a kind and what it is about where it failed."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            be_script(self.plan, script, daemon, theirs)
        theirs.close()
        handle = os.pidfd_open(child)
        message, descriptors, _flags, _address = socket.recv_fds(ours, 1 << 16, 1)
        if message != STARTED:
            os.waitpid(child, 0)
            name, text, hint = json.loads(message) if message else ("SessionError", "a script could not be started", "")
            raise UnavailableError(text, hint=hint) if name == "UnavailableError" else DaemonError(text, hint=hint)
        (listener,) = descriptors
        ended = self._attend(listener, handle, daemon)
        failure = ours.recv(1 << 16) if ended else b""  # an exec that failed; else the end of the stream
        ours.close()
        if not ended or daemon.died:  # without its daemon it would wait for an answer for ever
            os.kill(child, signal.SIGKILL)
        kill_children({daemon.pid, child})
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # Whatever its orphans did until they were killed has been answered or was never made.
        os.close(listener)
        os.close(handle)
        if daemon.died:
            message_ = "faked, which keeps the record, was ended by something else"
            raise DaemonError(message_, hint="Does a script kill processes that are not its own?")
        if failure:
            return tuple(json.loads(failure))
        if not ended:
            return TIMED_OUT, "timeout", ""
        if status < 0:
            return -status, "signal", ""
        return (status, "exit", "") if status else None

    def _attend(self, listener: int, handle: int, daemon: Daemon) -> bool:
        """Answer the listener until the script ends; false when its time is up."""
        limit = self.plan["timeout"]
        deadline = None if limit is None else time.monotonic() + limit
        poller = select.poll()
        for descriptor in (listener, handle, daemon.handle):
            poller.register(descriptor, select.POLLIN)
        while True:
            events = dict(poller.poll(_milliseconds(deadline)))
            if events.get(listener, 0) & select.POLLIN:
                self.watch.attend(listener)
            elif listener in events:
                poller.unregister(listener)  # no process is left under the filter
            if handle in events or daemon.handle in events:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def _rows(self) -> set[tuple[int, int]]:
        """Ask the daemon which inodes have a row now."""
        assert self.daemon is not None  # noqa: S101 - scripts run between its start and its end
        return {(dev, ino) for dev, ino in self._agent(self.daemon, "rows", {"tops": [self.plan["tree"]]})["rows"]}

    def _agent(self, daemon: Daemon, action: str, subject: object) -> Plan:
        """Run the agent, which libfakeroot sees, to write or read extended attributes."""
        reading, writing = os.pipe()
        path = f"{self.plan['work']}/agent.json"
        with open(path, "w", encoding="ascii") as file:
            json.dump({"action": action, "subject": subject, "faked": daemon.pid, "save_file": self.plan["save_file"]}, file)
        child = os.fork()
        if child == 0:
            os.dup2(os.open(path, os.O_RDONLY), 0)
            os.dup2(writing, 1)
            agent = os.path.join(os.path.dirname(__file__), "xattr_agent.py")
            os.execve(  # noqa: S606
                sys.executable, [sys.executable, "-I", "-S", agent], os.environ | daemon.environment(self.plan["library"])
            )
        os.close(writing)
        answer = b""
        while select.select([reading, daemon.handle], [], [])[0] == [reading]:
            part = os.read(reading, 1 << 16)
            if not part:
                break
            answer += part
        os.close(reading)
        if daemon.died:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not answer:
            message = "the extended attributes could not be read inside the session"
            raise DaemonError(message)
        result: Plan = json.loads(answer)
        return result


def _milliseconds(deadline: float | None) -> float | None:
    """Give how long to wait now, for a point of the monotonic clock in seconds."""
    return None if deadline is None else min(max(0.0, deadline - time.monotonic()) * 1000, _LONGEST_MS)


def _isolate(plan: Plan) -> str:
    """Finish what must be done from within the namespaces; give what is against it."""
    if plan["isolation"] != "namespaces":
        namespaces.adopt_orphans()
        return ""
    try:
        namespaces.make_private()
        if plan["pid_namespace"]:
            mount_proc(b"/proc")
    except OSError as error:
        return namespaces.refusal(error)
    return ""


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _set_id_refused(work: str) -> bool:
    """Say whether this machine refuses set-ID bits on a file of one's own (a Nix sandbox does)."""
    path = f"{work}/set-id"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.fchmod(descriptor, 0o4711)
    except PermissionError:
        return True
    finally:
        os.close(descriptor)
        os.unlink(path)
    return False
