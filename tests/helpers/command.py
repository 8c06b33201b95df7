"""The command in this process: how it is run, and all its verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from rootless_layer.cli import main

Ran = Callable[..., tuple[int, str, str]]


def verbs(group: click.Group = main.main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb by its words, those of groups as well."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from verbs(command, (*path, name))


VERBS = dict(verbs())
