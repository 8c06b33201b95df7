"""The terminal that all of a run share: what happens is shown there, but while one of those that work has it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.system import tty

if TYPE_CHECKING:
    from .events import Display, Event
    from .worker import Job


@attrs.define(slots=True)
class Screen:
    """A display that waits while somebody else has the terminal; what is to be shown then is shown afterwards."""

    display: Display
    _asking: list[Job] = attrs.field(factory=list)
    """Who has it, and who asks for it, in this order."""
    _later: list[Event] = attrs.field(factory=list)
    _kept: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)

    def __call__(self, event: Event) -> None:
        """Show an event, now or later."""
        if self._asking:
            self._later.append(event)
        else:
            self.display(event)

    def tick(self) -> None:
        """Show the time that has passed."""
        if not self._asking:
            self.display.tick()

    def make_way(self) -> None:
        """Take away what would be changed later."""
        self.display.make_way()

    def ask(self, job: Job) -> None:
        """Give a job the terminal, when nobody has it."""
        self._asking.append(job)
        if len(self._asking) == 1:
            self._give(job)

    def leave(self, job: Job) -> None:
        """Take the terminal back from a job that has it, or does not want it any more."""
        if job not in self._asking:
            return
        had = self._asking[0] is job
        self._asking.remove(job)
        if not had:
            return
        self._kept.close()
        later, self._later = self._later, []
        for event in later:
            self.display(event)
        if self._asking:
            self._give(self._asking[0])

    def _give(self, job: Job) -> None:
        self.display.make_way()
        with contextlib.suppress(OSError):  # the job says that there is none
            own = tty.open_own()
            self._kept.callback(os.close, own)
            self._kept.enter_context(tty.kept(own))  # for the job may be killed
        job.let_go()
