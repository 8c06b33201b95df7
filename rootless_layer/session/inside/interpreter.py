"""What a program needs before it can begin: the interpreter of its first line, or its loader.

The kernel says ENOENT where that is not there, as it does where the program is not.
Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import struct

_MOST_STEPS = 5
_LONGEST = 4096
_PT_INTERP = 3


def missing(program: str) -> tuple[str, bool]:
    """Say what a program needs that is not there, and whether its first line ends with a carriage return."""
    shown = ""
    for _ in range(_MOST_STEPS):
        try:
            with open(program, "rb") as file:
                begin = file.read(_LONGEST)
        except OSError:  # it may be executed, not read
            break
        if begin.startswith(b"#!"):
            line = begin[2:].split(b"\n", 1)[0].strip(b" \t")
            name, what = line.split(b" ")[0].split(b"\t")[0], "the interpreter that the first line names"
        else:
            name, what = _loader(begin), "the loader"
        needed = os.fsdecode(name.rstrip(b"\r"))
        if name.endswith(b"\r") or not needed or not os.path.exists(needed):
            return f"{what}{f' of {shown}' if shown else ''} is not there: {needed or 'it has none'}", name.endswith(b"\r")
        program = shown = needed
    return "what it needs to begin is not there", False


def _loader(begin: bytes) -> bytes:
    """Give the loader that an ELF file names in its PT_INTERP (elf(5)); nothing of what is no such file."""
    try:
        if begin[:4] != b"\x7fELF":
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
