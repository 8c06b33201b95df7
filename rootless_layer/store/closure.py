"""Store paths, and closures of them in every form that Nix gives.

``load_closure`` tells by looking which of these forms it was given:

- the text of ``exportReferencesGraph``: per path a line each with the path, its deriver
  or nothing, the number of its references, and the references;
- its JSON under ``__structuredAttrs``: the list, or the whole ``.attrs.json``;
- ``nix path-info --json -r``: a list until Nix 2.18, an object by path since 2.19, or
  ``--json-format 2`` (Nix 2.33), where paths stand without their store directory;
- the directory that nixpkgs's ``closureInfo`` makes, or a file of it: ``store-paths``,
  or ``registration``, which is the first form with two more lines after each path, the
  hash and the size of its NAR, as in ``nix-store --dump-db``;
- a list of store paths, a line each, as from ``nix-store -qR``.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import ClosureError, MissingClosureError, reason
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
# Enough for every true number, and far from the 4,300 digits that int() refuses.
_NUMBER = re.compile("[0-9]{1,20}")
_WITH_SIZE = 5  # lines of a record before its references, where the NAR's hash and size are among them
_MOST_NAMED = 3  # of what is wrong with a closure's paths
_FORMS = (
    "Give an exportReferencesGraph file, the JSON of `nix path-info --json -r`, what "
    "closureInfo makes, or a list of store paths, a line each."
)
_quoting = reprlib.Repr()
_quoting.maxstring = 300
_show = _quoting.repr  # escapes a value, and cuts the middle out of a long one
StrPath = str | os.PathLike[str]


def _check_path(_instance: object, _attribute: object, value: str) -> None:
    # JSON gives values of any type.
    match = _STORE_PATH.fullmatch(value) if isinstance(value, str) else None
    if not match or match[1] != value:
        advice = match[1] if match else "/nix/store/<32 base-32 characters>-<name>"
        raise ClosureError(f"{_show(value)} is not a store path: give {advice}")


@attrs.frozen(order=True)
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


def _clean_root(root: StrPath) -> str:
    text = given.instance("store_root", root.__fspath__() if isinstance(root, os.PathLike) else root, str, "a path")
    if not text.startswith("/") or "\0" in text:
        raise ClosureError(f"the store root {_show(text)} is not an absolute path")
    return text.rstrip("/") or "/"


@attrs.frozen
class Closure:
    """Store paths of one store, and which of them refer to which.

    ``references`` is immutable and ordered by path. Self references, which Nix records,
    are dropped: without them the graph has no cycles. A path whose references nobody
    gave, as in a plain list, has none. ``store_root`` is the absolute directory of this
    machine that holds the store: DIR after ``nix --store DIR``, else ``/``. ``sizes`` has
    each path's ``narSize``, in bytes, where the closure's source gives it. It tells nothing
    that the paths themselves do not, so closures that differ in it alone are equal.

    Raises ClosureError for paths of several stores, and for a relative store root.
    """

    references: Mapping[StorePath, frozenset[StorePath]] = attrs.field(
        factory=dict,
        converter=_freeze,
        eq=lambda graph: frozenset(graph.items()),  # attrs hashes what it compares
    )
    store_root: str = attrs.field(default="/", converter=_clean_root)
    sizes: Mapping[StorePath, int] = attrs.field(factory=dict, converter=_freeze_sizes, eq=False)

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
        """Give where ``path`` lies on this machine."""
        return self.store_root.rstrip("/") + _known("path", path).path

    def merge(self, *others: Closure) -> Closure:
        """Unite closures; raise ClosureError if they are not of one store and root."""
        others = given.items("others", others, Closure, "a Closure")
        parts = [part for part in (self, *others) if part.references] or [self]
        if len(roots := sorted({part.store_root for part in parts})) > 1:
            raise ClosureError(f"paths under several roots: {', '.join(roots)}")
        graph: dict[StorePath, frozenset[StorePath]] = {}
        sizes: dict[StorePath, int] = {}
        for part in parts:
            sizes |= part.sizes
            for path, references in part.references.items():
                graph[path] = references.union(graph.get(path, ()))
        return Closure(graph, roots[0], sizes)

    def only(self, paths: Collection[StorePath]) -> Closure:
        """Give the part that these paths are, with the references among them."""
        kept = frozenset(given.items("paths", paths, StorePath, "a StorePath"))
        graph = {path: references & kept for path, references in self.references.items() if path in kept}
        return Closure(graph, self.store_root, {path: size for path, size in self.sizes.items() if path in kept})

    def check(self) -> None:
        """Raise one ClosureError for all paths not there (a MissingClosureError then) and references not given."""
        absent = [path for path in self.references if not os.path.lexists(self.location(path))]
        problems = [f"{path.path}: there is nothing at {_show(self.location(path))}" for path in absent]
        if len(absent) > _MOST_NAMED:
            few = ", ".join(path.path for path in absent[:_MOST_NAMED])
            problems = [f"{len(absent)} of {len(self.references)} store paths are not there: {few} and others"]
        strange = [f"{path.path}: refers to {p.path}, not given" for path, p in self._not_given()]
        if len(strange) > _MOST_NAMED:
            strange = [*strange[:_MOST_NAMED], f"{len(strange) - _MOST_NAMED} more references are to paths not given"]
        if absent or strange:
            hint = "Build or fetch the paths, and give the whole closure (-r or -R)."
            if absent:
                hint += " Where the store lies under another root, name that with --store-root."
            raise (MissingClosureError if absent else ClosureError)(*problems, *strange, hint=hint)

    def _not_given(self) -> list[tuple[StorePath, StorePath]]:
        return [
            (path, other) for path, references in self.references.items() for other in sorted(references - self.references.keys())
        ]


def closure_of_paths(paths: Iterable[str], store_root: StrPath = "/") -> Closure:
    """Make a closure without references; one ClosureError has all malformed paths."""
    reader = _Reader()
    for path in given.several("paths", paths, "store paths"):
        reader.add(("", path))
    return reader.closure(_absolute(store_root))


def load_closure(source: StrPath, *, store_root: StrPath = "/") -> Closure:
    """Read a closure from a file or a directory of any form that the module names.

    An empty file is an empty closure, as closureInfo writes it. ``Closure.check`` tells
    whether the paths exist and the references are whole. A relative ``store_root`` counts
    from the working directory. Raises one ClosureError that has every problem, each with
    its file and its place there.
    """
    name = source.__fspath__() if isinstance(source, os.PathLike) else source
    given.instance("source", name, str, "a path")
    is_dir = os.path.isdir(name)
    reader = _Reader()
    for part in ("/store-paths", "/registration") if is_dir else ("",):
        reader.load(name + part)
    return reader.closure(_absolute(store_root))


def _absolute(root: StrPath) -> StrPath:
    """Take a relative root from the working directory, as the command does; what is none is refused by the closure."""
    return os.path.abspath(root) if isinstance(root, str | os.PathLike) and os.fspath(root) else root


@attrs.define
class _Reader:
    """Reads files; gathers their graph, and their problems to raise them at once."""

    file: str = ""
    store_dir: object = None  # completes what JSON gives as base names
    graph: dict[StorePath, set[StorePath]] = attrs.field(factory=dict)
    sizes: dict[StorePath, int] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    kind: type[ClosureError] = ClosureError

    def blame(self, place: str, problem: str) -> None:
        self.problems.append(": ".join(filter(None, (self.file, place, problem))))

    def add(self, *items: tuple[str, Any], size: object = None) -> None:
        """Add a path and its references, each after its place in the file, and the size of its NAR."""
        found = []
        for place, value in items:
            bare = self.store_dir and isinstance(value, str) and "/" not in value
            try:
                found.append(StorePath(f"{self.store_dir}/{value}" if bare else value))
            except ClosureError as error:
                self.blame(place, str(error))
        for path in found[:1]:  # the wrong one after a problem, but then none is used
            self.graph.setdefault(path, set()).update(found[1:])
            if type(size) is int and size > 0:  # Nix writes 0 where it does not know
                self.sizes[path] = size

    def closure(self, store_root: StrPath) -> Closure:
        try:
            closure = Closure(self.graph, store_root, self.sizes)
        except ClosureError as error:
            self.blame("", str(error))
        if self.problems:
            raise self.kind(*self.problems, hint=_FORMS if self.file else "")
        return closure

    def load(self, file: str) -> None:
        self.file = file
        try:
            text = Path(file).read_bytes().decode()
            is_json = text.lstrip().startswith(("[", "{"))
            (self.load_json if is_json else self.load_lines)(text)
        except (OSError, ValueError, RecursionError) as error:
            # No file, a NUL in its name, not UTF-8; JSON that is malformed or too deep.
            self.blame("", f"cannot be read: {reason(error)}")
            self.kind = MissingClosureError if isinstance(error, OSError) else self.kind

    def load_lines(self, text: str) -> None:
        # splitlines would also split at form feeds and U+2028.
        lines = text.removesuffix("\n").split("\n") if text else []
        numbered = [(f"line {number}", line) for number, line in enumerate(lines, 1)]
        if re.fullmatch("-?[0-9]+", "".join(lines[2:3])):  # a count, or a NAR's size
            self.load_records(numbered, 3 if lines[1][:1] in {"", "/"} else _WITH_SIZE)
            if not text.endswith("\n"):
                self.blame(numbered[-1][0], "is cut short: no newline ends it")
        elif lines and not lines[0].startswith("/"):
            self.blame("line 1", f"{_show(lines[0])} begins none of the known forms")
        else:
            for line in numbered:
                self.add(line)

    def load_records(self, lines: list[tuple[str, str]], size: int) -> None:
        """Read path, hash and size (only if ``size`` is 5), deriver, count, paths."""
        at = 0
        while (end := at + size) <= len(lines):
            (place, count), left = lines[end - 1], len(lines) - end
            if not _NUMBER.fullmatch(count) or int(count) > left:
                self.blame(place, f"{_show(count)} references, but {left} lines left")
                return  # where the next record begins is anyone's guess
            nar_size = lines[at + 2][1] if end - at == _WITH_SIZE else ""
            self.add(lines[at], *lines[end : end + int(count)], size=int(nar_size) if _NUMBER.fullmatch(nar_size) else None)
            at = end + int(count)
        if any(line for _, line in lines[at:]):
            self.blame(lines[at][0], "the record that begins here is cut short")

    def load_json(self, text: str) -> None:
        graph = json.loads(text)
        if isinstance(graph, dict) and any(isinstance(v, list) for v in graph.values()):
            names = graph.get("exportReferencesGraph")  # always in an .attrs.json
            names = names if isinstance(names, dict) else ("graph", "closure")
            graphs = [graph[key] for key in names if isinstance(graph.get(key), list)]
            if len(graphs) != 1:
                self.blame("", f"holds {len(graphs)} references graphs: give just one")
            graph = next(iter(graphs), [])
        elif isinstance(graph, dict) and isinstance(graph.get("info"), dict):
            self.store_dir, graph = graph.get("storeDir"), graph["info"]
        graph = [(e.get("path") if isinstance(e, dict) else e, e) for e in graph] if isinstance(graph, list) else graph.items()
        for number, (path, entry) in enumerate(graph, 1):
            place = f"entry {number}"
            match entry:
                case None | {"valid": False}:
                    self.blame(place, f"{_show(path)} is not in the store: build it")
                case {"references": list(others)}:
                    self.store_dir = entry.get("storeDir", self.store_dir)
                    self.add((place, path), *((place, other) for other in others), size=entry.get("narSize"))
                case _:
                    self.blame(place, f"{_show(path)} has no list of references")
