"""``rootless-layer schema``: the forms of what the command prints with --json."""

from __future__ import annotations

from importlib.resources import files

import click

from .command import Strict
from .say import give

_PLACE = files(__package__).joinpath("schemas")
_SUFFIX = ".json"
FORMS = sorted(file.name.removesuffix(_SUFFIX) for file in _PLACE.iterdir() if file.name.endswith(_SUFFIX))


@click.command(cls=Strict, epilog=f"The forms: {', '.join(FORMS)}.")
@click.argument("form", metavar="FORM", type=click.Choice(FORMS))
def schema(form: str) -> None:
    """Print the JSON schema of what a verb prints with --json.

    A form has the name of its verb: `inspect` is what `inspect --json` prints. Besides: `layer` is of `build`; `image` of
    `image`, `merge`, `pull` and `push`; `events` of `make`, an event a line; `cache-gc` of `cache gc` and `cache rm`;
    `error` of every verb, where it fails.

    The schemas are of JSON Schema 2020-12. Each object has the version of its form: another number where a property
    goes or means something else. A property may be added without that.
    """
    give([_PLACE.joinpath(f"{form}{_SUFFIX}").read_text(encoding="utf-8").removesuffix("\n")])
