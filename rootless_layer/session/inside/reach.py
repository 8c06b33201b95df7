"""The calls that reach a process by its number, where a script is not alone in a PID namespace.

They reach the processes of the scripts, and no other of this machine's: those are refused (``EPERM``), whoever the kernel
takes the caller for. The kernel carries the calls out. What is looked at is a number in a register, which stays what it is.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from .caller import signed
from .descent import is_of_a_script
from .held import fail

if TYPE_CHECKING:
    from .caller import Caller

_ONE, _GROUP = {"setpriority": 0, "ioprio_set": 1}, {"setpriority": 1, "ioprio_set": 2}
"""What the first argument says of the second: that it is a process, or a group of processes. Else it is a user."""
_GROUP_FIELD = 2
"""The place of the group in /proc/PID/stat, behind the name of the program (proc(5))."""


def check(caller: Caller) -> None:
    """Refuse a call that would reach a process that is no script's.

    Raises ``EPERM``, and ``ESRCH`` where there is no such process.
    """
    name, arguments = caller.name, caller.arguments
    number = signed(arguments[1 if name in _ONE or name == "ptrace" else 0])
    if name in _ONE:
        which = signed(arguments[0])
        reached = number == 0 or (
            is_of_a_script(number) if which == _ONE[name] else which == _GROUP[name] and _is_group_of_a_script(number)
        )
    elif name == "kill" and number < 0:
        reached = number != -1 and _is_group_of_a_script(-number)  # -1 are all that may be signalled
    else:
        reached = number == 0 or is_of_a_script(number)  # 0 is the caller itself, or its group
    if not reached:
        raise fail(errno.EPERM)


def _is_group_of_a_script(group: int) -> bool:
    """Say whether a group of processes is one of a script's: nobody joins a group of another session (setpgid(2))."""
    for name in os.listdir("/proc"):
        if name.isdigit() and _group(name) == group:
            return is_of_a_script(int(name))
    raise fail(errno.ESRCH)


def _group(name: str) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[_GROUP_FIELD])
    return 0
