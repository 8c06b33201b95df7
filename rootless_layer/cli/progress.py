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

    def __init__(self, *, quiet: bool = False) -> None:
        """Begin with nothing to show; where it is to be ``quiet``, with nothing ever."""
        self.quiet = quiet
        self.live = not quiet and is_live(sys.stderr)
        self.shown = ""
        self._what = ("", "")
        self._since = self._drawn = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if self.quiet:
            return
        if progress.note:
            self.end()
            say(progress.note)
        if self.live:
            self._show(progress, time.monotonic())

    def _show(self, progress: Progress, now: float) -> None:
        what = (progress.stage, progress.script)
        if what == self._what and now - self._drawn < _PAUSE_SECONDS:
            return
        self._drawn = now
        if progress.stage == "run":  # the scripts write to the same terminal: what is said stays above what they say
            if what != self._what:
                self.end()
                if progress.script:
                    say(printable(told("run", script=progress.script)))
        else:
            if what != self._what:
                self._since = now
            self._draw(_line(progress, int(now - self._since)))
        self._what = what

    def _draw(self, text: str) -> None:
        if text == self.shown:
            return
        with contextlib.suppress(OSError):
            sys.stderr.write(f"\r\x1b[K{fitted(text, columns_of(sys.stderr))}")
            sys.stderr.flush()
        self.shown = text

    def end(self) -> None:
        """Clear the line."""
        if self.live and self.shown:
            with contextlib.suppress(OSError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
        self.shown = ""


def _line(progress: Progress, seconds: int) -> str:
    text = told(progress.stage, done=progress.done, total=progress.total, entries=progress.entries)
    return text + (f"  {seconds} s" if seconds >= _LONG_SECONDS else "")
