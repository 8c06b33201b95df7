"""The recorder: the one that carries out, for every program of a session, the calls that change or read the record.

A call is made here on the file that its caller names, and its value is the answer: nothing can be changed between a look and
the act, and it matters to nobody what a program is written in, whether it is static, or what its environment says.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from . import reach, seccomp
from .caller import Caller
from .calls import SOCKET_CALLS
from .changes import Changes
from .credentials import Users
from .identity import Identity
from .names import Names
from .opens import Given, Opens
from .permissions import restrict
from .reads import Reads
from .refusals import Refusals
from .written import Written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .changes import Kept
    from .messages import Inode
    from .record import Record


_WORDS = struct.Struct("=6I")


class Parts(NamedTuple):
    """What answers the calls, by their subjects."""

    reads: Reads
    changes: Changes
    names: Names
    opens: Opens
    identity: Identity
    refusals: Refusals


class Recorder:
    """Answers the notifications of a session's scripts."""

    def __init__(
        self, record: Record, nodes: Collection[Inode], check_moved: Callable[[int], object] | None, kept: Kept | None
    ) -> None:
        """Record in ``record``; the others are what :class:`Changes` and :class:`Names` take."""
        os.umask(0)  # modes are those that are asked for
        self.record = record
        self.users = users = Users()
        self._kept = kept
        self.changes = Changes(record, users, nodes, kept)
        self._names, self._written = Names(record, users, check_moved), Written(record)
        self._handlers = _handlers(
            Parts(
                Reads(record, users, kept),
                self.changes,
                self._names,
                Opens(record, users, self._written),
                Identity(record, users, kept),
                Refusals(record, users, self._written),
            )
        )
        self._handlers["socketcall"] = self._call_socket
        self._last = 0
        """Who was answered last."""

    def carry_out(self, caller: Caller) -> int | Given | None:
        """Give a call's value, or nothing where it is the kernel's to carry out; raises what it fails with."""
        if self._names.sockets:
            self._names.settle_sockets(caller.pid)
        if self._written.open:
            self._written.settle()
        if self.users.several:
            caller = restrict(caller, self.users.of(caller.pid), self.record, self._kept)
        return self._handlers[caller.name](caller)

    def end(self) -> None:
        """Do what is left to do when a script has ended."""
        self._written.end()
        self.record.release()

    def _call_socket(self, caller: Caller) -> int | Given | None:
        """Carry out what i386 has in one call for all that sockets do (socketcall(2)): its arguments are in memory."""
        data = caller.read(caller.arguments[1], _WORDS.size).ljust(_WORDS.size, b"\0")
        name = SOCKET_CALLS[caller.arguments[0] & 0xFFFFFFFF]
        return self.carry_out(Caller(caller.cookie, caller.pid, name, caller.audit, _WORDS.unpack(data)))

    def attend(self, listener: int, *, waited: bool) -> None:
        """Take one notification and answer it; say whether it was ``waited`` for, or somebody was there already."""
        caller = seccomp.receive(listener)
        if caller is None:
            return
        # Who calls wakes this process on its own processor, and is woken there: both wait for each other. Another one, who called
        # meanwhile, is on another processor, and is to stay there.
        elsewhere = not waited and caller.pid != self._last
        self._last = caller.pid
        if elsewhere:
            seccomp.wake_here(listener, here=False)
        self._answer(listener, caller)
        if elsewhere:
            seccomp.wake_here(listener, here=True)

    def _answer(self, listener: int, caller: Caller) -> None:
        try:
            result = self.carry_out(caller)
        except OSError as error:
            result = -(error.errno or errno.EIO)
        if result is None:
            seccomp.let_through(listener, caller)
        elif isinstance(result, Given):
            seccomp.answer_with(listener, caller, result.descriptor, close_on_exec=result.close_on_exec)
            os.close(result.descriptor)
        else:
            seccomp.answer(listener, caller, result)


def _handlers(parts: Parts) -> dict[str, Callable[[Caller], int | Given | None]]:
    reads, changes, names, opens, identity, refusals = parts
    table: dict[Callable[[Caller], int | Given | None], str] = {
        reads.stat: "stat lstat fstat newfstatat stat64 lstat64 fstat64 fstatat64 stat32 lstat32 fstat32",
        reads.statx: "statx",
        reads.access: "access faccessat faccessat2",
        reads.get_attribute: "getxattr lgetxattr fgetxattr",
        reads.list_attributes: "listxattr llistxattr flistxattr",
        changes.chown: "chown lchown fchown fchownat chown16 lchown16 fchown16",
        changes.chmod: "chmod fchmod fchmodat fchmodat2",
        changes.set_times: "utime utimes futimesat utimensat utimensat_time64",
        changes.set_attribute: "setxattr lsetxattr fsetxattr",
        changes.remove_attribute: "removexattr lremovexattr fremovexattr",
        names.unlink: "unlink unlinkat rmdir",
        names.rename: "rename renameat renameat2",
        names.mkdir: "mkdir mkdirat",
        names.symlink: "symlink symlinkat",
        names.mknod: "mknod mknodat",
        names.bind: "bind",
        opens.open: "open openat openat2 creat",
        refusals.enter: "chdir fchdir chroot",
        refusals.link: "link linkat",
        refusals.connect: "connect",
        refusals.truncate: "truncate truncate64",
        identity.get: "getuid geteuid getgid getegid getuid16 geteuid16 getgid16 getegid16",
        identity.get_three: "getresuid getresgid getresuid16 getresgid16",
        identity.set: "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid"
        " setuid16 setgid16 setreuid16 setregid16 setresuid16 setresgid16 setfsuid16 setfsgid16",
        identity.get_groups: "getgroups getgroups16",
        identity.set_groups: "setgroups setgroups16",
        identity.get_capabilities: "capget",
        identity.set_capabilities: "capset",
        identity.control: "prctl",
        identity.limit: "prlimit64 getrlimit getrlimit16 setrlimit",
        identity.execute: "execve execveat",
        identity.get_peer: "getsockopt",
        reach.check: "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open ptrace process_vm_readv process_vm_writev"
        " setpriority ioprio_set sched_setparam sched_setscheduler sched_setaffinity sched_setattr migrate_pages move_pages",
    }
    return {name: handler for handler, names_ in table.items() for name in names_.split()}
