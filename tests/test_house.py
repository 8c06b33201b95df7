"""The house: packages in the order of the flow, imports down only, and no module too long to be read at once."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rootless_layer
from rootless_layer.session.session import _KEEPER

PACKAGE = Path(rootless_layer.__file__).parent
GROUND = {"errors", "frozen", "given", "progress", "terminal", "version"}
"""Modules that stand on the ground: every package may use them."""
PACKAGES = (
    "system", "oci", "tree", "store", "tar", "plan", "session", "layer", "registry", "image", "sbom", "cache", "check", "library", "options", "make", "nix", "cli",
)  # fmt: skip
"""From the bottom to the top, as the data flows."""
ALONE = ("system", "session/inside")
"""What runs where nothing but the standard library is there."""
MODULES = sorted(str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py"))


@functools.cache
def imports(module: str) -> tuple[str, ...]:
    """Name what a module imports, wherever in it: a module of the package by its path, others by their dotted names."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[str]:
    path = PACKAGE / f"{module}.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield "/" if alias.name == "rootless_layer" else alias.name
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(PACKAGE).parent.parts
            absolute = (node.module or "").split(".") if node.module else []
            if node.level:
                absolute = ["rootless_layer", *above[: len(above) - node.level + 1], *absolute]
            if absolute[0] != "rootless_layer":
                yield ".".join(absolute)
                continue
            for alias in node.names:
                whole = "/".join([*absolute[1:], alias.name])
                yield f"/{whole if whole in MODULES else '/'.join(absolute[1:])}"


def rank(module: str) -> int:
    """Give the package of a module, counted from the ground."""
    first, slash, _ = module.partition("/")
    return PACKAGES.index(first) + 1 if slash else 0


def test_the_packages_are_those_of_the_house() -> None:
    """On the ground there are few modules; all others are in packages, each with a docstring that says what it is for."""
    assert {module for module in MODULES if "/" not in module} == GROUND | {"__init__", "__main__"}
    found = {module.rpartition("/")[0] for module in MODULES if module.endswith("/__init__")}
    assert found == {*PACKAGES, "session/inside"}
    for folder in found:
        assert ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))


@pytest.mark.parametrize("module", [module for module in MODULES if module not in {"__init__", "__main__"}])
def test_imports_go_down(module: str) -> None:
    """A module imports from its own package and from those below; imports within functions and for types count as well."""
    upward = [other for other in imports(module) if other.startswith("/") and rank(other[1:]) > rank(module)]
    assert upward == []


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith(ALONE)])
def test_what_runs_alone_needs_nothing_installed(module: str) -> None:
    """What runs beside a script imports the standard library and one another, so that it starts quickly and anywhere."""
    for other in imports(module):
        if other.startswith("/"):
            assert other[1:].startswith((*(f"{folder}/" for folder in ALONE), *ALONE)) or other in {"/errors", "/"}
        else:
            assert other.partition(".")[0] in sys.stdlib_module_names


def test_nothing_on_the_way_to_what_runs_alone_needs_more() -> None:
    """Importing a module imports the packages that it is in: these hold nothing but a docstring, the first one a little more."""
    for folder in ("system", "session", "session/inside"):
        assert len(ast.parse((PACKAGE / folder / "__init__.py").read_text()).body) == 1
    assert all(name.startswith("/") or name.partition(".")[0] in sys.stdlib_module_names for name in imports("__init__"))


@pytest.mark.parametrize(("module", "function"), [_KEEPER, ("rootless_layer.system.removal", "remove_when_caller_is_gone")])
def test_what_is_started_by_name_is_there(module: str, function: str) -> None:
    """A fresh interpreter gets the names of a module and a function as text."""
    assert callable(getattr(importlib.import_module(module), function))


def test_no_module_is_long() -> None:
    """Each module is short enough to be read at once."""
    assert {module for module in MODULES if len((PACKAGE / f"{module}.py").read_text().splitlines()) > 350} == set()


def test_the_package_itself_imports_nothing_at_first() -> None:
    """``import rootless_layer`` loads none of its modules; what it offers comes when it is asked for, and all of it does."""
    code = "import sys, rootless_layer; print(sorted(name for name in sys.modules if name.startswith('rootless_layer.')))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
    for name in rootless_layer.__all__:
        assert getattr(rootless_layer, name) is not None
    with pytest.raises(AttributeError, match="absent"):
        rootless_layer.absent  # noqa: B018 - asking is the test


LOADED = """\
import sys
from rootless_layer.cli.main import main
try:
    main(sys.argv[1:], standalone_mode=False)
except Exception as error:
    print(type(error).__name__)
slow = ("libarchive", "zstandard", "isal", "urllib3")
print(sorted(name for name in sys.modules if name.partition(".")[0] in slow))
"""


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["build", "--help"], ["build"]])
def test_what_is_slow_to_import_is_imported_late(words: list[str]) -> None:
    """--version, --help and wrong arguments load neither libarchive nor a codec."""
    done = subprocess.run([sys.executable, "-c", LOADED, *words], check=True, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert said[-1] == "[]"
    assert (said[-2] == "MissingParameter") == (words == ["build"])


@pytest.mark.parametrize("verb", ["build", "image", "make"])
def test_help_loads_no_work(verb: str) -> None:
    """What a verb works with is imported when there is some work: its help needs the options alone."""
    code = LOADED.replace('("libarchive", "zstandard", "isal", "urllib3")', '("rootless_layer",)')
    done = subprocess.run([sys.executable, "-c", code, verb, "--help"], check=True, capture_output=True, text=True)
    loaded = {name.split(".")[1] for name in ast.literal_eval(done.stdout.splitlines()[-1]) if "." in name}
    assert loaded & set(PACKAGES) <= {
        "system",
        "oci",
        "tree",
        "store",
        "tar",
        "plan",
        "registry",
        "image",
        "cache",
        "options",
        "cli",
    }
    assert "options" in loaded
