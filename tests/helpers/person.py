"""A person on a terminal: types, and reads what is shown, line after line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from helpers.users import HANG, User


@attrs.define
class Person:
    """Somebody in front of a command that runs on a terminal of its own."""

    pid: int
    terminal: int
    shown: str = ""
    seen: int = 0
    status: int | None = None

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.terminal, text.encode())

    def reads(self, text: str) -> str:
        """Read on until a text is shown; give what stood before it."""
        end = time.monotonic() + HANG
        while (found := self.shown.find(text, self.seen)) < 0:
            assert self._read(end), f"{text!r} is not shown:\n{self.shown}"
        before = self.shown[self.seen : found]
        self.seen = found + len(text)
        return before

    def ends(self) -> int:
        """Read to the end; give the exit status."""
        end = time.monotonic() + HANG
        while self._read(end):
            pass
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def settings(self) -> list[object]:
        """Give the settings of the terminal."""
        return list(termios.tcgetattr(self.terminal))

    def resize(self, rows: int, columns: int) -> None:
        """Make the window larger or smaller, which the kernel tells the command."""
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, end: float) -> bool:
        if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
            return False
        try:
            part = os.read(self.terminal, 1 << 16)
        except OSError:  # as the kernel has it where nobody has the other side open
            return False
        self.shown += part.decode(errors="replace")
        return bool(part)


@contextlib.contextmanager
def on_a_terminal(user: User, command: Sequence[str | Path], **env: str) -> Iterator[Person]:
    """Have a user start a command on a terminal; in the end it is hung up."""
    words = [str(word) for word in command]
    ours, theirs = os.openpty()
    who = user.arguments()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            for number in range(3):
                os.dup2(theirs, number)
            os.closerange(3, 1 << 10)
            os.chdir(user.home)
            if who:
                os.fchown(0, who["user"], -1)  # as login(1) does
                os.setgroups([])
                os.setgid(who["group"])
                os.setuid(who["user"])
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(words[0], words, user.environment({"TERM": "xterm", **env}))
        finally:
            os._exit(127)
    person = Person(pid, ours)
    os.close(theirs)
    try:
        person.resize(30, 100)
        yield person
    finally:
        os.close(ours)
        if person.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
