"""The values of the command's options: what the core refuses of them is a usage error, exit status 2."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.cache.room import VARIABLE, limit, parse_limit, parse_size
from rootless_layer.errors import InputError, SourceError
from rootless_layer.oci.number import seconds, whole
from rootless_layer.oci.time import environment_epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless_layer.oci.descriptor import Platform
    from rootless_layer.tar.compression import Compression


class Value(click.ParamType):  # type: ignore[type-arg]  # click's own before 8.2 takes none
    """A word that a function of the core reads."""

    def __init__(self, read: Callable[[str], Any], name: str) -> None:
        """Take the function, which raises :class:`InputError`, and what help calls its values."""
        self.read, self.name = read, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - as click has it
        """Read it; a default is a value already."""
        if not value or not isinstance(value, str):
            return value  # that an empty one names nothing is said of all options alike
        try:
            return self.read(value)
        except InputError as error:
            self.fail("; ".join(error.problems), param, ctx)


def _compression(text: str) -> Compression:
    from rootless_layer.tar.compression import Compression  # noqa: PLC0415 - for a quick --help

    return Compression.parse(text)


def _size(text: str) -> int:
    size = parse_size(text)
    if not size:
        message = f"{text} is nothing: a size is above 0"
        raise InputError(message)
    return size


WHOLE, COUNT = Value(whole, "integer"), Value(partial(whole, lowest=1), "integer")
ID = Value(partial(whole, highest=2**32 - 2), "integer")
SECONDS = Value(seconds, "float")
COMPRESSION = Value(_compression, "text")
SIZE = Value(_size, "text")


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


def platform_of(given: str | None) -> Platform | None:
    """Read the option --platform."""
    from rootless_layer.oci.descriptor import Platform  # noqa: PLC0415 - for a quick --help

    with as_written("--platform"):
        return Platform.parse(given) if given else None


def epoch(given: int | None) -> int:
    """Give an option's time in seconds since 1970, else that of ``SOURCE_DATE_EPOCH``."""
    if given is not None:
        return given
    with as_written("SOURCE_DATE_EPOCH"):
        return environment_epoch()


def cache_limit() -> int | None:
    """Give how many bytes the cache may hold, as far as the variable says."""
    with as_written(VARIABLE):
        return limit()


def _limited(_context: click.Context, _param: click.Parameter, given: str | None) -> None:
    """Have the limit where all that adds to the cache reads it, in children as well."""
    if given is None:
        cache_limit()
        return
    with as_written("--cache-size"):
        parse_limit(given)
    os.environ[VARIABLE] = given


cache_size = click.option(
    "--cache-size",
    metavar="SIZE",
    expose_value=False,
    callback=_limited,
    help="What the cache may hold: bytes, or with K, M, G or T; none is no limit."
    "  [default: ROOTLESS_LAYER_CACHE_SIZE, else 20G]",
)
