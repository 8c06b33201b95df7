"""Run a command on a machine that has no namespaces to give, as a container is one.

``confined.py root|user COMMAND...``: in a user namespace of its own that allows no further
one, with process and IPC namespaces so that nothing of the command's reaches the machine.
*root* is root there, over all ids, but without CAP_SYS_ADMIN; *user* is the caller without
any capability. What the command leaves running, and its message queues, are named on stderr
as ``left: ...``. Ends with the command's exit status.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

_NEWNS, _NEWIPC, _NEWUSER, _NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
_ENOUGH_SECONDS = 300
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _in_namespaces(kind: str) -> None:
    """Enter the namespaces; a helper that stays outside maps the ids."""
    uid, gid = os.getuid(), os.getgid()
    every = "0 0 4294967295"
    ids, groups = (every, every) if kind == "root" else (f"{uid} {uid} 1", f"{gid} {gid} 1")
    ours, theirs = os.pipe()
    me = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.close(theirs)
        os.read(ours, 1)
        if kind != "root":
            Path(f"/proc/{me}/setgroups").write_text("deny")
        Path(f"/proc/{me}/uid_map").write_text(ids)
        Path(f"/proc/{me}/gid_map").write_text(groups)
        os._exit(0)
    _checked(_libc.unshare(_NEWUSER | _NEWNS | _NEWIPC | _NEWPID))
    os.write(theirs, b"\0")
    os.close(theirs)
    if os.waitpid(helper, 0)[1]:
        sys.exit("confined: the ids cannot be mapped")


def _be_command(kind: str, command: list[str]) -> None:
    bounding = "-sys_admin" if kind == "root" else "-all"
    capabilities = ["--inh-caps", "-all", "--ambient-caps", "-all"] if kind != "root" else ["--inh-caps", "-sys_admin"]
    os.execvp("setpriv", ["setpriv", *capabilities, "--bounding-set", bounding, *command])


def _others() -> list[bytes]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.name != "1" and (words := (folder / "cmdline").read_bytes()):
                found.append(words)
    return found


def _left() -> list[str]:
    queues = Path("/proc/sysvipc/msg").read_text().splitlines()[1:]
    return [f"process {words!r}" for words in _others()] + [f"queue {line}" for line in queues]


def _be_init(kind: str, command: list[str]) -> int:
    _checked(_libc.mount(b"proc", b"/proc", b"proc", 14, None))
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    child = os.fork()
    if child == 0:
        _be_command(kind, command)
    pid = 0
    while pid != child:
        pid, ended = os.wait()
    status = os.waitstatus_to_exitcode(ended)
    deadline = time.monotonic() + _ENOUGH_SECONDS
    while (left := _left()) and time.monotonic() < deadline:
        time.sleep(0.01)  # where it was killed outright, others tidy up after it
    for line in left:
        print(f"left: {line}", file=sys.stderr)
    return status if status >= 0 else 128 - status


def main() -> None:
    """Do what the arguments say."""
    kind, *command = sys.argv[1:]
    _in_namespaces(kind)
    init = os.fork()
    if init == 0:
        # Mounts stay in here.
        _checked(_libc.mount(None, b"/", None, 16384 | 1 << 18, None))
        os._exit(_be_init(kind, command))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))


if __name__ == "__main__":
    main()
