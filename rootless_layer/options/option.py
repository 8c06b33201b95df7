"""An option, one row of a table: all that the command, a file of ``make`` and a derivation have to know of it.

A table is a class of options' values, each of whose fields is a row::

    link: Link = option(OneOf(Link), default="hard", field="link", help="How a root file stands for a store file.")

To add an option is to add a row; and a field of :class:`LayerSpec`, where the layer's bytes depend on it.
"""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .kinds import Kind

Values = TypeVar("Values")
_ROW = "option"


class Face(enum.Flag):
    """Where an option may be given."""

    COMMAND = enum.auto()
    TOML = enum.auto()
    NIX = enum.auto()


EVERYWHERE = Face.COMMAND | Face.TOML | Face.NIX
WRITTEN = Face.COMMAND | Face.TOML
"""Where somebody writes it who is not Nix."""


@attrs.frozen(kw_only=True, slots=True)
class Option:
    """An option. What is not given follows from the field's name.

    ``name`` is the command's word, ``key`` that of TOML, ``attribute`` what follows ``layer`` or ``image`` in a
    derivation's. ``shown`` is the default as help tells it, where it does. ``field`` is that of :class:`LayerSpec` which
    it sets, ``config`` the property of an image's config. What it names is read as a whole, where ``reads`` says so: an
    output may not lie there. ``with_closure`` is set where it goes with an image's ``closure`` and nothing else,
    ``each_its_own`` where no two of a kind may share it. ``section`` is the heading of help that it is under: what has none
    is under that of the row before.
    """

    kind: Kind[Any]
    default: Any = None
    help: str = ""
    metavar: str | None = None
    shown: str = ""
    short: str = ""
    negative: str = ""
    faces: Face = EVERYWHERE
    variable: str = ""
    name: str = ""
    key: str = ""
    attribute: str = ""
    nix_default: Any = None
    field: str = ""
    config: str = ""
    reads: Literal["", "image", "file"] = ""
    may_be_empty: bool = False
    required: bool = False
    is_argument: bool = False
    with_closure: bool = False
    each_its_own: bool = False
    section: str = ""


def option(kind: Kind[Any], **row: Any) -> Any:  # noqa: ANN401 - a field, of whatever type its class says
    """Give a field of a table: what an :class:`Option` has."""
    made = Option(kind=kind, **row)
    return attrs.field(default=made.default, metadata={_ROW: made})


def rows(table: type) -> tuple[Option, ...]:
    """Give a table's rows, in the order in which help has them."""
    return _rows(table)


@functools.cache
def _rows(table: type) -> tuple[Option, ...]:
    found: list[Option] = []
    for field in attrs.fields(table):
        if _ROW in field.metadata:
            row = _whole(field)
            found.append(row if row.section or not found else attrs.evolve(row, section=found[-1].section))
    return tuple(found)


def _whole(field: attrs.Attribute[Any]) -> Option:
    row: Option = field.metadata[_ROW]
    name = row.name or field.name.replace("_", "-")
    attribute = row.attribute or "".join(part.capitalize() for part in name.split("-"))
    return attrs.evolve(row, variable=field.name, name=name, key=row.key or name, attribute=attribute)


def keys(table: type) -> Mapping[str, Option]:
    """Give the rows that a file of ``make`` may have, by its keys."""
    return {row.key: row for row in rows(table) if Face.TOML in row.faces}


def row_of(table: type, name: str) -> Option:
    """Give the row of an option by the command's word."""
    return next(row for row in rows(table) if row.name == name)


def parts(row: Option, value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as the row has it
    """Give the values that an option has, of which most have one."""
    if value is None:
        return ()
    return tuple(value) if row.kind.several else (value,)


def of_command(table: type[Values], given: Mapping[str, Any]) -> Values:
    """Make a table of what was given on a command line, by the variables of the rows; what was not has its default."""
    values = {}
    for row in rows(table):
        value = given.get(row.variable)
        if value is not None and not (row.kind.several and not value):
            values[row.variable] = row.kind.gather(value) if row.kind.several else value
    return table(**values)
