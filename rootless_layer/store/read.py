"""Closures read, in every form that Nix gives them.

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
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer import given
from rootless_layer.errors import ClosureError, MissingClosureError, reason

from .closure import Closure, StorePath, StrPath, escaped

if TYPE_CHECKING:
    from collections.abc import Iterable

# Enough for every true number, and far from the 4,300 digits that int() refuses.
_NUMBER = re.compile("[0-9]{1,20}")
_WITH_SIZE = 5  # lines of a record before its references, where the NAR's hash and size are among them
_FORMS = (
    "Give an exportReferencesGraph file, the JSON of `nix path-info --json -r`, what "
    "closureInfo makes, or a list of store paths, a line each."
)


def closure_of_paths(paths: Iterable[str], store_root: StrPath = "/") -> Closure:
    """Make a closure of store paths whose references nobody knows.

    :param paths: store paths as Nix writes them, ``/nix/store/…``; a path below one stands for it.
    :param store_root: the directory of this machine that holds the store; a relative one counts from the working directory.
    :returns: the closure, each path once.
    :raises ClosureError: for paths that are malformed, all of them at once.
    """
    reader = _Reader()
    for path in given.several("paths", paths, "store paths"):
        reader.add(("", path))
    return reader.closure(_absolute(store_root))


def load_closure(source: StrPath, *, store_root: StrPath = "/") -> Closure:
    """Read a closure from a file or a directory, of any form that Nix gives.

    :param source: an ``exportReferencesGraph`` file, JSON of structured attributes or of ``nix path-info --json -r``,
        closureInfo's directory, or a list of store paths. An empty file is an empty closure.
    :param store_root: the directory of this machine that holds the store; a relative one counts from the working directory.
    :returns: the closure; :meth:`Closure.check` tells whether its paths exist and its references are whole.
    :raises ClosureError: for what is malformed, all of it at once, each with its file and its place there.
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
    hashes: dict[StorePath, str] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    kind: type[ClosureError] = ClosureError

    def blame(self, place: str, problem: str) -> None:
        self.problems.append(": ".join(filter(None, (self.file, place, problem))))

    def add(self, *items: tuple[str, Any], size: object = None, digest: object = None) -> None:
        """Add a path and its references, each after its place in the file, and the size and the hash of its NAR."""
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
            if isinstance(digest, str) and digest.isprintable() and digest:
                self.hashes[path] = digest

    def closure(self, store_root: StrPath) -> Closure:
        try:
            closure = Closure(self.graph, store_root, self.sizes, self.hashes)
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
            self.blame("line 1", f"{escaped(lines[0])} begins none of the known forms")
        else:
            for line in numbered:
                self.add(line)

    def load_records(self, lines: list[tuple[str, str]], size: int) -> None:
        """Read path, hash and size (only if ``size`` is 5), deriver, count, paths."""
        at = 0
        while (end := at + size) <= len(lines):
            (place, count), left = lines[end - 1], len(lines) - end
            if not _NUMBER.fullmatch(count) or int(count) > left:
                self.blame(place, f"{escaped(count)} references, but {left} lines left")
                return  # where the next record begins is anyone's guess
            nar_hash, nar_size = (lines[at + 1][1], lines[at + 2][1]) if end - at == _WITH_SIZE else ("", "")
            known = int(nar_size) if _NUMBER.fullmatch(nar_size) else None
            self.add(lines[at], *lines[end : end + int(count)], size=known, digest=nar_hash)
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
                    self.blame(place, f"{escaped(path)} is not in the store: build it")
                case {"references": list(others)}:
                    self.store_dir = entry.get("storeDir", self.store_dir)
                    about = {"size": entry.get("narSize"), "digest": entry.get("narHash")}
                    self.add((place, path), *((place, other) for other in others), **about)
                case _:
                    self.blame(place, f"{escaped(path)} has no list of references")
