"""The processes of the scripts, told from all others that /proc may show: this process is above them.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import re

_RELATIONS = re.compile(rb"^(Tgid|PPid):\t(\d+)$", re.MULTILINE)


def check_process(folder: int) -> None:
    """See that a directory of /proc is that of a process of a script: the kernel would not let those through others' links."""
    fields = _status(b"status", folder) or _status(b"../status", folder)
    if fields.get(b"Tgid") == os.getpid() or not _descends(fields):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def is_of_a_script(pid: int) -> bool:
    """Say whether a process, or a thread, is one of a script's: this process is above it.

    Raises ``ESRCH`` where there is none.
    """
    fields = _status(b"/proc/%d/status" % pid)
    if not fields:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return _descends(fields)


def _descends(fields: dict[bytes, int]) -> bool:
    while (parent := fields.get(b"PPid", 0)) != os.getpid():
        if not parent or not (fields := _status(b"/proc/%d/status" % parent)):
            return False
    return True


def _status(path: bytes, folder: int | None = None) -> dict[bytes, int]:
    """Read the process and its parent from a status file of /proc; nothing where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return {}
    with open(descriptor, "rb") as file:
        return {name: int(number) for name, number in _RELATIONS.findall(file.read())}
