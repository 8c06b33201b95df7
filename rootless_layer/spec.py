"""What is asked for: :class:`LayerSpec`, everything that decides a layer's bytes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import attrs

from .errors import InputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .base import Base
    from .closure import Closure

View = Literal["root", "directory"]
Link = Literal["hard", "symbolic", "copy"]
Conflict = Literal["error", "first", "last"]
Stage = Literal["auto", "bind", "hardlink", "copy"]
Blob = Literal["stored", "derived"]
Kind = Literal["none", "gzip", "zstd"]

_LEVELS = {"none": (0, 0, 0), "gzip": (0, 2, 3), "zstd": (1, 3, 19)}
"""Lowest, default and highest level; gzip's are ISA-L's."""
_LARGEST_ID = 2**32 - 2


@attrs.frozen(slots=True)
class Compression:
    """How a blob is stored: a kind, and a level of that kind (by default the kind's own)."""

    kind: Kind = "none"
    level: int = -1

    def __attrs_post_init__(self) -> None:
        """Take the default level, and refuse one that the kind does not have."""
        if self.kind not in _LEVELS:
            message = f"{self.kind}: not a compression; there are {', '.join(_LEVELS)}"
            raise InputError(message)
        lowest, default, highest = _LEVELS[self.kind]
        if self.level == -1:
            object.__setattr__(self, "level", default)
        if not lowest <= self.level <= highest:
            message = f"{self.kind} has the levels {lowest} to {highest}, not {self.level}"
            raise InputError(message)


@attrs.frozen(slots=True)
class Script:
    """One script: a file's bytes, or a command with its arguments.

    ``data`` is the file, executed through its ``#!`` line or, without one, by ``sh -e``;
    ``arguments`` follow it. Where ``data`` is nothing, ``arguments`` are the command.
    ``name`` is what messages call it.
    """

    name: str
    data: bytes | None = None
    arguments: tuple[str, ...] = ()

    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> Script:
        """Read a script; raises :class:`SourceError` where it cannot be read."""
        try:
            return cls(os.fspath(path), Path(path).read_bytes())
        except OSError as error:
            message = f"{os.fspath(path)}: the script cannot be read: {error.strerror}"
            raise SourceError(message) from error

    @classmethod
    def text(cls, text: str, name: str = "script") -> Script:
        """Take a script's text as it is."""
        return cls(name, text.encode("utf-8", "surrogateescape"))

    @classmethod
    def command(cls, arguments: Sequence[str]) -> Script:
        """Take a command; the first argument is searched in ``PATH`` of the view."""
        if not arguments or not arguments[0]:
            message = "a command needs at least one argument, the program"
            raise InputError(message)
        return cls(arguments[0], None, tuple(arguments))


def _one_of(kind: object) -> Callable[[object, attrs.Attribute[str], str], None]:
    choices = get_args(kind)

    def check(_spec: object, attribute: attrs.Attribute[str], value: str) -> None:
        if value not in choices:
            message = f"{attribute.name}: {value!r} is none of {', '.join(choices)}"
            raise InputError(message)

    return check


def _id(_spec: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= _LARGEST_ID:
        message = f"{attribute.name}: {value} is no id; they go from 0 to {_LARGEST_ID}"
        raise InputError(message)


def _epoch(_spec: object, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value < 2**63:
        message = f"{attribute.name}: {value} is no time in seconds since 1970"
        raise InputError(message)


def _timeout(_spec: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not (value > 0 and math.isfinite(value)):
        message = f"{attribute.name}: {value} is not a number of seconds above 0"
        raise InputError(message)


def _environment(_spec: object, _attribute: object, value: Mapping[str, str]) -> None:
    problems = [
        f"environment: {name!r} cannot be set" for name, text in value.items() if not name or "=" in name or "\0" in name + text
    ]
    if problems:
        raise InputError(*problems)


@attrs.frozen(kw_only=True, slots=True)
class LayerSpec:
    """Everything that decides a layer's bytes.

    ``base`` is what the layer is built upon: the scripts see it, and the layer is the
    difference.
    ``closure`` is put in the layer under its own store paths; ``contents`` are trees
    (absolute paths, in the store or not) merged into the root, where ``link`` says how a
    root file stands for a store file, and ``keep_dirlinks`` lets a directory of one go
    where another has a symbolic link to a directory; with ``follow_dirlinks`` such a link of
    a tree becomes a directory of what it leads to, and ``conflict`` says whose file counts
    where two give one differently. ``rootfs`` is a directory or a tar
    that the layer starts from, ``rootfs_listing`` an mtree file with the owners and modes
    of a directory. ``scripts`` run in order in one session, in ``view``, with
    ``environment`` added to the fixed one, each for at most ``timeout`` seconds;
    ``writable_closure`` gives them copies of the store paths that they may change.
    ``tools`` are store paths that scripts in the root view see as well, and that are no
    part of the layer; symbolic links may stand for their files.

    ``uid`` and ``gid`` own what is staged (what a script makes is root's). ``epoch`` is
    in seconds since 1970: later times are set to it, and directories always have it.
    """

    base: Base | None = None
    closure: Closure | None = None
    tools: Closure | None = None
    contents: tuple[str, ...] = ()
    rootfs: str | None = None
    rootfs_listing: str | None = None
    scripts: tuple[Script, ...] = ()
    view: View = attrs.field(default="root", validator=_one_of(View))
    environment: Mapping[str, str] = attrs.field(factory=dict, validator=_environment)
    timeout: float | None = attrs.field(default=None, validator=_timeout)
    writable_closure: bool = False
    link: Link = attrs.field(default="hard", validator=_one_of(Link))
    keep_dirlinks: bool = False
    follow_dirlinks: bool = False
    conflict: Conflict = attrs.field(default="error", validator=_one_of(Conflict))
    uid: int = attrs.field(default=0, validator=_id)
    gid: int = attrs.field(default=0, validator=_id)
    epoch: int = attrs.field(default=1, validator=_epoch)
    compression: Compression = Compression()
