"""Directories that other processes read ahead of whoever needs them, in the order in which they are needed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
from typing import TYPE_CHECKING, BinaryIO

import attrs

from rootless_layer.system.fork import Child, cores, may_fork, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .walk import Listing

    Unit = Callable[[], Iterator[Listing]]

ENOUGH = 4096
"""So many names are read before others help: a fork takes as long as some hundred of them."""
_MOST_HELPERS = 3
_END = b""
_PIPE_BYTES = 1 << 20
"""How far a helper may be ahead: directories differ in size."""


def read_ahead(units: Sequence[Unit]) -> Iterator[Iterator[Listing]]:
    """Give the parts of each unit, which are taken before the next unit is asked for; later ones are read meanwhile.

    Raises what the units raise, which are errors of this package's.
    """
    read = 0

    def counted(parts: Iterator[Listing]) -> Iterator[Listing]:
        nonlocal read
        for listing in parts:
            read += len(listing.names)
            yield listing

    place = 0
    while place < len(units) and read < ENOUGH:
        yield counted(units[place]())
        place += 1
    left = units[place:]
    helpers = min(cores() - 1, _MOST_HELPERS, len(left) - 1) if may_fork() else 0
    with contextlib.ExitStack() as stack:
        started: list[_Helper] = []
        with contextlib.suppress(OSError):  # no process is to be had: those that are there do it
            started.extend(_Helper.start(left[number :: helpers + 1], stack) for number in range(1, helpers + 1))
        for number, unit in enumerate(left):
            turn = number % (helpers + 1) if helpers > 0 else 0
            yield started[turn - 1].parts() if 0 < turn <= len(started) else unit()


@attrs.frozen(slots=True)
class _Helper:
    """A process that reads units one after the other, for as long as somebody takes what it has read."""

    child: Child
    file: BinaryIO

    @classmethod
    def start(cls, units: Sequence[Unit], stack: contextlib.ExitStack) -> _Helper:
        taken, given = os.pipe()
        with contextlib.suppress(OSError):  # a user has so much of it for all pipes
            fcntl.fcntl(given, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        file = open(taken, "rb")  # noqa: SIM115 - it is closed with the stack
        stack.callback(file.close)

        def work() -> None:
            file.close()
            with open(given, "wb") as to:
                for unit in units:
                    for listing in unit():
                        pickle.dump(listing, to, pickle.HIGHEST_PROTOCOL)
                    pickle.dump(_END, to)
                    to.flush()

        try:
            with uninterrupted():
                child = Child(work)
                stack.callback(child.stop)
        finally:
            os.close(given)
        return cls(child, file)

    def parts(self) -> Iterator[Listing]:
        """Give the parts of its next unit."""
        while True:
            try:
                listing = pickle.load(self.file)  # noqa: S301 - of a child of this process
            except EOFError:
                self.child.join()  # raises the error for which it ended
                raise
            if listing == _END:
                return
            yield listing
