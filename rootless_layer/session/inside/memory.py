"""The memory of a process that waits for an answer.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import os

PATH_MAX = 4096
_PAGE, _FIRST_READ = 4096, 256
_libc = ctypes.CDLL(None, use_errno=True)


class Vector(ctypes.Structure):
    """A struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


# Used for each transfer, as there is one thread that answers: to make them anew takes longer than the transfer.
_here, _there = Vector(), Vector()
_at_here, _at_there = ctypes.byref(_here), ctypes.byref(_there)
_first_buffer = ctypes.create_string_buffer(_FIRST_READ)
_first_here = Vector(ctypes.addressof(_first_buffer), _FIRST_READ)
_at_first_here = ctypes.byref(_first_here)
_read_memory, _write_memory = _libc.process_vm_readv, _libc.process_vm_writev


def _fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def read(process: int, address: int, size: int) -> bytes:
    """Read so many bytes, or as many as are there; raises ``EFAULT`` for none."""
    buffer = ctypes.create_string_buffer(size)
    count = _transfer(_read_memory, process, buffer, address, size)
    return buffer.raw[:count]


def write(process: int, buffer: ctypes.Array[ctypes.c_char], address: int, size: int) -> None:
    """Write all of a buffer; raises ``EFAULT`` where that cannot be."""
    if _transfer(_write_memory, process, buffer, address, size) != size:
        raise _fail(errno.EFAULT)


def text(process: int, address: int, most: int) -> bytes:
    """Read a string; raises ``EFAULT``, and ``ENAMETOOLONG`` where it does not end in time."""
    _there.base, _there.length = address, min(_FIRST_READ, _PAGE - address % _PAGE)
    count = _read_memory(process, _at_first_here, 1, _at_there, 1, 0)
    if len(found := _first_buffer.value) < count <= most:
        return found
    found, size = b"", _FIRST_READ
    while len(found) < most:
        # Not across a page that may not be there.
        part = read(process, address + len(found), min(size, _PAGE - (address + len(found)) % _PAGE))
        before, end, _ = part.partition(b"\0")
        found += before
        if end and len(found) < most:
            return found
        size = _PAGE
    raise _fail(errno.ENAMETOOLONG)


def _transfer(
    function: ctypes._NamedFuncPointer, process: int, buffer: ctypes.Array[ctypes.c_char], address: int, size: int
) -> int:
    _here.base = ctypes.addressof(buffer)
    _there.base = address
    _here.length = _there.length = size
    count: int = function(process, _at_here, 1, _at_there, 1, 0)
    if count > 0:
        return count
    if ctypes.get_errno() in {errno.EPERM, errno.ENOSYS}:  # forbidden in some containers, where the file is not
        return _through_file(process, function is _write_memory, buffer, address)
    raise _fail(errno.EFAULT)


def _through_file(process: int, writing: bool, buffer: ctypes.Array[ctypes.c_char], address: int) -> int:  # noqa: FBT001 - of one caller
    memory = os.open(f"/proc/{process}/mem", (os.O_WRONLY if writing else os.O_RDONLY) | os.O_CLOEXEC)
    try:
        return os.pwrite(memory, buffer.raw, address) if writing else os.preadv(memory, [buffer], address)
    except OSError as error:
        raise _fail(errno.EFAULT) from error
    finally:
        os.close(memory)
