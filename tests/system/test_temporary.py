"""Directories that go with their process: one process waits for all of them, and each process has its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers.aftermath import until

from rootless_layer.system.fork import Child
from rootless_layer.system.temporary import Temporary

if TYPE_CHECKING:
    from pathlib import Path

_COUNTING = """\
import sys

def started(event, arguments):
    if event == "subprocess.Popen" and "remove_when_caller_is_gone" in arguments[1]:
        print("JANITOR", file=sys.stderr)

sys.addaudithook(started)
from rootless_layer.cli.main import run
sys.argv[0] = "rootless-layer"
run()
"""


def janitors(folder: Path, *words: str) -> int:
    """Count the processes that wait beside a command and its forked children."""
    environment = {**os.environ, "ROOTLESS_LAYER_CACHE": f"{folder}/cache", "TMPDIR": str(folder)}
    command = [sys.executable, "-c", _COUNTING, *words]
    return subprocess.run(command, check=True, capture_output=True, env=environment).stderr.count(b"JANITOR")


def test_a_command_has_one_janitor_at_most(tmp_path: Path) -> None:
    """Whatever a build unpacks, keeps, runs and delivers, one process waits beside it; where nothing is made, none does."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("data")
    base, upon = f"{tmp_path}/base", ("--base", f"{tmp_path}/base", "-o", f"{tmp_path}/layer")
    assert janitors(tmp_path, "build", "--copy-to-root", f"{tmp_path}/tree", "-o", base) == 1
    assert janitors(tmp_path, "build", "--cache", *upon, "--view", "directory", "--", "true") == 1
    assert janitors(tmp_path, "build", "--cache", *upon, "--view", "directory", "--", "true") == 1
    assert janitors(tmp_path, "image", "--base", base, "-o", f"{tmp_path}/image.tar") == 1
    assert janitors(tmp_path, "inspect", f"{tmp_path}/image.tar") == 0


def test_what_one_has_made_goes_with_it_and_what_another_has_stays(tmp_path: Path) -> None:
    """The process that waits is shared, the directories are not."""
    with Temporary() as outer:
        kept = outer.make(str(tmp_path), "outer-")
        with Temporary() as inner:
            gone = inner.make(str(tmp_path), "inner-")
        assert os.path.isdir(kept)
        assert not os.path.lexists(gone)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("killed", [False, True])
def test_a_forked_child_has_a_janitor_of_its_own(tmp_path: Path, *, killed: bool) -> None:
    """A child's directories go when the child ends, also by its own death; its parent's stay as they are."""
    with Temporary() as temporary:
        kept = temporary.make(str(tmp_path), "parent-")

        def work() -> None:
            with Temporary() as own:
                own.make(str(tmp_path), "child-")
                temporary.make(str(tmp_path), "both-")
                if killed:
                    os.kill(os.getpid(), signal.SIGKILL)
            temporary.__exit__(None, None, None)  # as a fork of a caller's would, which unwinds

        assert Child(work).wait() is not killed
        assert until(lambda: os.listdir(tmp_path) == [os.path.basename(kept)])
    assert os.listdir(tmp_path) == []
