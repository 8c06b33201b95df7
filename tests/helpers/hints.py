"""Every hint that the package's errors can have, found in its source: the texts that ``hint`` is given anywhere."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

import rootless_layer

PACKAGE = Path(rootless_layer.__file__).parent
ANYTHING = "…"
"""Stands in a hint for what is known when the error is raised."""
JOINING = {"join", "filter", "removesuffix"}
"""Methods and functions that give their arguments, or what they are called of, as a text again."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class UnknownHintError(Exception):
    """A hint whose text is not found by reading the source."""


@attrs.frozen(eq=False)
class Module:
    """A module as it is written."""

    name: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """What is written."""
        return ast.parse(self.text)

    @functools.cached_property
    def functions(self) -> list[Function]:
        """Its functions and methods, an inner one after the one that it is in."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    def holder(self, node: ast.expr) -> Function | None:
        """Give the innermost function that an expression is in."""
        around = (each for each in self.functions if each.lineno <= node.lineno <= (each.end_lineno or 0))
        return max(around, key=lambda each: each.lineno, default=None)

    def origin(self, name: str) -> str | None:
        """Give the module of the package that a name is imported from."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
                above = self.name.split(".")[: -node.level] if node.level else []
                return ".".join([*above, *filter(None, [node.module])])
        return None


@functools.cache
def modules() -> dict[str, Module]:
    """Give the modules of the package by their dotted names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts])
        found[name] = Module(name, path.read_text())
    return found


@functools.cache
def speaking() -> list[Module]:
    """Give the modules that say something of hints."""
    return [module for module in modules().values() if "hint" in module.text or "_DOCTOR" in module.text]


def hints() -> dict[str, str]:
    """Give each hint, on one line, with the place where it is given; ``…`` is what is known later."""
    found: dict[str, str] = {}
    for module in speaking():
        for given in _given(module):
            for text in _texts(given, module, frozenset()):
                for line in text.strip().splitlines():
                    found.setdefault(line.strip(), f"{module.name}:{given.lineno}")
    return {text: place for text, place in found.items() if text.strip(f"{ANYTHING} .:")}


def _given(module: Module) -> Iterator[ast.expr]:
    """Give the values of ``hint`` in calls: by its name, or by its place among the arguments."""
    places = _places()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "hint")
            place = places.get(_last(node.func), len(node.args))
            if place < len(node.args) and not isinstance(node.args[place], ast.Starred):
                yield node.args[place]
    yield from (node.value for node in module.tree.body if isinstance(node, ast.Assign) and _last(node.targets[0]) == "_DOCTOR")


@functools.cache
def _places() -> dict[str, int]:
    """Give, by the names of functions and of values, the place of ``hint`` among the arguments of a call."""
    found = {}
    for module in speaking():
        for value in (node for node in module.tree.body if isinstance(node, ast.ClassDef)):
            fields = [_last(each.target) for each in value.body if isinstance(each, ast.AnnAssign)]
            if "hint" in fields:
                found[value.name] = fields.index("hint")
        for function in module.functions:
            names = [each.arg for each in function.args.args if each.arg != "self"]
            if "hint" in names and not function.name.startswith("__"):
                found[function.name] = names.index("hint")
    return found


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _texts(node: ast.expr, module: Module, seen: frozenset[ast.expr]) -> set[str]:
    """Give the texts that an expression may be."""
    if node in seen:
        return set()
    seen |= {node}
    match node:
        case ast.Constant(value):
            return {value} if isinstance(value, str) else set()
        case ast.Name(name):
            return _of_name(name, node, module, seen)
        case ast.Call(ast.Name(name)) if name not in JOINING:
            return _returned(name, module, seen)
    whole = {"".join(_part(value, module, seen) for value in node.values)} if isinstance(node, ast.JoinedStr) else set()
    return whole | {text for part in _parts(node, module) for text in _texts(part, module, seen)}


def _parts(node: ast.expr, module: Module) -> Iterable[ast.expr]:  # noqa: PLR0911 - a table of the kinds of expressions
    """Give the expressions of which an expression is one, or is made."""
    match node:
        case ast.JoinedStr(values):
            return [value.value for value in values if isinstance(value, ast.FormattedValue) and _is_hint(value.value)]
        case ast.IfExp(_, body, orelse):
            return [body, orelse]
        case ast.BoolOp(_, values) | ast.List(values) | ast.Tuple(values) | ast.Dict(_, values):
            return values
        case ast.Subscript(value):
            return [value]
        case ast.Attribute(_, "hint" | "hints" as name):
            return _assigned_to(name, module)
        case ast.Call(ast.Name(), arguments):
            return arguments
        case ast.Call(ast.Attribute(value, "get"), [_, *others]):
            return [value, *others]
        case ast.Call(ast.Attribute(value, name), arguments) if name in JOINING:
            return [value, *arguments]
    place = f"{module.name}:{node.lineno}"
    raise UnknownHintError(f"{place}: {ast.unparse(node)}")


def _is_hint(node: ast.expr) -> bool:
    """Say whether a part of a hint is one itself: a name says so."""
    return any(isinstance(one, ast.Name) and one.id in {"hint", "mend"} for one in ast.walk(node))


def _part(value: ast.expr, module: Module, seen: frozenset[ast.expr]) -> str:
    """Give a part of a text: what always stands there, else what stands for anything."""
    if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Name) and value.value.id.startswith("_"):
        found = _texts(value.value, module, seen)
        return found.pop() if len(found) == 1 else ANYTHING
    return str(value.value) if isinstance(value, ast.Constant) else ANYTHING


def _assigned_to(attribute: str, module: Module) -> Iterator[ast.expr]:
    """Give what is kept as ``self.hints``: by a key of it, or added; another error's own ``hint`` was found where it was made."""
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(target := node.targets[0], ast.Subscript)
            and _last(target.value) == attribute
        ):
            yield target.slice


def _of_name(name: str, node: ast.expr, module: Module, seen: frozenset[ast.expr]) -> set[str]:
    """Give the texts of a name: a local one's, that of the module, or of the module that it is imported from."""
    holder = module.holder(node)
    if holder is not None:
        if name in {each.arg for each in (*holder.args.args, *holder.args.kwonlyargs)}:
            return {
                text for value in _values(name, holder) for text in _texts(value, module, seen)
            }  # else whoever calls gives it
        local = list(_values(name, holder))
        if local:
            return {text for value in local for text in _texts(value, module, seen)}
    values = list(_values(name, module.tree))
    if values:
        return {text for value in values for text in _texts(value, module, seen)}
    origin = modules().get(module.origin(name) or "")
    if origin is None:
        raise UnknownHintError(f"{module.name}:{node.lineno}: {name}")
    return {text for value in _values(name, origin.tree) for text in _texts(value, origin, seen)}


def _values(name: str, where: ast.AST) -> Iterator[ast.expr]:
    """Give what is assigned to a name, one of several names among them."""
    for node in ast.walk(where):
        if isinstance(node, ast.Assign):
            targets: Iterable[ast.expr] = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and target.id == name and node.value is not None:
                yield node.value
            elif isinstance(target, ast.Tuple) and name in map(_last, target.elts) and node.value is not None:
                place = list(map(_last, target.elts)).index(name)
                yield node.value.elts[place] if isinstance(node.value, ast.Tuple) else node.value


def _returned(name: str, module: Module, seen: frozenset[ast.expr]) -> set[str]:
    """Give the texts that a function of the package returns; of a pair the last part is the hint."""
    origin = module
    if name not in {each.name for each in module.functions}:
        found = modules().get(module.origin(name) or "")
        if found is None:
            raise UnknownHintError(f"{module.name}: {name}()")
        origin = found
    texts: set[str] = set()
    for function in origin.functions:
        if function.name == name:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    value = node.value.elts[-1] if isinstance(node.value, ast.Tuple) else node.value
                    texts |= _texts(value, origin, seen)
    return texts
