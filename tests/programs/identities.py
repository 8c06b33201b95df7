"""Carry out sequences of calls that change ids, groups and capabilities, each by a process of its own; tell what comes of each call.

The argument is JSON: a list of sequences, which are lists of a name and numbers. The answer is JSON in the file ``said``.
"""

import ctypes
import json
import os
import sys

UNCHANGED = 0xFFFFFFFF
VERSION_3 = 0x20080522
KEEPS_CAPABILITIES, KEEP_CAPABILITIES = 7, 8
OF_INTEREST = (0, 1, 2, 3, 4, 6, 7, 8)
"""Capabilities that follow the ids: CHOWN to SETPCAP, but KILL."""
libc = ctypes.CDLL(None, use_errno=True)


def capabilities():
    """Give the effective, the permitted and the inheritable ones."""
    header, data = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    return data[0], data[1], data[2]


def call(name, numbers):
    """Make one call; give its value and its error."""
    ctypes.set_errno(0)
    if name == "setgroups":
        value = libc.setgroups(ctypes.c_size_t(len(numbers)), (ctypes.c_uint32 * len(numbers))(*numbers))
    elif name == "capset":
        first = [sum(1 << OF_INTEREST[at] for at in range(8) if number >> at & 1) for number in numbers]
        value = libc.capset((ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)(*first, 0, 0, 0))
    elif name == "keep":
        value = libc.prctl(KEEP_CAPABILITIES, *(ctypes.c_ulong(number) for number in (*numbers, 0, 0, 0)))
    else:
        value = getattr(libc, name)(*map(ctypes.c_uint32, numbers))
    return value & UNCHANGED, ctypes.get_errno() if value < 0 else 0


def state():
    """Say who this process is."""
    wanted = sum(1 << number for number in OF_INTEREST)
    shown = [part & wanted for part in capabilities()]
    files = [libc.setfsuid(ctypes.c_uint32(UNCHANGED)) & UNCHANGED, libc.setfsgid(ctypes.c_uint32(UNCHANGED)) & UNCHANGED]
    ids = [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]
    return [*os.getresuid(), *os.getresgid(), *files, *ids, sorted(os.getgroups()), *shown, libc.prctl(KEEPS_CAPABILITIES)]


def told(sequence):
    """Carry out a sequence in a child; give what it tells."""
    end, other = os.pipe()
    pid = os.fork()
    if not pid:
        told = [[state()]]
        for name, *numbers in sequence:
            told.append([name, *call(name, numbers), state()])
        os.write(other, json.dumps(told).encode())
        os._exit(0)
    os.close(other)
    with os.fdopen(end, "rb") as file:
        result = json.load(file)
    os.waitpid(pid, 0)
    return result


if __name__ == "__main__":
    libc.setgroups(ctypes.c_size_t(1), (ctypes.c_uint32 * 1)(0))
    with open("said", "w") as file:
        json.dump([told(sequence) for sequence in json.loads(sys.argv[1])], file)
