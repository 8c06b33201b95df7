"""What the command writes: data to stdout, everything for a person to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from rootless_layer.errors import OutputError
from rootless_layer.system.fork import ENDING
from rootless_layer.system.replace import PLACED
from rootless_layer.terminal import is_live, printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType


class Stdout(io.FileIO):
    """Where data goes: whatever writes there, each failure is an :class:`OutputError`, but that of a reader gone away."""

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Write some of it; raises :class:`OutputError`, and :class:`BrokenPipeError`."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            message = f"stdout: cannot be written: {error.strerror}"
            raise OutputError(message, hint=f"{PLACED[0]} is in its place." if PLACED else "") from error


def check_stdout() -> None:
    """Refuse to write an archive to a stdout that a person reads, or that the caller closed; raises :class:`OutputError` then."""
    if sys.__stdout__ is None:
        message = "stdout: is closed, so that no archive can be written there"
        raise OutputError(message, hint="Lead it to a file or a pipe, or name a file with -o.")
    if sys.stdout.isatty():
        message = "an archive is nothing for a terminal: pipe it, or name a file"
        raise click.BadParameter(message, param_hint="--output")


def say(*texts: object) -> None:
    """Tell a person something, a line at a time; where nobody can be told, go on without."""
    clear = "\r\x1b[K" if is_live(sys.stderr) else ""  # a line of progress
    with contextlib.suppress(OSError):
        for text in texts:
            for line in str(text).split("\n"):
                sys.stderr.write(f"{clear}rootless-layer: {printable(line)}\n")
        sys.stderr.flush()


def give(lines: Iterable[str]) -> None:
    """Write data to stdout, a line each.

    Where the work is done by then, a signal ends the command at once: a reader may be slow.
    Raises :class:`OutputError`, and :class:`BrokenPipeError` where the reader has gone away.
    """
    if PLACED:
        _let_end()
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def give_json(value: Any) -> None:  # noqa: ANN401 - JSON
    """Write one JSON document to stdout."""
    give([json.dumps(value, indent=2)])


def reader_is_gone() -> bool:
    """Say whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _let_end() -> None:
    for number in ENDING:
        if callable(signal.getsignal(number)):
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
