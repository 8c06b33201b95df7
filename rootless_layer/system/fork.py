"""Forked children that work on what this process has in memory, and the end of all that a process started."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import select
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rootless_layer.errors import MachineError, RootlessLayerError, from_report, to_report

from . import tty
from .border import of_machine
from .namespaces import die_with_parent
from .quota import processors_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a command to end."""
_MOST_CHILDREN = 4
_TICK_MILLISECONDS = 100
_END_SECONDS, _PAUSE_SECONDS = 60, 0.005
_living: set[int] = set()


def cores() -> int:
    """Count the processors that this process may run on (sched_setaffinity(2)), and has the time of by its control groups."""
    usable, allowed = len(os.sched_getaffinity(0)), processors_allowed()
    return usable if allowed is None else max(1, min(usable, math.ceil(allowed)))


def may_fork() -> bool:
    """Say whether forking is safe, and a child's end is seen.

    Another thread's locks would stay locked in the child. Of a process that ignores SIGCHLD the
    kernel takes away each child that ends, with its status (wait(2)); that is the caller's to decide.
    """
    return threading.active_count() == 1 and signal.getsignal(signal.SIGCHLD) != signal.SIG_IGN


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what would end this process, until a child just forked is known to whoever stops it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def abandon() -> None:
    """End all that this process started; the caller, a signal's handler, ends the process next.

    The code that was interrupted is never returned to, so it does not matter where it was.
    Forked children are killed. The processes that tidy up after a build wait for their pipes
    to close, which happens here; when this returns they are done, and gone.
    """
    tty.put_back()
    for pid in _living:
        os.kill(pid, signal.SIGKILL)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:  # noqa: PLR2004 - behind stderr
            with contextlib.suppress(OSError):
                os.close(int(name))
    await_children()


def await_children() -> None:
    """Wait for what this process has started, and for what it has adopted, to end."""
    deadline = time.monotonic() + _END_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_PAUSE_SECONDS)


class Child:
    """A child process that runs one function and ends."""

    def __init__(self, work: Callable[[], object]) -> None:
        """Start it. The caller has seen that :func:`may_fork`."""
        parent = os.getpid()
        self.status = 0
        self.told, tell = os.pipe()
        """The descriptor of a pipe, from which can be read when the work is done, or has failed, or the child was killed."""
        try:
            self.pid = os.fork()
        except BaseException:
            os.close(self.told)
            os.close(tell)
            raise
        if self.pid:
            os.close(tell)
            _living.add(self.pid)
            return
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            die_with_parent(parent)
            os.close(self.told)
            work()
            status = 0
            _tell(tell, {})
        except Exception as error:  # noqa: BLE001 - it is the parent's to raise
            _tell(tell, _report(error))
        finally:
            # Nothing may unwind into the caller's frames a second time.
            os._exit(status)

    def join(self) -> None:
        """Wait for it to end, and raise what its work has raised.

        An error of this package's or of the system's is raised as it was. Raises :class:`MachineError` where the
        child was killed, or memory or threads ran out, and :class:`RuntimeError` for any other, with its traceback.
        """
        said = b""
        while part := os.read(self.told, 1 << 16):
            said += part
        self.wait()
        if not said:
            how = signal.Signals(-self.status).name if self.status < 0 else f"the status {self.status}"
            message = f"a process that did a part of the work ended by {how}"
            raise MachineError(
                message, hint="Where nobody killed it, there was not enough memory: free some, or raise its limit."
            )
        report = json.loads(said)
        if "error" in report:
            raise from_report(*report["error"])
        if "system" in report:
            raise OSError(*report["system"])
        if "fault" in report:
            raise RuntimeError(report["fault"])

    def wait(self) -> bool:
        """Wait for it to end; say whether it succeeded."""
        if self.told >= 0:
            os.close(self.told)
            self.told = -1
        status = 1
        with contextlib.suppress(ChildProcessError):  # a handler of the caller's may have waited for it
            # A process that has ended keeps its number until it is reaped: no other process is taken for this one.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            _living.discard(self.pid)
            status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        _living.discard(self.pid)
        self.pid, self.status = 0, status
        return status == 0

    def stop(self) -> None:
        """End it, whatever it is doing."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()


def _report(error: Exception) -> dict[str, object]:
    """Put an error of a child's in JSON."""
    if isinstance(error, RootlessLayerError):
        return {"error": to_report(error)}
    if isinstance(error, OSError) and error.errno is not None:
        paths = [os.fsdecode(path) if isinstance(path, bytes) else path for path in (error.filename, error.filename2)]
        return {"system": [error.errno, error.strerror, paths[0], None, paths[1]]}
    told = of_machine(error)
    if told is not None:
        return {"error": to_report(told)}
    import traceback  # noqa: PLC0415 - for a fault of this program's only

    return {"fault": "".join(traceback.format_exception(error))}


def _tell(descriptor: int, report: dict[str, object]) -> None:
    told = json.dumps(report).encode()
    with contextlib.suppress(OSError):  # nobody asks any more
        while told:
            told = told[os.write(descriptor, told) :]


class Tally:
    """Numbers that children count up, and their parent adds: each child has its own."""

    def __init__(self, count: int) -> None:
        """Make so many, all 0."""
        self._numbers = memoryview(mmap.mmap(-1, 8 * count + 8)).cast("Q")[:count]

    def set(self, place: int, number: int) -> None:
        """Say how far a child is."""
        self._numbers[place] = number

    def add(self, place: int, number: int) -> None:
        """Say how much further a child is."""
        self._numbers[place] += number

    def __iter__(self) -> Iterator[int]:
        """Go through the numbers."""
        return iter(self._numbers)

    @property
    def total(self) -> int:
        """Add the numbers."""
        return sum(self._numbers)


def for_each_forked(items: Iterable[T], work: Callable[[T], object], tick: Callable[[], object]) -> None:
    """Do the work for each item in a child process, as many at a time as there are cores, in the order given.

    What a child raises is raised here, as :meth:`Child.join` has it, and ends the others. Where there may
    be no child, all is done here. ``tick`` is called by this process, several times a second while it waits for one.
    """
    running: dict[int, Child] = {}  # by a descriptor that is readable when the child's work is done
    most = min(cores(), _MOST_CHILDREN)
    try:
        for item in items:
            if not may_fork():
                tick()
                work(item)
                continue
            if len(running) == most:
                _wait_for_one(running, tick)
            with uninterrupted():
                child = Child(partial(work, item))
                running[child.told] = child
        while running:
            _wait_for_one(running, tick)
        tick()
    finally:
        for child in running.values():
            child.stop()


def _wait_for_one(running: dict[int, Child], tick: Callable[[], object]) -> None:
    poll = select.poll()
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)
    tick()
    while not (ended := poll.poll(_TICK_MILLISECONDS)):
        tick()
    running[ended[0][0]].join()
    del running[ended[0][0]]
