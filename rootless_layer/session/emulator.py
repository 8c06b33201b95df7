"""The emulator that runs the scripts of another platform's root: qemu-user, by a rule of the session's own."""

from __future__ import annotations

import os
import shutil
import struct
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError, UnavailableError

from .inside.interpreter import ARCHITECTURES, is_native, is_static
from .inside.messages import Emulator

if TYPE_CHECKING:
    from rootless_layer.plan.spec import LayerSpec

_QEMU = {
    "386": "i386", "amd64": "x86_64", "arm64": "aarch64", "loong64": "loongarch64", "mips64le": "mips64el", "mipsle": "mipsel",
}  # fmt: skip
"""qemu's names for architectures, where they are not Go's."""
_EXECUTABLE, _ANY_KIND = 2, 0xFFFE
"""ELF's kind of a program at a fixed place, and the mask by which one at any place is meant, too (ET_DYN)."""
INSTALL = "Install qemu-user-static, or name a static qemu-user with --emulator FILE."
REGISTER = "Have qemu-user-static registered on this machine, with the flag F, as Debian's package does it; or use Linux 6.7."


def emulator_of(spec: LayerSpec) -> Emulator | None:
    """Give what runs the scripts of a spec; nothing where this machine does, or no emulator is found.

    Scripts may run this machine's programs yet, its tools: where one cannot be executed, that is an error by itself.

    Raises :class:`InputError` for an emulator that is given and cannot run them, and :class:`UnavailableError` for an
    architecture that qemu-user does not know.
    """
    platform = spec.platform
    if spec.emulator is not None and (platform is None or spec.view != "root"):
        message = f"{spec.emulator}: no script is run by an emulator"
        raise InputError(message, hint="Say by --platform what the scripts' programs are for, and keep to the root view.")
    if platform is None or is_native(platform.architecture) or spec.view != "root":
        return None
    architecture = platform.architecture
    if architecture not in ARCHITECTURES:
        if spec.emulator is None:
            return None
        message = f"{platform}: the kernel cannot be told how to know this platform's programs"
        raise UnavailableError(message)
    name = _QEMU.get(architecture, architecture)
    program = _found(name) if spec.emulator is None else _given(spec.emulator)
    if program is None:
        return None
    size, order, machine = ARCHITECTURES[architecture]
    head, kinds = b"\x7fELF" + bytes((size, 1 if order == "<" else 2, 1, 0)), f"{order}HH"
    magic = head + bytes(8) + struct.pack(kinds, _EXECUTABLE, machine)
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + struct.pack(kinds, _ANY_KIND, 0xFFFF)
    return Emulator(f"qemu-{name}".encode(), os.fsencode(program), magic, mask, wanted=spec.emulator is not None)


def installed() -> dict[str, str]:
    """Give, by the architectures that this machine does not run itself, the emulators in ``PATH``."""
    foreign = [name for name in sorted(ARCHITECTURES) if not is_native(name)]
    return {name: program for name in foreign if (program := _found(_QEMU.get(name, name))) is not None}


def _given(path: str) -> str:
    if not os.access(path, os.X_OK) or not os.path.isfile(path):
        message = f"{path}: is not a program that can be executed, so it emulates nothing"
        raise InputError(message, hint=INSTALL)
    if not is_static(path):
        message = f"{path}: needs a loader and libraries, which are not in the root of the scripts"
        raise InputError(message, hint="Name a static qemu-user, as Debian's qemu-user-static has it.")
    return os.path.realpath(path)


def _found(name: str) -> str | None:
    for program in (f"qemu-{name}-static", f"qemu-{name}"):
        path = shutil.which(program)
        if path is not None and is_static(path):
            return os.path.realpath(path)
    return None
