"""The children of a session's init: the script that runs, and all of its processes that have lost their parent.

Orphans are reaped as they end. Else each would stay, as a zombie, until the script ends: whoever stops a daemon waits until
nobody has its number any more.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

from .held import fail

_SIGNALS = 128
"""The size of a ``sigset_t``."""
_libc = ctypes.CDLL(None, use_errno=True)


class Children:
    """Reaps orphans, as long as a script runs."""

    def __init__(self, script: int) -> None:
        """Be woken when a child ends; the script is one that waits."""
        self.script = script
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # a handler would interrupt the recorder in a call
        wanted = (1 << signal.SIGCHLD - 1).to_bytes(_SIGNALS, "little")
        self.woken: int = _libc.signalfd(-1, wanted, os.O_NONBLOCK | os.O_CLOEXEC)
        """Can be read from when a child has ended or stopped."""
        if self.woken < 0:
            raise fail(ctypes.get_errno())

    def attend(self) -> None:
        """Reap the orphans that have ended."""
        self.rest()
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == self.script:
                return  # it is waited for in the end
            os.waitpid(found.si_pid, 0)

    def rest(self) -> None:
        """Wait for the next time to be woken."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.woken, 1 << 12)

    def end(self) -> int:
        """Be woken no more; give how the script has ended, as :func:`os.waitstatus_to_exitcode` says it."""
        os.close(self.woken)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        return self.status()

    def status(self) -> int:
        """Wait for the script."""
        return os.waitstatus_to_exitcode(os.waitpid(self.script, 0)[1])
