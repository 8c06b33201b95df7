"""What ``rootless-layer make`` shows of its events: a line for each that is worked on, or plain lines, or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, TextIO

import attrs

from rootless_layer.make.events import Done, Event, Failed, Output, Planned, Skipped, Start, Working
from rootless_layer.progress import told
from rootless_layer.terminal import columns_of, fitted, is_live, printable

from .versioned import versioned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless_layer.make.why import Why
    from rootless_layer.progress import Progress

_PAUSE_SECONDS = 0.1
_MOST_LINES = 40
_LONG_SECONDS = 2
_PLANNED = {"build": "would be built", "place": "would be taken from the cache", "write": "would be written"}
_DONE = {"built": "built", "placed": "taken from the cache", "written": "written", "unchanged": "unchanged"}


@attrs.define(slots=True)
class Board:
    """Shows events to a person on ``file``.

    On a terminal (``live``) there is a line below all others for each node that is worked on,
    which changes at most once in ``pause`` seconds; ``quiet`` leaves failures and the scripts' own words only.
    With ``explain`` it is said in detail why each is made. The scripts' words have the seconds of their node there, and
    where it is ``verbose``: then each step has a line of its own as well, with its seconds, when it has ended.
    """

    file: TextIO
    live: bool = False
    quiet: bool = False
    pause: float = _PAUSE_SECONDS
    explain: bool = False
    verbose: bool = False
    count: Counter[str] = attrs.field(factory=Counter)
    written: list[str] = attrs.field(factory=list)
    """The names of the nodes whose outputs were written."""
    _working: dict[str, tuple[str, str, float]] = attrs.field(factory=dict)
    """By a node's name: the stage, what is said of it, and since when it is that stage."""
    _drawn: int = 0
    _time: float = 0.0

    @classmethod
    def on_stderr(cls, *, quiet: bool, explain: bool = False, verbose: bool = False) -> Board:
        """Show them where a person looks."""
        return cls(sys.stderr, live=not quiet and is_live(sys.stderr), quiet=quiet, explain=explain, verbose=verbose)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        name = event.name
        lines: list[str] = []
        match event:
            case Planned():
                self.count["planned"] += 1
                lines = [printable(line) for line in self._begun(name, _PLANNED[event.action], event.why)]
            case Start():
                self._works(name, event.action, event.action)
                if not self.quiet and (self.explain or not self.live):
                    lines = [printable(line) for line in self._begun(name, event.action, event.why)]
            case Working(progress=progress):
                step = progress.stage + progress.script
                lines = [] if progress.note else self._ended_step(name, step)
                self._works(name, step, _told(progress))
                lines += [printable(f"{name}: {progress.note}")] if progress.note and not self.quiet else []
                if progress.known and self.explain and not self.quiet:
                    lines.append(printable(f"{name}:   {_known(progress)}"))
            case Output():
                lines = [f"{name} {event.seconds:.1f} s| {event.text}" if self.live or self.verbose else f"{name}| {event.text}"]
            case _:
                lines = self._ended_step(name, "")
                self._working.pop(name, None)
                self.count[_outcome(event)] += 1
                self.written += [name] if _outcome(event) == "written" else []
                lines += [printable(line) for line in self._ended(event)]
        self._show(lines, at_once=bool(lines) or not isinstance(event, Working))

    def _works(self, name: str, stage: str, text: str) -> None:
        before, _, since = self._working.get(name, ("", "", 0.0))
        self._working[name] = stage, text, since if before == stage else time.monotonic()

    def _ended_step(self, name: str, following: str) -> list[str]:
        """Tell of the step that a node was at, where another one is following, if that is to be told."""
        before, text, since = self._working.get(name, ("", "", 0.0))
        if not self.verbose or self.quiet or before in {"", following}:
            return []
        return [printable(f"{name}: {text}: {time.monotonic() - since:.1f} s")]

    def make_way(self) -> None:
        """Take the lines away that change."""
        if self.live and self._drawn:
            with contextlib.suppress(OSError):
                self.file.write(f"\r\x1b[{self._drawn}A\x1b[J")
                self.file.flush()
            self._drawn = 0

    def tick(self) -> None:
        """Show how long it takes, where nothing else happens."""
        if self.live:
            self._show([], at_once=False)

    def _begun(self, name: str, what: str, why: Why) -> Iterable[str]:
        yield f"{name}: {what}: {why.text}" if why.text else f"{name}: {what}"
        yield from (f"{name}:   {detail}" for detail in why.details if self.explain)

    def _ended(self, event: Event) -> Iterable[str]:
        name = event.name
        match event:
            case Failed(error=error):
                yield f"{name}: failed with status {event.exit_status}"
                for text in (*error.problems, error.hint):
                    yield from (f"{name}: {line}" for line in text.splitlines())
                if event.log:
                    yield f"{name}: its scripts' words are in {event.log}"
            case Skipped():
                yield f"{name}: not made, because of {event.because}"
            case Done() if not self.quiet and event.status != "unchanged":
                why = f" ({event.why.text})" if event.why.text else ""
                yield f"{name}: {_DONE[event.status]}{why}: {event.digest}"
                if event.log:
                    yield f"{name}: log: {event.log}"

    def end(self) -> None:
        """Say what came of everything."""
        self._working.clear()
        words = {**_DONE, "failed": "failed", "skipped": "not made", "planned": "would be made"}
        summary = ", ".join(f"{self.count[kind]} {word}" for kind, word in words.items() if self.count[kind])
        bad = self.count["failed"] + self.count["skipped"]
        self._show([summary] if bad or not self.quiet else [], at_once=True)

    def _show(self, lines: Iterable[str], *, at_once: bool) -> None:
        now = time.monotonic()
        with contextlib.suppress(OSError):  # where nobody can be told, the work goes on
            if not self.live:
                self.file.writelines(f"rootless-layer: {line}\n" for line in lines)
            elif at_once or now - self._time >= self.pause:
                self._draw(lines, now)
            self.file.flush()

    def _draw(self, lines: Iterable[str], now: float) -> None:
        self._time = now
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        columns = columns_of(self.file)
        rows = [
            f"{name}  {text}" + (f"  {now - since:.0f} s" if now - since >= _LONG_SECONDS else "")
            for name, (_, text, since) in list(self._working.items())[:_MOST_LINES]
        ]
        said = "".join(f"rootless-layer: {line}\n" for line in lines)
        self.file.write(f"\r{up}\x1b[J{said}" + "".join(f"{fitted(row, columns)}\n" for row in rows))
        self._drawn = len(rows)


def _told(progress: Progress) -> str:
    return told(progress.stage, done=progress.done, total=progress.total, entries=progress.entries, script=progress.script)


def _known(progress: Progress) -> str:
    return f"{progress.known >> 20} of {progress.total >> 20} MiB are known from the cache, and not read"


def _outcome(event: Event) -> str:
    return event.status if isinstance(event, Done) else event.event


@attrs.define(slots=True)
class Lines:
    """Shows events to a program: a JSON object a line, on ``file``."""

    file: TextIO
    count: Counter[str] = attrs.field(factory=Counter)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, (Done, Failed, Skipped, Planned)):
            self.count[_outcome(event)] += 1
        self._write(event.to_json())

    def tick(self) -> None:
        """Print nothing: a program has a clock of its own."""

    def make_way(self) -> None:
        """Change nothing: what is printed stays."""

    def end(self, status: int) -> None:
        """Say what came of everything."""
        names: Any = ("built", "placed", "written", "unchanged", "failed", "skipped", "planned")
        self._write({"event": "end", "exitStatus": status} | {name: self.count[name] for name in names})

    def _write(self, said: dict[str, Any]) -> None:
        self.file.write(json.dumps(versioned(said)) + "\n")
        self.file.flush()
