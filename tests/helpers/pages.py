"""The pages of the documentation, their blocks and examples, and what these need."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
from helpers.place import HERE
from helpers.stores import make_accounts, shared_store
from helpers.users import COMMAND, User

ROOT = HERE.parent
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

STAND_INS = {
    "rootless-layer": f'exec {" ".join(COMMAND)} "$@"',
    **{
        name: f'exec {sys.executable} {words} "$@"'
        for name, words in {"python3": "", "doit": "-m doit", "scons": "-m SCons"}.items()
    },
    "mmdebstrap": 'cp "$INPUTS/root.tar" "${!#}"',  # it needs a mirror
    "podman": '[ "$1" = login ] || { cat "${3:--}" >loaded.tar && rootless-layer validate --quiet loaded.tar; }',  # subordinate ids
    "cosign": "true",  # Debian has none
    "skopeo": 'cp "$INPUTS/base.tar" "${!###*:}"',  # it needs a registry
}
"""Programs by name: those of this environment, and those that need more than this machine has, with what is done in their place."""


@attrs.frozen
class Block:
    """A fenced block of a page: what its fence says that it is, its text, and the line where it begins."""

    kind: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """The name of the file that the block is: a comment of one word, in the first line or behind ``#!``; else nothing."""
        named = re.match(r"(?:#!.*\n)?# (\S+)\n", self.text) if self.kind != "console" else None
        return named[1] if named else ""


@attrs.frozen
class Step:
    """A command of a ``console`` block, with what the page says of it: its output (``…`` is anything) and exit status."""

    command: str
    shown: str
    line: int

    @property
    def status(self) -> int:
        """The exit status that the page names behind the command, else 0."""
        named = re.search(r"  # exit status (\d+)", self.command)
        return int(named[1]) if named else 0

    @property
    def shows_file(self) -> str:
        """The name of the file that the page shows by ``cat``, else nothing."""
        shown = re.fullmatch(r"cat ([\w.-]+)", self.command)
        return shown[1] if shown and self.shown else ""

    def agrees(self, said: str) -> bool:
        """Say whether a command's output is as the page shows it: ``…`` stands for anything, a line of it for any lines."""
        if not self.shown:
            return True
        lines = [".*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in self.shown.splitlines()]
        return re.fullmatch("(?s)" + "".join(lines), said) is not None


def blocks(page: str) -> Iterator[Block]:
    """Give the fenced blocks of a page."""
    text = PAGES[page].read_text()
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)


def steps(block: Block) -> list[Step]:
    """Give the commands of a block; lines behind a command are its output."""
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            found.append(Step(line[2:], "", number))
        else:
            found[-1] = attrs.evolve(found[-1], shown=f"{found[-1].shown}{line}\n")
    return found


def files(page: str) -> dict[str, str]:
    """Give the files that a page shows whole, in blocks with a name or by ``cat``, by their names."""
    shown = (step for block in blocks(page) if block.kind == "console" for step in steps(block))
    named = {block.name: block.text for block in blocks(page) if block.name}
    return named | {step.shows_file: step.shown for step in shown if step.shows_file}


def make_inputs(folder: Path) -> None:
    """Make a root filesystem and a base image, of this machine's own programs."""
    store = shared_store("bash", "coreutils", "passwd")
    folder.mkdir()
    owner = User("root", folder)
    (folder / "tmp").mkdir()
    programs = [word for name in ("bash", "coreutils", "passwd") for word in ("--copy-to-root", store.path(name))]
    make_accounts(folder / "accounts")
    layer = owner.build(*store.options, *programs, "--copy-to-root", folder / "accounts", output="layer").layer
    made = owner.run([*COMMAND, "image", "--layer", "layer", "-t", "debian:12", "-o", "base.tar"])
    assert made.status == 0, made.err
    (folder / "layer/blobs/sha256" / layer["digest"].removeprefix("sha256:")).rename(folder / "root.tar")
