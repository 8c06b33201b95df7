"""Room for what has to be decompressed, or written apart, while a verb works."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from rootless_layer.system.machine import unwritable
from rootless_layer.system.temporary import Temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def spooling() -> Iterator[Callable[[], str]]:
    """Give what names new files for what has to be decompressed; they go in the end."""
    with Temporary() as temporary:
        folder: list[str] = []

        def new() -> str:
            if not folder:
                place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as build does
                with spooled(place):
                    folder.append(temporary.make(place, "rootless-layer-"))
            return f"{folder[0]}/{len(os.listdir(folder[0]))}"

        yield new


@contextlib.contextmanager
def spooled(place: str) -> Iterator[None]:
    """Raise :class:`OutputError` for what cannot be written to that place."""
    try:
        yield
    except OSError as error:
        raise unwritable(error, place, "nothing can be written there", hint="Set TMPDIR to a directory that is there.") from error
