"""A session's daemon: faked, the memory of owners, modes and devices.

It is driven directly. The ``fakeroot`` wrapper takes seconds to end, loses the record on
SIGTERM, evaluates the save file's name as shell and leaks its queues.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import time

from rootless_layer.errors import DaemonError
from rootless_layer.system.namespaces import die_with_parent

_START_SECONDS = 10
_END_SECONDS = 60
# faked closes every descriptor up to the soft limit, one by one; with 2**30 that is minutes.
_DESCRIPTORS = 4096
_IPC_RMID = 0


class Daemon:
    """A running faked: the session's memory of owners, modes and devices."""

    def __init__(self, faked: str, save_file: str, load: str | None = None) -> None:
        """Start faked as a child of this process; ``load`` is a save file to begin with.

        Raises :class:`DaemonError` where it does not come up.
        """
        reading, writing = os.pipe()
        arguments = [faked, "--foreground", "--save-file", save_file, *(["--load"] if load else [])]
        parent = os.getpid()
        self.save_file = save_file
        self.pid = os.fork()
        if self.pid == 0:
            try:
                die_with_parent(parent, signal.SIGTERM)
                os.dup2(os.open(load or os.devnull, os.O_RDONLY), 0)
                os.dup2(writing, 1)
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                soft = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                os.environ.pop("FAKEROOTKEY", None)  # faked would refuse to start
                os.execv(faked, arguments)  # noqa: S606 - a shell would evaluate the paths
            finally:
                os._exit(127)
        os.close(writing)
        try:
            self.key = self._read_key(reading)
        finally:
            os.close(reading)
        self.handle = os.pidfd_open(self.pid)

    def _read_key(self, reading: int) -> str:
        said = b""
        deadline = time.monotonic() + _START_SECONDS
        while b"\n" not in said:
            ready = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]
            part = os.read(reading, 64) if ready else b""
            if not part:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                message = "faked did not start" + ("" if ready else f" within {_START_SECONDS} seconds")
                raise DaemonError(message, hint="Is there room for another SysV message queue (ipcs -l)?")
            said += part
        key = said.partition(b":")[0]
        if not key.isdigit():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            message = f"faked said {said[:80]!r} instead of its key"
            raise DaemonError(message, hint="Is that fakeroot's own faked?")
        return key.decode()

    def environment(self, library: str) -> dict[str, str]:
        """Give the variables by which a program takes part in the session."""
        return {
            "FAKEROOTKEY": self.key,
            "FAKEROOTDONTTRYCHOWN": "1",
            "FAKED_MODE": "unknown-is-root",
            "LD_PRELOAD": library,
        }

    @property
    def died(self) -> bool:
        """Say whether the daemon has ended, which leaves its clients waiting for ever."""
        return bool(select.select([self.handle], [], [], 0)[0])

    def stop(self) -> None:
        """End the daemon, which writes the save file, and take its queues away.

        Raises :class:`DaemonError` where it ended before, or wrote no save file.
        """
        died = self.died
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
            os.kill(self.pid, signal.SIGCONT)  # a script may have stopped it
        if not select.select([self.handle], [], [], _END_SECONDS)[0]:
            os.kill(self.pid, signal.SIGKILL)
            died = True
        os.waitpid(self.pid, 0)
        os.close(self.handle)
        _remove_queues(int(self.key))
        if died:
            message = "faked, which keeps the record, was ended by something else"
            raise DaemonError(message, hint="Does a script kill processes that are not its own?")
        if not os.path.exists(self.save_file):
            message = f"{self.save_file}: faked wrote no record"
            raise DaemonError(message, hint="Is the disk full?")


def _remove_queues(key: int) -> None:
    """Remove what a killed faked leaves: two message queues and a semaphore, by key."""
    libc = ctypes.CDLL(None)
    for queue in (key, key + 1):
        number = libc.msgget(queue, 0)
        if number >= 0:
            libc.msgctl(number, _IPC_RMID, None)
    semaphore = libc.semget(key + 2, 0, 0)
    if semaphore >= 0:
        libc.semctl(semaphore, 0, _IPC_RMID)
