"""Finds files of this machine by their inodes, where the directory view has shown them to the scripts.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from .messages import Machine

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from .messages import Inode, Isolate, Order

_OWN = b"/tmp"
"""Where the view has a directory of the session's own."""
_CLOCK_REALTIME_COARSE = 5
"""The clock that file systems take their times from (linux/time.h)."""
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_NUMBERED_APART = frozenset({b"btrfs", b"overlay"})
"""File systems whose files may have another device number than their mount has."""


def shown(isolate: Isolate, order: Order) -> Machine | None:
    """Say what of this machine the scripts will see, before the first of them begins; nothing of it in the root view."""
    if order.view == "root":
        return None
    own = (_OWN,) if isolate.isolation == "namespaces" else ()
    return Machine(isolate.work, (b"/proc", b"/sys", b"/dev", *own), time.clock_gettime_ns(_CLOCK_REALTIME_COARSE))


def find(machine: Machine, wanted: Collection[Inode]) -> Iterator[tuple[bytes, Inode]]:
    """Go through the files of this machine that have one of the wanted inodes, up to the last of them.

    What the session has made is none of them, nor is a file that has changed since it began: that may have the number of a file
    that is gone. Directories are read, and no file is looked at that has no wanted number.
    """
    left = set(wanted)
    for path in _walk((machine.work,), frozenset(), {number for _, number in left}):
        left.discard(_inode(path)[0])
    tops, points = _mounts({device for device, _ in left})
    hidden = (*machine.hidden, machine.work)
    entered = [top for top in tops if not any((top + b"/").startswith(path + b"/") for path in hidden)]
    for path in _walk(entered, {*points, *hidden}, {number for _, number in left}):
        inode, changed = _inode(path)
        if inode in left:
            left.discard(inode)
            if changed < machine.began:
                yield path, inode
            if not left:
                return


def _mounts(devices: set[int]) -> tuple[list[bytes], set[bytes]]:
    """Give where file systems of these devices are mounted, and where any is."""
    tops: dict[bytes, int] = {}
    others, points = [], set()
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            before, _, after = line.partition(b" - ")
            fields = before.split(b" ")
            point = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
            points.add(point)
            major, _, minor = fields[2].partition(b":")
            device = os.makedev(int(major), int(minor))
            if device in devices:
                tops[point] = device
            elif after.split(b" ")[0] in _NUMBERED_APART:
                others.append(point)
    return [*tops, *(others if devices.difference(tops.values()) else ())], points


def _walk(tops: Collection[bytes], apart: Collection[bytes], numbers: set[int]) -> Iterator[bytes]:
    """Go through the tops, and the paths below them that may have one of the inode numbers; do not enter those that are apart."""
    for top in tops if numbers else ():
        yield top
        folders = [top]
        while folders:
            try:
                with os.scandir(folders.pop()) as listing:
                    for entry in listing:
                        if entry.inode() in numbers:
                            yield entry.path
                        if entry.is_dir(follow_symlinks=False) and entry.path not in apart:
                            folders.append(entry.path)
            except OSError:  # not for this user: nor for the scripts, then; or gone
                continue


def _inode(path: bytes) -> tuple[Inode, int]:
    try:
        status = os.lstat(path)
    except OSError:
        return (0, 0), 0
    return (status.st_dev, status.st_ino), status.st_ctime_ns
