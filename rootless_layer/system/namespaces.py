"""The kernel's namespaces, mounts and capabilities, through their system calls.

Only the standard library is used: the session's processes import this at their start.
Python 3.11 has no ``os.unshare``, and no Python has ``mount``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from typing import TYPE_CHECKING

from rootless_layer.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 24, 36, 38
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NODEV = 1, 4
_RENAME_EXCHANGE = 2
_SYNC_FILE_RANGE_WRITE = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10
_NUMBERS = {  # pivot_root, mount_setattr, capset, renameat2
    "x86_64": (155, 442, 126, 316),
    "aarch64": (41, 442, 91, 276),
}
_CAPABILITY_VERSION_3 = 0x20080522

# What root needs to work on the tree: the rest is faked, or would let a script lift the
# read-only mounts that protect the sources (CAP_SYS_ADMIN above all).
# The ports below 1024 are those of the session's own network: on the machine's this says nothing.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_FOWNER, _CAP_FSETID, _CAP_KILL, _CAP_SYS_CHROOT = 1, 2, 3, 4, 5, 18
_CAP_NET_BIND_SERVICE = 10
KEPT_CAPABILITIES = frozenset({
    _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_FOWNER, _CAP_FSETID, _CAP_KILL, _CAP_NET_BIND_SERVICE, _CAP_SYS_CHROOT,
})  # fmt: skip

CONFINED_CAPABILITIES = frozenset({_CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID})
"""What real root keeps in a mere chroot."""

_OFF = "user namespaces are switched off, or used up (sysctl user.max_user_namespaces)"
_FORBIDDEN = (
    "user namespaces are forbidden, by AppArmor (sysctl kernel.apparmor_restrict_unprivileged_userns), by a container's seccomp"
    " profile, by sysctl kernel.unprivileged_userns_clone or by a chroot"
)
_ABSENT = "this kernel has no user namespaces"
_REFUSED = {
    errno.ENOSPC: _OFF, errno.EUSERS: _OFF, errno.EPERM: _FORBIDDEN, errno.EACCES: _FORBIDDEN, errno.EINVAL: _ABSENT,
    errno.ENOSYS: _ABSENT,
}  # fmt: skip
"""Why there are none (user_namespaces(7)): by the number alone it would read as a full disk, or a file's mode."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _checked(result: int, doing: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result


def numbers() -> tuple[int, int, int, int]:
    """Give this machine's numbers of pivot_root, mount_setattr, capset and renameat2."""
    machine = os.uname().machine
    if machine not in _NUMBERS:
        message = f"sessions are not supported on {machine}, only on {' and '.join(sorted(_NUMBERS))}"
        raise UnavailableError(message)
    return _NUMBERS[machine]


def syscall(number: int, *arguments: object, doing: str = "") -> int:
    """Make a system call; raise :class:`OSError` where it fails, which says what was being done."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), doing or f"system call {number}")


def prctl(option: int, *arguments: int) -> None:
    """Set an option of this process by number, with up to four numbers."""
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *padded), f"prctl {option}")


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send ``number`` when the parent process, whose pid is given, ends."""
    prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() not in (parent, 0):  # 0: the parent is outside of this PID namespace
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """Let no program gain privilege by execve; a seccomp filter needs it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``."""
    _checked(_libc.unshare(flags), "unshare")


def unshare_wished(needed: int, wished: Mapping[str, int]) -> dict[str, str]:
    """Leave the namespaces of ``needed``, and of those that are ``wished``, by name, as many as can be left.

    Give the reason for each of these that the kernel refuses. Raises :class:`OSError` where it refuses what is needed.
    """
    try:
        unshare(needed | sum(wished.values()))
    except OSError:
        if needed:  # docker's filter refuses the call itself, whatever is asked for
            unshare(needed)
    else:
        return {}
    refused = {}
    for name, flag in wished.items():
        try:
            unshare(flag)
        except OSError as error:
            refused[name] = os.strerror(error.errno or 0)
    return refused


def become_root_of_own_namespace(needed: int, wished: Mapping[str, int]) -> dict[str, str]:
    """Enter a new user namespace, and others as :func:`unshare_wished` does, with the caller mapped to 0:0."""
    uid, gid = os.geteuid(), os.getegid()
    refused = unshare_wished(CLONE_NEWUSER | needed, wished)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    return refused


def refusal(error: OSError) -> str:
    """Say why there are no namespaces, and what the kernel called that."""
    why = _REFUSED.get(error.errno or 0)
    said = error.strerror or str(error)
    return f"{why}: {said}" if why else said


def exchange(one: bytes, other: bytes) -> None:
    """Let two files or directories take each other's place, in one step."""
    doing = "exchanging it with what is to take its place"
    syscall(numbers()[3], _AT_FDCWD, ctypes.c_char_p(one), _AT_FDCWD, ctypes.c_char_p(other), _RENAME_EXCHANGE, doing=doing)


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    """Mount a file system, or a part of one, at a place; ``options`` are the file system's own."""
    shown = f"mount {os.fsdecode(source or kind or b'')} on {os.fsdecode(target)}"
    _checked(_libc.mount(source, target, kind, flags, options), shown)


def bind(source: bytes, target: bytes, *, read_only: bool, recursive: bool = False) -> None:
    """Show ``source`` at ``target``; read-only means whatever lies below, too."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        set_read_only(target, recursive=recursive)


def open_inside(root: bytes, path: bytes) -> int:
    """Hold what stands at a path as a process would find it whose root this is: no link leads out (openat2(2), Linux 5.6)."""
    top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
        size = ctypes.c_size_t(len(how))
        return syscall(_OPENAT2, top, ctypes.c_char_p(path or b"."), ctypes.c_char_p(how), size, doing=os.fsdecode(path))
    finally:
        os.close(top)


def set_read_only(target: bytes, *, recursive: bool) -> None:
    """Make the mount at ``target`` read-only, keeping its other flags (Linux 5.12)."""
    _set_attributes(target, struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0), recursive=recursive)


def restrict(target: bytes) -> None:
    """Make everything from ``target`` down read-only, and its devices unusable."""
    _set_attributes(target, struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NODEV, 0, 0, 0), recursive=True)


def set_writable(target: bytes) -> None:
    """Make the mount at ``target`` writable again, keeping its other flags (Linux 5.12)."""
    _set_attributes(target, struct.pack("=QQQQ", 0, _MOUNT_ATTR_RDONLY, 0, 0), recursive=False)


def _set_attributes(target: bytes, attributes: bytes, *, recursive: bool) -> None:
    flags = _AT_RECURSIVE if recursive else 0
    number, size = numbers()[1], ctypes.c_size_t(len(attributes))
    doing = f"mount_setattr of {os.fsdecode(target)}"
    syscall(number, _AT_FDCWD, ctypes.c_char_p(target), flags, ctypes.c_char_p(attributes), size, doing=doing)


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """Have all that was written to the file system of a directory be on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _checked(_libc.syncfs(descriptor), "syncfs")
    finally:
        os.close(descriptor)


def begin_writeback(descriptor: int, offset: int, count: int) -> None:
    """Have the kernel begin to write so many bytes of a file to the disk; where it cannot, nothing is lost."""
    _libc.sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(count), _SYNC_FILE_RANGE_WRITE)


def make_private() -> None:
    """Keep every mount from here on from reaching other namespaces."""
    mount(None, b"/", None, MS_REC | MS_PRIVATE)


def detach(target: bytes) -> None:
    """Take a mount away from where it is; what has a file of it open keeps it."""
    _checked(_libc.umount2(target, MNT_DETACH), f"umount {os.fsdecode(target)}")


def pivot_into(root: bytes) -> None:
    """Make the mount at ``root`` the root, and let go of the old one altogether."""
    os.chdir(root)
    syscall(numbers()[0], ctypes.c_char_p(b"."), ctypes.c_char_p(b"."), doing="pivot_root")
    detach(b".")
    os.chdir("/")


def drop_capabilities(kept: frozenset[int], *, bounding: bool) -> None:
    """Give up every capability but those named.

    A process that may gain no privileges never gets more of them by execve(2) than it has (PR_SET_NO_NEW_PRIVS). So the
    ``bounding`` set need not go, and stays where there is a user namespace around it: /proc shows it, and libcap-ng drops
    whatever it does not see there.
    """
    for number in range(64) if bounding else ():
        if number not in kept:
            try:
                prctl(_PR_CAPBSET_DROP, number)
            except OSError as error:
                if error.errno == errno.EINVAL:  # beyond the kernel's last one
                    break
                raise
    bits = sum(1 << number for number in kept)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=IIIIII", bits, bits, 0, bits >> 32, bits >> 32, 0)
    syscall(numbers()[2], ctypes.c_char_p(header), ctypes.c_char_p(data), doing="capset")
