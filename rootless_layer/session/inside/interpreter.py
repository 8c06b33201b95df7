"""What a program needs before it can begin: the interpreter of its first line, its loader, a machine of its architecture.

The kernel says ENOENT where one of the first two is not there, as it does where the program is not.
Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import struct

_MOST_STEPS = 5
_LONGEST = 4096
_PT_INTERP = 3
SCRIPT, BINARY = b"#!", b"\x7fELF"
"""What a script begins with, and what any other program does."""
ARCHITECTURES = {
    "386": (1, "<", 3), "amd64": (2, "<", 62), "arm": (1, "<", 40), "arm64": (2, "<", 183), "loong64": (2, "<", 258),
    "mips64le": (2, "<", 8), "mipsle": (1, "<", 8), "ppc64": (2, ">", 21), "ppc64le": (2, "<", 21), "riscv64": (2, "<", 243),
    "s390x": (2, ">", 22), "sparc64": (2, ">", 43),
}  # fmt: skip
"""ELF's class, order of bytes and number of the machine (elf.h), by Go's names for architectures."""
_OWN = {"x86_64": ("amd64", "386"), "aarch64": ("arm64",)}


def missing(program: str) -> tuple[str, bool]:
    """Say what a program needs that is not there, and whether its first line ends with a carriage return."""
    shown = ""
    for _ in range(_MOST_STEPS):
        try:
            with open(program, "rb") as file:
                begin = file.read(_LONGEST)
        except OSError:  # it may be executed, not read
            break
        if begin.startswith(SCRIPT):
            name, what = named_by(begin), "the interpreter that the first line names"
        else:
            name, what = _loader(begin), "the loader"
        needed = os.fsdecode(name.rstrip(b"\r"))
        if name.endswith(b"\r") or not needed or not os.path.exists(needed):
            return f"{what}{f' of {shown}' if shown else ''} is not there: {needed or 'it has none'}", name.endswith(b"\r")
        program = shown = needed
    return "what it needs to begin is not there", False


def named_by(begin: bytes) -> bytes:
    """Give the interpreter that a script names in its first line, as the kernel reads that."""
    return begin[len(SCRIPT) :].split(b"\n", 1)[0].strip(b" \t").split(b" ")[0].split(b"\t")[0]


def is_native(architecture: str) -> bool:
    """Say whether this machine runs the programs of an architecture by itself."""
    return architecture in _OWN.get(os.uname().machine, ())


def foreign(program: str) -> tuple[str, str]:
    """Give the program that would have to be executed, an interpreter for a script, and another machine's architecture.

    Both are empty where it is for this machine, or of no form that is known.
    """
    for _ in range(_MOST_STEPS):
        begin = _beginning(program)
        if not begin.startswith(SCRIPT):
            architecture = _architecture(begin)
            return ("", "") if not architecture or is_native(architecture) else (program, architecture)
        program = os.fsdecode(named_by(begin))
    return "", ""


def is_static(program: str) -> bool:
    """Say whether a program is complete: an ELF file that names no loader."""
    begin = _beginning(program)
    return bool(_architecture(begin)) and not _loader(begin)


def _beginning(program: str) -> bytes:
    try:
        with open(program, "rb") as file:
            return file.read(_LONGEST)
    except OSError:
        return b""


def _architecture(begin: bytes) -> str:
    if len(begin) < 20 or begin[:4] != BINARY:  # noqa: PLR2004 - up to the number of the machine
        return ""
    order = "<" if begin[5] == 1 else ">"
    here = (begin[4], order, *struct.unpack_from(order + "H", begin, 18))
    return next((name for name, known in ARCHITECTURES.items() if known == here), "")


def _loader(begin: bytes) -> bytes:
    """Give the loader that an ELF file names in its PT_INTERP (elf(5)); nothing of what is no such file."""
    try:
        if begin[:4] != BINARY:
            return b""
        wide, order = begin[4] == 2, "<" if begin[5] == 1 else ">"  # noqa: PLR2004 - ELFCLASS64
        (at,) = struct.unpack_from(order + ("Q" if wide else "I"), begin, 32 if wide else 28)
        size, count = struct.unpack_from(order + "HH", begin, 54 if wide else 42)
        for number in range(count):
            row = at + number * size
            if struct.unpack_from(order + "I", begin, row)[0] == _PT_INTERP:
                (offset,) = struct.unpack_from(order + ("Q" if wide else "I"), begin, row + (8 if wide else 4))
                return begin[offset:].split(b"\0", 1)[0]
    except (IndexError, struct.error):
        pass
    return b""
