"""The list of modules reads as the data flow: imports go down the ranks only."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rootless_layer

PACKAGE = Path(rootless_layer.__file__).parent

RANKS = (
    {
        "agent",
        "changes",
        "descendants",
        "errors",
        "findings",
        "graph",
        "header",
        "lease",
        "place",
        "removal",
        "terminal",
        "version",
    },
    {
        "border",
        "capi",
        "fakeroot",
        "faults",
        "given",
        "machine",
        "namespace",
        "number",
        "oci",
        "ownership",
        "places",
        "progress",
        "reference",
        "statuses",
        "temporary",
        "tree",
    },
    {
        "archive",
        "attributes",
        "base",
        "child",
        "closure",
        "config",
        "faked",
        "feed",
        "listing",
        "moment",
        "ondisk",
        "overlay",
        "report",
        "seccomp",
        "source",
        "sparse",
    },
    {
        "changeset",
        "compression",
        "copying",
        "fields",
        "hiding",
        "job",
        "layering",
        "nar",
        "output",
        "pipeline",
        "schema",
        "tarstream",
        "view",
        "watch",
    },
    {"blob", "cli_say", "layering_pipeline", "made", "makefile", "members", "room", "spec", "tarball", "unpacking", "worker"},
    {
        "cli_end",
        "cli_help",
        "cli_progress",
        "cli_values",
        "contents",
        "environment",
        "files",
        "image",
        "layer",
        "locate",
        "nix_build",
        "snapshot",
    },
    {"bases", "chain", "cli_command", "cli_config", "compare", "derived", "plan", "soundness"},
    {"claims", "key", "layered", "layout", "stage"},
    {"admission", "foreign", "index", "inspection", "scan", "session", "tools"},
    {"build", "built", "export", "nix_image"},
    {"cache", "recipe", "validate"},
    {"lookup", "preflight", "record"},
    {"cli_layered", "make", "upkeep"},
    {"board", "cli_cache", "cli_images"},
    {"cli_make", "cli_nix", "cli_reports"},
    {"cli"},
    {"start"},
    {"__main__"},
)
"""Pure values at the bottom; then one foreign thing each; the command at the top."""

IN_SESSION = {"agent", "descendants", "errors", "faked", "namespace", "overlay", "removal", "seccomp", "view", "watch", "worker"}
"""What runs in the session's processes, which start without site-packages."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Parse every module of the package."""
    return {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.py")) if path.stem != "__init__"}


def imports(tree: ast.Module) -> Iterator[str]:
    """Name what a module imports, wherever in it: a module of the package with a dot before it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module or ""
            elif node.module:
                yield f".{node.module}"
            else:
                yield from (f".{alias.name}" for alias in node.names if (PACKAGE / f"{alias.name}.py").exists())


def test_every_module_has_one_rank() -> None:
    """The ranks name all modules there are, each once, and no other."""
    named = sorted(name for rank in RANKS for name in rank)
    assert named == sorted(modules())


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_go_down_the_ranks(name: str) -> None:
    """A module imports modules of lower ranks only; imports within functions and for types count as well."""
    ranks = {member: number for number, rank in enumerate(RANKS) for member in rank}
    upward = [other for other in imports(modules()[name]) if other.startswith(".") and ranks[other[1:]] >= ranks[name]]
    assert upward == []


def test_the_package_itself_imports_nothing_at_first() -> None:
    """``import rootless_layer`` loads none of its modules; what it offers comes when it is asked for, and all of it does."""
    code = "import sys, rootless_layer; print(sorted(name for name in sys.modules if name.startswith('rootless_layer.')))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        == "['rootless_layer.version']\n"
    )
    for name in rootless_layer.__all__:
        assert getattr(rootless_layer, name) is not None
    with pytest.raises(AttributeError, match="absent"):
        rootless_layer.absent  # noqa: B018 - asking is the test


@pytest.mark.parametrize("name", sorted(IN_SESSION))
def test_the_sessions_modules_need_nothing_installed(name: str) -> None:
    """What runs beside a script imports the standard library and one another, so that it starts quickly and anywhere."""
    for other in imports(modules()[name]):
        if other.startswith("."):
            assert other[1:] in IN_SESSION
        else:
            assert other.partition(".")[0] in sys.stdlib_module_names


def test_no_module_is_long() -> None:
    """Each module is short enough to be read at once."""
    assert {path.name for path in PACKAGE.glob("*.py") if len(path.read_text().splitlines()) > 350} == set()


LOADED = """\
import sys
from rootless_layer.cli.main import main
try:
    main(sys.argv[1:], standalone_mode=False)
except Exception as error:
    print(type(error).__name__)
slow = ("libarchive", "zstandard", "isal")
print(sorted(name for name in sys.modules if name.partition(".")[0] in slow))
"""


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["build", "--help"], ["build"]])
def test_what_is_slow_to_import_is_imported_late(words: list[str]) -> None:
    """--version, --help and wrong arguments load neither libarchive nor a codec."""
    done = subprocess.run([sys.executable, "-c", LOADED, *words], check=True, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert said[-1] == "[]"
    assert (said[-2] == "MissingParameter") == (words == ["build"])
