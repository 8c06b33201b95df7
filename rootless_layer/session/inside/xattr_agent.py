"""Runs inside a session, under libfakeroot: puts extended attributes there, and reads them.

They live in the daemon's memory only: not on disk, not in the save file. So they are read
as the last thing of the session, from the inodes that have a row (setxattr makes one, if
need be). Those are found by the inode numbers of the directories' entries, which costs no
round trip to the daemon. Run as a script, not as a part of the package.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HELD = "user.rootless-layer.held"
"""An attribute that stands for those that fakeroot does not carry."""
_ROW = re.compile(rb"dev=([0-9a-f]+),ino=(\d+),")


def put(subject: list[list[str]]) -> dict[str, object]:
    """Give files their attributes: a path, a name and a value in base64 each.

    Those of a file of which fakeroot does not carry all are ``held`` back, and the file gets a ``HELD`` instead, which
    has their place in that list. Wherever that is in the end, be it in a copy, they belong.
    """
    files: dict[str, list[tuple[str, str]]] = {}
    for path, name, value in subject:
        files.setdefault(path, []).append((name, value))
    held: list[list[tuple[str, str]]] = []
    for path, pairs in files.items():
        place = os.fsencode(path)
        try:
            for name, value in pairs:
                os.setxattr(place, os.fsencode(name), base64.b64decode(value), follow_symlinks=False)
            os.listxattr(place, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ERANGE:
                raise
            for name, _ in pairs:
                with contextlib.suppress(OSError):  # not all of them are there
                    os.removexattr(place, os.fsencode(name), follow_symlinks=False)
            os.setxattr(place, HELD, b"%d" % len(held), follow_symlinks=False)
            held.append(pairs)
    return {"held": held}


def rows(top: str, faked: int, save_file: str) -> set[tuple[int, int]]:
    """Have the daemon write its rows, with all that was sent to it before, and read them."""
    os.lstat(top)  # chown and chmod are sent without waiting; a stat is answered after them
    os.kill(faked, signal.SIGUSR1)
    os.lstat(top)  # and this one after the daemon has written its rows
    with open(save_file, "rb") as file:
        return {(int(dev, 16), int(ino)) for dev, ino in _ROW.findall(file.read())}


def collect(
    tops: list[str], tools: list[str], upper: str, known: dict[str, str], wanted: set[tuple[int, int]]
) -> dict[str, object]:
    """Read the attributes of every inode that has a row.

    Above a base, which makes the first of ``tops`` large, that is walked last: ``known`` has
    paths there by inode number, and ``upper`` is the directory of what is new. Rows of what is
    nowhere are ``left``, those of what is known ``rowed``; ``named`` has the paths of what was only
    found in the walk. ``tools`` are directories and files that the scripts only see: what of them
    has a row is told by its inode, its tool and its path below that.
    """
    found: list[list[object]] = []
    named: dict[int, str] = {}
    tree = os.fsencode(tops[0])
    device = os.lstat(tree).st_dev
    rowed = [number for number in map(int, known) if (device, number) in wanted]

    def read(path: bytes, inode: tuple[int, int]) -> None:
        if inode in wanted:
            wanted.discard(inode)
            names = os.listxattr(path, follow_symlinks=False)
            found.extend([*inode, name, _value(path, name)] for name in sorted(names))

    for number, name in known.items():
        read(tree + b"/" + name.encode("latin-1"), (device, int(number)))
    if upper:
        above = os.fsencode(upper)
        for path, (_, number_) in _walk(above):
            read(tree + path[len(above) :], (device, number_))
    for top in tops:
        for path, inode in _walk(os.fsencode(top)) if wanted else ():
            if upper and inode in wanted and inode[0] == device:
                named[inode[1]] = path[len(tree) + 1 :].decode("latin-1")
            read(path, inode)
            if not wanted:
                break
    seen = [[*inode, tool, path] for tool, path, inode in _of_tools(tools, wanted, read)]
    left = [number for dev, number in wanted if dev == device]
    return {"xattrs": found, "named": named, "rowed": rowed, "left": left, "tools": seen}


def _of_tools(
    tools: list[str], wanted: set[tuple[int, int]], read: Callable[[bytes, tuple[int, int]], None]
) -> Iterator[tuple[str, str, tuple[int, int]]]:
    for tool in map(os.fsencode, tools):
        for path, inode in _walk(tool) if wanted else ():
            if inode in wanted:
                yield tool.decode("latin-1"), path[len(tool) :].decode("latin-1"), inode
            read(path, inode)


def _value(path: bytes, name: str) -> str:
    return base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode()


def _walk(top: bytes) -> Iterator[tuple[bytes, tuple[int, int]]]:
    status = os.lstat(top)
    device = status.st_dev
    yield top, (device, status.st_ino)
    folders = [top] if os.path.isdir(top) and not os.path.islink(top) else []
    while folders:
        with os.scandir(folders.pop()) as listing:
            for entry in listing:
                yield entry.path, (device, entry.inode())
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def main() -> None:
    """Do what stdin says, and say on stdout what came of it."""
    order = json.load(sys.stdin)
    try:
        if order["action"] == "put":
            result = put(order["subject"])
        else:
            found = rows(order["subject"]["tops"][0], order["faked"], order["save_file"])
            result = {"rows": sorted(found)} if order["action"] == "rows" else collect(**order["subject"], wanted=found)
    except OSError as error:
        named = os.fsdecode(error.filename or b"?")
        problem = f"{named}: extended attributes cannot be kept: {error.strerror}"
        result = {"error": ["SessionError", [problem], "fakeroot carries values of up to about 2000 bytes."]}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
