"""What the processes of a session say to each other: a message is a value, and on its way a line of JSON.

Paths, arguments, variables and attributes are bytes in every message, whatever the locale; text is
for a person. A value of a type is an object with the type's name on its way, so that nobody has to
guess what it is: ``{"Killed": [9]}``, and ``{"bytes": "/tmp"}``, each byte a character.

The types are named tuples: the module of data classes alone takes longer to import than all of these.
Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from rootless_layer.errors import from_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.errors import RootlessLayerError

Isolation = Literal["namespaces", "chroot", "none"]
Inode = tuple[int, int]
"""Device and inode number."""


class Isolate(NamedTuple):
    """The first thing that the caller says: how the scripts are kept apart, and where the session's files are."""

    isolation: Isolation
    pid_namespace: bool
    work: bytes


class Command(NamedTuple):
    """A script: what is executed, the program first."""

    arguments: tuple[bytes, ...]


class Mount(NamedTuple):
    """A source on this machine, and the path in the tree where it is shown."""

    source: bytes
    path: bytes


class Attribute(NamedTuple):
    """An extended attribute of a file."""

    path: bytes
    name: bytes
    value: bytes


class PlacedRow(NamedTuple):
    """A row that the record begins with, by the path in an overlay; ``mode`` has the type bits."""

    path: bytes
    mode: int
    uid: int
    gid: int
    rdev: int


class OverlayPlan(NamedTuple):
    """An overlay: where it is shown, two directories of the session, and one with a link to each snapshot, from 0, the lowest."""

    tree: bytes
    upper: bytes
    scratch: bytes
    lowers: bytes
    placed: tuple[PlacedRow, ...]


class Order(NamedTuple):
    """The second thing that the caller says: which scripts run, and in which view.

    ``own`` is the path in the tree of what the view has for itself, ``nodes`` the devices and ``tools`` the sources
    that are seen only. ``load`` is a file of rows to begin with, ``b""`` for none; ``timeout`` is in seconds.
    """

    view: Literal["root", "directory"]
    tree: bytes
    overlay: OverlayPlan | None
    binds: tuple[Mount, ...]
    scaffold: tuple[Mount, ...]
    own: bytes
    nodes: tuple[bytes, ...]
    tools: tuple[bytes, ...]
    scripts: tuple[Command, ...]
    environment: tuple[tuple[bytes, bytes], ...]
    timeout: float | None
    xattrs: tuple[Attribute, ...]
    load: bytes
    save_file: bytes
    faked: bytes
    library: bytes
    preload: bytes


class Ready(NamedTuple):
    """The processes are isolated."""


class Unavailable(NamedTuple):
    """They cannot be isolated in this way."""

    reason: str


class Begins(NamedTuple):
    """A script begins: its place in the order."""

    number: int


class Told(NamedTuple):
    """An error that another process is to raise: the name of its class, and what it says."""

    kind: str
    problems: tuple[str, ...]
    hint: str

    @classmethod
    def of(cls, error: RootlessLayerError) -> Told:
        """Tell of an error."""
        return cls(type(error).__name__, tuple(error.problems), error.hint)

    def error(self) -> RootlessLayerError:
        """Give the error, to be raised."""
        return from_report(*self)


class Exited(NamedTuple):
    """A script ended by itself, with this status."""

    status: int


class Killed(NamedTuple):
    """A script was killed by a signal of this number."""

    signal: int


class TimedOut(NamedTuple):
    """A script did not end in its time."""


class NotStarted(NamedTuple):
    """A script could not be executed: the status that a shell would give, why, and what that is about."""

    status: int
    why: Literal["interpreter", "carriage return", "too long", "absent", "refused"]
    about: str


ScriptEnd = Exited | Killed | TimedOut | NotStarted


class Started(NamedTuple):
    """A script is about to be executed. The seccomp listener comes with this."""


class Failure(NamedTuple):
    """The script that ended the session: its place in the order, and how it ended."""

    number: int
    end: ScriptEnd


class Bypass(NamedTuple):
    """A program went around libfakeroot: its name, the system call, and the path."""

    program: str
    call: str
    path: str


class UnseenMode(NamedTuple):
    """A program changed the mode of an inode unseen."""

    inode: Inode
    program: str


class Put(NamedTuple):
    """The agent is to give files their attributes."""

    xattrs: tuple[Attribute, ...]


class Held(NamedTuple):
    """The agent has given them; those of a file of which fakeroot does not carry all are here, a tuple for each such file."""

    files: tuple[tuple[tuple[bytes, bytes], ...], ...] = ()


class FindRows(NamedTuple):
    """The agent is to say which inodes have a row; ``top`` is any path of the session's files."""

    top: bytes
    faked: int
    save_file: bytes


class Rows(NamedTuple):
    """The inodes that have a row."""

    inodes: tuple[Inode, ...]


class Machine(NamedTuple):
    """What the directory view shows of this machine: all but the ``hidden`` directories and the session's own, ``work``.

    ``began`` is when the session did, in nanoseconds by the clock of the file systems.
    """

    work: bytes
    hidden: tuple[bytes, ...]
    began: int


class Collect(NamedTuple):
    """The agent is to read the attributes of all that has a row.

    Above a base, which makes the first of ``tops`` large, that is walked last: ``known`` has inode numbers with
    paths there, and ``upper`` is the directory of what is new, ``b""`` without a base. ``tools`` are directories
    and files that the scripts only see. What is in none of these is looked for in all that the view shows of the ``machine``.
    """

    find: FindRows
    tops: tuple[bytes, ...]
    tools: tuple[bytes, ...]
    upper: bytes = b""
    known: tuple[tuple[int, bytes], ...] = ()
    machine: Machine | None = None


class InodeAttribute(NamedTuple):
    """An extended attribute of an inode."""

    inode: Inode
    name: bytes
    value: bytes


class SeenTool(NamedTuple):
    """A file with a row that the scripts only see: where the tool that has it lies, and the path below that.

    A file of the machine has no such place: it lies at ``below``.
    """

    inode: Inode
    source: bytes
    below: bytes


class Collected(NamedTuple):
    """What has a row: its attributes; the paths in a base that were only found by a walk, by inode number.

    ``with_row`` are the numbers of ``known`` that have one; ``row_without_file`` those of rows whose inode is nowhere.
    """

    xattrs: tuple[InodeAttribute, ...]
    named: tuple[tuple[int, bytes], ...]
    with_row: tuple[int, ...]
    row_without_file: tuple[int, ...]
    tools: tuple[SeenTool, ...]


class OverlayShown(NamedTuple):
    """How an overlay showed the tree: its device, paths with other numbers there than on disk, and paths that have a row."""

    device: int
    moved: tuple[tuple[bytes, int], ...]
    paths: tuple[tuple[int, bytes], ...]


class Outcome(NamedTuple):
    """What came of the scripts: ``collected`` is there where they all ended well, and no ``error`` is told."""

    set_id_refused: bool
    failure: Failure | None
    error: Told | None
    held: Held
    collected: Collected | None
    overlay: OverlayShown | None
    bypasses: tuple[Bypass, ...]
    unseen: tuple[UnseenMode, ...]


Message = (
    Isolate | Order | Ready | Unavailable | Begins | Told | Started | NotStarted | Outcome
    | Put | Held | FindRows | Rows | Collect | Collected
)  # fmt: skip
_TYPES: dict[str, Callable[..., object]] = {
    kind.__name__: kind
    for kind in (
        Isolate, Order, Command, Mount, Attribute, PlacedRow, OverlayPlan, Ready, Unavailable, Begins, Told, Exited, Killed,
        TimedOut, NotStarted, Started, Failure, Bypass, UnseenMode, Put, Held, FindRows, Rows, Machine, Collect, InodeAttribute,
        SeenTool, Collected, OverlayShown, Outcome,
    )
}  # fmt: skip


def to_json(message: Message) -> bytes:
    """Write a message as one line."""
    return json.dumps(_plain(message)).encode() + b"\n"


def from_json(line: bytes) -> Message:
    """Read what :func:`to_json` has written."""
    message: Message = _value(json.loads(line))  # type: ignore[assignment]
    return message


def first_line() -> bytes:
    """Read stdin up to the end of a line, and not a byte further."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(1)
        line += byte
    return line


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, tuple):
        plain = [_plain(part) for part in value]
        return {type(value).__name__: plain} if hasattr(value, "_fields") else plain
    return value


def _value(plain: object) -> object:
    if isinstance(plain, list):
        return tuple(map(_value, plain))
    if isinstance(plain, dict):
        ((name, content),) = plain.items()
        return content.encode("latin-1") if name == "bytes" else _TYPES[name](*map(_value, content))
    return plain
