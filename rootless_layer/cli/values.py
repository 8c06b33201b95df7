"""The values of the command's options: what the core refuses of them is a usage error, exit status 2."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.cache.room import VARIABLE, limit
from rootless_layer.errors import InputError, SourceError
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.time import environment_epoch

from .completed import completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.shell_completion import CompletionItem


class Value(click.ParamType):  # type: ignore[type-arg]  # click's own before 8.2 takes none
    """A word that a function of the core reads."""

    def __init__(self, read: Callable[[str], Any], name: str) -> None:
        """Take the function, which raises :class:`InputError`, and what help calls its values."""
        self.read, self.name = read, name

    def shell_complete(self, _ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Give what may stand for an incomplete one."""
        return completed(param, incomplete)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Read it; a default is a value already."""
        if not value or not isinstance(value, str):
            return value  # that an empty one names nothing is said of all options alike
        try:
            return self.read(value)
        except InputError as error:
            self.fail("\n".join(["; ".join(error.problems), *filter(None, [error.hint])]), param, ctx)


@contextlib.contextmanager
def as_written(option: str = "") -> Iterator[None]:
    """Raise click's error, of status 2, for a value of an option or a variable that cannot be; in a file it is status 65."""
    try:
        yield
    except SourceError:
        raise
    except InputError as error:
        problems = [f"{option}: {problem}" if option else problem for problem in error.problems]
        message = "\n".join((*problems, *filter(None, [error.hint])))
        raise click.UsageError(message, click.get_current_context(silent=True)) from error


PLATFORM = Value(Platform.parse, "text")


def check_epoch() -> int:
    """Give the time of ``SOURCE_DATE_EPOCH``, in seconds since 1970."""
    with as_written("SOURCE_DATE_EPOCH"):
        return environment_epoch()


def cache_limit() -> int | None:
    """Give how many bytes the cache may hold, as far as the variable says."""
    with as_written(VARIABLE):
        return limit()


def limited(_context: click.Context, _param: click.Parameter, given: str | None) -> str | None:
    """Have the limit where all that adds to the cache reads it, in children as well."""
    if given is None:
        cache_limit()
    elif given:
        os.environ[VARIABLE] = given
    return given
