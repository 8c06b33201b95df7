"""The border of the library: what its functions raise is a :class:`RootlessLayerError`."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def of_machine(error: OSError) -> MachineError:
    """Put an error of the system's that nobody foresaw in words."""
    if error.filename is None and is_adrift():
        return MachineError("the working directory is gone", hint="Change to one that is there, or give absolute paths.")
    return MachineError(f"{error.filename or 'this machine'}: {error.strerror or error}")


def is_adrift() -> bool:
    """Say whether the working directory, from which relative paths lead, was removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def guarded(function: Callable[P, T]) -> Callable[P, T]:
    """Have a public function raise :class:`MachineError` for an error of the system's that nobody foresaw.

    A stream whose reader has gone away is the caller's own: :class:`BrokenPipeError` stays.
    """

    @functools.wraps(function)
    def call(*args: P.args, **keywords: P.kwargs) -> T:
        try:
            return function(*args, **keywords)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise of_machine(error) from error

    return call
