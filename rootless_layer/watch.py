"""What is made of a system call that the seccomp filter hands over.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct

from . import seccomp
from .namespace import syscall

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_AT_FDCWD = -100
_PATH_MAX = 4096
_MOST_BYPASSES = 20

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
_MODES = frozenset({"chmod", "fchmod", "fchmodat", "fchmodat2"})


class Watch:
    """Answers notifications, and remembers what the record will not have.

    ``bypasses`` has an item (program, call, path) for each program that went around
    libfakeroot; ``unseen_modes`` the inodes whose mode an unseen program changed. An
    inode that an unseen program frees is pinned by an open descriptor until the session
    ends: else the file system could give its number, and so its row, to another file.
    """

    def __init__(self, library: str) -> None:
        """Watch for programs that have not loaded a library of this name."""
        self.bypasses: list[tuple[str, str, str]] = []
        self.unseen_modes: dict[tuple[int, int], str] = {}
        self._name = os.path.basename(library).encode()
        self._seen: set[tuple[int, int]] = set()
        self._pins: list[int] = []

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
        refused = 0
        # libfakeroot does not wrap renameat2: whoever replaces a file by it frees an inode unseen.
        unwrapped = notification.name == "renameat2" and notification.arguments[4] == 0
        if unwrapped or not self._is_seen(notification):
            try:
                self._prepare(notification)
            except OSError as error:
                # Too many open files: refuse, rather than lose track of what is whose.
                refused = error.errno if error.errno in (errno.EMFILE, errno.ENFILE) else 0
        seccomp.answer(listener, notification, refused or 0)

    def _is_seen(self, notification: seccomp.Notification) -> bool:
        # After an execve the code lies elsewhere, so the pair stands for one program in one process.
        key = notification.pid, notification.instruction
        if key not in self._seen:
            try:
                with open(f"/proc/{notification.pid}/maps", "rb") as file:
                    if self._name not in file.read():
                        return False
            except OSError:
                return False
            self._seen.add(key)
        return True

    def _note_bypass(self, notification: seccomp.Notification) -> None:
        found = _program(notification.pid), notification.name, _path(notification)
        if found not in self.bypasses and len(self.bypasses) < _MOST_BYPASSES:
            self.bypasses.append(found)

    def _prepare(self, notification: seccomp.Notification) -> None:
        try:
            descriptor = _open(notification)
        except FileNotFoundError:
            return
        if notification.name in _MODES:
            status = os.fstat(descriptor)
            os.close(descriptor)
            self.unseen_modes[status.st_dev, status.st_ino] = _program(notification.pid)
        else:
            self._pins.append(descriptor)


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


def _open(notification: seccomp.Notification) -> int:
    """Hold the file that a call is about; links are followed as its caller would."""
    pid = notification.pid
    folder, argument = _PATHS[notification.name]
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
