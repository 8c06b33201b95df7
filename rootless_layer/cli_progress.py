"""What the command shows of its progress."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from .child import ENDING

if TYPE_CHECKING:
    from .progress import Progress


class Shower:
    """Shows progress on stderr: a line that changes on a terminal, notes elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Begin with nothing to show; where it is to be ``quiet``, with nothing ever."""
        self.quiet = quiet
        self.live = not quiet and sys.stderr.isatty()
        self.shown = ""

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if progress.stage == "publish":
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # from here on the layer is kept: it takes its place in one step
        if self.quiet:
            return
        if progress.note:
            self.end()
            click.echo(f"rootless-layer: {progress.note}", err=True)
        if not self.live:
            return
        text = f"{progress.stage}…"
        if progress.total:
            text = f"{progress.stage} {min(progress.done, progress.total) >> 20} of {progress.total >> 20} MiB"
        elif progress.done:
            text = f"{progress.stage} {progress.done >> 20} MiB"
        if text != self.shown:
            if progress.stage == "run":
                self.end()  # the scripts write to the same terminal
            else:
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()
            self.shown = text

    def end(self) -> None:
        """Clear the line."""
        if self.live and self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self.shown = ""
