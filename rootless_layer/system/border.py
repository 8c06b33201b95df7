"""The border of the library: what its functions raise is a :class:`RootlessLayerError`."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from rootless_layer.errors import MachineError

from .machine import advice, shortage

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def of_machine(error: BaseException, what: str = "this machine") -> MachineError | None:
    """Put what nobody foresaw in words: an error of the system's, or that there is not enough memory or no thread more.

    ``what`` could not be done, where the error names no file. It is ``None`` for any other error, which is a fault of
    this program's.
    """
    number = shortage(error)
    if isinstance(error, OSError) and error.filename is None and is_adrift():
        return MachineError("the working directory is gone", hint="Change to one that is there, or give absolute paths.")
    if isinstance(error, OSError):
        return MachineError(f"{error.filename or what}: {error.strerror or error}", hint=advice(error.errno))
    return MachineError(f"{what}: {os.strerror(number)}", hint=advice(number)) if number else None


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
        except Exception as error:
            told = of_machine(error)
            if told is None:
                raise
            raise told from error

    return call
