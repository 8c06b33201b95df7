"""Commands whose arguments say one thing each: what cannot be meant is refused before any work."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.oci.reference import path_and_name
from rootless_layer.tree.places import meets

from .help import Verb
from .options import TableArgument, TableOption
from .registries import bind_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless_layer.options.option import Option

_IMAGES = ("images", "image")
"""The arguments that are images, where PATH#NAME may mean one of several; of options a row says so."""
_UPDATED = {"image": "base", "merge": "images"}
"""Whose output may be this input: all of it is read before the new one takes its place, and goes on in that one."""
_LOST = {"is": "is the input {} as well", "holds": "lies in the input {}", "lies in": "holds the input {}"}
_SEPARATOR = "--"


class Strict(Verb):
    """A command that takes no two values of an option that has one, and no empty path or name.

    What it takes as a command of others, ``[-- COMMAND...]``, stands behind ``--``: in ``--copy-to-root a b``
    the ``b`` is no program.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; raises :class:`click.UsageError`."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            if ctx.params.get("quiet") and ctx.params.get("verbose"):
                message = "--quiet and --verbose contradict each other: give one of them"
                raise click.UsageError(message, ctx)
            self._check_once(ctx, given)
            self._check_empty(ctx, self.make_parser(ctx).parse_args(list(given))[2])
            self._check_separated(ctx, given)
            self._check_kept(ctx)
            bind_credentials(given)
        return rest

    def _check_once(self, ctx: click.Context, given: list[str]) -> None:
        single = [
            option for option in self.params if isinstance(option, click.Option) and not (option.multiple or option.is_flag)
        ]
        every = copy.copy(self)
        every.params = [_repeated(option) if option in single else option for option in self.params]
        values = every.make_parser(ctx).parse_args(list(given))[0]
        for option in single:
            different = list(dict.fromkeys(values.get(option.name) or ()))
            if len(different) > 1:
                message = f"{max(option.opts, key=len)} takes one value, and {' and '.join(different)} are given"
                raise click.UsageError(message, ctx)

    @staticmethod
    def _check_empty(ctx: click.Context, read: Iterable[click.Parameter]) -> None:
        for option in read:
            row, given = _row(option), _given(ctx, option)
            if "" in given and not (row is not None and row.may_be_empty):
                message = "an empty value names nothing"
                raise click.BadParameter(message, ctx, option)
            if _reads(option) == "image":
                for nameless in [each for each in given if not path_and_name(each)[0]]:
                    message = f"{nameless}: names no path before the #"
                    raise click.BadParameter(message, ctx, option)

    def _check_kept(self, ctx: click.Context) -> None:
        output = ctx.params.get("output")
        if not output or output == "-":
            return
        for option in self.params:
            reads = _reads(option)
            for given in _given(ctx, option) if reads else ():
                path = path_and_name(given)[0] if reads == "image" else given
                how = meets(path, output) if os.path.exists(path) else None
                if how is not None and not (how == "is" and _UPDATED.get(ctx.info_name or "") == option.name):
                    message = f"{output}: {_LOST[how].format(path)}, which would be lost; name another output"
                    raise click.BadParameter(message, ctx, param_hint="--output")

    def _check_separated(self, ctx: click.Context, given: list[str]) -> None:
        if not any(option.name == "command" for option in self.params):
            return
        before = given[: given.index(_SEPARATOR)] if _SEPARATOR in given else given
        words = self.make_parser(ctx).parse_args(list(before))[0].get("command")
        if isinstance(words, list | tuple) and words:  # click has a mark of its own for none
            message = f"{words[0]}: no option takes it. Repeat an option for each of its values; a command stands behind --"
            raise click.UsageError(message, ctx)


def _row(option: click.Parameter) -> Option | None:
    return option.row if isinstance(option, TableOption | TableArgument) else None


def _reads(option: click.Parameter) -> str:
    """Say how an option's values are read as a whole, if they are."""
    row = _row(option)
    return row.reads if row is not None else "image" if option.name in _IMAGES else ""


def _given(ctx: click.Context, option: click.Parameter) -> tuple[Any, ...]:
    """Give the values of an option, which may take several."""
    value = ctx.params.get(option.name or "")
    several = getattr(option, "multiple", False) or option.nargs != 1
    return value if several and isinstance(value, tuple) else () if value is None else (value,)


def _repeated(option: click.Parameter) -> click.Parameter:
    """Give the option as it would be if it took several values: of one that takes one, click keeps the last."""
    several = copy.copy(option)
    several.multiple = True
    return several


def check_different(paths: Iterable[str], option: str) -> None:
    """Raise :class:`click.UsageError` where two paths, which may end with ``#NAME``, are the same."""
    seen: dict[tuple[str, str], str] = {}
    for path in paths:
        where, name = path_and_name(path)
        place = os.path.realpath(where), name
        if place in seen:
            message = f"{path}: is given twice" + (f", first as {seen[place]}" if seen[place] != path else "")
            raise click.BadParameter(message, param_hint=option)
        seen[place] = path
