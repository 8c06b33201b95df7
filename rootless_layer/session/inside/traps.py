"""Calls that a filter outside of the session refuses, as Nix's sandbox does, before this session's listener hears of them.

A refusal by seccomp outranks a notification, but a trap outranks a refusal (seccomp(2)): the session's filter answers such
calls with ``SECCOMP_RET_TRAP``, a signal SIGSYS, which ptrace(2) shows to this process before the program gets it. The
recorder gives the value, which is put in the program's registers, and the program gets no signal. Nothing else is traced: a
program runs as fast as it does, but for two stops at each fork.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import struct
from typing import TYPE_CHECKING

from .caller import Caller
from .calls import NAMES
from .children import Children
from .held import fail
from .memory import Vector

if TYPE_CHECKING:
    from collections.abc import Callable

_SEIZE, _CONT, _LISTEN, _GETSIGINFO, _GETREGSET, _SETREGSET = 0x4206, 7, 0x4208, 0x4202, 0x4204, 0x4205
_TRACE_NEW = 2 | 4 | 8
"""Whatever is forked, vforked or cloned is traced as well (PTRACE_O_TRACEFORK and its kin)."""
_EVENT_STOP = 128
_NT_PRSTATUS = 1
_WALL = 0x40000000
_SYS_SECCOMP = 1
_SIGINFO = struct.Struct("=iii4xQiI")
_STOPS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
# The form of a register, where the arguments of a call are among them, and where its value goes; by how many bytes they have.
_X86_64 = "Q", (14, 13, 12, 7, 9, 8), 10
_I386 = "I", (0, 1, 2, 3, 4, 5), 6
_AARCH64 = "Q", (0, 1, 2, 3, 4, 5), 0
_REGISTERS = {27 * 8: _X86_64, 17 * 4: _I386, 34 * 8: _AARCH64}
_MOST = 512
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def refused(work: bytes) -> frozenset[str]:
    """Say which kinds of calls something outside refuses: of a ``mode`` with set-ID bits, of an ``attribute``, or of neither."""
    with open("/proc/self/status", "rb") as file:
        if b"\nSeccomp:\t0\n" in file.read():
            return frozenset()
    path = work + b"/refused"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    found = {"mode", "attribute"}
    with contextlib.suppress(OSError):
        os.chmod(path, stat.S_ISUID | 0o700)
        found.remove("mode")
    with contextlib.suppress(OSError):
        os.setxattr(path, b"user.x", b"")
        found.remove("attribute")
    os.unlink(path)
    return frozenset(found)


class Traps(Children):
    """Traces a script's processes, and has their trapped calls carried out."""

    def __init__(self, script: int, carry_out: Callable[[Caller], object]) -> None:
        """Trace a process that waits; ``carry_out`` gives a call's value, or raises what it fails with."""
        super().__init__(script)
        self._carry_out = carry_out
        self._status: int | None = None
        self._trace(_SEIZE, script, 0, _TRACE_NEW)

    def status(self) -> int:
        """Give how the script has ended, and wait for that where it is not known."""
        return super().status() if self._status is None else self._status

    def attend(self) -> None:
        """Let every process that has stopped go on, and reap those that have ended: their parents wait for that."""
        self.rest()
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG | _WALL)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_code in {os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED}:
                if found.si_pid == self.script:
                    self._status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
                continue
            with contextlib.suppress(ProcessLookupError):  # it was killed meanwhile
                self._stopped(found.si_pid, found.si_status & 0xFF, found.si_status >> 8)

    def _stopped(self, pid: int, number: int, event: int) -> None:
        if event == _EVENT_STOP and number in _STOPS:
            self._trace(_LISTEN, pid)
        elif event or (number == signal.SIGSYS and self._answered(pid)):
            self._trace(_CONT, pid)
        else:
            self._trace(_CONT, pid, 0, number)

    def _answered(self, pid: int) -> bool:
        """Give a call that was trapped its value; false for a signal that is the program's own."""
        siginfo = ctypes.create_string_buffer(128)
        self._trace(_GETSIGINFO, pid, 0, ctypes.addressof(siginfo))
        _, _, code, _, number, audit = _SIGINFO.unpack_from(siginfo)
        name = NAMES.get((audit, number))
        if code != _SYS_SECCOMP or name is None:
            return False
        buffer = ctypes.create_string_buffer(_MOST)
        vector = Vector(ctypes.addressof(buffer), _MOST)
        self._trace(_GETREGSET, pid, _NT_PRSTATUS, ctypes.addressof(vector))
        form, places, result = _REGISTERS[vector.length]
        register = struct.Struct(form)
        arguments = tuple(register.unpack_from(buffer, register.size * place)[0] for place in places)
        try:
            value = self._carry_out(Caller(0, pid, name, audit, arguments))
        except OSError as error:
            value = -(error.errno or errno.EIO)
        if not isinstance(value, int):
            value = -errno.EPERM  # the kernel's to say, where it refuses
        register.pack_into(buffer, register.size * result, value & (1 << 8 * register.size) - 1)
        self._trace(_SETREGSET, pid, _NT_PRSTATUS, ctypes.addressof(vector))
        return True

    @staticmethod
    def _trace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
        if _libc.ptrace(request, pid, address, data) < 0:
            raise fail(ctypes.get_errno())
