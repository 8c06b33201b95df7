"""What is asked for: :class:`LayerSpec`, everything that decides a layer's bytes."""

from __future__ import annotations

import posixpath
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError
from rootless_layer.oci.config import problems
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.run_config import NONE, RunConfig
from rootless_layer.store.closure import Closure
from rootless_layer.system.machine import unreadable
from rootless_layer.tar.compression import Compression
from rootless_layer.terminal import quoted
from rootless_layer.tree.base import Base
from rootless_layer.tree.ignored import Ignored
from rootless_layer.tree.places import Places
from rootless_layer.tree.tree import MOST_ID, MOST_NAME

from .base import LazyBase, opened
from .copies import Copy
from .mount import Mount, check_mounts
from .variables import Variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rootless_layer.given import StrPath

    _Validator = Callable[[object, attrs.Attribute[Any], Any], object]

View = Literal["root", "directory"]
Network = Literal["none", "host"]
Link = Literal["hard", "symbolic", "copy"]
Conflict = Literal["error", "first", "last"]
Stage = Literal["auto", "bind", "hardlink", "copy"]
Blob = Literal["stored", "derived"]
_LARGEST_TIME = 2**63 - 1
_NOT_TEXT = "A script is a file, and not text: that is the command `-- sh -c 'TEXT'`, or `run` in a file of make."


def _arguments(value: Iterable[str]) -> tuple[str, ...]:
    words = given.several("arguments", value, "strings")
    return tuple(given.text(f"arguments[{number}]", word) for number, word in enumerate(words))


@attrs.frozen(slots=True)
class Script:
    """One script: a file's bytes, or a command with its arguments.

    ``data`` is the file, executed through its ``#!`` line or, without one, by ``sh -e``;
    ``arguments`` follow it. Where ``data`` is nothing, ``arguments`` are the command.
    ``name`` is what messages call it. Raises :class:`InputError` for anything else.
    """

    name: str
    data: bytes | None = attrs.field(default=None, repr=lambda data: "None" if data is None else f"<{len(data)} bytes>")
    arguments: tuple[str, ...] = attrs.field(default=(), converter=_arguments)

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be executed."""
        given.text("name", self.name)
        if self.data is not None:
            given.instance("data", self.data, bytes, "the bytes of a file (Script.text takes a string)")
        elif not self.arguments or not self.arguments[0]:
            message = f"{self.name or 'a script'}: a command needs at least one argument, the program"
            raise InputError(message)

    @classmethod
    def file(cls, path: StrPath) -> Script:
        """Read the script at ``path``, by which messages call it; raises :class:`SourceError` where it cannot be read."""
        path = given.path("path", path)
        try:
            return cls(path, Path(path).read_bytes())
        except OSError as error:
            hint = _NOT_TEXT if any(map(str.isspace, path)) else ""
            raise unreadable(error, path, "the script cannot be read", hint=hint) from error

    @classmethod
    def text(cls, text: str, name: str = "script") -> Script:
        """Take a script's ``text`` as it is; messages call it ``name``. Raises :class:`InputError` for what is no string."""
        return cls(name, given.instance("text", text, str, "a string").encode("utf-8", "surrogateescape"))

    @classmethod
    def command(cls, arguments: Iterable[str]) -> Script:
        """Take a command's ``arguments``; the first is searched in ``PATH`` of the view.

        Raises :class:`InputError` without any.
        """
        words = _arguments(arguments)
        return cls(words[0] if words else "", None, words)


def _trees(value: Iterable[StrPath]) -> tuple[str, ...]:
    trees = given.several("copy_to_root", value, "paths")
    return tuple(given.path(f"copy_to_root[{number}]", tree) for number, tree in enumerate(trees))


def _copies(value: Iterable[Copy]) -> tuple[Copy, ...]:
    return given.items("copies", value, Copy, "a Copy")


def _scripts(value: Iterable[Script]) -> tuple[Script, ...]:
    scripts = given.several("scripts", value, "Script")
    return tuple(given.instance(f"scripts[{n}]", script, Script, "a Script") for n, script in enumerate(scripts))


def _rootfs(value: StrPath | None) -> str | None:
    return None if value is None else given.path("rootfs", value)


def _emulator(value: StrPath | None) -> str | None:
    return None if value is None else given.path("emulator", value)


def _rootfs_listing(value: StrPath | None) -> str | None:
    return None if value is None else given.path("rootfs_listing", value)


def _one_of(literal: object) -> _Validator:
    return lambda _spec, attribute, value: given.one_of(attribute.name, value, literal)


def _whole(most: int) -> _Validator:
    return lambda _spec, attribute, value: given.whole(attribute.name, value, 0, most)


def _an(kind: type) -> _Validator:
    def check(_spec: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None or attribute.default is not None:
            given.instance(attribute.name, value, kind, f"a {kind.__name__}")

    return check


def _base(_spec: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        given.instance(attribute.name, value, Base | LazyBase, "a Base")


def _which(base: Base | LazyBase | None) -> object:
    """Give what tells a base from another, of which its chain ID says all."""
    return None if base is None else (base.chain_id or id(base), base.run_config)


def _user(_spec: object, _attribute: attrs.Attribute[Any], value: object) -> None:
    if found := problems("User", given.text("user", value)):
        raise InputError(*(f"user: {problem.removeprefix('User: ')}" for problem in found))


def _line(_spec: object, attribute: attrs.Attribute[Any], value: object) -> None:
    try:
        given.text(attribute.name, value).encode()
    except UnicodeEncodeError as error:
        message = f"{attribute.name}: {value!a} is not UTF-8"
        raise InputError(message) from error


def _owner_name(spec: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _line(spec, attribute, value)
    name = given.text(attribute.name, value)
    if not (name.isprintable() and ":" not in name and len(name.encode()) <= MOST_NAME):
        message = f"{attribute.name}: {quoted(name)} is no name of a user or a group"
        raise InputError(message)


def _folder(_spec: object, attribute: attrs.Attribute[Any], value: object) -> None:
    given.text(attribute.name, value)


def _shell(value: Iterable[str]) -> tuple[str, ...]:
    words = given.several("shell", value, "strings")
    return tuple(given.text(f"shell[{number}]", word) for number, word in enumerate(words))


def _flag(_spec: object, attribute: attrs.Attribute[bool], value: object) -> None:
    given.instance(attribute.name, value, bool, "True or False")


def _timeout(_spec: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is None:
        return
    seconds = given.instance(attribute.name, value, int | float, "a number of seconds")
    if not 0 < seconds <= sys.float_info.max:
        given.refuse(attribute.name, value, "a number of seconds above 0")


@attrs.frozen(kw_only=True, slots=True)
class LayerSpec:
    """Everything that decides a layer's bytes.

    Raises :class:`InputError` for a value of another type, or that no layer can have; it
    names the field.
    """

    base: Base | LazyBase | None = attrs.field(default=None, validator=_base, eq=_which)
    """The tree that the layer is built upon: scripts see it, and the layer is the difference. None by default."""
    closure: Closure | None = attrs.field(default=None, validator=_an(Closure))
    """Store paths that are put in the layer under their own names. None by default."""
    tools: Closure | None = attrs.field(default=None, validator=_an(Closure))
    """Store paths that scripts in the root view see as well, and that are no part of the layer. None by default.

    Symbolic links may stand for their files.
    """
    copy_to_root: tuple[str, ...] = attrs.field(default=(), converter=_trees)
    """The paths of trees, in the store or not, that are merged into the root in this order. None by default.

    A relative one is below the working directory of whoever builds.
    """
    copies: tuple[Copy, ...] = attrs.field(default=(), converter=_copies)
    """Files that are put into the tree after all that is above, in this order, as a Dockerfile's COPY does. None by default."""
    ignored: Ignored = attrs.field(default=Ignored(), validator=_an(Ignored))
    """What is left out of the working directory that copies are from, as ``.dockerignore`` has it. Nothing by default."""
    rootfs: str | None = attrs.field(default=None, converter=_rootfs)
    """The path of a directory or a tar that the layer starts from. None by default."""
    rootfs_listing: str | None = attrs.field(default=None, converter=_rootfs_listing)
    """The path of an mtree file with the owners and modes of a ``rootfs`` that is a directory. None by default."""
    scripts: tuple[Script, ...] = attrs.field(default=(), converter=_scripts)
    """What runs, in this order in one session. None by default."""
    view: View = attrs.field(default="root", validator=_one_of(View))
    """What scripts see: the layer's tree as their *root* (by default), or this machine, from the tree as their *directory*."""
    platform: Platform | None = attrs.field(default=None, validator=_an(Platform))
    """What the programs that scripts run are for. None, by default, means this machine.

    In the root view qemu-user runs those of another architecture.
    """
    emulator: str | None = attrs.field(default=None, converter=_emulator)
    """The path of the static qemu-user that runs them. None by default: the one that is found on this machine."""
    environment: Mapping[str, str] = attrs.field(factory=Variables, converter=Variables)
    """Variables that scripts have beside the fixed ones, whose place they take. None by default."""
    network: Network = attrs.field(default="none", validator=_one_of(Network))
    """Which network scripts have: *none* (by default), where they reach each other by 127.0.0.1, or that of the *host*."""
    mounts: tuple[Mount, ...] = attrs.field(default=(), converter=check_mounts)
    """What scripts see beside the tree, and what is not in the layer. None by default."""
    timeout: float | None = attrs.field(default=None, validator=_timeout)
    """How long each script may run, in seconds; without one, for ever. None by default."""
    user: str = attrs.field(default="", validator=_user)
    """As whom the scripts run: ``USER`` or ``USER:GROUP``, numbers or names that the tree has. Empty by default: as root."""
    workdir: str = attrs.field(default="", validator=_folder)
    """The directory of the tree in which scripts start; it is made where it is missing. A relative one is below the base's.

    Empty by default: the base's own in the root view, else the top.
    """
    shell: tuple[str, ...] = attrs.field(default=(), converter=_shell)
    """The words that run a script without ``#!``: its text follows ``-c`` and the like, else its path. Empty by default.

    Then they are the base's own in the root view, else ``sh -e``.
    """
    closure_writable: bool = attrs.field(default=False, validator=_flag)
    """Whether scripts get copies of the store paths, which they may change. False by default."""
    link: Link = attrs.field(default="hard", validator=_one_of(Link))
    """How a root file stands for a store file: as a *hard* link (by default), a *symbolic* one, or a *copy*."""
    keep_dirlinks: bool = attrs.field(default=False, validator=_flag)
    """Whether a directory of one tree goes where another has a symbolic link to a directory. False by default: an error."""
    follow_dirlinks: bool = attrs.field(default=False, validator=_flag)
    """Whether a tree's symbolic link to a directory becomes a directory, of the files there. False by default."""
    conflict: Conflict = attrs.field(default="error", validator=_one_of(Conflict))
    """Whose file counts where two trees give one differently: an *error* (by default), the *first* or the *last*.

    Without an error a link to a directory becomes a directory where another tree has one.
    """
    uid: int = attrs.field(default=0, validator=_whole(MOST_ID))
    """The user who owns what is staged; what a script makes is root's. 0 by default."""
    gid: int = attrs.field(default=0, validator=_whole(MOST_ID))
    """The group that owns what is staged. 0 by default."""
    uname: str = attrs.field(default="", validator=_owner_name)
    """What the headers call the user ``uid``. Empty by default: by the number alone, as every engine of containers reads them."""
    gname: str = attrs.field(default="", validator=_owner_name)
    """What the headers call the group ``gid``. Empty by default."""
    source_date_epoch: int = attrs.field(default=1, validator=_whole(_LARGEST_TIME))
    """The latest time in the layer, in seconds since 1970, which directories always have. 1 by default."""
    tidy: bool = attrs.field(default=False, validator=_flag)
    """Whether logs and caches of package managers and what else is another in each build are left out. False by default."""
    allow_sparse: bool = attrs.field(default=False, validator=_flag)
    """Whether a file may have more than 1 GiB of holes, every byte of which is in the layer. False by default: an error."""
    link_identical: bool = attrs.field(default=False, validator=_flag)
    """Whether files of the closure with the same bytes are hard links of one. False by default."""
    compression: Compression = attrs.field(default=Compression(), validator=_an(Compression))
    """How the blob is stored. Not compressed by default."""
    created_by: str = attrs.field(default="", validator=_line)
    """What the history of an image says made the layer; no byte of the layer depends on it. Empty by default: this program."""
    comment: str = attrs.field(default="", validator=_line)
    """What the history of an image says of the layer besides. Empty by default."""
    left_out: Places = attrs.field(factory=Places, validator=_an(Places))
    """The places that are no part of an input that they lie in: outputs, the cache. None by default.

    :func:`rootless_layer.build_layer` adds its own output.
    """

    @property
    def below(self) -> Base | None:
        """Give the base with its tree; one that is not open yet is opened, which raises as :func:`open_base` does."""
        return None if self.base is None else opened(self.base)

    @property
    def run_config_below(self) -> RunConfig:
        """Give what the config of the image that is built upon says of processes."""
        return NONE if self.base is None else self.base.run_config

    @property
    def run_config(self) -> RunConfig:
        """Give what scripts take of that: nothing in the directory view."""
        return NONE if self.view == "directory" else self.run_config_below

    @property
    def folder(self) -> str:
        """Give the absolute path in the tree of the scripts' working directory, as it was asked for."""
        return posixpath.normpath(posixpath.join("/", self.run_config_below.folder, self.workdir))

    def inputs(self) -> tuple[str, ...]:
        """Give the paths of what is read: trees for the root, what is copied of this machine, a root filesystem, binds."""
        copied = (path for copy in self.copies for path in copy.inputs())
        bound = (mount.source for mount in self.mounts if mount.type == "bind")
        return (*self.copy_to_root, *dict.fromkeys(copied), *filter(None, [self.rootfs, *bound]))

    def apart_from(self, *outputs: StrPath, caches: tuple[StrPath, ...] = ()) -> LayerSpec:
        """Have ``outputs`` and ``caches``, paths both, left out of the inputs that they lie in.

        Raises :class:`OutputError` for an input that is an output, or lies in one.
        """
        outputs = tuple(given.path(f"outputs[{n}]", output) for n, output in enumerate(outputs))
        caches = tuple(given.path(f"caches[{n}]", cache) for n, cache in enumerate(given.several("caches", caches, "paths")))
        places = self.left_out.and_(outputs, caches)
        places.check(self.inputs())
        return attrs.evolve(self, left_out=places)
