"""What the processes of a session say to each other: a message is a value, and on its way a line of JSON.

Paths, arguments, variables and attributes are bytes in every message, whatever the locale; text is
for a person. A value of a type is an object with the type's name on its way, so that nobody has to
guess what it is: ``{"Killed": [9]}``, and ``{"bytes": "/tmp"}``, each byte a character.

The types are named tuples: the module of data classes alone takes longer to import than all of these.
Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from rootless_layer.errors import from_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.errors import RootlessLayerError

Isolation = Literal["namespaces", "chroot", "none"]
Network = Literal["none", "host"]
Inode = tuple[int, int]
"""Device and inode number."""


class Isolate(NamedTuple):
    """The first thing that the caller says: how the scripts are kept apart, and where the session's files are.

    ``kept`` are descriptors of the caller's that the session's processes have as well.
    """

    isolation: Isolation
    pid_namespace: bool
    network: Network
    work: bytes
    kept: tuple[int, ...] = ()


class Owner(NamedTuple):
    """Whom a script is: a user, a group, and the supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Command(NamedTuple):
    """A script: what is executed, the program first; the path in the tree where it starts, and as whom (nothing for root).

    One that is ``attached`` has the order's streams for its stdin, stdout and stderr. It has ``variables`` of its own.
    """

    arguments: tuple[bytes, ...]
    folder: bytes = b""
    owner: Owner | None = None
    attached: bool = False
    variables: tuple[tuple[bytes, bytes], ...] = ()


class Mount(NamedTuple):
    """A source on this machine, and the path in the tree where it is shown."""

    source: bytes
    path: bytes


class Extra(NamedTuple):
    """A mount that somebody asked for, at a path of the view, without the slash before.

    ``source`` is the file or directory on this machine that it shows: of a tmpfs or a secret nothing, until it is made.
    ``data`` is the secret, ``size`` in bytes that of a tmpfs. A ``shared`` cache may be used by other sessions meanwhile.
    """

    kind: Literal["bind", "cache", "secret", "tmpfs"]
    path: bytes
    source: bytes
    data: bytes
    mode: int
    uid: int
    gid: int
    size: int | None
    read_only: bool
    shared: bool


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


class Emulator(NamedTuple):
    """A program that runs those of another architecture, and how the kernel knows them: by their first bytes, under a mask.

    ``wanted`` says whether somebody has named it, so that nothing else would do.
    """

    name: bytes
    program: bytes
    magic: bytes
    mask: bytes
    wanted: bool


class Order(NamedTuple):
    """The second thing that the caller says: which scripts run, and in which view.

    ``own`` is the path in the tree of what the view has for itself, ``nodes`` are devices of this machine that are in
    the layer if a script changes them. ``load`` is a file of rows to begin with, ``b""`` for none; ``timeout`` is in seconds.
    ``on_failure`` runs where a script has failed, in its view. ``streams`` are descriptors. Where all is ``discarded``, nobody
    asks afterwards what came of the files. Where beginnings are ``awaited``, the caller says each back before the script runs.
    """

    view: Literal["root", "directory"]
    tree: bytes
    overlay: OverlayPlan | None
    binds: tuple[Mount, ...]
    scaffold: tuple[Mount, ...]
    own: bytes
    nodes: tuple[bytes, ...]
    extras: tuple[Extra, ...]
    emulator: Emulator | None
    scripts: tuple[Command, ...]
    environment: tuple[tuple[bytes, bytes], ...]
    timeout: float | None
    xattrs: tuple[Attribute, ...]
    load: bytes
    save_file: bytes
    faked: bytes
    library: bytes
    on_failure: Command | None = None
    streams: tuple[int, ...] = ()
    discarded: bool = False
    awaited: bool = False


class Ready(NamedTuple):
    """The processes are isolated, but for namespaces that were refused: the name of each, and why."""

    refused: tuple[tuple[str, str], ...]


class Unavailable(NamedTuple):
    """They cannot be isolated in this way."""

    reason: str


class Open(NamedTuple):
    """The directories of this machine whose pipes and sockets the scripts reach, as they cannot be shown without."""

    folders: tuple[bytes, ...]


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
    why: Literal["interpreter", "carriage return", "too long", "absent", "refused", "foreign", "unregistered"]
    about: str


ScriptEnd = Exited | Killed | TimedOut | NotStarted


class Started(NamedTuple):
    """A script is about to be executed. The seccomp listener comes with this."""


class Failure(NamedTuple):
    """The script that ended the session: its place in the order, and how it ended."""

    number: int
    end: ScriptEnd


class Fails(NamedTuple):
    """A script has failed, and what runs then begins."""

    failure: Failure


class Looked(NamedTuple):
    """What runs where a script has failed has ended."""

    end: ScriptEnd


class Wish(NamedTuple):
    """A script wished a file that it only sees to be this: its path, and a mode with type bits."""

    path: bytes
    mode: int
    uid: int
    gid: int


class InodeAttribute(NamedTuple):
    """An extended attribute of an inode."""

    inode: Inode
    name: bytes
    value: bytes


class OverlayShown(NamedTuple):
    """How an overlay showed the tree: its device, paths with other numbers there than on disk, and paths that have a row."""

    device: int
    moved: tuple[tuple[bytes, int], ...]
    paths: tuple[tuple[int, bytes], ...]


class Outcome(NamedTuple):
    """What came of the scripts; where they all ended well, the save file has the rows."""

    failure: Failure | None
    attributes: tuple[InodeAttribute, ...]
    overlay: OverlayShown | None
    wishes: tuple[Wish, ...]


Message = Isolate | Order | Ready | Unavailable | Open | Begins | Told | Started | NotStarted | Fails | Looked | Outcome
_TYPES: dict[str, Callable[..., object]] = {
    kind.__name__: kind
    for kind in (
        Isolate, Order, Emulator, Owner, Command, Mount, Extra, Attribute, PlacedRow, OverlayPlan, Ready, Unavailable, Open,
        Begins, Told, Exited, Killed, TimedOut, NotStarted, Started, Failure, Fails, Looked, Wish, InodeAttribute, OverlayShown,
        Outcome,
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


def report(message: Message) -> None:
    """Say something to the caller of the session, on stdout."""
    data = to_json(message)
    with contextlib.suppress(BrokenPipeError):  # the caller has gone, and the keeper knows
        while data:
            data = data[os.write(1, data) :]
