"""Files that are held by a descriptor, and the file systems that they are on.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import os
import struct

AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR = 0x1000, 0x100, 0x200
HELD = os.O_PATH | os.O_CLOEXEC
"""How a file is opened that is only held."""
_PROC, _SYS = 0x9FA0, 0x62656572
"""The numbers of the file systems proc and sysfs (linux/magic.h)."""
_STATX = {"x86_64": 332, "aarch64": 291}.get(os.uname().machine, 0)
_STATX_SIZE, _MOUNT_ID, _MOUNT_ID_AT = 256, 0x1000, 144
"""The size of a struct statx, and its field that has the number of a mount."""
_libc = ctypes.CDLL(None, use_errno=True)
_call = _libc.syscall
_call.restype = ctypes.c_long
_kinds: dict[int, int] = {}


def fail(number: int) -> OSError:
    """Give the error that a call is to fail with."""
    return OSError(number, os.strerror(number))


def held(descriptor: int) -> bytes:
    """Give the path by which this process's other calls name a file that is held."""
    return b"/proc/self/fd/%d" % descriptor


def is_proc(path: bytes, device: int) -> bool:
    """Say whether a file, of this device, is one of /proc, where each process sees another self."""
    return _kind(path, device) == _PROC


def is_the_kernels(path: bytes, device: int) -> bool:
    """Say whether a file, of this device, is one of /proc or /sys, which are no part of any layer."""
    return _kind(path, device) in {_PROC, _SYS}


def of_proc(descriptor: int) -> bool:
    """Say whether a file that is held is one of /proc."""
    return is_proc(held(descriptor), os.fstat(descriptor).st_dev)


def mount_of(descriptor: int) -> int:
    """Give the number of the mount that a file that is held is on."""
    found = ctypes.create_string_buffer(_STATX_SIZE)
    if _call(_STATX, descriptor, b"", AT_EMPTY_PATH, _MOUNT_ID, found) < 0:
        raise fail(ctypes.get_errno())
    number: int = struct.unpack_from("Q", found, _MOUNT_ID_AT)[0]
    return number


def _kind(path: bytes, device: int) -> int:
    """Give the number of the file system that a file, of this device, is on."""
    known = _kinds.get(device)
    if known is None:
        found = (ctypes.c_long * 32)()
        known = _kinds[device] = found[0] if _libc.statfs(path, found) == 0 else 0
    return known
