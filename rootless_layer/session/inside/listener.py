"""What is made of a system call that the seccomp filter hands over.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import stat
import struct
from typing import TYPE_CHECKING

from rootless_layer.session.inside import seccomp
from rootless_layer.system.namespaces import syscall

from .messages import Bypass

if TYPE_CHECKING:
    from collections.abc import Callable

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PATH_MAX = 4096
_MOST_BYPASSES = 20
_PINS = 500
"""So many inodes are pinned before it is asked which of them need it."""

# Where a call has its path: (argument of the directory or None, argument of the path),
# or, for a call that takes a descriptor, (argument, None).
_PATHS: dict[str, tuple[int | None, int | None]] = {
    "chown": (None, 0), "lchown": (None, 0), "chown16": (None, 0), "lchown16": (None, 0),
    "fchown": (0, None), "fchown16": (0, None), "fchownat": (0, 1),
    "setxattr": (None, 0), "lsetxattr": (None, 0), "fsetxattr": (0, None), "setxattrat": (0, 1),
    "removexattr": (None, 0), "lremovexattr": (None, 0), "fremovexattr": (0, None), "removexattrat": (0, 1),
    "mknod": (None, 0), "mknodat": (0, 1),
    "chmod": (None, 0), "fchmod": (0, None), "fchmodat": (0, 1), "fchmodat2": (0, 1),
    "unlink": (None, 0), "rmdir": (None, 0), "unlinkat": (0, 1),
    "rename": (None, 1), "renameat": (2, 3), "renameat2": (2, 3),
}  # fmt: skip
_RENAMES: dict[str, tuple[int | None, int | None]] = {"rename": (None, 0), "renameat": (0, 1), "renameat2": (0, 1)}
"""Where they have the path of what gets another name."""
_MODES = frozenset({"chmod", "fchmod", "fchmodat", "fchmodat2"})


class Watch:
    """Answers notifications, and remembers what the record will not have.

    ``bypasses`` has an item for each program that went around
    libfakeroot; ``unseen_modes`` the inodes whose mode an unseen program changed. An
    inode that is freed unseen is pinned by an open descriptor until the session ends:
    else the file system could give its number, and so its row, to another file.
    """

    def __init__(self, rows: Callable[[], set[tuple[int, int]]], check_moved: Callable[[int], object] | None) -> None:
        """Watch; ``rows`` gives the inodes that have a row at the time of its call.

        ``check_moved`` is called with a descriptor of each directory that is to be renamed.
        """
        self.bypasses: list[Bypass] = []
        self.unseen_modes: dict[tuple[int, int], str] = {}
        self._rows = rows
        self._check_moved = check_moved
        self._seen: set[tuple[int, int]] = set()
        self._pins: dict[tuple[int, int], int] = {}
        # Half of the descriptors there may be are for what else is open, and for what cannot be let go.
        self._fewest_pins = self._most_pins = min(_PINS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def attend(self, listener: int) -> None:
        """Take one notification and answer it."""
        notification = seccomp.receive(listener)
        if notification is None:
            return
        if notification.name in seccomp.BYPASSES:
            self._note_bypass(notification)
            # The place where a wish could be recorded instead of refused.
            seccomp.answer(listener, notification, errno.EPERM)
            return
        if notification.name in _RENAMES and self._check_moved is not None:
            self._look_at_moved(notification, _RENAMES[notification.name], self._check_moved)
            if notification.name == "renameat2" and notification.arguments[4] & _RENAME_EXCHANGE:
                self._look_at_moved(notification, _PATHS[notification.name], self._check_moved)
        refused = 0
        # libfakeroot does not wrap renameat2, which ends in any of the three calls: whoever
        # replaces a file by one of them may free an inode unseen.
        if notification.name in _RENAMES or not self._is_seen(notification):
            try:
                self._prepare(notification)
            except OSError as error:
                # Too many open files: refuse, rather than lose track of what is whose.
                refused = error.errno if error.errno in {errno.EMFILE, errno.ENFILE} else 0
        seccomp.answer(listener, notification, refused or 0)

    def _is_seen(self, notification: seccomp.Notification) -> bool:
        """Say whether the call comes from the C library of a program that libfakeroot is loaded into."""
        # After an execve the code lies elsewhere, so the pair stands for one place of one program.
        key = notification.pid, notification.instruction
        if key not in self._seen:
            try:
                if not _wrapped(notification):
                    return False
            except OSError:
                return False
            self._seen.add(key)
        return True

    def _note_bypass(self, notification: seccomp.Notification) -> None:
        found = Bypass(_program(notification.pid), notification.name, _path(notification))
        if found not in self.bypasses and len(self.bypasses) < _MOST_BYPASSES:
            self.bypasses.append(found)

    @staticmethod
    def _look_at_moved(
        notification: seccomp.Notification, where: tuple[int | None, int | None], check: Callable[[int], object]
    ) -> None:
        try:
            descriptor = _open(notification, where)
        except OSError:
            return  # the call will fail as well
        try:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                check(descriptor)
        finally:
            os.close(descriptor)

    def _prepare(self, notification: seccomp.Notification) -> None:
        try:
            descriptor = _open(notification, _PATHS[notification.name])
        except FileNotFoundError:
            return
        status = os.fstat(descriptor)
        inode = status.st_dev, status.st_ino
        if notification.name in _MODES:
            self.unseen_modes[inode] = _program(notification.pid)
        elif (status.st_nlink == 1 or stat.S_ISDIR(status.st_mode)) and inode not in self._pins:
            self._pins[inode] = descriptor
            if len(self._pins) >= self._most_pins:
                self._prune()
            return
        os.close(descriptor)

    def _prune(self) -> None:
        """Let go of the inodes that have no row: their numbers may be given to other files."""
        rows = self._rows()
        # The last one may have been pinned for a call that has still to happen, and be recorded anew.
        for inode in [inode for inode in list(self._pins)[:-1] if inode not in rows]:
            os.close(self._pins.pop(inode))
        self._most_pins = max(self._fewest_pins, len(self._pins) + self._fewest_pins // 2)


def _wrapped(notification: seccomp.Notification) -> bool:
    """Say whether libfakeroot's wrapper may stand around this call.

    It calls the C library's function for it. A call from elsewhere (Go's runtime makes its
    own), or by syscall(2), is nothing that it sees.
    """
    address = notification.instruction
    with open(f"/proc/{notification.pid}/maps", "rb") as file:
        lines = file.read().splitlines()
    if not any(b"/libfakeroot" in line for line in lines):
        return False
    for line in lines:
        begin, _, end = line.split(b" ", 1)[0].partition(b"-")
        if int(begin, 16) <= address < int(end, 16):
            if not line.rpartition(b"/")[2].startswith((b"libc.so", b"libc-")):
                return False
            break
    if platform.machine() != "x86_64":
        return True
    # A function for one call loads its number right before; that of syscall(2) has it from its caller.
    with open(f"/proc/{notification.pid}/mem", "rb", buffering=0) as memory:
        code = os.pread(memory.fileno(), 7, address - 7)
    return code == b"\xb8" + struct.pack("=I", notification.number) + b"\x0f\x05"


def _program(pid: int) -> str:
    try:
        name = os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return f"process {pid}"
    return f"{name} ({arguments[:120]})"


def _text(pid: int, address: int) -> bytes:
    """Read a string from a process's memory."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        text = b""
        while b"\0" not in text and len(text) < _PATH_MAX:
            # Not across a page that may not be there.
            part = os.pread(memory.fileno(), 4096 - (address + len(text)) % 4096, address + len(text))
            if not part:
                break
            text += part
    return text.partition(b"\0")[0]


def _signed(number: int) -> int:
    return ctypes.c_int(number & 0xFFFFFFFF).value


def _path(notification: seccomp.Notification) -> str:
    """Name the file that a call is about, for a person."""
    folder, argument = _PATHS.get(notification.name, (None, None))
    try:
        if argument is None:
            return os.readlink(f"/proc/{notification.pid}/fd/{_signed(notification.arguments[folder or 0])}")
        return os.fsdecode(_text(notification.pid, notification.arguments[argument]))
    except OSError:
        return "?"


def _open(notification: seccomp.Notification, where: tuple[int | None, int | None]) -> int:
    """Hold the file that a call is about; links are followed as its caller would."""
    pid = notification.pid
    folder, argument = where
    if argument is None:
        number = _signed(notification.arguments[folder or 0])
        return os.open(f"/proc/{pid}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
    text = _text(pid, notification.arguments[argument])
    start = -100 if folder is None else _signed(notification.arguments[folder])
    if text.startswith(b"/"):
        base = f"/proc/{pid}/root"
    else:
        base = f"/proc/{pid}/cwd" if start == _AT_FDCWD else f"/proc/{pid}/fd/{start}"
    follow = 0 if notification.name in {"chmod", "fchmodat"} else os.O_NOFOLLOW
    opened = os.open(base, os.O_PATH | os.O_CLOEXEC)
    try:
        if not text.startswith(b"/"):
            return os.open(text, os.O_PATH | os.O_CLOEXEC | follow, dir_fd=opened)
        how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC | follow, 0, _RESOLVE_IN_ROOT)
        return syscall(_OPENAT2, opened, ctypes.c_char_p(text), ctypes.c_char_p(how), ctypes.c_size_t(len(how)))
    finally:
        with contextlib.suppress(OSError):
            os.close(opened)
