"""What a Dockerfile's COPY puts into the tree: files of this machine, or of an image, one entry after the other.

A source is looked for within its context, which no link leads out of: the working directory for a relative source, the
image for one of an image, and this machine for an absolute one. Nothing of a source is changed.
"""

from __future__ import annotations

import os
import posixpath
import stat
from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, SourceError
from rootless_layer.oci.config import problems
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.base import Base
from rootless_layer.tree.ignored import Ignored, compiled, is_pattern
from rootless_layer.tree.links import follow
from rootless_layer.tree.places import OF_A_BUILD
from rootless_layer.tree.tree import ROOT_MODE, Entry
from rootless_layer.tree.walk import entry_of, walk

from .base import LazyBase, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rootless_layer.given import StrPath

    from .spec import LayerSpec

_MOST_MODE = 0o7777


def _sources(value: StrPath | Iterable[StrPath]) -> tuple[str, ...]:
    several = (value,) if isinstance(value, str | os.PathLike) else given.several("sources", value, "paths")
    return tuple(given.path(f"sources[{number}]", source) for number, source in enumerate(several))


def _destination(value: StrPath) -> str:
    return given.path("destination", value)


def _chown(_copy: object, _attribute: object, value: object) -> None:
    if found := problems("User", given.text("chown", value)):
        raise InputError(*(f"chown: {problem.removeprefix('User: ')}" for problem in found))


@attrs.frozen(slots=True)
class Copy:
    """Files that are copied into a layer, as a Dockerfile's COPY copies them.

    Raises :class:`InputError` for a value that it cannot have.
    """

    sources: tuple[str, ...] = attrs.field(converter=_sources)
    """Paths of files and directories, or patterns of them. Of a directory the contents are copied."""
    destination: str = attrs.field(converter=_destination)
    """Where they go in the tree; with a slash at the end it is a directory. A relative one is below the working directory."""
    chown: str = attrs.field(default="", kw_only=True, validator=_chown)
    """``USER`` or ``USER:GROUP`` who own the copies, as numbers or as names that the tree has.

    Empty by default: the layer's ``uid`` and ``gid``, and of an image each file's own.
    """
    chmod: int | None = attrs.field(default=None, kw_only=True)
    """The permissions of the copies; each file's own by default."""
    image: Base | LazyBase | None = attrs.field(default=None, kw_only=True, eq=lambda base: base and (base.chain_id or id(base)))
    """The image or layer that the sources are paths of; this machine by default."""

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot be copied."""
        if not self.sources:
            given.refuse("sources", self.sources, "at least one path")
        if self.chmod is not None:
            given.whole("chmod", self.chmod, 0, _MOST_MODE)
        if self.image is not None:
            given.instance("image", self.image, Base | LazyBase, "a Base")

    def inputs(self) -> tuple[str, ...]:
        """Give the paths of this machine that are read as a whole; of a pattern it is the directory that it begins with."""
        return () if self.image is not None else tuple(map(_fixed, self.sources))

    @property
    def name(self) -> str:
        """Give what messages call it."""
        return f"copy of {', '.join(self.sources)}"


def _fixed(source: str) -> str:
    """Give a path up to the first part that is a pattern."""
    parts = source.split("/")
    plain = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return "/".join(parts[:plain]) or ("/" if source.startswith("/") else ".")


@attrs.frozen(slots=True)
class Found:
    """A source that is there: the name that it was found by, its entry, and what lies below it with paths from there."""

    name: bytes
    entry: Entry
    below: tuple[Entry, ...] = ()


class _Context(Protocol):
    """A tree that sources are looked for in."""

    def there(self, path: bytes) -> Entry | None:
        """Give the entry at a path."""

    def names(self, folder: bytes) -> Iterable[bytes]:
        """Give the names in a directory, whose path has no links."""

    def below(self, folder: bytes) -> Iterator[tuple[bytes, Entry]]:
        """Give all that is below a directory, with the paths from there, parents before children."""


def find(copy: Copy, spec: LayerSpec) -> Iterator[Found]:
    """Find the sources of a copy, in their order; those of a pattern are in the order of their names.

    Raises :class:`SourceError` for a source that is not there or cannot be read, and :class:`InputError` for a pattern
    that is none.
    """
    owner = (spec.uid, spec.gid)
    image = None if copy.image is None else _Image(opened(copy.image))
    for source in copy.sources:
        path = os.fsencode(source)
        context: _Context
        if image is not None:
            context, path = image, path.lstrip(b"/")
        elif os.path.isabs(source) or posixpath.normpath(source).partition("/")[0] == "..":
            context, path = _Disk(b"/", owner, spec, Ignored()), os.fsencode(os.path.abspath(source))
        else:
            context = _Disk(os.fsencode(os.getcwd()), owner, spec, spec.ignored)
        found = [each for name in _expanded(source, path, context) if (each := _found(name, context)) is not None]
        if not found:
            hides = isinstance(context, _Disk) and context.hides and os.path.lexists(source)
            message = f"{source}: {'nothing fits' if is_pattern(source) else 'does not exist'}"
            message += f", but for what {spec.ignored.name} leaves out" if hides else ""
            raise SourceError(message, hint="A source is a path below the working directory." if not copy.image else "")
        yield from found


def _expanded(source: str, path: bytes, context: _Context) -> list[bytes]:
    """Give the paths that fit a pattern, or the one path that is none."""
    if not is_pattern(source):
        return [path]
    found = [b""]
    for part in posixpath.normpath(os.fsdecode(path)).strip("/").split("/"):
        if is_pattern(part):
            try:
                fits = compiled(part, deep=False).fullmatch
            except ValueError as error:
                message = f"{source}: is no pattern: {error}"
                raise InputError(message) from error
            found = [joined(above, name) for above in found for name in _names(above, context) if fits(os.fsdecode(name))]
        else:
            found = [joined(above, os.fsencode(part)) for above in found]
    return found


def joined(above: bytes, name: bytes) -> bytes:
    """Give the path of a name in a directory of a tree, which may be the top."""
    return above + b"/" + name if above else name


def _names(folder: bytes, context: _Context) -> list[bytes]:
    way = follow(folder, context.there)
    there = None if way.endless else context.there(way.end)
    return sorted(context.names(way.end)) if there is not None and there.is_dir else []


def _found(path: bytes, context: _Context) -> Found | None:
    way = follow(path, context.there)
    there = None if way.endless or way.missing else context.there(way.end)
    if there is None or stat.S_ISSOCK(there.mode):
        return None
    below: tuple[Entry, ...] = ()
    if there.is_dir:
        below = tuple(attrs.evolve(entry, path=relative) for relative, entry in context.below(way.end))
        if not below and isinstance(context, _Disk) and context.hidden(way.end):
            return None
    name = posixpath.basename(posixpath.normpath(path))
    return Found(name if name not in {b".", b".."} else b"", there, below)


class _Disk:
    """A directory of this machine, less what is ignored in it."""

    def __init__(self, top: bytes, owner: tuple[int, int], spec: LayerSpec, ignored: Ignored) -> None:
        self._top, self._owner, self._ignored = top.rstrip(b"/"), owner, ignored
        self._epoch, self._left_out = spec.source_date_epoch, spec.left_out
        self.hides = bool(ignored.rules)

    def hidden(self, path: bytes) -> bool:
        return self.hides and bool(path) and self._ignored.hides(os.fsdecode(path))

    def there(self, path: bytes) -> Entry | None:
        on_disk = self._top + b"/" + path
        try:
            status = os.lstat(on_disk)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(error, os.fsdecode(on_disk)) from error
        if self.hidden(path) and not (stat.S_ISDIR(status.st_mode) and self._ignored.has_exceptions):
            return None
        return entry_of(path, on_disk, status, self._epoch, self._owner)

    def names(self, folder: bytes) -> Iterable[bytes]:
        on_disk = self._top + b"/" + folder
        try:
            found = [name for name in os.listdir(on_disk) if not OF_A_BUILD.fullmatch(name)]
        except OSError as error:
            raise unreadable(error, os.fsdecode(on_disk)) from error
        return [name for name in found if not self._left_out.holds(os.fsdecode(on_disk + b"/" + name))]

    def below(self, folder: bytes) -> Iterator[tuple[bytes, Entry]]:
        top = os.path.realpath(self._top + b"/" + folder)
        prune = None if self._ignored.has_exceptions or not self.hides else (lambda path: self.hidden(joined(folder, path)))
        waiting: dict[bytes, Entry] = {}  # directories that are left out, unless something in them is not
        for relative, on_disk, status in walk(top, left_out=self._left_out, without=prune):
            if not relative or stat.S_ISSOCK(status.st_mode):
                continue
            entry = entry_of(relative, on_disk, status, self._epoch, self._owner)
            if prune is None and self.hidden(joined(folder, relative)):
                if entry.is_dir:
                    waiting[relative] = entry
                continue
            for above in _above(relative):
                if above in waiting:
                    yield above, waiting.pop(above)
            yield relative, entry


def _above(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:depth]) for depth in range(1, len(parts))]


class _Image:
    """The tree of an image."""

    def __init__(self, base: Base) -> None:
        self._entries: Mapping[bytes, Entry] = base.entries

    def there(self, path: bytes) -> Entry | None:
        entry = self._entries.get(path)
        if entry is None:
            return None if path else Entry(path=b"", mode=ROOT_MODE)
        return entry if entry.link is None else attrs.evolve(self._entries[entry.link], path=path)

    @cached_property
    def _paths(self) -> list[bytes]:
        return sorted(self._entries)

    def _inside(self, folder: bytes) -> Iterator[bytes]:
        """Give the paths below a directory, from there."""
        prefix = folder + b"/" if folder else b""
        for number in range(bisect_left(self._paths, prefix), len(self._paths)):
            if not self._paths[number].startswith(prefix):
                return
            if self._paths[number] != folder:
                yield self._paths[number][len(prefix) :]

    def names(self, folder: bytes) -> Iterable[bytes]:
        return {path.partition(b"/")[0] for path in self._inside(folder)}

    def below(self, folder: bytes) -> Iterator[tuple[bytes, Entry]]:
        first: dict[bytes, bytes] = {}  # by the name that carries a file, its first name here
        for relative in self._inside(folder):
            path = joined(folder, relative)
            entry = self.there(path)
            assert entry is not None  # noqa: S101 - it is one of the entries
            carrier = self._entries[path].link or path
            if entry.is_regular and first.setdefault(carrier, relative) != relative:
                entry = attrs.evolve(entry, link=first[carrier])
            yield relative, entry
