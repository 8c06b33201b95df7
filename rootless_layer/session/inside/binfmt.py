"""An emulator for programs of another architecture, which the kernel starts as it starts this machine's own (binfmt_misc).

Since Linux 6.7 a user namespace has a binfmt_misc of its own: what is registered there holds for the session alone, and goes
with it. The emulator is opened when it is registered (flag ``F``), so that it need not be in what a script sees. It is
qemu-user, of version 6 or newer, which takes a program's first argument as it is (flag ``P``) and opened (flag ``O``).

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from rootless_layer.system import namespaces

if TYPE_CHECKING:
    from .messages import Emulator

_FLAGS = b"OPF"
_DELIMITER = b"\x01"
"""The byte between the fields of a rule, which no path has that somebody could write."""
_REASONS = {
    errno.EPERM: "this kernel has one binfmt_misc for all of the machine, and no session its own, which Linux 6.7 has",
    errno.ENODEV: "this kernel has no binfmt_misc",
}


def register(emulator: Emulator, folder: bytes) -> str:
    """Have this user namespace's programs of an architecture run by an emulator; give what is against it.

    It holds as long as this process: a file system is mounted at ``folder``, a directory that is made, and taken away from there.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        flags = namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC
        namespaces.mount(b"binfmt_misc", folder, b"binfmt_misc", flags)
        kept = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        namespaces.detach(folder)
        descriptor = os.open(b"register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=kept)
        try:
            os.write(descriptor, _rule(emulator))
        finally:
            os.close(descriptor)
    except OSError as error:
        return _REASONS.get(error.errno or 0) or f"{os.fsdecode(emulator.program)} cannot be registered: {error}"
    return ""


def _rule(emulator: Emulator) -> bytes:
    """Write a rule as the kernel reads it (binfmt-misc.rst): its name, M for a magic number, where, which, its mask, etc."""
    fields = (emulator.name, b"M", b"", _escaped(emulator.magic), _escaped(emulator.mask), emulator.program, _FLAGS)
    return b"".join(_DELIMITER + field for field in fields)


def _escaped(value: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in value)
