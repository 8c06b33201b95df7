"""The init of a session: it runs the scripts one after the other, is their recorder, and ends what they leave running.

Only the standard library is used: the session's processes import this at their start.
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
from typing import TYPE_CHECKING, NoReturn

from rootless_layer.errors import DaemonError, RootlessLayerError, UnavailableError
from rootless_layer.session.inside import binfmt, seccomp, shared
from rootless_layer.system import namespaces
from rootless_layer.system.descendants import kill_children
from rootless_layer.system.machine import unwritable

from .calls import UNKNOWN_TO_PROOT
from .changes import Kept
from .children import Children
from .credentials import ROOT
from .extras import Mounted
from .faked import Daemon, Ends
from .machine import Machine
from .messages import (
    Begins,
    Command,
    Exited,
    Fails,
    Failure,
    InodeAttribute,
    Isolate,
    Killed,
    Looked,
    Message,
    NotStarted,
    Open,
    Order,
    Outcome,
    Ready,
    ScriptEnd,
    Started,
    TimedOut,
    Told,
    Unavailable,
    from_json,
    report,
)  # fmt: skip
from .overlay import Overlay
from .record import Record, inode_of
from .recorder import Recorder
from .script import MACHINE, be_script, mount_memory, mount_proc
from .traps import Traps, refused

if TYPE_CHECKING:
    from typing import BinaryIO

_CLOCK_REALTIME_COARSE = 5
"""The clock that file systems take their times from (linux/time.h)."""
_LONGEST_MS = 1 << 30
"""What poll(2) is given at most, whose milliseconds are an int of C: it is asked again as long as there is time."""

_AT_ONCE_NS = 2000
"""What poll(2) takes at most where it does not wait: less than two changes of the process."""


class _Aborted(BaseException):
    """The keeper wants the session to end now."""


def _heed_keeper(orders: int) -> None:
    """End when the keeper says so, or has ended, and has hung up; any other signal is a script's, and is nothing to an init."""

    def heed(_number: int, _frame: object) -> None:
        hung_up = select.poll()
        hung_up.register(orders, 0)
        if hung_up.poll(0):
            raise _Aborted

    signal.signal(signal.SIGTERM, heed)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def be_init(isolate: Isolate, refused_namespaces: dict[str, str], keeper: int, orders: int, ends: Ends) -> NoReturn:
    """Be the init, a child of the keeper, which hands the caller's orders on; never return."""
    result: Message
    try:
        _heed_keeper(orders)
        namespaces.die_with_parent(keeper, signal.SIGTERM)
        unavailable = _isolate(isolate)
        if unavailable:
            report(Unavailable(unavailable))
            os._exit(1)
        report(Ready(tuple(refused_namespaces.items())))
        with open(orders, "rb") as file:
            order = _hear(file)
            assert isinstance(order, Order)  # noqa: S101 - the caller says this second
            result = _Session(isolate, order, ends, file).run()
    except RootlessLayerError as error:
        result = Told.of(error)
    except (OSError, MemoryError) as error:
        result = told(error, os.fsdecode(isolate.work), "the session cannot keep its files there")
    except _Aborted:
        os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report(result)
    os._exit(0)


def _hear(orders: BinaryIO) -> Message:
    """Wait for a message of the caller's; where it is gone, so is the session."""
    line = orders.readline()
    if not line.endswith(b"\n"):
        os._exit(1)
    return from_json(line)


def told(error: OSError | MemoryError, work: str, doing: str) -> Told:
    """Say of an error what the caller is to raise."""
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return Told.of(unwritable(error, work, doing, hint="Set TMPDIR to another directory."))


class _Session:
    """The scripts of one order and what watches over them."""

    def __init__(self, isolate: Isolate, order: Order, ends: Ends, orders: BinaryIO) -> None:
        self.isolate, self.order, self.ends, self.orders = isolate, order, ends, orders
        _raise_descriptor_limit()
        if isolate.isolation == "namespaces":
            # What is mounted from here on ends with this process, and is not in the way where the keeper tidies up.
            namespaces.unshare(namespaces.CLONE_NEWNS)
            if order.view == "directory":
                self._show_machine()  # before anything else is mounted
            mount_memory(isolate)
        self.overlay = Overlay(order.overlay) if order.overlay else None
        self.extras = Mounted(order.extras, isolate.work + b"/extras") if order.extras else None
        if self.extras is not None:
            self.order = order._replace(extras=self.extras.shown)
        self.no_emulator = self._emulate()
        self.refused = refused(isolate.work)
        self.began = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)

    def _show_machine(self) -> None:
        top, empty = self.isolate.work + MACHINE, self.isolate.work + b"/empty"
        os.mkdir(top)
        os.mkdir(empty)
        machine = Machine(top, empty, (b"/dev", b"/tmp"))
        if machine.open:
            report(Open(tuple(machine.open)))

    def _emulate(self) -> str:
        """Have an emulator run what it is for; give what is against it."""
        emulator, isolate = self.order.emulator, self.isolate
        if emulator is None:
            return ""
        reason = "there are no namespaces here"
        if isolate.isolation == "namespaces":
            reason = binfmt.register(emulator, isolate.work + b"/emulators")
        if reason and emulator.wanted:
            message = f"{os.fsdecode(emulator.program)} cannot run the scripts: {reason}"
            raise UnavailableError(message)
        return reason

    def run(self) -> Outcome:
        """Run every script, and give what the caller is to know."""
        order, overlay = self.order, self.overlay
        with open(order.load, "rb") as file:
            rows = file.read()
        if overlay is not None or self.extras is not None:
            rows += b"" if overlay is None else overlay.rows()
            rows += b"" if self.extras is None else self.extras.rows()
            with open(order.load, "wb") as file:
                file.write(rows)
        daemon = Daemon(self.ends, order.faked, order.save_file, order.load)
        shown = None
        try:
            record = Record(os.fsdecode(order.library), daemon.environment, rows)
            record.pins = self.extras
            self._put(record)
            recorder = self._recorder(record)
            failure = self._scripts(daemon, recorder)
            if failure is None and overlay is not None and not order.discarded:
                shown = overlay.shown(set(record.rows))
            record.synchronise()
        finally:
            kill_children((), alone=self.isolate.pid_namespace)
            daemon.stop()
        with open(order.save_file, "rb") as file:
            record.check(file.read())
        attributes = [
            InodeAttribute(inode, name, value)
            for inode, pairs in record.attributes.items()
            for name, value in sorted(pairs.items())
        ]
        return Outcome(failure, tuple(attributes), shown, tuple(recorder.changes.wishes))

    def _put(self, record: Record) -> None:
        """Give files the attributes that they begin with."""
        for path, name, value in self.order.xattrs:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            status = os.fstat(descriptor)
            record.set_attribute(descriptor, status, record.of(status), name, value)
            os.close(descriptor)

    def _recorder(self, record: Record) -> Recorder:
        nodes = {inode_of(os.stat(node)) for node in self.order.nodes}
        # Where nothing keeps the scripts from the machine, what is not in the tree is the machine's.
        isolation = self.isolate.isolation
        apart = isolation == "none" or (isolation == "chroot" and self.order.view == "directory")
        kept = Kept(os.path.realpath(self.order.tree) + b"/", self.began) if apart else None
        checked = self.overlay is not None and not self.order.discarded
        return Recorder(record, nodes, self.overlay.check_moved if self.overlay is not None and checked else None, kept)

    def _scripts(self, daemon: Daemon, recorder: Recorder) -> Failure | None:
        """Run one script after the other, up to the first that fails."""
        for index, script in enumerate(self.order.scripts):
            report(Begins(index))
            if self.order.awaited:
                _hear(self.orders)
            end = self._script(daemon, recorder, script)
            if end != Exited(0):
                failure = Failure(index, end)
                self._look(daemon, recorder, failure)
                return failure
        return None

    def _look(self, daemon: Daemon, recorder: Recorder, failure: Failure) -> None:
        """Run what is to run where a script has failed: for as long as it likes, and with the same record."""
        look = self.order.on_failure
        if look is not None:
            report(Fails(failure))
            self.order = self.order._replace(timeout=None)
            report(Looked(self._script(daemon, recorder, look)))

    def _script(self, daemon: Daemon, recorder: Recorder, script: Command) -> ScriptEnd:
        """Run one script to its end, and everything it started."""
        ours, theirs = socket.socketpair()
        by_proot = self.isolate.isolation == "none" and self.order.view == "root"
        code = seccomp.program(self.refused, UNKNOWN_TO_PROOT if by_proot else (), reaching=not self.isolate.pid_namespace)
        child = os.fork()
        if child == 0:
            ours.close()
            be_script(self.isolate, self.order, script, code, theirs)
        theirs.close()
        handle = os.pidfd_open(child)
        message, descriptors, _flags, _address = socket.recv_fds(ours, 1 << 16, 1)
        answer = from_json(message) if message else Told("DaemonError", ("a script could not be started",), "")
        if not isinstance(answer, Started):
            os.waitpid(child, 0)
            assert isinstance(answer, Told)  # noqa: S101 - the script says one of the two
            raise answer.error()
        (listener,) = descriptors
        shared.begin(child, alone=self._is_alone())
        if script.owner is not None:
            recorder.users.set(child, ROOT.becoming(*script.owner))
        children = Traps(child, recorder.carry_out) if self.refused else Children(child)
        ours.send(b".")
        ended = self._attend(recorder, listener, handle, daemon, children)
        failure = ours.recv(1 << 16) if ended else b""  # an exec that failed; else the end of the stream
        ours.close()
        if not ended or daemon.died:  # without its daemon it would wait for an answer for ever
            os.kill(child, signal.SIGKILL)
        kill_children({child}, alone=self.isolate.pid_namespace)  # the child has ended, or was killed
        shared.end()
        # Whatever its orphans did until they were killed has been answered or was never made.
        status = children.end()
        os.close(listener)
        os.close(handle)
        recorder.end()
        if daemon.died:
            message_ = "faked, which keeps the record, was ended by something else"
            raise DaemonError(message_, hint="Does a script kill processes that are not its own?")
        if failure:
            return self._not_started(failure)
        if not ended:
            return TimedOut()
        return Killed(-status) if status < 0 else Exited(status)

    def _is_alone(self) -> bool:
        """Say whether nobody but the scripts renames or removes what they find: nothing is the machine's, or shared."""
        return self.order.view == "root" and self.isolate.isolation != "none" and self.extras is None

    def _not_started(self, failure: bytes) -> NotStarted:
        end = from_json(failure)
        assert isinstance(end, NotStarted)  # noqa: S101 - all that a script says after its start
        if end.why == "foreign" and self.no_emulator:
            return end._replace(why="unregistered", about=f"{end.about} ({self.no_emulator})")
        return end

    def _attend(self, recorder: Recorder, listener: int, handle: int, daemon: Daemon, children: Children) -> bool:
        """Answer the listener until the script ends; false when its time is up."""
        seccomp.wake_here(listener, here=True)
        limit = self.order.timeout
        deadline = None if limit is None else time.monotonic() + limit
        poller = select.poll()
        for descriptor in (listener, handle, daemon.handle, children.woken):
            poller.register(descriptor, select.POLLIN)
        a_call = [(listener, select.POLLIN)]
        while True:
            began = time.perf_counter_ns()
            ready = poller.poll(_milliseconds(deadline))
            waited = time.perf_counter_ns() - began > _AT_ONCE_NS
            if deadline is None and ready == a_call:  # nearly always, so that it is to cost little
                recorder.attend(listener, waited=waited)
                continue
            events = dict(ready)
            if children.woken in events:
                children.attend()
            if events.get(listener, 0) & select.POLLIN:
                recorder.attend(listener, waited=waited)
            elif listener in events:
                poller.unregister(listener)  # no process is left under the filter
            if handle in events or daemon.handle in events:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False


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
        return error.strerror or str(error)  # in a container, whose /proc has hidden parts
    return ""


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
