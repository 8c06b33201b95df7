"""What forked children raise is raised by their parent, once."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from rootless_layer.errors import MachineError, RootlessLayerError, ScriptError, SourceError
from rootless_layer.system.fork import for_each_forked

if TYPE_CHECKING:
    from pathlib import Path


def nothing() -> None:
    """Be told that time passes."""


@pytest.mark.parametrize(
    "error",
    [
        SourceError("one", "two " * 50_000, "\udcff", hint="mend it"),
        ScriptError("it failed", status=7),
        MachineError("no room"),
    ],
)
def test_an_error_is_the_parents_as_it_was(error: RootlessLayerError) -> None:
    """The kind, each problem, however long, the hint and a script's status are the child's."""

    def work(_item: int) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        for_each_forked([1], work, nothing)
    assert (raised.value.problems, raised.value.hint) == (error.problems, error.hint)
    assert vars(raised.value) == vars(error)


def test_an_error_of_the_systems_keeps_its_number_and_path(tmp_path: Path) -> None:
    """Whoever catches it asks for both."""
    with pytest.raises(FileNotFoundError) as raised:
        for_each_forked([tmp_path / "absent"], os.stat, nothing)
    assert raised.value.filename == str(tmp_path / "absent")


def test_want_of_memory_and_a_fault_are_told_apart() -> None:
    """The one is this machine's; the other is this program's, and comes with the child's traceback."""
    for kind, told, words in ((MemoryError, MachineError, "memory"), (ZeroDivisionError, RuntimeError, "def_of_fault")):

        def def_of_fault(_item: int, kind: type[Exception] = kind) -> None:
            raise kind

        with pytest.raises(told, match=words):
            for_each_forked([1], def_of_fault, nothing)


def test_a_child_that_is_killed_is_an_error_and_its_work_is_not_done_again(tmp_path: Path) -> None:
    """It is said by which signal; what it had begun is as it left it."""

    def work(item: int) -> None:
        with open(tmp_path / "done", "a") as file:
            file.write(f"{item}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(MachineError, match="SIGKILL"):
        for_each_forked([1], work, nothing)
    assert (tmp_path / "done").read_text() == "1\n"


def test_children_leave_no_descriptor_open() -> None:
    """Whether they succeed or fail."""
    before = sorted(os.listdir("/proc/self/fd"))
    for_each_forked(range(9), abs, nothing)
    with pytest.raises(RuntimeError):
        for_each_forked(range(9), lambda item: 1 // item, nothing)
    assert sorted(os.listdir("/proc/self/fd")) == before
