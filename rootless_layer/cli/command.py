"""Commands whose arguments say one thing each: what cannot be meant is refused before any work."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.oci.reference import path_and_name
from rootless_layer.tree.places import meets

from .help import Verb

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAY_BE_EMPTY = frozenset({"author", "user", "workdir", "command"})
"""Whose empty value is a value: that of no author, of the image's own user, of a program's argument."""
_IMAGES = ("bases", "base", "layers", "images", "image")
"""Whose values are images and layers, of which PATH#NAME may mean one of several."""
_READ = (*_IMAGES, "closures", "tools", "scripts", "rootfs_listing", "layering", "configs")
"""Whose values are read as a whole; an output that lies in a tree that is merged is left out of the tree instead."""
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
            self._check_once(ctx, given)
            self._check_empty(ctx, self.make_parser(ctx).parse_args(list(given))[2])
            self._check_separated(ctx, given)
            self._check_kept(ctx)
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
            value = ctx.params.get(option.name or "")
            if option.name not in _MAY_BE_EMPTY and "" in _values(value):
                message = "an empty value names nothing"
                raise click.BadParameter(message, ctx, option)
            if option.name in _IMAGES:
                for nameless in [each for each in _values(value) if not path_and_name(each)[0]]:
                    message = f"{nameless}: names no path before the #"
                    raise click.BadParameter(message, ctx, option)

    @staticmethod
    def _check_kept(ctx: click.Context) -> None:
        output = ctx.params.get("output")
        if not output or output == "-":
            return
        for name in _READ:
            for given in _values(ctx.params.get(name) or ()):
                path = path_and_name(given)[0] if name in _IMAGES else given
                how = meets(path, output) if os.path.exists(path) else None
                if how is not None and not (how == "is" and _UPDATED.get(ctx.info_name or "") == name):
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


def _values(value: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as click has it
    """Give the values of an option, which may take several."""
    return value if isinstance(value, tuple) else (value,)


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
