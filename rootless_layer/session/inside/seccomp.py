"""The system calls of a session's programs, handed to the recorder by a seccomp filter.

All calls that change or read what the record has are handed to a listener (``SECCOMP_RET_USER_NOTIF``,
seccomp_unotify(2)), which gives their values. Every other call is the kernel's.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import socket
import struct
from typing import TYPE_CHECKING

from rootless_layer.errors import UnavailableError
from rootless_layer.system.namespaces import CLONE_NEWUSER, no_new_privileges, syscall

from .caller import Caller
from .calls import ABSENT, AUDIT, NAMES, NAMESPACES, SEND_BY_DESCRIPTOR, SO_PEERGROUPS, SOCKET_CALLS, SYNCS, X32, tables

if TYPE_CHECKING:
    from collections.abc import Collection

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _NOTIFY, _ERROR, _TRAP = 0x7FFF0000, 0x7FC00000, 0x00050000, 0x00030000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE = 1, 8, 32
_RECEIVE, _SEND, _ADD_DESCRIPTOR, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40182103, 0x40082104
_SYNC_WAKE_UP = 1
_ADD_AND_SEND = 2
_NOTIFICATION, _GIVEN = struct.Struct("=QI4xQ8x"), struct.Struct("=6Q")
"""``struct seccomp_notif``, and the arguments at its end."""
_ANSWER = struct.Struct("=QqiI")
_EMPTY = bytes(_NOTIFICATION.size + _GIVEN.size)
_CALLS = {audit << 32 | number: (name, audit) for (audit, number), name in NAMES.items()}
"""The names of calls, by their number and ABI as they lie in memory."""
_CONTINUE = 1

# The calls that are of interest for some values of an argument only: (argument, values).
_RESOURCE, _CAPBSET_READ, _CAPBSET_DROP, _SECUREBITS, _AMBIENT = resource.RLIMIT_RSS, 23, 24, 28, 47
_KEEPS_CAPABILITIES, _KEEP_CAPABILITIES = 7, 8
_GAIN_NONE, _GAINS_NONE = 38, 39
_ATTACH, _SEIZE = 16, 0x4206
_VALUES = {
    "getsockopt": (2, (socket.SO_PEERCRED, SO_PEERGROUPS)),
    "socketcall": (0, tuple(SOCKET_CALLS)),
    "prlimit64": (1, (_RESOURCE,)),
    "getrlimit": (0, (_RESOURCE,)),
    "getrlimit16": (0, (_RESOURCE,)),
    "setrlimit": (0, (_RESOURCE,)),
    "prctl": (
        0,
        (_KEEPS_CAPABILITIES, _KEEP_CAPABILITIES, _CAPBSET_READ, _CAPBSET_DROP, _SECUREBITS, _AMBIENT, _GAIN_NONE, _GAINS_NONE),
    ),
    "ptrace": (0, (_ATTACH, _SEIZE)),
}
_FLAGS = {"open": 1, "openat": 2}
"""The argument of a call that is of no interest where it only opens a file to read it."""
_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
"""The argument of a mode."""
_PATHS = {"futimesat": 1, "utimensat": 1, "utimensat_time64": 1}
"""The argument of a path, without which the call is about a descriptor, and of no interest."""
_ATTRIBUTES = frozenset({"setxattr", "lsetxattr", "fsetxattr"})
_SET_ID = 0o6000
_WRITES = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY | os.O_ACCMODE | os.O_TRUNC


def _instruction(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """Carry out a body, which returns, for a system call."""
    return [_instruction(_EQUAL, number, 0, len(body)), *body]


def _argument(number: int) -> bytes:
    return _instruction(_LOAD, _ARGUMENTS + 8 * number)  # the low half: little-endian


def _any_of(values: tuple[int, ...]) -> list[bytes]:
    """Pass the next instruction where one of these values is loaded."""
    return [_instruction(_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]


def _table(abi: str, table: dict[str, int], trapped: Collection[str], absent: Collection[str], *, reaching: bool) -> list[bytes]:
    notify, allow, trap = (_instruction(_RETURN, action) for action in (_NOTIFY, _ALLOW, _TRAP))
    unknown, refused, done = (_instruction(_RETURN, _ERROR | number) for number in (errno.ENOSYS, errno.EPERM, 0))
    program = [_instruction(_LOAD, _NUMBER)]
    for number in (*ABSENT[abi], *(table[name] for name in absent), *([SEND_BY_DESCRIPTOR] if reaching else ())):
        program += _when(number, [unknown])
    for name, number in table.items():
        if name in _FLAGS:
            body = [_argument(_FLAGS[name]), _instruction(_AND, _WRITES), _instruction(_EQUAL, 0, 1, 0), notify, allow]
        elif name in _PATHS:
            body = [_argument(_PATHS[name]), _instruction(_EQUAL, 0, 1, 0), notify, allow]
        elif name in _VALUES:
            argument, values = _VALUES[name]
            body = [_argument(argument), *_any_of(values), allow, notify]
            if name == "prlimit64" and reaching:
                body = [_argument(0), _instruction(_EQUAL, 0, 1, 0), notify, *body]
        elif name in _MODES and "mode" in trapped:
            body = [_argument(_MODES[name]), _instruction(_AND, _SET_ID), _instruction(_EQUAL, 0, 0, 1), notify, trap]
        else:
            body = [trap if name in _ATTRIBUTES and "attribute" in trapped else notify]
        program += _when(number, body)
    for number in NAMESPACES[abi]:
        program += _when(number, [_argument(0), _instruction(_AND, CLONE_NEWUSER), _instruction(_EQUAL, 0, 0, 1), allow, refused])
    for number in SYNCS[abi]:
        program += _when(number, [done])
    return [*program, allow]


def program(trapped: Collection[str] = (), absent: Collection[str] = (), *, reaching: bool = False) -> bytes:
    """Compile the filter for this machine: an array of ``struct sock_filter``.

    ``trapped`` are kinds of calls that something outside refuses, as :func:`traps.refused` names them. ``absent`` are names
    of calls that programs do without, where the kernel does not have them. ``reaching`` says whether calls that reach a process
    by its number are handed over, as a script is not alone in a PID namespace.

    Every ABI that the machine runs is covered; one that no table knows gets ENOSYS. There is no user namespace within that of a
    session: root of such a one could mount file systems of the machine's.
    """
    unknown = _instruction(_RETURN, _ERROR | errno.ENOSYS)
    result = [_instruction(_LOAD, _ARCHITECTURE)]
    for abi, table in tables(reaching=reaching).items():
        body = _table(abi, table, trapped, absent, reaching=reaching)
        if abi == "x86_64":
            body[1:1] = [_instruction(_AT_LEAST, X32, 0, 1), unknown]
        # A jump reaches 255 instructions ahead: a body is passed by one that goes on for longer (BPF_JA).
        result += [_instruction(_EQUAL, AUDIT[abi], 1, 0), _instruction(0x05, len(body)), *body]
    return b"".join((*result, unknown))


def install(code: bytes) -> int:
    """Put a filter on this process and its descendants; give the listener's descriptor."""
    holder = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(holder))
    no_new_privileges()
    number = _SECCOMP[os.uname().machine]
    try:
        with contextlib.suppress(OSError):  # Linux 5.19: a signal that is no death waits for the answer
            return syscall(
                number, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_NEW_LISTENER | _WAIT_KILLABLE), ctypes.c_char_p(header)
            )
        return syscall(number, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_NEW_LISTENER), ctypes.c_char_p(header))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = f"the kernel refuses a seccomp listener ({reason}), so what scripts change could not be recorded"
        raise UnavailableError(
            message, hint="Linux 5.14 or newer is needed, and no other listener around this process."
        ) from error


def wake_here(listener: int, *, here: bool) -> None:
    """Have the kernel hand calls and answers over on one processor, where it can (Linux 6.6); else on any, as it likes."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP if here else 0)


def receive(listener: int) -> Caller | None:
    """Take the next notification, or nothing where its process has died meanwhile."""
    try:
        found = fcntl.ioctl(listener, _RECEIVE, _EMPTY)
    except FileNotFoundError:
        return None
    cookie, pid, call = _NOTIFICATION.unpack_from(found)
    name, audit = _CALLS[call]
    return Caller(cookie, pid, name, audit, _GIVEN.unpack_from(found, _NOTIFICATION.size))


def answer(listener: int, caller: Caller, value: int, flags: int = 0) -> None:
    """Let the call give a value, or fail with the number of an error, which is negative."""
    try:
        fcntl.ioctl(listener, _SEND, _ANSWER.pack(caller.cookie, value, 0, flags))
    except FileNotFoundError:
        return  # the process has died meanwhile


def let_through(listener: int, caller: Caller) -> None:
    """Let the kernel carry the call out."""
    answer(listener, caller, 0, _CONTINUE)


def answer_with(listener: int, caller: Caller, descriptor: int, *, close_on_exec: bool) -> None:
    """Let the call give a copy of a descriptor of this process, or fail where the caller can have no more (``EMFILE``)."""
    flags = os.O_CLOEXEC if close_on_exec else 0
    try:
        fcntl.ioctl(listener, _ADD_DESCRIPTOR, struct.pack("=QIIII", caller.cookie, _ADD_AND_SEND, descriptor, 0, flags))
    except FileNotFoundError:
        return  # the process has died meanwhile
    except OSError as error:
        answer(listener, caller, -(error.errno or errno.EIO))
