"""Those who work: a child for each task, and who listens to all of them at the same time."""

from __future__ import annotations

import json
import select
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.cache.targets import Log
from rootless_layer.errors import RootlessLayerError, from_report
from rootless_layer.progress import Progress

from .events import Output, Start, Working
from .worker import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .screen import Screen
    from .task import Task

_TICK_MILLISECONDS = 500


@attrs.define(slots=True)
class Work:
    """A task that is worked on: the child, and the log of what scripts say."""

    task: Task
    job: Job
    log: Log | None = None

    @property
    def logged(self) -> str:
        """Give the path of the log, where there is anything in it."""
        return "" if self.log is None else self.log.said


@attrs.define(slots=True)
class Crew:
    """Works on tasks, at most ``most`` at a time; the ``screen`` is called with an event for each thing that happens.

    ``told`` is called with what a child says for the caller: that something was ``read``, or is ``held``.
    ``ended`` is called with what has ended.
    """

    most: int
    screen: Screen
    told: Callable[[Work, Mapping[str, Any]], object]
    ended: Callable[[Work], object]
    _working: dict[str, Work] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        """Say whether anybody works."""
        return bool(self._working)

    @property
    def is_full(self) -> bool:
        """Say whether no more may be worked on."""
        return len(self._working) >= self.most

    def tasks(self) -> Iterable[Task]:
        """Give what is worked on."""
        return [work.task for work in self._working.values()]

    def start(self, task: Task) -> None:
        """Begin with a task."""
        if task.action != "read":
            self.screen(Start(task.node, task.action, task.why))
        log = None if task.record is None else Log(task.record)
        self._working[task.node.name] = Work(task, Job(task.work), log)

    def listen(self) -> None:
        """Wait until one of those that work says something, or ends."""
        poll = select.poll()
        of: dict[int, str] = {}
        for name, work in self._working.items():
            for descriptor in (work.job.reports, work.job.words):
                poll.register(descriptor, select.POLLIN)
                of[descriptor] = name
        ready = poll.poll(_TICK_MILLISECONDS)
        if not ready:
            self.screen.tick()
        for descriptor, _ in ready:
            if of[descriptor] not in self._working:
                continue
            work = self._working[of[descriptor]]
            lines = work.job.read(descriptor)
            if descriptor == work.job.words:
                self._say(work, lines or [])
            elif lines is None:
                del self._working[work.task.node.name]
                self.screen.leave(work.job)
                self._say(work, work.job.end())
                self._close(work)
                self.ended(work)
            else:
                for line in lines:
                    self._report(work, json.loads(line))

    def _report(self, work: Work, said: dict[str, Any]) -> None:
        if "failed" in said:
            work.job.failed = from_report(*said["failed"])
        elif "terminal" in said:
            (self.screen.ask if said["terminal"] else self.screen.leave)(work.job)
        elif "progress" in said:
            self.screen(Working(work.task.node, Progress(**said["progress"])))
        else:
            self.told(work, said)

    def _say(self, work: Work, lines: Sequence[bytes]) -> None:
        for line in lines:
            seconds = 0.0
            if work.log is not None:
                seconds = work.log.seconds
                try:
                    work.log.write(line)
                except RootlessLayerError as error:  # the scripts go on: they do not need it
                    self._unlogged(work, error)
            self.screen(Output(work.task.node, line.decode(errors="backslashreplace"), seconds))

    def _close(self, work: Work) -> None:
        if work.log is not None:
            try:
                work.log.close()
            except RootlessLayerError as error:
                self._unlogged(work, error)

    def _unlogged(self, work: Work, error: RootlessLayerError) -> None:
        work.log = None
        self.screen(Working(work.task.node, Progress("run", note=f"there is no log: {'; '.join(error.problems)}")))
