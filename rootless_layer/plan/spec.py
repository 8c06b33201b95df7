"""What is asked for: :class:`LayerSpec`, everything that decides a layer's bytes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError
from rootless_layer.store.closure import Closure
from rootless_layer.system.machine import unreadable
from rootless_layer.tar.compression import Compression
from rootless_layer.tree.base import Base
from rootless_layer.tree.places import Places
from rootless_layer.tree.tree import MOST_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.given import StrPath

    _Validator = Callable[[object, attrs.Attribute[Any], Any], object]

View = Literal["root", "directory"]
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
        """Read a script; raises :class:`SourceError` where it cannot be read."""
        path = given.path("path", path)
        try:
            return cls(path, Path(path).read_bytes())
        except OSError as error:
            hint = _NOT_TEXT if any(map(str.isspace, path)) else ""
            raise unreadable(error, path, "the script cannot be read", hint=hint) from error

    @classmethod
    def text(cls, text: str, name: str = "script") -> Script:
        """Take a script's text as it is."""
        return cls(name, given.instance("text", text, str, "a string").encode("utf-8", "surrogateescape"))

    @classmethod
    def command(cls, arguments: Iterable[str]) -> Script:
        """Take a command; the first argument is searched in ``PATH`` of the view."""
        words = _arguments(arguments)
        return cls(words[0] if words else "", None, words)


class Variables(Mapping[str, str]):
    """Variables of an environment, in an order, that nobody changes any more."""

    def __init__(self, values: Mapping[str, str] = MappingProxyType({})) -> None:
        """Copy them; raises :class:`InputError` for what cannot be set, all of it at once."""
        if not isinstance(values, Mapping):
            given.refuse("environment", values, "a mapping of names to values")
        self._values: dict[str, str] = dict(values)
        problems = [
            f"environment: {name!r} cannot be set to {value!r:.60}"
            for name, value in values.items()
            if not _may_be_set(name, value)
        ]
        if problems:
            raise InputError(*problems, hint="A name is a string without = and NUL, a value a string without NUL.")

    def __getitem__(self, name: str) -> str:
        """Give a variable's value."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count them."""
        return len(self._values)

    def __hash__(self) -> int:
        """Hash what is compared, which the order is not."""
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        """Show them as a dict."""
        return repr(self._values)


def _may_be_set(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(name) and "=" not in name and "\0" not in name + value


def _trees(value: Iterable[StrPath]) -> tuple[str, ...]:
    trees = given.several("copy_to_root", value, "paths")
    return tuple(given.path(f"copy_to_root[{number}]", tree) for number, tree in enumerate(trees))


def _scripts(value: Iterable[Script]) -> tuple[Script, ...]:
    scripts = given.several("scripts", value, "Script")
    return tuple(given.instance(f"scripts[{n}]", script, Script, "a Script") for n, script in enumerate(scripts))


def _rootfs(value: StrPath | None) -> str | None:
    return None if value is None else given.path("rootfs", value)


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


def _which(base: Base | None) -> object:
    """Give what tells a base from another, of which its chain ID says all."""
    return None if base is None else base.chain_id or id(base)


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

    ``base`` is what the layer is built upon: the scripts see it, and the layer is the
    difference.
    ``closure`` is put in the layer under its own store paths; ``copy_to_root`` are trees
    (paths in the store or not; a relative one is below the working directory of whoever
    builds) merged into the root, where ``link`` says how a
    root file stands for a store file, and ``keep_dirlinks`` lets a directory of one go
    where another has a symbolic link to a directory; with ``follow_dirlinks`` such a link of
    a tree becomes a directory of what it leads to, and ``conflict`` says whose file counts
    where two give one differently. ``rootfs`` is a directory or a tar
    that the layer starts from, ``rootfs_listing`` an mtree file with the owners and modes
    of a directory. ``scripts`` run in order in one session, in ``view``, with
    ``environment`` added to the fixed one, each for at most ``timeout`` seconds;
    ``closure_writable`` gives them copies of the store paths that they may change.
    ``tools`` are store paths that scripts in the root view see as well, and that are no
    part of the layer; symbolic links may stand for their files.

    A file with more than 1 GiB of holes is an error, unless ``allow_sparse``: every byte of
    them is in the layer.

    ``uid`` and ``gid`` own what is staged (what a script makes is root's). ``epoch`` is
    in seconds since 1970: later times are set to it, and directories always have it.

    ``left_out`` has the places that are no part of an input that they lie in: outputs, the
    cache. :func:`rootless_layer.build_layer` adds its own output.

    Raises :class:`InputError` for a value of another type, or that no layer can have; it
    names the field.
    """

    base: Base | None = attrs.field(default=None, validator=_an(Base), eq=_which)
    closure: Closure | None = attrs.field(default=None, validator=_an(Closure))
    tools: Closure | None = attrs.field(default=None, validator=_an(Closure))
    copy_to_root: tuple[str, ...] = attrs.field(default=(), converter=_trees)
    rootfs: str | None = attrs.field(default=None, converter=_rootfs)
    rootfs_listing: str | None = attrs.field(default=None, converter=_rootfs_listing)
    scripts: tuple[Script, ...] = attrs.field(default=(), converter=_scripts)
    view: View = attrs.field(default="root", validator=_one_of(View))
    environment: Mapping[str, str] = attrs.field(factory=Variables, converter=Variables)
    timeout: float | None = attrs.field(default=None, validator=_timeout)
    closure_writable: bool = attrs.field(default=False, validator=_flag)
    link: Link = attrs.field(default="hard", validator=_one_of(Link))
    keep_dirlinks: bool = attrs.field(default=False, validator=_flag)
    follow_dirlinks: bool = attrs.field(default=False, validator=_flag)
    conflict: Conflict = attrs.field(default="error", validator=_one_of(Conflict))
    uid: int = attrs.field(default=0, validator=_whole(MOST_ID))
    gid: int = attrs.field(default=0, validator=_whole(MOST_ID))
    source_date_epoch: int = attrs.field(default=1, validator=_whole(_LARGEST_TIME))
    allow_sparse: bool = attrs.field(default=False, validator=_flag)
    compression: Compression = attrs.field(default=Compression(), validator=_an(Compression))
    left_out: Places = attrs.field(factory=Places, validator=_an(Places))

    def inputs(self) -> tuple[str, ...]:
        """Give the paths of the trees that are read: those for the root, and a root filesystem."""
        return (*self.copy_to_root, *filter(None, [self.rootfs]))

    def apart_from(self, *outputs: StrPath, caches: tuple[StrPath, ...] = ()) -> LayerSpec:
        """Have outputs and caches left out of the inputs that they lie in.

        Raises :class:`OutputError` for an input that is an output, or lies in one.
        """
        outputs = tuple(given.path(f"outputs[{n}]", output) for n, output in enumerate(outputs))
        caches = tuple(given.path(f"caches[{n}]", cache) for n, cache in enumerate(given.several("caches", caches, "paths")))
        places = self.left_out.and_(outputs, caches)
        places.check(self.inputs())
        return attrs.evolve(self, left_out=places)
