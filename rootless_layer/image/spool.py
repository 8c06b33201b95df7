"""Room for what has to be decompressed, or written apart, while a verb works."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Self

import attrs

from rootless_layer.system.machine import unwritable
from rootless_layer.system.temporary import PREFIX, Temporary, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


@attrs.define(slots=True)
class Spool:
    """Names new files in a directory of its own below ``TMPDIR``; a call gives the path of the next one.

    The directory is made when it is first needed, and goes in the end. ``fault`` is the message where it cannot be made.
    """

    fault: str = "nothing can be written there"
    _temporary: Temporary = attrs.field(factory=Temporary)
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)
    _folder: str = ""

    def __enter__(self) -> Self:
        """Give the spool itself."""
        self._temporary.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the directory, where it was made."""
        self._temporary.__exit__(kind, error, trace)

    @property
    def folder(self) -> str:
        """Give the directory; raises :class:`OutputError` where it cannot be made."""
        if not self._folder:
            place = temporary_folder()
            with spooled(place, self.fault):
                self._folder = self._temporary.make(place, PREFIX)
        return self._folder

    def __call__(self) -> str:
        """Name a new file; raises :class:`OutputError` where its directory cannot be made."""
        return f"{self.folder}/{next(self._numbers)}"


@contextlib.contextmanager
def spooled(place: str, fault: str = "nothing can be written there") -> Iterator[None]:
    """Raise :class:`OutputError` for what cannot be written to that place."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, place, fault, hint="Set TMPDIR to a directory that is there.") from error
