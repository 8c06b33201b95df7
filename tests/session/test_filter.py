"""The filter of system calls hands over the calls that it claims and no other: run by an interpreter of its own."""

from __future__ import annotations

import os
import resource
import struct
from types import SimpleNamespace

import pytest

from rootless_layer.errors import UnavailableError
from rootless_layer.session.inside import (
    calls,
    changes,
    credentials,
    identity,
    names,
    opens,
    reads,
    record,
    recorder,
    refusals,
    seccomp,
    written,
)

ALLOW, NOTIFY, NO_SYSTEM_CALL, REFUSED, SUCCEEDS = 0x7FFF0000, 0x7FC00000, 0x00050000 | 38, 0x00050000 | 1, 0x00050000
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
MACHINES = {"x86_64": (X86_64, I386), "aarch64": (AARCH64,)}
X32 = 0x40000000
# io_uring_setup, clone3, setxattrat to removexattrat; add_key, request_key, keyctl; the first stat, fstat and lstat
ABSENT = {
    X86_64: {425, 435, *range(463, 467), 248, 249, 250},
    I386: {425, 435, *range(463, 467), 286, 287, 288, 18, 28, 84},
    AARCH64: {425, 435, *range(463, 467), 217, 218, 219},
}
NAMESPACES = {X86_64: (56, 272), I386: (120, 310), AARCH64: (220, 97)}
"""Of each ABI the numbers of clone and unshare."""
TIMES = {X86_64: (261, 280), I386: (299, 320, 412), AARCH64: (88,)}
"""Of each ABI the numbers of futimesat and utimensat."""


def interpret(program: bytes, number: int, architecture: int, arguments: tuple[int, ...] = ()) -> int:
    """Run a classic BPF program on a struct seccomp_data, as the kernel does."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(arguments + (0,) * 6)[:6])
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        operation, jump_true, jump_false, value = code[at]
        at += 1
        if operation == 0x20:
            assert value % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            at += value
        elif operation in {0x15, 0x35}:
            taken = accumulator == value if operation == 0x15 else accumulator >= value
            at += jump_true if taken else jump_false
        else:
            assert operation == 0x06, f"an operation that is not expected here: {operation:#x}"
            return int(value)


CLAIMED = {
    # Numbers from the kernel's own tables (arch/*/entry/syscalls, include/uapi/asm-generic/unistd.h).
    X86_64: {
        *(4, 5, 6, 262, 332),  # stat, fstat, lstat, newfstatat, statx
        *(92, 93, 94, 260, 90, 91, 268, 452),  # chown, fchown, lchown, fchownat, chmod, fchmod, fchmodat, fchmodat2
        *range(188, 200),  # setxattr to fremovexattr
        *(87, 263, 84, 82, 264, 316),  # unlink, unlinkat, rmdir, rename, renameat, renameat2
        *(83, 258, 133, 259, 88, 266, 437, 85),  # mkdir, mkdirat, mknod, mknodat, symlink, symlinkat, openat2, creat
        *(21, 269, 439),  # access, faccessat, faccessat2
        *(102, 104, 107, 108, 105, 106, 113, 114),  # getuid, getgid, geteuid, getegid, setuid, setgid, setreuid, setregid
        *(115, 116, 117, 118, 119, 120, 122, 123),  # getgroups, setgroups, setresuid to getresgid, setfsuid, setfsgid
        *(125, 126, 59, 322, 49, 42),  # capget, capset, execve, execveat, bind, connect
        *(132, 235),  # utime, utimes
        *(80, 81, 161, 86, 265, 76),  # chdir, fchdir, chroot, link, linkat, truncate
    },
    I386: {
        *(106, 107, 108, 195, 196, 197, 300, 383),  # stat, lstat, fstat, stat64, lstat64, fstat64, fstatat64, statx
        *(182, 95, 16, 212, 207, 198, 298),  # chown, fchown, lchown in 16 bits and 32, fchownat
        *(15, 94, 306, 452),  # chmod, fchmod, fchmodat, fchmodat2
        *range(226, 238),  # setxattr to fremovexattr
        *(10, 301, 40, 38, 302, 353),  # unlink, unlinkat, rmdir, rename, renameat, renameat2
        *(39, 296, 14, 297, 83, 304, 437, 8),  # mkdir, mkdirat, mknod, mknodat, symlink, symlinkat, openat2, creat
        *(33, 307, 439),  # access, faccessat, faccessat2
        *(24, 47, 49, 50, 23, 46, 70, 71, 80, 81, 138, 139, 164, 165, 170, 171),  # the ids in 16 bits
        *range(199, 207), *range(208, 212), *range(213, 217),  # the ids in 32 bits
        *(184, 185, 11, 358, 361, 362),  # capget, capset, execve, execveat, bind, connect
        *(30, 271),  # utime, utimes
        *(12, 133, 61, 9, 303, 92, 193),  # chdir, fchdir, chroot, link, linkat, truncate, truncate64
    },
    AARCH64: {
        *(79, 80, 291, 55, 54, 52, 53, 452),  # newfstatat, fstat, statx, fchown, fchownat, fchmod, fchmodat, fchmodat2
        *range(5, 17),  # setxattr to fremovexattr
        *(35, 38, 276, 33, 34, 36, 437),  # unlinkat, renameat, renameat2, mknodat, mkdirat, symlinkat, openat2
        *(48, 439),  # faccessat, faccessat2
        *range(143, 153), *range(158, 160), *range(174, 178),  # the ids, the groups
        *(90, 91, 221, 281, 200, 203),  # capget, capset, execve, execveat, bind, connect
        *(49, 50, 51, 37, 45),  # chdir, fchdir, chroot, linkat, truncate
    },
}  # fmt: skip
# fsync, fdatasync, sync, sync_file_range, syncfs
SYNCS = {X86_64: {74, 75, 162, 277, 306}, I386: {118, 148, 36, 314, 344}, AARCH64: {82, 83, 81, 84, 267}}
OPENS = {X86_64: {2: 1, 257: 2}, I386: {5: 1, 295: 2}, AARCH64: {56: 2}}
"""Of each ABI the numbers of open and openat, and the argument that has the flags."""
READING = (0, os.O_DIRECTORY | os.O_CLOEXEC, os.O_NOFOLLOW)
WRITING = (os.O_CREAT, os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.O_TRUNC, os.O_WRONLY, os.O_RDWR, os.O_TMPFILE | os.O_RDWR)
"""Flags of open(2)."""
LIMITS = {X86_64: {302: 1, 97: 0, 160: 0}, I386: {340: 1, 191: 0, 76: 0, 75: 0}, AARCH64: {261: 1, 163: 0, 164: 0}}
"""Of each ABI the numbers of prlimit64, getrlimit and setrlimit, and the argument that has the resource."""
PRCTL = {X86_64: 157, I386: 172, AARCH64: 167}
SOCKETS = {X86_64: (55, 2), I386: (365, 2), AARCH64: (209, 2)}
"""Of each ABI the number of getsockopt, and the argument that has the option."""
SOCKETCALL = 102
"""i386's call for all that sockets do."""
# kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_open, process_vm_readv, process_vm_writev, setpriority,
# ioprio_set, sched_setparam, sched_setscheduler, sched_setaffinity, sched_setattr, migrate_pages, move_pages
REACHING = {
    X86_64: {62, 200, 234, 129, 297, 434, 310, 311, 141, 251, 142, 144, 203, 314, 256, 279},
    I386: {37, 238, 270, 178, 335, 434, 347, 348, 97, 289, 154, 156, 241, 351, 294, 317},
    AARCH64: {129, 130, 131, 138, 240, 434, 270, 271, 140, 30, 118, 119, 122, 274, 238, 239},
}
PTRACE, PRLIMIT = {X86_64: 101, I386: 26, AARCH64: 117}, {X86_64: 302, I386: 340, AARCH64: 261}
SEND_BY_DESCRIPTOR, NEW_USER_NAMESPACE = 424, 0x10000000
CONTROLS = {23: "PR_CAPBSET_READ", 24: "PR_CAPBSET_DROP", 28: "PR_SET_SECUREBITS", 8: "PR_SET_KEEPCAPS", 47: "PR_CAP_AMBIENT", 38: "PR_SET_NO_NEW_PRIVS",
            39: "PR_GET_NO_NEW_PRIVS", 7: "PR_GET_KEEPCAPS"}  # fmt: skip


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each machine that the filter can be made for."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=request.param))
    name: str = request.param
    return name


def test_the_filter_hands_over_what_it_claims(machine: str) -> None:
    """In every ABI of a machine each listed call is handed over, io_uring is not there, what syncs succeeds, and every other call is allowed."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        by_argument = {*OPENS[abi], *LIMITS[abi], PRCTL[abi], *TIMES[abi], SOCKETS[abi][0]}
        for number in set(range(1024)) - by_argument:
            right = SUCCEEDS if number in SYNCS[abi] else NOTIFY if number in CLAIMED[abi] else ALLOW
            assert interpret(code, number, abi) == (NO_SYSTEM_CALL if number in ABSENT[abi] else right), (hex(abi), number)


def test_no_user_namespace_is_made_within_a_session(machine: str) -> None:
    """clone and unshare are refused one, whatever else they are asked for; without it they are the kernel's affair."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        for number in NAMESPACES[abi]:
            for others in (0, 17, 0x6E020000, 0xEFFFFFFF):
                assert interpret(code, number, abi, (others,)) == ALLOW, (hex(abi), number)
                assert interpret(code, number, abi, (others | NEW_USER_NAMESPACE,)) == REFUSED, (hex(abi), number)


def test_times_are_handed_over_where_a_path_says_whose(machine: str) -> None:
    """What a descriptor alone leads to is the kernel's affair."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        for number in TIMES[abi]:
            assert interpret(code, number, abi, (3, 0x1000)) == NOTIFY
            assert interpret(code, number, abi, (3, 0)) == ALLOW


def test_an_open_is_handed_over_where_it_does_more_than_read(machine: str) -> None:
    """Of open and openat those that make a file, or may write to one, are of interest; the upper half of the argument says nothing."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        for number, argument in OPENS[abi].items():
            for flags in (*READING, *WRITING):
                for beyond in (0, os.O_CREAT << 32):
                    arguments = [os.O_CREAT] * 6
                    arguments[argument] = flags | beyond
                    right = NOTIFY if flags in WRITING else ALLOW
                    assert interpret(code, number, abi, tuple(arguments)) == right, (hex(abi), number, flags)


def test_one_limit_is_handed_over(machine: str) -> None:
    """Of the limits that alone where the credentials of a process are kept."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        for number, argument in LIMITS[abi].items():
            for limit in range(17):
                arguments = [99] * 6
                arguments[argument] = limit
                right = NOTIFY if limit == resource.RLIMIT_RSS else ALLOW
                assert interpret(code, number, abi, tuple(arguments)) == right, (hex(abi), number, limit)


def test_the_other_end_of_a_socket_is_handed_over(machine: str) -> None:
    """Of getsockopt SO_PEERCRED and SO_PEERGROUPS, and of socketcall bind, connect and getsockopt."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        number, argument = SOCKETS[abi]
        for option in range(80):
            arguments = [99] * 6
            arguments[argument] = option
            assert interpret(code, number, abi, tuple(arguments)) == (NOTIFY if option in {17, 59} else ALLOW), (hex(abi), option)
        for call in range(21) if abi == I386 else ():
            assert interpret(code, SOCKETCALL, abi, (call,)) == (NOTIFY if call in {2, 3, 15} else ALLOW), call


def test_prctl_is_handed_over_where_it_is_about_privileges(machine: str) -> None:
    """Of prctl(2) those options alone that ask for capabilities, change them, or have a process gain none."""
    code = seccomp.program()
    for abi in MACHINES[machine]:
        for option in range(80):
            right = NOTIFY if option in CONTROLS else ALLOW
            assert interpret(code, PRCTL[abi], abi, (option, 8, 8)) == right, (hex(abi), option)


def test_calls_that_reach_a_process_are_handed_over_where_others_are_in_reach(machine: str) -> None:
    """Where a script has no PID namespace of its own: each call that takes a process's number, and no descriptor stands for one."""
    alone, among_others = seccomp.program(), seccomp.program(reaching=True)
    for abi in MACHINES[machine]:
        for number in REACHING[abi]:
            assert interpret(alone, number, abi, (4711,)) == ALLOW, (hex(abi), number)
            assert interpret(among_others, number, abi, (4711,)) == NOTIFY, (hex(abi), number)
        for request, right in ((0, ALLOW), (7, ALLOW), (16, NOTIFY), (0x4206, NOTIFY)):
            assert interpret(among_others, PTRACE[abi], abi, (request, 4711)) == right
        for pid, right in ((0, ALLOW), (4711, NOTIFY)):
            assert interpret(among_others, PRLIMIT[abi], abi, (pid, resource.RLIMIT_CPU)) == right
        assert interpret(alone, SEND_BY_DESCRIPTOR, abi) == ALLOW
        assert interpret(among_others, SEND_BY_DESCRIPTOR, abi) == NO_SYSTEM_CALL


def test_the_filter_closes_other_abis(machine: str) -> None:
    """An ABI that the filter has no table for, and x32, have no system call at all."""
    code = seccomp.program()
    unknown = {X86_64, I386, AARCH64, 0x40000028, 0xC00000F3, 0} - set(MACHINES[machine])
    for abi in unknown:
        for number in (0, 1, 92, 212, 425, 463):
            assert interpret(code, number, abi) == NO_SYSTEM_CALL
    if machine == "x86_64":
        for number in (0, 39, 92, 520, 0x3FFFFFFF):
            assert interpret(code, X32 | number, X86_64) == NO_SYSTEM_CALL


def test_the_kernel_takes_a_filter_of_this_length(machine: str) -> None:
    """A filter has at most 4096 instructions, and no jump leaves it (BPF_MAXINSNS, linux/bpf_common.h)."""
    whole = seccomp.program({"mode", "attribute"}, reaching=True)
    code = [struct.unpack_from("=HBBI", whole, at) for at in range(0, len(whole), 8)]
    assert len(code) <= 4096
    for at, (operation, jump_true, jump_false, value) in enumerate(code):
        far = value if operation == 0x05 else max(jump_true, jump_false) if operation in {0x15, 0x35} else 0
        assert at + 1 + far < len(code) or operation == 0x06


def test_each_call_has_a_handler(machine: str) -> None:
    """Every call that can be handed over is known to the recorder, and by its path where it has one."""
    known = {name for table in calls.tables(reaching=True).values() for name in table}
    without: record.Record = object.__new__(record.Record)
    without.rows, users = {}, credentials.Users()
    parts = recorder.Parts(
        reads.Reads(without, users, None),
        changes.Changes(without, users, (), None),
        names.Names(without, users, None),
        opens.Opens(without, users, written.Written(without)),
        identity.Identity(without, users, None),
        refusals.Refusals(without, users, written.Written(without)),
    )
    handlers = recorder._handlers(parts)
    assert known - {"socketcall"} <= set(handlers), machine
    about_files = {name for name in known if name in calls.PLACES}
    by_number = known - {name for table in calls.tables().values() for name in table}
    assert known - about_files - by_number == {
        name
        for name in known - by_number
        if name.startswith(("get", "set", "bind", "connect", "socketcall", "cap", "prctl", "prlimit")) and "xattr" not in name
    }


def test_no_filter_for_an_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a table sessions are refused, and the message names it and those that are supported."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="pdp11"))
    with pytest.raises(UnavailableError, match=r"pdp11.*aarch64.*x86_64"):
        seccomp.program()
