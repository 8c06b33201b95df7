"""Store paths, and closures of them: a set of store paths with their references graph."""

from __future__ import annotations

import os
import posixpath
import re
import reprlib
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import ClosureError, MissingClosureError
from rootless_layer.frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# Nix base 32 has no e, o, t and u; a name has 1 to 211 characters (checkName and
# MaxPathLen in Nix's src/libstore/path.cc and .hh). The store directory ends at the
# first component that fits, for a store path never lies in another one.
_STORE_PATH = re.compile(
    r"((?:/(?!\.\.?/)[^/\x00-\x1f\x7f\ud800-\udfff]+)+?"
    r"/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211})(?:/.*)?",
    re.DOTALL,
)
_MOST_NAMED = 3  # of what is wrong with a closure's paths
_quoting = reprlib.Repr()
_quoting.maxstring = 300
escaped = _quoting.repr  # escapes a value, and cuts the middle out of a long one
StrPath = str | os.PathLike[str]


def _check_path(_instance: object, _attribute: object, value: str) -> None:
    # JSON gives values of any type.
    match = _STORE_PATH.fullmatch(value) if isinstance(value, str) else None
    if not match or match[1] != value:
        advice = match[1] if match else "/nix/store/<32 base-32 characters>-<name>"
        raise ClosureError(f"{escaped(value)} is not a store path: give {advice}")


@attrs.frozen(order=True, cache_hash=True)
class StorePath:
    """A store path, such as ``/nix/store/<digest>-<name>``; ordered by ``path``.

    ``path`` is absolute, and what Nix and the layer call it; ``Closure.location`` tells
    where on this machine that is. Anything but a store path raises ClosureError, a path
    inside of one as well: no StorePath is malformed.
    """

    path: str = attrs.field(validator=_check_path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a store path; raise ClosureError if ``text`` is not exactly one."""
        return cls(text)

    @classmethod
    def containing(cls, path: str) -> Self | None:
        """Find the store path that ``path`` is or lies in; None if there is none.

        ``path`` is absolute. ``..`` is resolved in the text: no link is followed.
        """
        # normpath keeps two leading slashes, to which POSIX allows a meaning.
        given.instance("path", path, str, "a string")
        match = _STORE_PATH.fullmatch(re.sub("^//", "/", posixpath.normpath(path)))
        return cls(match[1]) if match else None

    @property
    def store_dir(self) -> str:
        """The store's directory, such as ``/nix/store``."""
        return posixpath.dirname(self.path)

    @property
    def base(self) -> str:
        """The last component: digest, dash and name."""
        return posixpath.basename(self.path)

    @property
    def digest(self) -> str:
        """The 32 characters before the dash."""
        return self.base[:32]

    @property
    def name(self) -> str:
        """What follows the dash, such as ``bash-5.2``."""
        return self.base[33:]


def _known(name: str, path: StorePath) -> StorePath:
    return given.instance(name, path, StorePath, "a StorePath")


def _freeze(
    graph: Mapping[StorePath, Iterable[StorePath]],
) -> Mapping[StorePath, frozenset[StorePath]]:
    given.instance("references", graph, Mapping, "a mapping of store paths to those that each refers to")
    for path, others in graph.items():
        _known("references", path)
        for other in others if isinstance(others, frozenset) else given.several("references", others, "StorePath"):
            _known("references", other)
    return Frozen({path: frozenset(graph[path]) - {path} for path in sorted(graph)})


def _freeze_sizes(sizes: Mapping[StorePath, int]) -> Mapping[StorePath, int]:
    given.instance("sizes", sizes, Mapping, "a mapping of store paths to their sizes")
    for path, size in sizes.items():
        given.instance("sizes", size, int, "whole numbers of bytes")
        _known("sizes", path)
    return Frozen(sizes)


def _freeze_hashes(hashes: Mapping[StorePath, str]) -> Mapping[StorePath, str]:
    given.instance("hashes", hashes, Mapping, "a mapping of store paths to the hashes of their NARs")
    for path, found in hashes.items():
        given.text("hashes", found)
        _known("hashes", path)
    return Frozen(hashes)


def _clean_root(root: StrPath) -> str:
    text = given.instance("store_root", root.__fspath__() if isinstance(root, os.PathLike) else root, str, "a path")
    if not text.startswith("/") or "\0" in text:
        raise ClosureError(f"the store root {escaped(text)} is not an absolute path")
    return text.rstrip("/") or "/"


@attrs.frozen
class Closure:
    """Store paths of one store, and which of them refer to which.

    ``references`` is immutable and ordered by path. Self references, which Nix records,
    are dropped: without them the graph has no cycles. A path whose references nobody
    gave, as in a plain list, has none. ``store_root`` is the absolute directory of this
    machine that holds the store: DIR after ``nix --store DIR``, else ``/``. ``sizes`` has
    each path's ``narSize``, in bytes, and ``hashes`` its ``narHash`` as Nix writes it, where the
    closure's source gives them. They tell nothing
    that the paths themselves do not, so closures that differ in them alone are equal.

    Raises ClosureError for paths of several stores, and for a relative store root.
    """

    references: Mapping[StorePath, frozenset[StorePath]] = attrs.field(
        factory=dict,
        converter=_freeze,
        repr=lambda references: f"<{len(references)} store paths>",
        eq=lambda graph: frozenset(graph.items()),  # attrs hashes what it compares
    )
    store_root: str = attrs.field(default="/", converter=_clean_root)
    sizes: Mapping[StorePath, int] = attrs.field(factory=dict, converter=_freeze_sizes, eq=False, repr=False)
    hashes: Mapping[StorePath, str] = attrs.field(factory=dict, converter=_freeze_hashes, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse a graph over several stores."""
        every = set(self.references).union(*self.references.values())
        if len(stores := sorted({path.store_dir for path in every})) > 1:
            raise ClosureError(f"paths of several stores: {', '.join(stores)}")

    @property
    def paths(self) -> tuple[StorePath, ...]:
        """Every path, in order."""
        return tuple(self.references)

    @property
    def store_dir(self) -> str:
        """The directory of every path; of a closure without paths, ``/nix/store``."""
        return next((path.store_dir for path in self.references), "/nix/store")

    def location(self, path: StorePath) -> str:
        """Give where ``path`` lies on this machine; raises :class:`InputError` for what is no :class:`StorePath`."""
        return self.store_root.rstrip("/") + _known("path", path).path

    def merge(self, *others: Closure) -> Closure:
        """Unite this closure and ``others``; raises :class:`ClosureError` where they are not of one store and root."""
        others = given.items("others", others, Closure, "a Closure")
        parts = [part for part in (self, *others) if part.references] or [self]
        if len(roots := sorted({part.store_root for part in parts})) > 1:
            raise ClosureError(f"paths under several roots: {', '.join(roots)}")
        if len(parts) == 1:
            return parts[0]
        graph: dict[StorePath, frozenset[StorePath]] = {}
        sizes: dict[StorePath, int] = {}
        hashes: dict[StorePath, str] = {}
        for part in parts:
            sizes |= part.sizes
            hashes |= part.hashes
            for path, references in part.references.items():
                graph[path] = references.union(graph.get(path, ()))
        return Closure(graph, roots[0], sizes, hashes)

    def only(self, paths: Collection[StorePath]) -> Closure:
        """Give the part that ``paths`` are, with the references among them; a path that is not here is left out."""
        kept = frozenset(given.items("paths", paths, StorePath, "a StorePath"))
        ordered = sorted(kept, key=lambda path: path.path)
        graph = {path: self.references[path] & kept for path in ordered if path in self.references}
        sizes = {path: self.sizes[path] for path in ordered if path in self.sizes}
        hashes = {path: self.hashes[path] for path in ordered if path in self.hashes}
        return Closure(graph, self.store_root, sizes, hashes)

    def check(self) -> None:
        """Raise one ClosureError for all paths not there (a MissingClosureError then) and references not given."""
        root = self.store_root.rstrip("/")
        absent = [path for path in self.references if not os.path.lexists(root + path.path)]
        problems = [f"{path.path}: there is nothing at {escaped(self.location(path))}" for path in absent]
        if len(absent) > _MOST_NAMED:
            few = ", ".join(path.path for path in absent[:_MOST_NAMED])
            problems = [f"{len(absent)} of {len(self.references)} store paths are not there: {few} and others"]
        strange = [f"{path.path}: refers to {p.path}, not given" for path, p in self._not_given]
        if len(strange) > _MOST_NAMED:
            strange = [*strange[:_MOST_NAMED], f"{len(strange) - _MOST_NAMED} more references are to paths not given"]
        if absent or strange:
            hint = "Build or fetch the paths, and give the whole closure (-r or -R)."
            if absent:
                hint += " Where the store lies under another root, name that with --store-root."
            raise (MissingClosureError if absent else ClosureError)(*problems, *strange, hint=hint)

    @cached_property
    def _not_given(self) -> list[tuple[StorePath, StorePath]]:
        known = frozenset(self.references)
        return [(path, other) for path, references in self.references.items() for other in sorted(references - known)]
