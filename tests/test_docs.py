"""The README and docs/: each example does as it stands there, each link leads somewhere, the drawing is that of the imports."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from helpers.effort import EVERY
from helpers.hints import hints
from helpers.pages import PAGES, ROOT, STAND_INS, Block, blocks, make_inputs, steps
from helpers.place import once, remove
from helpers.registries import listing_registry
from helpers.stores import shared_store
from helpers.users import COMMAND, User, good, make_user

import rootless_layer

REGISTRIES = re.compile(r"(registry|mirror)\.example\.com")
"""The registries that pages name, besides Docker's: each is a part of one on this machine."""


@contextlib.contextmanager
def registries(reader: User, base: Path) -> Iterator[Mapping[str, str]]:
    """Run what stands for all registries, with Debian's image in it; give the variables by which the command finds it."""
    with listing_registry(reader) as registry:
        rule = f'[[registry]]\nprefix = "docker.io"\nlocation = "{registry.host}/docker"\n'
        conf = reader.script(rule, "registries.conf")
        good(reader.run([*COMMAND, "push", base, registry.name("docker/library/debian:12")]))
        yield {"CONTAINERS_REGISTRIES_CONF": str(conf), "REGISTRY": registry.host}


FIRST = ("README.md", "docs/start.md")
READERS = [("somebody", page) for page in PAGES] + [("root", page) for page in (PAGES if EVERY else FIRST)]
"""Who reads a page: somebody without privilege all of them, and root those where one begins."""


@pytest.fixture
def reader(shared: Path, request: pytest.FixtureRequest) -> Iterator[User]:
    """Whoever reads a page, in a directory as ``scripts/demo`` makes it."""
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("there is no root")
    made = make_user(shared, request.param)
    (made.home / "store").symlink_to(shared_store("bash", "coreutils", "passwd").root)
    (made.home / "accounts/etc").mkdir(parents=True)
    (made.home / "accounts/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (made.home / "accounts/etc/group").write_text("root:x:0:\n")
    made.script("groupadd -r redis\nuseradd -r -g redis -d /data -M redis\nmkdir /data\nchown redis:redis /data\n", "redis")
    (made.home / "bin").mkdir()
    for name, command in STAND_INS.items():
        made.script(f"#!/bin/bash\n{command}\n", f"bin/{name}")
    yield made
    remove(made.home)


def check_block(block: Block, page: str, reader: User, environment: Mapping[str, str]) -> None:
    """Do what a block says, where it is an example."""
    if block.kind == "console":
        for step in steps(block):
            where = f"{page}:{step.line}: {step.command}"
            if step.shows_file and not (reader.home / step.shows_file).exists():
                reader.script(step.shown, step.shows_file)
            command = REGISTRIES.sub(r"$REGISTRY/\1", step.command)
            done = reader.run(["bash", "-o", "pipefail", "-c", f"({command}\n) 2>&1"], env=environment)
            assert done.status == step.status, f"{where}\n{done.out}"
            assert step.agrees(done.out), f"{where}\n{done.out}"
    elif block.name and "/" not in block.name:
        reader.script(block.text, block.name)
        if block.kind == "toml":
            done = reader.run([*COMMAND, "make", block.name], env=environment)
            assert done.status == 0, f"{page}:{block.line}\n{done.err}"
    elif block.kind == "python":
        done = reader.run([sys.executable, "-c", block.text], env=environment)
        assert done.status == 0, f"{page}:{block.line}\n{done.err}"


@pytest.mark.parametrize(("reader", "page"), READERS, indirect=["reader"])
def test_examples_run(page: str, reader: User) -> None:
    """The commands of a page, one after the other, end and say as the page shows; so do its TOML and its Python."""
    inputs = once("docs-inputs", make_inputs)
    path = f"{reader.home / 'bin'}:{reader.environment()['PATH']}"
    environment = {"INPUTS": str(inputs), "PATH": path}
    with contextlib.ExitStack() as stack:
        if any(block.kind in {"console", "toml"} and "docker://" in block.text for block in blocks(page)):
            environment |= stack.enter_context(registries(reader, inputs / "base.tar"))
        for block in blocks(page):
            check_block(block, page, reader, environment)
    assert not reader.leftovers()


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_of_a_kind_that_is_tested(page: str) -> None:
    """A block says what it is: an example that is run, or that is parsed, or text. A console block begins with a command."""
    for block in blocks(page):
        kinds = {"console", "json", "mermaid", "nix", "python", "text", "toml"}
        files_for_tests = {"bash", "ini", "sh", "yaml"}  # of their own, as test_other_builders.py
        assert block.kind in (kinds | files_for_tests if block.name else kinds), f"{page}:{block.line}"
        if block.kind == "console":
            assert block.text.startswith("$ "), f"{page}:{block.line}"
        elif block.kind == "toml":
            said = tomllib.loads(block.text)
            assert not said.get("layer", {}).keys() & said.get("image", {}).keys(), f"{page}:{block.line}"
        elif block.kind == "json":
            json.loads(block.text)


def anchors(path: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and MkDocs name them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each relative link names a file of the repository, and where it has a fragment a heading of it."""
    text = PAGES[page].read_text()
    for target in re.findall(r"\]\(([^)]*)\)", text):
        if "://" not in target:
            name, _, fragment = target.partition("#")
            path = PAGES[page].parent / name if name else PAGES[page]
            assert path.is_file(), f"{page}: {target}"
            assert not fragment or fragment in anchors(path), f"{page}: {target}"


def test_every_page_is_on_the_site_and_in_the_readme() -> None:
    """mkdocs.yml has each page of docs/ in its menu; the README links to each but the site's first."""
    names = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")}
    assert set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text())) == names
    readme = (ROOT / "README.md").read_text()
    assert {name for name in names if f"(docs/{name})" not in readme} <= {"index.md"}


def test_every_hint_has_a_paragraph() -> None:
    """docs/hints.md quotes each hint that an error can have, once and to the letter, and explains it below."""
    text = PAGES["docs/hints.md"].read_text()
    quoted = re.findall(r"^> (.+)$", text, re.MULTILINE)
    given = hints()
    assert {hint: place for hint, place in given.items() if hint not in quoted} == {}
    assert [hint for hint in quoted if hint not in given or quoted.count(hint) > 1] == []
    behind = re.findall(r"^> .+\n(?!>)\n(\S+)", text, re.MULTILINE)
    assert len(behind) == len(re.findall(r"^> .+\n(?!>)", text, re.MULTILINE))
    assert [first for first in behind if first.startswith((">", "#"))] == []


# --- the drawing of the packages ---

PACKAGE = Path(rootless_layer.__file__).parent


def package_of(path: Path) -> str:
    """Name the package of a module; those that are in none are the ground."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "ground"


def imported() -> dict[str, set[str]]:
    """Give the packages that each package imports from: within a package imports are relative, else absolute."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        package = package_of(path)
        if path.stem in {"__init__", "__main__"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "rootless_layer":
                _, *below = (node.module or "").split(".")
                for name in below[:1] or [alias.name for alias in node.names]:
                    found.setdefault(package, set()).add(name if (PACKAGE / name).is_dir() else "ground")
    return {package: others - {package} for package, others in found.items()}


def drawing() -> str:
    """Draw the imports of packages in Mermaid; an arrow that others make up together is left out."""
    direct = imported()

    def reached(package: str) -> set[str]:
        return direct.get(package, set()).union(*map(reached, direct.get(package, ())))

    arrows = [
        f"    {package} --> {other}\n"
        for package in sorted(direct)
        for other in sorted(direct[package])
        if not any(other in reached(between) for between in direct[package])
    ]
    return f"```mermaid\ngraph TD\n{''.join(arrows)}```\n"


def test_the_drawing_of_the_packages_is_that_of_the_imports() -> None:
    """docs/design.md has, between two marks, the packages and the arrows that the import statements make."""
    text = PAGES["docs/design.md"].read_text()
    shown = text.partition("<!-- packages: begin -->\n")[2].partition("<!-- packages: end -->")[0]
    assert shown == drawing()
