"""Print docs/command.md: the reference of the command, made of its own verbs and of the tables of options.

python scripts/command_page.py > docs/command.md
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import click

from rootless_layer.cli.main import main
from rootless_layer.cli.statuses import STATUSES
from rootless_layer.options.image import ImageOptions
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.option import Face, Option, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
# The command

Every verb of `rootless-layer` with its options. This page is printed by `scripts/command_page.py`; a test compares both.

The options of `build` and `image` are also the keys of `[layer.NAME]` and `[image.NAME]` in a file of
`rootless-layer make`, and the attributes of a derivation that `nix-build` or `nix-image` builds. An option that may be
given several times is a list there. A dash is where an option cannot be given.
"""
TABLES = {"build": (LayerOptions, "layer"), "image": (ImageOptions, "image")}


def page() -> str:
    """Give the page."""
    return "\n".join(_page())


def _page() -> Iterator[str]:
    yield HEAD
    for words, verb in _verbs(main, ()):
        yield f"## `{' '.join(words)}`\n"
        yield f"{_described(verb)}\n"
        if words[-1] in TABLES:
            yield from _table(*TABLES[words[-1]])
        else:
            yield from _options(verb)
    yield "## Exit statuses\n"
    yield "| status | |\n|---|---|"
    yield from (f"| {status} | {meaning} |" for status, meaning in STATUSES.items())
    yield ""


def _verbs(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        assert verb is not None
        yield (*path, name), verb
        if isinstance(verb, click.Group):
            yield from _verbs(verb, (*path, name))


def _described(verb: click.Command) -> str:
    """Give what a verb's help begins with; what is marked to be left as it is becomes a block."""
    parts = inspect.cleandoc(verb.help or "").split("\n\n")
    return "\n\n".join(f"```text\n{part[2:]}\n```" if part.startswith("\b\n") else part for part in parts)


def _table(table: type, prefix: str) -> Iterator[str]:
    yield "| option | | default | key of `make` | attribute of Nix |\n|---|---|---|---|---|"
    for row in rows(table):
        key = f"`{row.key}`" if Face.TOML in row.faces else "-"
        attribute = f"`{prefix}{row.attribute}`" if Face.NIX in row.faces else "-"
        yield f"| {_written(row)} | {_cell(row.help)} | {_default(row)} | {key} | {attribute} |"
    yield ""


def _written(row: Option) -> str:
    """Write an option as it is given on the command line."""
    if Face.COMMAND not in row.faces:
        return "-"
    if row.is_argument:
        return f"`{row.metavar}`"
    long = f"--{row.name}" + (f" / --{row.negative}" if row.negative else "")
    return _code(f"-{row.short}, {long}" if row.short else long, _metavar(row))


def _metavar(row: Option) -> str:
    choices = getattr(row.kind, "choices", ())
    return row.metavar or "|".join(choices) or ("" if type(row.kind).__name__ == "Flag" else "N")


def _default(row: Option) -> str:
    if row.required:
        return "required"
    shown = row.shown or (row.default if isinstance(row.default, str) else "")
    return _cell(f"{shown}; in Nix {row.nix_default}" if row.nix_default is not None else shown)


def _options(verb: click.Command) -> Iterator[str]:
    shown = [each for each in verb.params if isinstance(each, click.Option) and not each.hidden]
    arguments = [each.metavar or each.name or "" for each in verb.params if isinstance(each, click.Argument)]
    if arguments:
        yield f"`{' '.join(arguments)}`\n"
    if shown:
        yield "| option | |\n|---|---|"
        for each in shown:
            metavar = "|".join(each.type.choices) if isinstance(each.type, click.Choice) else each.metavar or ""
            required = "  [required]" if each.required else ""
            yield f"| {_code(', '.join(each.opts), metavar)} | {_cell((each.help or '') + required)} |"
        yield ""


def _code(option: str, metavar: str) -> str:
    return f"`{_cell(f'{option} {metavar}'.strip())}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
