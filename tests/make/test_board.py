"""What is shown while nodes are made: on a terminal lines that change, elsewhere plain ones."""

from __future__ import annotations

import io
import os
import pty

import pytest

from rootless_layer.cli.board import Board
from rootless_layer.errors import ScriptError
from rootless_layer.make.events import Done, Failed, Output, Start, Working
from rootless_layer.make.graph import Node
from rootless_layer.progress import Progress

pytestmark = pytest.mark.slow

ONE, TWO = Node("one"), Node("two")


def test_a_terminal_has_a_line_for_each_that_is_worked_on() -> None:
    """On a terminal the lines of what is worked on change below what is said for good."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as file:
        board = Board(file, live=True, pause=0)
        for event in (
            Start(ONE, "build"),
            Start(TWO, "build"),
            Output(TWO, "words", 1.5),
            Working(ONE, Progress("write", 3 << 20, 9 << 20, entries=5)),
            Done(TWO, "built", "sha256:0"),
        ):
            board(event)
        board.end()
        said = ""
        while "1 built\r\n" not in said:
            said += os.read(master, 1 << 16).decode()
    os.close(master)
    one = "one  write 3 of 9 MiB"
    lines = [
        [],
        ["one  build"],
        ["one  build", "two  build"],
        ["rootless-layer: two 1.5 s| words", "one  build", "two  build"],
        [one, "two  build"],
        ["rootless-layer: two: built: sha256:0", one],
        ["rootless-layer: 1 built"],
    ]
    up = ["\r", "\r\x1b[1A", "\r\x1b[2A", "\r\x1b[2A", "\r\x1b[2A", "\r\x1b[1A", ""]
    shown = ["".join(f"{line}\r\n" for line in each) for each in lines]
    assert said.split("\x1b[J") == [one + other for one, other in zip(shown, up, strict=True)]


def test_elsewhere_there_are_plain_lines() -> None:
    """Where there is no terminal each thing is said once, in a line of its own; quietly only failures and scripts' words."""
    for quiet, expected in ((False, ["one: build", "one| words", "one: failed with status 3", "one: why", "1 failed"]),
                            (True, ["one| words", "one: failed with status 3", "one: why", "1 failed"])):  # fmt: skip
        file = io.StringIO()
        board = Board(file, quiet=quiet)
        for event in (
            Start(ONE, "build"),
            Working(ONE, Progress("run")),
            Output(ONE, "words"),
            Failed(ONE, ScriptError("why", status=3)),
        ):
            board(event)
        board.end()
        assert file.getvalue().splitlines() == [f"rootless-layer: {line}" for line in expected]
