"""The processes that a session's scripts leave running, and their end.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def _children() -> list[int]:
    me = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == me:
                    found.append(int(name))
    return found


def kill_children(but: Collection[int], *, alone: bool = False) -> None:
    """Kill every descendant and wait for it; orphans come to this process. Those named are not waited for.

    Where this process is the first of a PID namespace, and so *alone* with them, all go at once, those named as well: of
    processes that fork without end one after the other would be killed more slowly than they fork. Else those named stay.
    """
    if alone:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    while True:
        victims = [pid for pid in _children() if pid not in but]
        if not victims:
            return
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in victims:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
