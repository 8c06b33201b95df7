"""Directories that other processes read ahead of whoever needs them, in the order in which they are needed."""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import TYPE_CHECKING, BinaryIO

import attrs

from rootless_layer.system.fork import Child, cores, may_fork, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .walk import Part

    Unit = Callable[[], Iterator[Part]]

ENOUGH = 4096
"""So many names are read before others help: a fork takes as long as some hundred of them."""
_MOST_HELPERS = 3
_END = b""


def read_ahead(units: Sequence[Unit]) -> Iterator[Iterator[Part]]:
    """Give the parts of each unit, which are taken before the next unit is asked for; later ones are read meanwhile.

    Raises what the units raise, which are errors of this package's.
    """
    read = 0

    def counted(parts: Iterator[Part]) -> Iterator[Part]:
        nonlocal read
        for listing, begin, end in parts:
            read += end - begin
            yield listing, begin, end

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
        file = open(taken, "rb")  # noqa: SIM115 - it is closed with the stack
        stack.callback(file.close)

        def work() -> None:
            file.close()
            with open(given, "wb") as to:
                for unit in units:
                    for listing, begin, end in unit():
                        pickle.dump(listing.cut(begin, end), to, pickle.HIGHEST_PROTOCOL)
                    pickle.dump(_END, to)
                    to.flush()

        try:
            with uninterrupted():
                child = Child(work)
                stack.callback(child.stop)
        finally:
            os.close(given)
        return cls(child, file)

    def parts(self) -> Iterator[Part]:
        """Give the parts of its next unit."""
        while True:
            try:
                listing = pickle.load(self.file)  # noqa: S301 - of a child of this process
            except EOFError:
                self.child.join()  # raises the error for which it ended
                raise
            if listing == _END:
                return
            yield listing, 0, len(listing.names)
