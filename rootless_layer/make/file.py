"""A file of ``rootless-layer make`` read: TOML in, a graph out, or everything that is wrong with it at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.oci.reference import fetching, path_and_name, tag_of
from rootless_layer.options.fields import IMAGE, LAYER, NAMES, NO_DEFAULT, OF_CLOSURE, Wrong
from rootless_layer.tree.places import meets

from .faults import Faults
from .graph import Graph, Node, cycles, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["layer", "image"]
_FIELDS = {"layer": LAYER, "image": IMAGE}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_READ = ("base", "layers", "script", "closure", "tools", "rootfs-listing", "config", "layering")
_HINT = "A file has [layer.NAME], [image.NAME], [defaults.layer] and [defaults.image]; see `rootless-layer make --help`."


def load(path: str) -> Graph:
    """Read a file; raises one :class:`InputError` with all problems that it has."""
    faults = Faults(path)
    graph = read(path, faults)
    faults.check()
    return graph


def read(path: str, faults: Faults) -> Graph:
    """Read a file as far as it is right, and add what is wrong; of what is no TOML that is raised as :class:`InputError`."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # some editors begin a file with a byte order mark
            said = tomllib.loads(file.read())
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise SourceError(message, hint=_HINT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"{path}: is not TOML: {reason(error)}"
        raise InputError(message, hint=_HINT) from error
    return _Reader(faults).graph(said, os.path.dirname(path))


class _Reader:
    """Reads tables, and gathers what is wrong with them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def blame(self, place: str, problem: str, hint: str = "") -> None:
        self.faults.add(place, problem, hint=hint)

    def graph(self, said: Mapping[str, Any], folder: str) -> Graph:
        for name in said.keys() - {"layer", "image", "defaults"}:
            self.blame("", unknown_name("table", name, ("layer", "image", "defaults")), _HINT)
        defaults = self._defaults(said.get("defaults", {}))
        options: dict[str, tuple[Kind, dict[str, Any]]] = {}
        kinds: tuple[Kind, Kind] = ("layer", "image")
        for kind in kinds:
            for name, table in self._tables(kind, said.get(kind, {})).items():
                if name in options:
                    self.blame(f"{kind}.{name}", "a layer has this name as well: give one of them another")
                    continue
                options[name] = kind, self._options(f"{kind}.{name}", kind, table, defaults[kind])
        if not options and not self.faults.problems:
            self.blame("", "has no layer and no image", _HINT)
        nodes = {
            name: Node(kind, name, given, self._needs(name, kind, given, options, folder))
            for name, (kind, given) in options.items()
        }
        for cycle in cycles({name: node.needs for name, node in nodes.items()}):
            self.blame("", f"a cycle: {' needs '.join(cycle)}")
        self._tags(nodes)
        self._outputs(nodes, folder)
        return Graph(nodes)

    def _tables(self, place: str, given: Any) -> Mapping[str, Any]:  # noqa: ANN401 - TOML
        if not isinstance(given, dict):
            self.blame(place, "is a table of tables", _HINT)
            return {}
        for name in given:
            if not _NAME.fullmatch(name):
                self.blame(f"{place}.{name!r}", "is no name: it has letters, digits and . _ + -, no slash or space")
        return given

    def _defaults(self, given: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - TOML
        tables = self._tables("defaults", given)
        for name in tables.keys() - _FIELDS.keys():
            self.blame("defaults", unknown_name("kind", name, _FIELDS))
        return {kind: self._options(f"defaults.{kind}", kind, tables.get(kind, {}), {}) for kind in _FIELDS}

    def _options(self, place: str, kind: str, given: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - TOML
        """Take a table's values; tables of strings are merged with the defaults', others take their place."""
        if not isinstance(given, dict):
            self.blame(place, "is a table")
            return {}
        fields, taken = _FIELDS[kind], dict(defaults)
        for name, value in given.items():
            if name not in fields:
                self.blame(place, unknown_name("key", name, fields))
                continue
            if name in NO_DEFAULT and place.startswith("defaults."):
                self.blame(place, f"{name}: is each one's own")
                continue
            try:
                new = fields[name](value)
            except Wrong as problem:
                self.blame(place, f"{name}: {problem}")
                continue
            if name in NAMES and "" in (new if isinstance(new, tuple) else (new,)):
                self.blame(place, f"{name}: an empty value names nothing")
            taken[name] = taken[name] | new if isinstance(new, dict) and isinstance(taken.get(name), dict) else new
        if place.startswith("image.") and "closure" not in {*taken, *given}:
            for name in [name for name in OF_CLOSURE if name in given]:
                self.blame(place, f"{name}: goes with closure, and none is given")
        return taken

    def _needs(
        self, name: str, kind: Kind, given: Mapping[str, Any], there: Mapping[str, tuple[Kind, Any]], folder: str
    ) -> tuple[str, ...]:
        """Find the nodes that a node needs; what is no node is a path, which has to be there."""
        place, needs = f"{kind}.{name}", []
        base = given.get("base", ())
        for key, names in (("base", (base,) if isinstance(base, str) else base), ("layers", given.get("layers", ()))):
            places = Counter(each if each in there else os.path.realpath(os.path.join(folder, each)) for each in names)
            for twice in [each for each, count in places.items() if count > 1]:
                self.blame(place, f"{key}: {twice} is given twice")
            for each in names:
                if each in there:
                    needs.append(each)
                    if key == "layers" and there[each][0] == "image":
                        self.blame(place, f"layers: {each} is an image: name it as base")
                elif each and not path_and_name(each)[0]:
                    self.blame(place, f"{key}: {each} names no path before the #")
                elif not os.path.exists(path_and_name(os.path.join(folder, each))[0]):
                    known = [other for other, (its, _) in there.items() if other != name and (its == "layer" or key == "base")]
                    what = "layer, image or file" if key == "base" else "layer or directory"
                    self.blame(place, f"{key}: {unknown_name(what, each, known)}", fetching(each) if key == "base" else "")
        return tuple(dict.fromkeys(needs))

    def _tags(self, nodes: Mapping[str, Node]) -> None:
        holders: dict[tuple[str, str], str] = {}
        for node in nodes.values():
            for tag in node.options.get("tag", ()):
                place = f"{node.kind}.{node.name}"
                try:
                    name = tag_of(tag)
                except InputError as error:
                    self.blame(place, f"tag: {error}")
                    continue
                holder = holders.get((name, node.options.get("platform", "")))
                if holder is not None:
                    self.blame(place, f"tag: {name} is there twice" if holder == place else f"tag: {holder} has {name} as well")
                holders[name, node.options.get("platform", "")] = place

    def _outputs(self, nodes: Mapping[str, Node], folder: str) -> None:
        """Refuse outputs that would take each other's place or this file's, and what is read that is an output."""
        own = os.path.realpath(self.faults.file)
        places = {own: "this file"}
        for node in nodes.values():
            given = node.options.get("output")
            if given is None:
                continue
            if given in {"", "-"}:
                self.blame(f"{node.kind}.{node.name}", f"output: {given!r} is no place of a file")
                continue
            place = os.path.realpath(os.path.join(folder, given))
            for other, holder in places.items():
                if os.path.commonpath((place, other)) in {place, other}:
                    how = "is" if place == other else "lies within, or holds,"
                    self.blame(f"{node.kind}.{node.name}", f"output: {given} {how} {holder}")
            places.setdefault(place, f"the output of {node.kind}.{node.name}")
        del places[own]
        for node in nodes.values():
            for key in _READ:
                values = node.options.get(key, ())
                for each in (values,) if isinstance(values, str) else values:
                    if isinstance(each, str) and each and each not in nodes:
                        self._read_as_output(f"{node.kind}.{node.name}", key, each, folder, places)

    def _read_as_output(self, place: str, key: str, given: str, folder: str, places: Mapping[str, str]) -> None:
        """Refuse an input, by a path, that is an output, holds one or lies in one."""
        path = path_and_name(os.path.join(folder, given))[0]
        for output, holder in places.items():
            how = meets(path, output)
            if how is not None:
                hint = ": name that instead" if how == "is" and key in {"base", "layers"} else ""
                self.blame(place, f"{key}: {given} {how} {holder}{hint}")
