"""Values of the command line, read: what is wrong as it is written is the command line's fault, whoever finds it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from .errors import InputError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .oci import Platform


@contextlib.contextmanager
def as_written(option: str = "") -> Iterator[None]:
    """Raise click's error, of status 2, for a value of an option that cannot be; in a file the same is status 65."""
    try:
        yield
    except SourceError:
        raise
    except InputError as error:
        problems = [f"{option}: {problem}" if option else problem for problem in error.problems]
        message = "\n".join((*problems, *filter(None, [error.hint])))
        raise click.UsageError(message, click.get_current_context(silent=True)) from error


def platform_of(given: str | None) -> Platform | None:
    """Read the option --platform."""
    from .oci import Platform  # noqa: PLC0415 - for a quick --help

    with as_written("--platform"):
        return Platform.parse(given) if given else None
