"""Runs inside a session, under libfakeroot: puts extended attributes there, and reads them.

They live in the daemon's memory only: not on disk, not in the save file. So they are read
as the last thing of the session, from the inodes that have a row (setxattr makes one, if
need be). Those are found by the inode numbers of the directories' entries, which costs no
round trip to the daemon.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
import sys
from typing import TYPE_CHECKING

from rootless_layer.errors import DaemonError

from . import elsewhere
from .messages import Collect, Collected, FindRows, Held, InodeAttribute, Put, Rows, SeenTool, Told, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .faked import Daemon
    from .messages import Inode, Message

HELD = b"user.rootless-layer.held"
"""An attribute that stands for those that fakeroot does not carry."""
_START = "import sys; sys.path.insert(0, sys.argv[1]); from rootless_layer.session.inside.xattr_agent import main; main()"
_ROW = re.compile(rb"dev=([0-9a-f]+),ino=(\d+),")


def put(order: Put) -> Held:
    """Give files their attributes.

    Those of a file of which fakeroot does not carry all are held back, and the file gets a ``HELD`` instead, which
    has their place in what is given back. Wherever that is in the end, be it in a copy, they belong.
    """
    files: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for path, name, value in order.xattrs:
        files.setdefault(path, []).append((name, value))
    held: list[tuple[tuple[bytes, bytes], ...]] = []
    for path, pairs in files.items():
        try:
            for name, value in pairs:
                os.setxattr(path, name, value, follow_symlinks=False)
            os.listxattr(path, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ERANGE:
                raise
            for name, _ in pairs:
                with contextlib.suppress(OSError):  # not all of them are there
                    os.removexattr(path, name, follow_symlinks=False)
            os.setxattr(path, HELD, b"%d" % len(held), follow_symlinks=False)
            held.append(tuple(pairs))
    return Held(tuple(held))


def rows(order: FindRows) -> set[Inode]:
    """Have the daemon write its rows, with all that was sent to it before, and read them."""
    os.lstat(order.top)  # chown and chmod are sent without waiting; a stat is answered after them
    os.kill(order.faked, signal.SIGUSR1)
    os.lstat(order.top)  # and this one after the daemon has written its rows
    with open(order.save_file, "rb") as file:
        return {(int(dev, 16), int(ino)) for dev, ino in _ROW.findall(file.read())}


def collect(order: Collect) -> Collected:
    """Read the attributes of every inode that has a row."""
    wanted = rows(order.find)
    found: list[InodeAttribute] = []
    named: dict[int, bytes] = {}
    tree = order.tops[0]
    device = os.lstat(tree).st_dev
    with_row = tuple(number for number, _ in order.known if (device, number) in wanted)

    def read(path: bytes, inode: Inode) -> None:
        if inode in wanted:
            wanted.discard(inode)
            names = sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False)))
            found.extend(InodeAttribute(inode, name, os.getxattr(path, name, follow_symlinks=False)) for name in names)

    for number, name in order.known:
        read(tree + b"/" + name, (device, number))
    if order.upper:
        for path, (_, number_) in _walk(order.upper):
            read(tree + path[len(order.upper) :], (device, number_))
    for top in order.tops:
        for path, inode in _walk(top) if wanted else ():
            if order.upper and inode in wanted and inode[0] == device:
                named[inode[1]] = path[len(tree) + 1 :]
            read(path, inode)
            if not wanted:
                break
    tools = tuple(_only_seen(order, wanted, read))
    without_file = tuple(number for dev, number in wanted if dev == device)
    return Collected(tuple(found), tuple(named.items()), with_row, without_file, tools)


def _only_seen(order: Collect, wanted: set[Inode], read: Callable[[bytes, Inode], None]) -> Iterator[SeenTool]:
    for tool in order.tools:
        for path, inode in _walk(tool) if wanted else ():
            if inode in wanted:
                yield SeenTool(inode, tool, path[len(tool) :])
            read(path, inode)
    for path, inode in elsewhere.find(order.machine, wanted) if wanted and order.machine is not None else ():
        yield SeenTool(inode, b"", path)
        read(path, inode)


def _walk(top: bytes) -> Iterator[tuple[bytes, Inode]]:
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


def ask(order: Put | FindRows | Collect, daemon: Daemon, library: str, work: bytes) -> Message:
    """Run the agent, which libfakeroot sees, and give its answer; ``work`` is a directory for the order.

    Raises :class:`DaemonError` where it gives none.
    """
    reading, writing = os.pipe()
    path = work + b"/agent.json"
    with open(path, "wb") as file:
        file.write(to_json(order))
    child = os.fork()
    if child == 0:
        os.dup2(os.open(path, os.O_RDONLY), 0)
        os.dup2(writing, 1)
        command = [sys.executable, "-I", "-S", "-c", _START, sys.path[0]]
        os.execve(sys.executable, command, os.environ | daemon.environment(library))  # noqa: S606
    os.close(writing)
    answer = b""
    while select.select([reading, daemon.handle], [], [])[0] == [reading]:
        part = os.read(reading, 1 << 16)
        if not part:
            break
        answer += part
    os.close(reading)
    if daemon.died:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not answer:
        message = "the extended attributes could not be read inside the session"
        raise DaemonError(message)
    return from_json(answer)


def main() -> None:
    """Do what stdin says, and say on stdout what came of it."""
    order = from_json(sys.stdin.buffer.read())
    result: Message
    try:
        match order:
            case Put():
                result = put(order)
            case FindRows():
                result = Rows(tuple(sorted(rows(order))))
            case Collect():
                result = collect(order)
    except OSError as error:
        named = os.fsdecode(error.filename or b"?")
        problem = f"{named}: extended attributes cannot be kept: {error.strerror}"
        result = Told("SessionError", (problem,), "fakeroot carries values of up to about 2000 bytes.")
    sys.stdout.buffer.write(to_json(result))
