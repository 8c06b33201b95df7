"""What the command shows of its progress."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from rootless_layer.progress import told
from rootless_layer.terminal import columns_of, fitted, is_live, printable

from .say import say

if TYPE_CHECKING:
    from rootless_layer.progress import Progress

_PAUSE_SECONDS = 0.1
_LONG_SECONDS = 2


class Shower:
    """Shows progress on stderr: a line that changes on a terminal, notes elsewhere."""

    def __init__(self, *, quiet: bool = False, named: bool = False, verbose: bool = False) -> None:
        """Begin with nothing to show; where it is to be ``quiet``, with nothing ever.

        What scripts say is shown as it comes. Where it is ``named``, each line begins with the script's name and seconds.
        Where it is ``verbose``, each step is told in a line of its own when it has ended, on a terminal and elsewhere.
        """
        self.quiet, self.named, self.verbose = quiet, named and not quiet, verbose and not quiet
        self.live = not quiet and is_live(sys.stderr)
        self.shown = ""
        self._what = ("", "")
        self._since = self._drawn = 0.0
        self._within_line = False
        self._script = ("", 0.0)
        self._step: tuple[Progress, float] | None = None
        self.known = self.found = 0
        """How many bytes of the layer, or of several, were known before they were built, and how many of several were there."""
        self.words = self._hear if self.live or self.named else None
        """What is called with the bytes that scripts write; nothing, where they may write themselves."""

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        self.known, self.found = max(self.known, progress.known), max(self.found, progress.found)
        if self.quiet:
            return
        if progress.note:
            self.end()
            say(progress.note)
        elif self.verbose:
            self._follow(progress)
        if progress.script and progress.script != self._script[0]:
            self._end_line()
            self._script = (progress.script, time.monotonic())
        if self.live:
            self._show(progress, time.monotonic())

    def _follow(self, progress: Progress) -> None:
        """Keep how far the step is; another one ends it."""
        before, since = self._step or (progress, time.monotonic())
        if (before.stage, before.script) != (progress.stage, progress.script):
            self._tell_step()
            since = time.monotonic()
        self._step = progress, since

    def _tell_step(self) -> None:
        if self._step is not None and self._step[0].stage != "done":
            progress, since = self._step
            self._clear()
            self._end_line()
            say(f"{_told(progress)}: {time.monotonic() - since:.1f} s")
        self._step = None

    def _show(self, progress: Progress, now: float) -> None:
        what = (progress.stage, progress.script)
        if what == self._what and now - self._drawn < _PAUSE_SECONDS:
            return
        self._drawn = now
        if what != self._what:
            self._since = now
            self._end_line()
        seconds = int(now - self._since)
        if progress.stage != "run":
            self._draw(progress, seconds)
        elif what != self._what:  # what is said stays above what the script says
            self.end()
            if progress.script:
                say(printable(told("run", script=progress.script)))
        elif seconds >= _LONG_SECONDS and not self._within_line:
            self._draw(progress, seconds)
        self._what = what

    def _hear(self, words: bytes) -> None:
        """Write what a script has, where it would have; no line is drawn before it has ended its own."""
        self._clear()
        with contextlib.suppress(OSError):
            for line in words.splitlines(keepends=True) if self.named else [words]:
                sys.stderr.buffer.write(line if self._within_line or not self.named else self._named(line))
                self._within_line = not line.endswith(b"\n")
            sys.stderr.flush()

    def _named(self, line: bytes) -> bytes:
        name, since = self._script
        return f"{printable(name.rpartition('/')[2])} {time.monotonic() - since:.1f} s| ".encode(errors="backslashreplace") + line

    def _end_line(self) -> None:
        if self._within_line:
            with contextlib.suppress(OSError):
                sys.stderr.write("\n")
        self._within_line = False

    def _draw(self, progress: Progress, seconds: int) -> None:
        text = _told(progress)
        passed = f"  {seconds} s" if seconds >= _LONG_SECONDS else ""
        text = fitted(text, columns_of(sys.stderr) - len(passed)) + passed  # a long name does not hide them
        if text == self.shown:
            return
        with contextlib.suppress(OSError):
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        self.shown = text

    def end(self) -> None:
        """Clear the line, and end one that a script has not."""
        self._clear()
        self._end_line()

    def finish(self) -> None:
        """End the last step as well: the work is done."""
        self.end()
        self._tell_step()

    def _clear(self) -> None:
        if self.live and self.shown:
            with contextlib.suppress(OSError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
        self.shown = ""


def _told(progress: Progress) -> str:
    return told(progress.stage, done=progress.done, total=progress.total, entries=progress.entries, script=progress.script)
