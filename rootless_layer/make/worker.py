"""Work in a process of its own, which reports what it does: a forked child and two pipes from it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
import traceback
from typing import TYPE_CHECKING, Protocol

from rootless_layer.errors import MachineError, RootlessLayerError, to_report
from rootless_layer.system.border import of_machine
from rootless_layer.system.fork import Child, uninterrupted

from .events import of_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rootless_layer.progress import Progress
    from rootless_layer.session.attached import Terminal

_PAUSE_SECONDS = 0.1


class Job:
    """A child that works for a node of a graph.

    ``reports`` is a pipe of JSON, a line each; ``words`` one of what scripts and others write
    to stdout and stderr. Reading from neither blocks.
    """

    def __init__(self, work: Callable[[Teller], object]) -> None:
        """Start it; ``work`` gets what to tell its progress, and raises where it fails."""
        self.failed: RootlessLayerError | None = None
        self._rest: dict[int, bytes] = {}
        self.reports, reports = os.pipe()
        self.words, words = os.pipe()
        go, self._go = os.pipe()
        sys.stdout.flush()  # or the child would write it once more
        sys.stderr.flush()
        with uninterrupted():
            self.child = Child(lambda: _run(work, _Teller(reports, go), words))
        for descriptor in (reports, words, go):
            os.close(descriptor)
        for descriptor in (self.reports, self.words):
            os.set_blocking(descriptor, False)

    def read(self, descriptor: int) -> list[bytes] | None:
        """Give the whole lines that have come; nothing at all where none can come any more."""
        try:
            part = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return []
        if not part:
            return None
        *lines, self._rest[descriptor] = (self._rest.get(descriptor, b"") + part).split(b"\n")
        return lines

    def let_go(self) -> None:
        """Let the child go on, which waits in :meth:`Teller.held` or for the terminal."""
        os.write(self._go, b"\n")

    def end(self) -> list[bytes]:
        """Wait for the child, which has closed its reports; give what it has written last."""
        ended_well = self.child.wait()
        lines: list[bytes] = []
        while select.select([self.words], [], [], 0)[0] and (more := self.read(self.words)) is not None:
            lines += more
        if rest := self._rest.get(self.words):
            lines.append(rest)
        for descriptor in (self.reports, self.words, self._go):
            os.close(descriptor)
        if not ended_well and self.failed is None:
            self.failed = RootlessLayerError("the process that worked on it was killed")
        return lines


def _run(work: Callable[[Teller], object], teller: _Teller, words: int) -> None:
    """Be the child."""
    for number in (1, 2):
        os.dup2(words, number)
    try:
        work(teller)
    except RootlessLayerError as error:
        teller.fail(error)
    except Exception as error:  # noqa: BLE001 - it is this machine's, or a fault of this program's, and said to be one
        told = of_machine(error, "the build")
        if told is not None:
            teller.fail(MachineError(*(f"{problem}; nothing was kept" for problem in told.problems), hint=told.hint))
            return
        traceback.print_exc()
        message = f"a fault of this program: {type(error).__name__}: {error}"
        teller.fail(RootlessLayerError(message, hint="Report it, with the lines above."))


class Teller(Protocol):
    """What a child's work tells its parent with."""

    def __call__(self, progress: Progress) -> None:
        """Tell how far it is."""

    def read(self, found: list[object]) -> None:
        """Tell what was read, as JSON."""

    def held(self) -> None:
        """Tell that what the parent is to have is there, and wait until it has it."""

    def terminal(self) -> AbstractContextManager[None]:
        """Have the parent's terminal alone, for which this waits."""


def shell_for(tell: Teller, *, wanted: bool) -> AbstractContextManager[Terminal | None]:
    """Give the terminal on which a shell is opened where a script fails, if that is wanted."""
    if not wanted:
        return contextlib.nullcontext()
    from rootless_layer.session.attached import Terminal  # noqa: PLC0415 - for few

    return Terminal.open("--on-failure shell", tell.terminal)


class _Teller:
    """Writes reports, progress not more often than a person can read it."""

    def __init__(self, descriptor: int, go: int) -> None:
        self.descriptor, self.go = descriptor, go
        self.stage = ""
        self.told = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        stage = progress.stage + progress.script
        if stage == self.stage and not (progress.note or progress.known) and now - self.told < _PAUSE_SECONDS:
            return
        self.stage, self.told = stage, now
        self._write({"progress": of_progress(progress)})

    def read(self, found: list[object]) -> None:
        self._write({"read": found})

    def held(self) -> None:
        self._write({"held": True})
        os.read(self.go, 1)

    @contextlib.contextmanager
    def terminal(self) -> Iterator[None]:
        self._write({"terminal": True})
        os.read(self.go, 1)
        try:
            yield
        finally:
            self._write({"terminal": False})

    def fail(self, error: RootlessLayerError) -> None:
        self._write({"failed": to_report(error)})

    def _write(self, said: dict[str, object]) -> None:
        line = json.dumps(said).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self.descriptor, line) :]
