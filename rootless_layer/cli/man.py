"""The manual pages, made of the verbs and their options: ``python -m rootless_layer.cli.man DIRECTORY`` writes them.

Each verb has a page, as git's have, so that ``man rootless-layer build`` finds it. The macros are those of man(7).
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from typing import TYPE_CHECKING

import click

from rootless_layer.version import __version__

from .help import Verb, Verbs, examples
from .main import main
from .statuses import STATUSES
from .variables import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = "rootless-layer"
_CODE = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])-{1,2}[A-Za-z][\w-]*")
_ESCAPED = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_BOLD, _PLAIN = "\x02", "\x03"


def pages() -> Iterator[tuple[str, str]]:
    """Give each page: the name of its file, and its text."""
    return _pages(click.Context(main, info_name=_PROGRAM, **main.context_settings))


def _pages(context: click.Context) -> Iterator[tuple[str, str]]:
    yield f"{_name(context)}.1", "".join(f"{line}\n" for line in _page(context))
    if isinstance(context.command, click.Group):
        for name, verb in _verbs(context):
            yield from _pages(click.Context(verb, info_name=name, parent=context, **verb.context_settings))


def _verbs(context: click.Context) -> list[tuple[str, click.Command]]:
    group = context.command
    assert isinstance(group, click.Group)  # noqa: S101 - whoever asks has seen to it
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return [(name, verb) for name, verb in found if verb is not None]


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context) -> Iterator[str]:
    command, name = context.command, _name(context)
    first, *paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    yield f'.TH {_text(name.upper())} 1 "" "{_PROGRAM} {__version__}" "{_PROGRAM}"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(_joined(first).rstrip('.'))}")
    yield from (".SH SYNOPSIS", f"{_bold(context.command_path)} {_text(' '.join(command.collect_usage_pieces(context)))}")
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate((first, *paragraphs, *filter(None, [command.epilog]))):
        yield from [".PP"] if number else []
        yield from _paragraph(paragraph)
    if isinstance(command, Verbs):
        yield from _commands(context, command)
    yield ".SH OPTIONS"
    sections = command.sections(context) if isinstance(command, Verb) else {"": _records(context)}
    for title, records in sections.items():
        yield from [f".SS {_text(title)}"] if len(sections) > 1 else []
        for option, text in records:
            yield from (".TP", _marked(option), _marked(text))
    yield from _end(context)


def _commands(context: click.Context, group: Verbs) -> Iterator[str]:
    yield ".SH COMMANDS"
    groups = group.grouped(context)
    for title, names in groups.items():
        yield from [f".SS {_text(title)}"] if len(groups) > 1 else []
        for name in names:
            yield from (".TP", f"{_bold(f'{_name(context)}-{name}')}(1)", _marked(group.first_sentence(context, name)))


def _records(context: click.Context) -> list[tuple[str, str]]:
    options = (option for option in context.command.get_params(context) if isinstance(option, click.Option))
    return [record for option in options if (record := option.get_help_record(context))]


def _end(context: click.Context) -> Iterator[str]:
    if shown := examples(context):
        yield from (".SH EXAMPLES", ".EX", *map(_text, shown), ".EE")
    yield ".SH EXIT STATUS"
    for status, meaning in STATUSES.items():
        yield from (".TP", _bold(status), _marked(meaning))
    if context.parent is None:
        yield ".SH ENVIRONMENT"
        for variable, meaning in VARIABLES.items():
            yield from (".TP", _bold(variable), _marked(meaning))
    else:
        yield from (".SH SEE ALSO", f"{_bold(_name(context.parent))}(1)")


def _paragraph(text: str) -> Iterator[str]:
    if text.startswith("\b\n"):
        yield from (".EX", *map(_text, text[2:].split("\n")), ".EE")
    else:
        yield _marked(_joined(text))


def _joined(text: str) -> str:
    return " ".join(text.split())


def _marked(text: str) -> str:
    """Write a text in which code and options are bold."""
    bold = _CODE.sub(rf"{_BOLD}\1{_PLAIN}", _joined(text))
    parts = re.split(f"({_BOLD}[^{_PLAIN}]*{_PLAIN})", bold)
    marked = (part if part.startswith(_BOLD) else _OPTION.sub(rf"{_BOLD}\g<0>{_PLAIN}", part) for part in parts)
    return _text("".join(marked)).replace(_BOLD, r"\fB").replace(_PLAIN, r"\fR")


def _bold(text: str) -> str:
    return rf"\fB{_text(text)}\fR"


def _text(text: str) -> str:
    """Escape what roff would read otherwise than as text; what is not ASCII is named by its number."""
    written = "".join(_ESCAPED.get(letter, letter if letter.isascii() else rf"\[u{ord(letter):04X}]") for letter in text)
    return rf"\&{written}" if written.startswith((".", r"\(aq")) else written


def write(folder: str) -> None:
    """Write the pages into a directory, which is made where it is not there."""
    os.makedirs(folder, exist_ok=True)
    for name, text in pages():
        with open(os.path.join(folder, name), "w", encoding="ascii") as file:
            file.write(text)


if __name__ == "__main__":
    write(sys.argv[1])
