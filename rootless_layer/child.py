"""A forked child that works on what this process has in memory, while this one goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from .namespace import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def may_fork() -> bool:
    """Say whether forking is safe: another thread's locks would stay locked in the child."""
    return threading.active_count() == 1


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what would end this process, until a child just forked is known to whoever stops it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """A child process that runs one function and ends."""

    def __init__(self, work: Callable[[], object]) -> None:
        """Start it. The caller has seen that :func:`may_fork`."""
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its children
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            die_with_parent(parent)
            work()
            status = 0
        finally:
            # Nothing may unwind into the caller's frames a second time.
            os._exit(status)

    def wait(self) -> bool:
        """Wait for it to end; say whether it succeeded."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status == 0

    def stop(self) -> None:
        """End it, whatever it is doing."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
