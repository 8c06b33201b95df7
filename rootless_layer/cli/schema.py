"""``rootless-layer schema``: the forms of what the command prints with --json."""

from __future__ import annotations

from importlib.resources import files

import click

from .command import Strict
from .say import give
from .versioned import SCHEMAS


@click.command(cls=Strict)
@click.argument("form", type=click.Choice(SCHEMAS))
def schema(form: str) -> None:
    """Print the JSON schema of what the command prints with --json.

    It is of JSON Schema 2020-12. The forms are a layer (`build`), images that were written (`image`, `merge`, `pull`, `push`),
    an event of `make`, and what `inspect` and `diff` tell. Each object has the version of its form: another number where a
    property goes or means something else. A property may be added without that.
    """
    give([files(__package__).joinpath("schemas", f"{form}.json").read_text(encoding="utf-8").removesuffix("\n")])
