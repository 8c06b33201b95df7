"""A session's daemon: faked, the memory of owners, modes and devices.

It is driven directly. The ``fakeroot`` wrapper takes seconds to end, loses the record on
SIGTERM, evaluates the save file's name as shell and leaks its queues.

The keeper forks its process before there is a PID namespace, so that no script sees it there: else one could stop or kill it.
The init of the session speaks to the keeper through pipes: it says what faked is to begin with, and when it is to end.

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
from typing import NamedTuple

from rootless_layer.errors import DaemonError
from rootless_layer.system.namespaces import die_with_parent

_START_SECONDS = 10
_END_SECONDS = 60
# faked closes every descriptor up to the soft limit, one by one; with 2**30 that is minutes.
_DESCRIPTORS = 4096
_IPC_RMID = 0
_ENDED, _DIED = b"e", b"d"


class Ends(NamedTuple):
    """What the init has of the daemon: pipes to begin it, to read its key, to end it and to read how it ended."""

    begin: int
    key: int
    end: int
    ended: int
    handle: int
    pid: int


class Keeping:
    """The keeper's side: the process that becomes faked, and its end."""

    def __init__(self) -> None:
        """Fork the process; it waits for its order."""
        order, begin = os.pipe()
        key, said = os.pipe()
        self.asked, end = os.pipe()
        ended, self._answers = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for descriptor in (begin, key, self.asked, end, ended, self._answers):
                    os.close(descriptor)
                die_with_parent(parent, signal.SIGTERM)
                _be_faked(order, said)
            finally:
                os._exit(127)
        os.close(order)
        os.close(said)
        self.handle = os.pidfd_open(self.pid)
        self.ends = Ends(begin, key, end, ended, self.handle, self.pid)

    def leave_to_init(self) -> Ends:
        """Close what is the keeper's, in the init; give what is the init's."""
        os.close(self.asked)
        os.close(self._answers)
        return self.ends

    def leave_to_keeper(self) -> None:
        """Close what is the init's, in the keeper."""
        for descriptor in self.ends[:4]:
            os.close(descriptor)

    def end(self) -> None:
        """Have the daemon write its save file and end, and say how that went to whoever asked."""
        os.read(self.asked, 1)
        died = _has_ended(self.handle)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
            os.kill(self.pid, signal.SIGCONT)  # somebody may have stopped it
        if not select.select([self.handle], [], [], _END_SECONDS)[0]:
            os.kill(self.pid, signal.SIGKILL)
            died = True
        os.waitpid(self.pid, 0)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._answers, _DIED if died else _ENDED)


def _be_faked(order: int, said: int) -> None:
    """Become faked when its program, its save file and the file of rows to begin with are told, each ended by a zero byte."""
    words = b""
    while words.count(b"\0") < 3:  # noqa: PLR2004 - those three
        part = os.read(order, 1 << 16)
        if not part:
            return
        words += part
    faked, save_file, load = map(os.fsdecode, words.split(b"\0")[:3])
    os.dup2(os.open(load, os.O_RDONLY), 0)
    os.dup2(said, 1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.environ.pop("FAKEROOTKEY", None)  # faked would refuse to start
    os.setsid()
    os.execv(faked, [faked, "--foreground", "--save-file", save_file, "--load"])  # noqa: S606 - a shell would evaluate the paths


class Daemon:
    """A running faked, for the init of a session."""

    def __init__(self, ends: Ends, faked: bytes, save_file: bytes, load: bytes) -> None:
        """Start faked with the rows of a save file, ``load``.

        Raises :class:`DaemonError` where it does not come up.
        """
        self._ends = ends
        self.save_file, self.handle, self.pid = save_file, ends.handle, ends.pid
        with contextlib.suppress(BrokenPipeError):
            os.write(ends.begin, b"\0".join((faked, save_file, load, b"")))
        self.key = self._read_key(ends.key)

    def _read_key(self, reading: int) -> str:
        said = b""
        deadline = time.monotonic() + _START_SECONDS
        while b"\n" not in said:
            ready = select.select([reading, self.handle], [], [], max(0.0, deadline - time.monotonic()))[0]
            part = os.read(reading, 64) if reading in ready else b""
            if not part:
                message = "faked did not start" + ("" if ready else f" within {_START_SECONDS} seconds")
                raise DaemonError(message, hint="Is there room for another SysV message queue (ipcs -l)?")
            said += part
        key = said.partition(b":")[0]
        if not key.isdigit():
            message = f"faked said {said[:80]!r} instead of its key"
            raise DaemonError(message, hint="Is that fakeroot's own faked?")
        return key.decode()

    @property
    def environment(self) -> dict[str, str]:
        """Give the variables by which libfakeroot speaks to it, and makes no change of owners on disk."""
        return {"FAKEROOTKEY": self.key, "FAKEROOTDONTTRYCHOWN": "1", "FAKED_MODE": "unknown-is-root"}

    @property
    def died(self) -> bool:
        """Say whether the daemon has ended, which leaves its clients waiting for ever."""
        return _has_ended(self.handle)

    def stop(self) -> None:
        """End the daemon, which writes the save file, and take its queues away.

        Raises :class:`DaemonError` where it ended before, or wrote no save file.
        """
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ends.end, b".")
        died = os.read(self._ends.ended, 1) != _ENDED
        _remove_queues(int(self.key))
        if died:
            message = "faked, which keeps the record, was ended by something else"
            raise DaemonError(message, hint="Does a script kill processes that are not its own?")
        if not os.path.exists(self.save_file):
            message = f"{os.fsdecode(self.save_file)}: faked wrote no record"
            raise DaemonError(message, hint="Is the disk full?")


def _has_ended(handle: int) -> bool:
    return bool(select.select([handle], [], [], 0)[0])


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
