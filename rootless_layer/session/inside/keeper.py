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
import errno
import os
import resource
import select
import signal
import socket
import time
from typing import NoReturn

from rootless_layer.errors import DaemonError, RootlessLayerError
from rootless_layer.session.inside import seccomp, xattr_agent
from rootless_layer.system import namespaces
from rootless_layer.system.descendants import kill_children
from rootless_layer.system.machine import unwritable
from rootless_layer.system.removal import remove

from . import elsewhere
from .faked import Daemon
from .listener import Watch
from .messages import (
    Begins,
    Collect,
    Collected,
    Command,
    Exited,
    Failure,
    FindRows,
    Held,
    Isolate,
    Killed,
    Message,
    NotStarted,
    Order,
    Outcome,
    OverlayShown,
    Put,
    Ready,
    Rows,
    ScriptEnd,
    Started,
    TimedOut,
    Told,
    Unavailable,
    UnseenMode,
    first_line,
    from_json,
    to_json,
)  # fmt: skip
from .overlay import Overlay
from .script import be_script, forget_signals, mount_proc

_GRACE_SECONDS = 10
_LONGEST_MS = 1 << 30
"""What poll(2) is given at most, whose milliseconds are an int of C: it is asked again as long as there is time."""


class _Aborted(BaseException):
    """The keeper wants the session to end now."""


def _raise_aborted(_number: int, _frame: object) -> NoReturn:
    raise _Aborted


def main() -> NoReturn:
    """Be the keeper; never return."""
    os.umask(0o022)
    forget_signals({signal.SIGPIPE, signal.SIGXFSZ})  # else no child's end may be seen, and faked may not end; these are Python's
    isolate = from_json(first_line())
    assert isinstance(isolate, Isolate)  # noqa: S101 - the caller says this first
    work = os.fsdecode(isolate.work)
    try:
        if isolate.isolation == "namespaces":
            namespaces.become_root_of_own_namespace(
                namespaces.CLONE_NEWNS | namespaces.CLONE_NEWIPC | (namespaces.CLONE_NEWPID if isolate.pid_namespace else 0)
            )
        namespaces.adopt_orphans()
        seccomp.program()
    except (OSError, RootlessLayerError) as error:
        _report(Unavailable(namespaces.refusal(error) if isinstance(error, OSError) else str(error)))
        os._exit(1)
    keeper = os.getpid()
    orders, relay = os.pipe()
    try:
        init = os.fork()
    except OSError as error:
        _report(_told(error, work, "no process for the scripts can be started"))
        os._exit(1)
    if init == 0:
        os.close(relay)
        os.close(0)
        _be_init(isolate, keeper, orders)
    os.close(orders)
    handle = os.pidfd_open(init)
    if not _wait(relay, handle):
        os.kill(init, signal.SIGTERM)
        if not select.select([handle], [], [], _GRACE_SECONDS)[0]:
            os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)
        kill_children(())
        remove(work)
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


def _told(error: OSError | MemoryError, work: str, doing: str) -> Told:
    """Say of an error what the caller is to raise."""
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return Told.of(unwritable(error, work, doing, hint="Set TMPDIR to another directory."))


def _report(message: Message) -> None:
    data = to_json(message)
    with contextlib.suppress(BrokenPipeError):  # the caller has gone, and the keeper knows
        while data:
            data = data[os.write(1, data) :]


def _be_init(isolate: Isolate, keeper: int, orders: int) -> NoReturn:
    result: Message
    try:
        signal.signal(signal.SIGTERM, _raise_aborted)
        namespaces.die_with_parent(keeper, signal.SIGTERM)
        unavailable = _isolate(isolate)
        if unavailable:
            _report(Unavailable(unavailable))
            os._exit(1)
        _report(Ready())
        with open(orders, "rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):
            os._exit(1)
        order = from_json(line)
        assert isinstance(order, Order)  # noqa: S101 - the caller says this second
        result = _Session(isolate, order).run()
    except RootlessLayerError as error:
        result = Told.of(error)
    except (OSError, MemoryError) as error:
        result = _told(error, os.fsdecode(isolate.work), "the session cannot keep its files there")
    except _Aborted:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _report(result)
    os._exit(0)


class _Session:
    """The scripts of one order and what watches over them."""

    def __init__(self, isolate: Isolate, order: Order) -> None:
        self.isolate, self.order = isolate, order
        self.machine = elsewhere.shown(isolate, order)
        _raise_descriptor_limit()
        self.overlay = Overlay(order.overlay) if order.overlay else None
        self.watch = Watch(self._rows, None if self.overlay is None else self.overlay.check_moved)
        self.daemon: Daemon | None = None

    def run(self) -> Outcome:
        """Run every script, and give what the caller is to know."""
        order, overlay = self.order, self.overlay
        refused = _set_id_refused(self.isolate.work)
        if overlay is not None:
            with open(order.load, "ab") as file:
                file.write(overlay.rows())
        daemon = self.daemon = Daemon(*map(os.fsdecode, (order.faked, order.save_file, order.load)))
        failure, error, held, collected, shown = None, None, Held(), None, None
        try:
            answer = self._agent(daemon, Put(order.xattrs)) if order.xattrs else held
            if isinstance(answer, Held):
                held, failure = answer, self._scripts(daemon)
            if isinstance(answer, Held) and failure is None:
                answer, shown = self._collect(daemon)
            error = answer if isinstance(answer, Told) else None
            collected = answer if isinstance(answer, Collected) else None
        finally:
            kill_children({daemon.pid})
            daemon.stop()
        unseen = (UnseenMode(inode, program) for inode, program in self.watch.unseen_modes.items())
        return Outcome(refused, failure, error, held, collected, shown, tuple(self.watch.bypasses), tuple(unseen))

    def _scripts(self, daemon: Daemon) -> Failure | None:
        """Run one script after the other, up to the first that fails."""
        for index, script in enumerate(self.order.scripts):
            _report(Begins(index))
            end = self._script(daemon, script)
            if end != Exited(0):
                return Failure(index, end)
        return None

    def _collect(self, daemon: Daemon) -> tuple[Message, OverlayShown | None]:
        """Have the attributes read, where they are the daemon's; above a base, say how the overlay showed what has a row."""
        order, overlay = self.order, self.overlay
        tops = order.tree, *(source for source, _ in order.binds), *order.nodes
        collect = Collect(self._find(daemon), tops, order.tools, machine=self.machine)
        if overlay is None:
            return self._agent(daemon, collect), None
        moved = overlay.changes()
        result = self._agent(daemon, collect._replace(upper=overlay.upper, known=tuple(overlay.paths.items())))
        if not isinstance(result, Collected):
            return result, None
        overlay.check_lost(result.with_row, result.row_without_file)
        paths = overlay.paths | dict(result.named)
        return result, OverlayShown(overlay.device, tuple(moved.items()), tuple(paths.items()))

    def _find(self, daemon: Daemon) -> FindRows:
        return FindRows(self.order.tree, daemon.pid, self.order.save_file)

    def _script(self, daemon: Daemon, script: Command) -> ScriptEnd:
        """Run one script to its end, and everything it started."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            be_script(self.isolate, self.order, script, daemon, theirs)
        theirs.close()
        handle = os.pidfd_open(child)
        message, descriptors, _flags, _address = socket.recv_fds(ours, 1 << 16, 1)
        answer = from_json(message) if message else Told("DaemonError", ("a script could not be started",), "")
        if not isinstance(answer, Started):
            os.waitpid(child, 0)
            assert isinstance(answer, Told)  # noqa: S101 - the script says one of the two
            raise answer.error()
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
            end = from_json(failure)
            assert isinstance(end, NotStarted)  # noqa: S101 - all that it says after its start
            return end
        if not ended:
            return TimedOut()
        return Killed(-status) if status < 0 else Exited(status)

    def _attend(self, listener: int, handle: int, daemon: Daemon) -> bool:
        """Answer the listener until the script ends; false when its time is up."""
        limit = self.order.timeout
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
        answer = self._agent(self.daemon, self._find(self.daemon))
        if isinstance(answer, Told):
            raise answer.error()
        return set(answer.inodes) if isinstance(answer, Rows) else set()

    def _agent(self, daemon: Daemon, subject: Put | FindRows | Collect) -> Message:
        return xattr_agent.ask(subject, daemon, os.fsdecode(self.order.library), self.isolate.work)


def _milliseconds(deadline: float | None) -> float | None:
    """Give how long to wait now, for a point of the monotonic clock in seconds."""
    return None if deadline is None else min(max(0.0, deadline - time.monotonic()) * 1000, _LONGEST_MS)


def _isolate(isolate: Isolate) -> str:
    """Finish what must be done from within the namespaces; give what is against it."""
    if isolate.isolation != "namespaces":
        namespaces.adopt_orphans()
        return ""
    try:
        namespaces.make_private()
        if isolate.pid_namespace:
            mount_proc(b"/proc")
    except OSError as error:
        return namespaces.refusal(error)
    return ""


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _set_id_refused(work: bytes) -> bool:
    """Say whether this machine refuses set-ID bits on a file of one's own (a Nix sandbox does)."""
    path = work + b"/set-id"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.fchmod(descriptor, 0o4711)
    except PermissionError:
        return True
    finally:
        os.close(descriptor)
        os.unlink(path)
    return False
