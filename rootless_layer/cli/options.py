"""Options of the command, made of the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from rootless_layer.options.kinds import Flag, OneOf
from rootless_layer.options.option import Face, row_of, rows

from .values import Value, as_written, limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.options.inputs import Attempt
    from rootless_layer.options.option import Option

    Command = Callable[..., None]
    T = TypeVar("T")


class TableOption(click.Option):
    """An option of the command that is a row of a table."""

    def __init__(self, *args: Any, row: Option, section: str = "", **settings: Any) -> None:  # noqa: ANN401 - as click has it
        """Keep the row, and the heading of help, if the verb's help has any."""
        super().__init__(*args, **settings)
        self.row, self.section = row, section


class TableArgument(click.Argument):
    """What stands behind the options, and is a row of a table."""

    def __init__(self, *args: Any, row: Option, **settings: Any) -> None:  # noqa: ANN401 - as click has it
        """Keep the row."""
        super().__init__(*args, **settings)
        self.row = row


def of_table(table: type, *names: str) -> Callable[[Command], Command]:
    """Give a command a table's options, or those of them that are named; :func:`.of_command` makes the table again.

    A whole table is long, so that help has it in sections.
    """
    wanted = [row for row in rows(table) if Face.COMMAND in row.faces and (not names or row.name in names)]

    def add(command: Command) -> Command:
        for row in reversed(wanted):
            command = _added(row, "" if names else row.section)(command)
        return command

    return add


def told(table: type) -> Attempt:
    """Give what tells a fault by raising it: a wrong value is a usage error, and what a file has that it names is none."""

    def attempt(name: str, make: Callable[..., T], *given: object) -> T | None:
        row = row_of(table, name)
        if row.reads:
            return make(*given)
        with as_written("" if row.field or row.is_argument else f"--{name}"):
            return make(*given)

    return attempt


def _added(row: Option, section: str) -> Callable[[Command], Command]:
    if row.is_argument:
        return click.argument(row.variable, cls=TableArgument, row=row, nargs=-1, type=click.UNPROCESSED, metavar=row.metavar)
    long = f"--{row.name}" + (f"/--{row.negative}" if row.negative else "")
    settings: dict[str, Any] = {
        "help": row.help + (f"  [default: {row.shown}]" if row.shown else ""),
        "metavar": row.metavar,
        "required": row.required,
        "multiple": row.kind.several,
    }
    if row.name == "cache-size":  # every verb's, and read of the variable by whatever adds to the cache
        settings |= {"callback": limited, "expose_value": False}
    match row.kind:
        case Flag():
            settings |= {"is_flag": True, "default": None}
        case OneOf(choices=choices):
            settings["type"] = click.Choice(choices)
        case kind:
            settings["type"] = Value(kind.of_text, kind.name)
    short = [f"-{row.short}"] if row.short else []
    return click.option(*short, long, row.variable, cls=TableOption, row=row, section=section, **settings)
