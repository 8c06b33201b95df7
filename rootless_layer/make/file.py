"""A file of ``rootless-layer make`` read: TOML in, a graph out, or everything that is wrong with it at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.oci.reference import path_and_name, tag_of, with_registry
from rootless_layer.options.image import ImageOptions
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.option import Option, keys, parts, rows
from rootless_layer.registry.name import RegistryName, is_registry
from rootless_layer.tree.places import meets

from .args import with_args
from .faults import Faults
from .graph import Graph, Node, cycles, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.oci.descriptor import Platform

    from .graph import Options

_TABLES: Mapping[str, type[LayerOptions | ImageOptions]] = {"layer": LayerOptions, "image": ImageOptions}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_HINT = "A file has [layer.NAME], [image.NAME], [defaults.layer], [defaults.image] and [args]; see `rootless-layer make --help`."


def load(path: str, args: Mapping[str, str] = MappingProxyType({})) -> Graph:
    """Read a file; raises one :class:`InputError` with all problems that it has. ``args`` are as of :func:`with_args`."""
    faults = Faults(path)
    graph = read(path, faults, args)
    faults.check()
    return graph


def read(path: str, faults: Faults, args: Mapping[str, str] = MappingProxyType({})) -> Graph:
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
    return _Reader(faults).graph(with_args(said, args, faults), os.path.dirname(path))


class _Taken(NamedTuple):
    """What a table has of options, by the variables of the rows, and the keys whose values were wrong."""

    kind: str
    values: Mapping[str, Any] = MappingProxyType({})
    wrong: frozenset[str] = frozenset()


class _Reader:
    """Reads tables, and gathers what is wrong with them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def blame(self, place: str, problem: str, hint: str = "") -> None:
        self.faults.add(place, problem, hint=hint)

    def graph(self, said: Mapping[str, Any], folder: str) -> Graph:
        for name in said.keys() - {"layer", "image", "defaults"}:
            self.blame("", unknown_name("table", name, ("layer", "image", "defaults", "args")), _HINT)
        defaults = self._defaults(said.get("defaults", {}))
        taken: dict[str, _Taken] = {}
        for kind in _TABLES:
            for name, table in self._tables(kind, said.get(kind, {})).items():
                if name in taken:
                    self.blame(f"{kind}.{name}", "a layer has this name as well: give one of them another")
                    continue
                taken[name] = self._options(f"{kind}.{name}", kind, table, defaults[kind])
        if not taken and not self.faults.problems:
            self.blame("", "has no layer and no image", _HINT)
        options = {name: (kind, _TABLES[kind](**values)) for name, (kind, values, _) in taken.items()}
        nodes = {
            name: Node(name, given, self._needs(name, kind, given, options, folder), taken[name].wrong)
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

    def _defaults(self, given: Any) -> dict[str, _Taken]:  # noqa: ANN401 - TOML
        tables = self._tables("defaults", given)
        for name in tables.keys() - _TABLES.keys():
            self.blame("defaults", unknown_name("kind", name, _TABLES))
        return {kind: self._options(f"defaults.{kind}", kind, tables.get(kind, {}), _Taken(kind)) for kind in _TABLES}

    def _options(self, place: str, kind: str, given: Any, defaults: _Taken) -> _Taken:  # noqa: ANN401 - TOML
        """Take a table's values; tables of strings are merged with the defaults', others take their place."""
        if not isinstance(given, dict):
            self.blame(place, "is a table")
            return _Taken(kind)
        known, taken, wrong = keys(_TABLES[kind]), dict(defaults.values), set(defaults.wrong)
        for key, value in given.items():
            row = known.get(key)
            if row is None:
                self.blame(place, unknown_name("key", key, known))
                continue
            if row.each_its_own and place.startswith("defaults."):
                self.blame(place, f"{key}: is each one's own")
                continue
            try:
                new = _value(row, value)
            except InputError as error:
                wrong.add(row.key)
                for problem in error.problems:
                    self.blame(place, f"{key}: {problem}", error.hint)
                continue
            taken[row.variable] = row.kind.over(taken[row.variable], new) if row.variable in taken else new
        if place.startswith("image.") and "closure" not in {*taken, *given}:
            for key in [row.key for row in rows(_TABLES[kind]) if row.with_closure and row.key in given]:
                self.blame(place, f"{key}: goes with closure, and none is given")
        return _Taken(kind, taken, frozenset(wrong))

    def _needs(
        self, name: str, kind: str, given: Options, there: Mapping[str, tuple[str, object]], folder: str
    ) -> tuple[str, ...]:
        """Find the nodes that a node needs; what is no node is a path, which has to be there."""
        place, needs = f"{kind}.{name}", []
        for key, names in (("base", given.bases), ("layers", given.layers), ("copy-from", given.copied)):
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
                elif is_registry(each) and key != "layers":
                    self._registry(place, key, each)
                elif not os.path.exists(path_and_name(os.path.join(folder, each))[0]):
                    known = [other for other, (its, _) in there.items() if other != name and (its == "layer" or key != "layers")]
                    what = "layer or directory" if key == "layers" else "layer, image or file"
                    self.blame(place, f"{key}: {unknown_name(what, each, known)}", "" if key == "layers" else with_registry(each))
        return tuple(dict.fromkeys(needs))

    def _registry(self, place: str, key: str, given: str) -> None:
        """Check the name of an image in a registry."""
        try:
            RegistryName.parse(given)
        except InputError as error:
            self.blame(place, f"{key}: {error.problems[0]}", error.hint)

    def _tags(self, nodes: Mapping[str, Node]) -> None:
        holders: dict[tuple[str, Platform | None], str] = {}
        for node in nodes.values():
            options = node.options
            for tag in options.tag if isinstance(options, ImageOptions) else ():
                place = f"{node.kind}.{node.name}"
                try:
                    name = tag_of(tag)
                except InputError as error:
                    self.blame(place, f"tag: {error}")
                    continue
                holder = holders.get((name, options.platform))
                if holder is not None:
                    self.blame(place, f"tag: {name} is there twice" if holder == place else f"tag: {holder} has {name} as well")
                holders[name, options.platform] = place

    def _outputs(self, nodes: Mapping[str, Node], folder: str) -> None:
        """Refuse outputs that would take each other's place or this file's, and what is read that is an output."""
        own = os.path.realpath(self.faults.file)
        places = {own: "this file"}
        for node in nodes.values():
            given = node.options.output
            if given is None:
                continue
            if given == "-":
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
            for row in rows(type(node.options)):
                for each in parts(row, getattr(node.options, row.variable)) if row.reads else ():
                    if isinstance(each, str) and each not in nodes:
                        self._read_as_output(f"{node.kind}.{node.name}", row.key, each, folder, places)

    def _read_as_output(self, place: str, key: str, given: str, folder: str, places: Mapping[str, str]) -> None:
        """Refuse an input, by a path, that is an output, holds one or lies in one."""
        path = path_and_name(os.path.join(folder, given))[0]
        for output, holder in places.items():
            how = meets(path, output)
            if how is not None:
                hint = ": name that instead" if how == "is" and key in {"base", "layers"} else ""
                self.blame(place, f"{key}: {given} {how} {holder}{hint}")


def _value(row: Option, given: object) -> Any:  # noqa: ANN401 - of whatever type the row's field is
    """Take a key's value; raises :class:`InputError`."""
    if not row.may_be_empty and (given == "" or (row.kind.several and isinstance(given, list) and "" in given)):
        raise InputError("an empty value names nothing")
    return row.kind.of_toml(given)
