"""The system calls that go around libfakeroot, noticed by a seccomp filter.

libfakeroot, told not to try chown, makes no chown, no setxattr and no mknod of a device:
so every such call that reaches the kernel comes from a program that libfakeroot does not
see (a static one, one started with an empty environment), and its wish would be lost.
The filter hands those calls to a listener (``SECCOMP_RET_USER_NOTIF``, seccomp_unotify(2)),
which names the program. Calls that change a mode or free an inode are handed over as well:
unlike libfakeroot's, an unseen program's leave the record stale.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from typing import NamedTuple

from rootless_layer.errors import UnavailableError
from rootless_layer.system.namespaces import no_new_privileges, syscall

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _NOTIFY, _NOT_IMPLEMENTED, _NOT_PERMITTED = 0x7FFF0000, 0x7FC00000, 0x00050000 | 38, 0x00050000 | 1
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_TYPE_BITS, _CHARACTER, _BLOCK = 0xF000, 0x2000, 0x6000
_X32 = 0x40000000
# An io_uring can set attributes and unlink without another system call. Its users do without
# where the kernel has none.
_IO_URING_SETUP = 425  # the same number in every ABI

_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
CONTINUE = 1

# Calls by name and number. Those of the first group are never libfakeroot's.
_OWNER = ("chown", "fchown", "lchown", "fchownat", "chown16", "fchown16", "lchown16")
_XATTR = (
    "setxattr", "lsetxattr", "fsetxattr", "setxattrat",
    "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
)  # fmt: skip
BYPASSES = frozenset((*_OWNER, *_XATTR, "mknod", "mknodat"))
_COMMON = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466}
_X86_64 = _COMMON | {
    "chown": 92, "fchown": 93, "lchown": 94, "fchownat": 260, "mknod": 133, "mknodat": 259,
    "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
    "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199,
    "chmod": 90, "fchmod": 91, "fchmodat": 268,
    "unlink": 87, "unlinkat": 263, "rmdir": 84, "rename": 82, "renameat": 264, "renameat2": 316,
}  # fmt: skip
_I386 = _COMMON | {
    "chown16": 182, "chown": 212, "fchown16": 95, "fchown": 207, "lchown16": 16, "lchown": 198,
    "fchownat": 298, "mknod": 14, "mknodat": 297,
    "setxattr": 226, "lsetxattr": 227, "fsetxattr": 228,
    "removexattr": 235, "lremovexattr": 236, "fremovexattr": 237,
    "chmod": 15, "fchmod": 94, "fchmodat": 306,
    "unlink": 10, "unlinkat": 301, "rmdir": 40, "rename": 38, "renameat": 302, "renameat2": 353,
}  # fmt: skip
_AARCH64 = _COMMON | {
    "fchown": 55, "fchownat": 54, "mknodat": 33,
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16,
    "fchmod": 52, "fchmodat": 53, "unlinkat": 35, "renameat": 38, "renameat2": 276,
}  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
_TABLES = {"x86_64": {"x86_64": _X86_64, "i386": _I386}, "aarch64": {"aarch64": _AARCH64}}
_KILL = {"x86_64": 62, "i386": 37, "aarch64": 129}
_EVERYBODY = 0xFFFFFFFF
"""The pid -1: kill(2) to every process of the user's."""
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NAMES = {
    (_AUDIT[abi], number): name for tables in _TABLES.values() for abi, table in tables.items() for name, number in table.items()
}


class Notification(NamedTuple):
    """One system call that waits for an answer; ``pid`` is the thread that makes it."""

    cookie: int
    pid: int
    number: int
    name: str
    instruction: int
    arguments: tuple[int, ...]


def _instruction(code: int, value: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, value)


def _table(table: dict[str, int], kill: int) -> list[bytes]:
    program = [
        _instruction(_LOAD, _NUMBER),
        _instruction(_EQUAL, _IO_URING_SETUP, 0, 1),
        _instruction(_RETURN, _NOT_IMPLEMENTED),
    ]
    for name, number in table.items():
        if name in {"mknod", "mknodat"}:
            argument = 1 if name == "mknod" else 2
            program += [
                _instruction(_EQUAL, number, 0, 6),
                _instruction(_LOAD, _ARGUMENTS + 8 * argument),  # the low half: little-endian
                _instruction(_AND, _TYPE_BITS),
                _instruction(_EQUAL, _CHARACTER, 1, 0),
                _instruction(_EQUAL, _BLOCK, 0, 1),
                _instruction(_RETURN, _NOTIFY),
                _instruction(_RETURN, _ALLOW),
            ]
        else:
            program += [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, _NOTIFY)]
    if kill:
        program += [
            _instruction(_EQUAL, kill, 0, 3),
            _instruction(_LOAD, _ARGUMENTS),
            _instruction(_EQUAL, _EVERYBODY, 0, 1),
            _instruction(_RETURN, _NOT_PERMITTED),
        ]
    return [*program, _instruction(_RETURN, _ALLOW)]


def program(*, alone: bool = True) -> bytes:
    """Compile the filter for this machine: an array of ``struct sock_filter``.

    Where the script is not ``alone`` in a PID namespace, it may not signal every process.

    Every ABI that the machine runs is covered; one that no table knows gets ENOSYS.
    """
    machine = platform.machine()
    if machine not in _TABLES:
        message = f"sessions are not supported on {machine}, only on {' and '.join(sorted(_TABLES))}"
        raise UnavailableError(message)
    result = [_instruction(_LOAD, _ARCHITECTURE)]
    for abi, table in _TABLES[machine].items():
        body = _table(table, 0 if alone else _KILL[abi])
        if abi == "x86_64":
            body[1:1] = [_instruction(_AT_LEAST, _X32, 0, 1), _instruction(_RETURN, _NOT_IMPLEMENTED)]
        result += [_instruction(_EQUAL, _AUDIT[abi], 0, len(body)), *body]
    return b"".join((*result, _instruction(_RETURN, _NOT_IMPLEMENTED)))


def install(*, alone: bool) -> int:
    """Put the filter on this process and its descendants; give the listener's descriptor."""
    code = program(alone=alone)
    holder = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(holder))
    no_new_privileges()
    try:
        return syscall(
            _SECCOMP[platform.machine()], ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_NEW_LISTENER), ctypes.c_char_p(header)
        )
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        message = f"the kernel refuses a seccomp listener ({reason}), so what bypasses fakeroot could not be noticed"
        raise UnavailableError(
            message, hint="Linux 5.5 or newer is needed, and no other listener around this process."
        ) from error


def receive(listener: int) -> Notification | None:
    """Take the next notification, or nothing where its process has died meanwhile."""
    buffer = bytearray(_NOTIFICATION.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except FileNotFoundError:
        return None
    cookie, pid, _flags, number, audit, instruction, *arguments = _NOTIFICATION.unpack(buffer)
    return Notification(cookie, pid, number, _NAMES.get((audit, number), f"system call {number}"), instruction, tuple(arguments))


def answer(listener: int, notification: Notification, error: int = 0) -> None:
    """Let the call fail with ``error``, or, without one, let the kernel carry it out."""
    try:
        fcntl.ioctl(listener, _SEND, _ANSWER.pack(notification.cookie, 0, -error, 0 if error else CONTINUE))
    except FileNotFoundError:
        return  # the process has died meanwhile
