"""What is done where a script fails: ``--on-failure``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rootless_layer.session.attached import Terminal

on_failure = click.option(
    "--on-failure",
    type=click.Choice(["shell"]),
    help="Open a shell where a script fails, in its view; on a terminal.",
)


def terminal_for_a_shell() -> Terminal:
    """Open the terminal, before anything runs; raises :class:`UnavailableError` where there is none."""
    from rootless_layer.session.attached import Terminal  # noqa: PLC0415 - not for --help

    return Terminal.open("--on-failure shell")
