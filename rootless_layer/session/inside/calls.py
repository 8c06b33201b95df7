"""The system calls that the recorder answers: their numbers in each ABI, and where their arguments have paths.

The names are x86-64's. A call of i386 that differs in the width of its ids, or in the form of what it gives, has a name of
its own there: ``chown16``, ``fstatat64``. Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from rootless_layer.errors import UnavailableError

AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
"""How the kernel names an ABI (linux/audit.h)."""
X32 = 0x40000000
"""The bit of numbers in x86-64's third ABI, which has the architecture of the first."""
_ABIS = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}
_COLUMNS = {"x86_64": 0, "i386": 1, "aarch64": 2}
_NONE = -1

# The numbers are x86-64's, i386's and aarch64's.
_NUMBERS: dict[str, tuple[int, int, int]] = {
    "stat": (4, _NONE, _NONE), "lstat": (6, _NONE, _NONE), "fstat": (5, _NONE, 80), "newfstatat": (262, _NONE, 79),
    "statx": (332, 383, 291), "stat64": (_NONE, 195, _NONE), "lstat64": (_NONE, 196, _NONE), "fstat64": (_NONE, 197, _NONE),
    "fstatat64": (_NONE, 300, _NONE), "stat32": (_NONE, 106, _NONE), "lstat32": (_NONE, 107, _NONE),
    "fstat32": (_NONE, 108, _NONE),
    "chown": (92, 212, _NONE), "lchown": (94, 198, _NONE), "fchown": (93, 207, 55), "fchownat": (260, 298, 54),
    "chown16": (_NONE, 182, _NONE), "lchown16": (_NONE, 16, _NONE), "fchown16": (_NONE, 95, _NONE),
    "chmod": (90, 15, _NONE), "fchmod": (91, 94, 52), "fchmodat": (268, 306, 53), "fchmodat2": (452, 452, 452),
    "utime": (132, 30, _NONE), "utimes": (235, 271, _NONE), "futimesat": (261, 299, _NONE), "utimensat": (280, 320, 88),
    "utimensat_time64": (_NONE, 412, _NONE),
    "setxattr": (188, 226, 5), "lsetxattr": (189, 227, 6), "fsetxattr": (190, 228, 7),
    "getxattr": (191, 229, 8), "lgetxattr": (192, 230, 9), "fgetxattr": (193, 231, 10),
    "listxattr": (194, 232, 11), "llistxattr": (195, 233, 12), "flistxattr": (196, 234, 13),
    "removexattr": (197, 235, 14), "lremovexattr": (198, 236, 15), "fremovexattr": (199, 237, 16),
    "unlink": (87, 10, _NONE), "unlinkat": (263, 301, 35), "rmdir": (84, 40, _NONE),
    "rename": (82, 38, _NONE), "renameat": (264, 302, 38), "renameat2": (316, 353, 276),
    "mkdir": (83, 39, _NONE), "mkdirat": (258, 296, 34), "mknod": (133, 14, _NONE), "mknodat": (259, 297, 33),
    "symlink": (88, 83, _NONE), "symlinkat": (266, 304, 36),
    "open": (2, 5, _NONE), "openat": (257, 295, 56), "openat2": (437, 437, 437), "creat": (85, 8, _NONE),
    "bind": (49, 361, 200), "connect": (42, 362, 203), "socketcall": (_NONE, 102, _NONE),
    "chdir": (80, 12, 49), "fchdir": (81, 133, 50), "chroot": (161, 61, 51), "link": (86, 9, _NONE), "linkat": (265, 303, 37),
    "truncate": (76, 92, 45), "truncate64": (_NONE, 193, _NONE),
    "access": (21, 33, _NONE), "faccessat": (269, 307, 48), "faccessat2": (439, 439, 439),
    "getuid": (102, 199, 174), "getgid": (104, 200, 176), "geteuid": (107, 201, 175), "getegid": (108, 202, 177),
    "setuid": (105, 213, 146), "setgid": (106, 214, 144), "setreuid": (113, 203, 145), "setregid": (114, 204, 143),
    "setresuid": (117, 208, 147), "getresuid": (118, 209, 148), "setresgid": (119, 210, 149), "getresgid": (120, 211, 150),
    "setfsuid": (122, 215, 151), "setfsgid": (123, 216, 152), "getgroups": (115, 205, 158), "setgroups": (116, 206, 159),
    "getuid16": (_NONE, 24, _NONE), "getgid16": (_NONE, 47, _NONE), "geteuid16": (_NONE, 49, _NONE),
    "getegid16": (_NONE, 50, _NONE), "setuid16": (_NONE, 23, _NONE), "setgid16": (_NONE, 46, _NONE),
    "setreuid16": (_NONE, 70, _NONE), "setregid16": (_NONE, 71, _NONE),
    "setresuid16": (_NONE, 164, _NONE), "getresuid16": (_NONE, 165, _NONE), "setresgid16": (_NONE, 170, _NONE),
    "getresgid16": (_NONE, 171, _NONE), "setfsuid16": (_NONE, 138, _NONE), "setfsgid16": (_NONE, 139, _NONE),
    "getgroups16": (_NONE, 80, _NONE), "setgroups16": (_NONE, 81, _NONE),
    "capget": (125, 184, 90), "capset": (126, 185, 91), "prctl": (157, 172, 167),
    "execve": (59, 11, 221), "execveat": (322, 358, 281), "getsockopt": (55, 365, 209),
    "prlimit64": (302, 340, 261), "getrlimit": (97, 191, 163), "getrlimit16": (_NONE, 76, _NONE), "setrlimit": (160, 75, 164),
}  # fmt: skip
ABSENT = {
    abi: (425, 435, 463, 464, 465, 466, *others)
    for abi, others in {"x86_64": (248, 249, 250), "i386": (286, 287, 288, 18, 28, 84), "aarch64": (217, 218, 219)}.items()
}
"""Calls that a session does not have: programs do without these where the kernel has none.

io_uring_setup: an io_uring unlinks and sets attributes without another system call. clone3: its flags are in memory, where no
filter reads them. setxattrat to removexattrat. add_key, request_key and keyctl, which reach the keys of this machine's users. And
i386's first stat, fstat and lstat, which fail on each file whose inode number takes more than 16 bits.
"""
NAMESPACES = {"x86_64": (56, 272), "i386": (120, 310), "aarch64": (220, 97)}
"""clone and unshare, whose first argument has the flags."""
SOCKET_CALLS = {2: "bind", 3: "connect", 15: "getsockopt"}
"""Calls that i386 also has in one for all sockets, by their numbers there (linux/net.h)."""
SO_PEERGROUPS = 59
"""The option of a socket that tells the groups of the other end (asm-generic/socket.h)."""
UNKNOWN_TO_PROOT = ("statx", "openat2", "faccessat2", "fchmodat2", "renameat2", "execveat")
"""Calls of which proot(1) does not translate the paths: it is older than most of them."""
SYNCS = {"x86_64": (74, 75, 162, 277, 306), "i386": (118, 148, 36, 314, 344), "aarch64": (82, 83, 81, 84, 267)}
"""fsync, fdatasync, sync, sync_file_range and syncfs: a session's files go with it, and a layer is synced when it is whole."""
# The numbers are x86-64's, i386's and aarch64's.
_REACHING: dict[str, tuple[int, int, int]] = {
    "kill": (62, 37, 129), "tkill": (200, 238, 130), "tgkill": (234, 270, 131), "rt_sigqueueinfo": (129, 178, 138),
    "rt_tgsigqueueinfo": (297, 335, 240), "pidfd_open": (434, 434, 434), "ptrace": (101, 26, 117),
    "process_vm_readv": (310, 347, 270), "process_vm_writev": (311, 348, 271), "setpriority": (141, 97, 140),
    "ioprio_set": (251, 289, 30), "sched_setparam": (142, 154, 118), "sched_setscheduler": (144, 156, 119),
    "sched_setaffinity": (203, 241, 122), "sched_setattr": (314, 351, 274), "migrate_pages": (256, 294, 238),
    "move_pages": (279, 317, 239),
}  # fmt: skip
"""Calls that reach a process by its number, which are of interest where a script is not alone in a PID namespace."""
SEND_BY_DESCRIPTOR = 424
"""pidfd_send_signal, in every ABI: a directory of /proc is a descriptor of a process as well."""
NAMES = {
    (AUDIT[abi], numbers[column]): name
    for abi, column in _COLUMNS.items()
    for name, numbers in (_NUMBERS | _REACHING).items()
    if numbers[column] != _NONE
}
"""The names by the ABI and the number."""


class Place(NamedTuple):
    """Where a call says which file it is about: the numbers of its arguments.

    ``folder`` is a descriptor, the directory of a relative ``path`` or, without one, the file itself. ``flags`` are
    those of ``*at`` calls, which change whether a link is followed and whether the path may be empty.
    """

    folder: int | None = None
    path: int | None = None
    flags: int | None = None
    follow: bool = True


PLACES: dict[str, Place] = {
    "stat": Place(path=0), "lstat": Place(path=0, follow=False), "fstat": Place(0), "newfstatat": Place(0, 1, 3),
    "stat64": Place(path=0), "lstat64": Place(path=0, follow=False), "fstat64": Place(0), "fstatat64": Place(0, 1, 3),
    "stat32": Place(path=0), "lstat32": Place(path=0, follow=False), "fstat32": Place(0),
    "chown16": Place(path=0), "lchown16": Place(path=0, follow=False), "fchown16": Place(0),
    "statx": Place(0, 1, 2), "chown": Place(path=0), "lchown": Place(path=0, follow=False), "fchown": Place(0),
    "fchownat": Place(0, 1, 4), "chmod": Place(path=0), "fchmod": Place(0), "fchmodat": Place(0, 1), "fchmodat2": Place(0, 1, 3),
    "utime": Place(path=0), "utimes": Place(path=0), "futimesat": Place(0, 1), "utimensat": Place(0, 1, 3),
    "utimensat_time64": Place(0, 1, 3),
    "setxattr": Place(path=0), "lsetxattr": Place(path=0, follow=False), "fsetxattr": Place(0),
    "getxattr": Place(path=0), "lgetxattr": Place(path=0, follow=False), "fgetxattr": Place(0),
    "listxattr": Place(path=0), "llistxattr": Place(path=0, follow=False), "flistxattr": Place(0),
    "removexattr": Place(path=0), "lremovexattr": Place(path=0, follow=False), "fremovexattr": Place(0),
    "unlink": Place(path=0), "unlinkat": Place(0, 1), "rmdir": Place(path=0), "rename": Place(path=0), "renameat": Place(0, 1),
    "renameat2": Place(0, 1),
    "mkdir": Place(path=0), "mkdirat": Place(0, 1), "mknod": Place(path=0), "mknodat": Place(0, 1),
    "symlink": Place(path=1), "symlinkat": Place(1, 2), "open": Place(path=0), "openat": Place(0, 1), "openat2": Place(0, 1),
    "creat": Place(path=0), "access": Place(path=0), "faccessat": Place(0, 1), "faccessat2": Place(0, 1, 3),
    "execve": Place(path=0), "execveat": Place(0, 1, 4), "chdir": Place(path=0), "fchdir": Place(0), "chroot": Place(path=0),
    "link": Place(path=0, follow=False), "linkat": Place(0, 1, 4, follow=False), "truncate": Place(path=0),
    "truncate64": Place(path=0),
}  # fmt: skip
"""The file of each call; of one that gives a file a new name, the old one."""
TARGETS: dict[str, Place] = {
    "link": Place(path=1),
    "linkat": Place(2, 3),
    "rename": Place(path=1),
    "renameat": Place(2, 3),
    "renameat2": Place(2, 3),
}
"""The new name."""
FLAGS = {
    **dict.fromkeys(("newfstatat", "fstatat64", "statx"), 0x7900),
    **dict.fromkeys(("fchownat", "fchmodat2", "utimensat", "utimensat_time64"), 0x1100),
    "faccessat2": 0x1300, "linkat": 0x1400, "execveat": 0x11100,
}  # fmt: skip
"""The ``AT_`` flags that a call knows (linux/fcntl.h): any other is ``EINVAL``."""
NAMELESS = frozenset({"newfstatat", "fstatat64", "statx"})
"""Calls that take no address at all for an empty path (Linux 6.11)."""
OF_OPEN_FILES = frozenset({"fchown", "fchown16", "fchmod", "fsetxattr", "fgetxattr", "flistxattr", "fremovexattr"})
"""Calls for whose file a descriptor of ``O_PATH`` is not enough (open(2))."""


def tables(*, reaching: bool = False) -> dict[str, dict[str, int]]:
    """Give this machine's ABIs, the calls of each by name; on demand with those that reach a process by its number.

    Raises :class:`UnavailableError` on a machine that no table knows.
    """
    machine = os.uname().machine
    if machine not in _ABIS:
        message = f"sessions are not supported on {machine}, only on {' and '.join(sorted(_ABIS))}"
        raise UnavailableError(message)
    known = _NUMBERS | _REACHING if reaching else _NUMBERS
    return {
        abi: {name: numbers[_COLUMNS[abi]] for name, numbers in known.items() if numbers[_COLUMNS[abi]] != _NONE}
        for abi in _ABIS[machine]
    }
