"""Nodes that are made at the same time: who waits for whom, and what a failure or a signal stops."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from helpers.aftermath import assert_said, assert_whole_or_absent, processes, until
from helpers.make import DIRECTORY, ends, events, make, write
from helpers.users import COMMAND, HANG, User

pytestmark = pytest.mark.slow

MEET = (
    DIRECTORY
    + """
[layer.one]
timeout = 60
run = "echo one > HOME/one; read word < HOME/two; echo $word > met"
[layer.two]
timeout = 60
run = "read word < HOME/one; echo two > HOME/two; echo $word > met"
"""
)


def test_independent_layers_run_at_the_same_time(user: User) -> None:
    """With -j 2 two scripts that wait for each other both end; with -j 1 one layer starts after another is done."""
    for name in ("one", "two"):
        os.mkfifo(user.home / name)
        os.chmod(user.home / name, 0o666)
    said = events(user, MEET.replace("HOME", str(user.home)), "-j", "2")
    assert ends(said) == {"one": "built", "two": "built"}
    order = [each["event"] for each in events(user, DIRECTORY + '[layer.a]\nrun="true"\n[layer.b]\nrun="mkdir b"\n', "-j", "1")]
    assert [event for event in order if event in {"start", "done"}] == ["start", "done", "start", "done"]


FAILING = (
    DIRECTORY
    + """
[layer.good]
run = "mkdir good"
[layer.bad]
run = "echo WHY >&2; exit 7"
[layer.worse]
base = "good"
run = "exit 9"
[layer.above]
base = "bad"
run = "true"
[image.all]
layers = ["good", "above"]
output = "all"
[image.some]
layers = ["good"]
output = "some"
"""
)


def test_trees_are_read_beside_what_works(user: User) -> None:
    """While a layer is built, a child reads the tree of another and puts up with what it finds: nobody waits, and nobody fails with it."""
    os.mkfifo(user.home / "go")
    os.chmod(user.home / "go", 0o666)
    (user.home / "tree").mkdir()
    for name in ("one", "two"):
        (user.home / "tree" / name).write_text(name)
    (user.home / "loop").mkdir()
    (user.home / "loop/z").symlink_to(".")
    text = (
        DIRECTORY
        + f"""
[layer.waits]
timeout = 60
run = "read word < {user.home}/go; echo $word > word"
[layer.goes]
copy-to-root = "tree"
run = "test -f one; echo on > {user.home}/go"
[layer.fails]
copy-to-root = "loop"
follow-dirlinks = true
"""
    )
    said = events(user, text, "-j", "2", status=66)
    assert ends(said) == {"waits": "built", "goes": "built", "fails": "failed"}
    assert [each["action"] for each in said if each["event"] == "start"] == ["build", "build"]
    assert ends(events(user, text, status=66)) == {"waits": "unchanged", "goes": "unchanged", "fails": "failed"}


def test_a_failure_stops_what_needs_it_only(user: User) -> None:
    """What does not need a failed layer is made; the status is that of the first that failed, and the summary says all."""
    said = events(user, FAILING, "-j", "1", status=7)
    assert ends(said) == {
        "good": "built", "bad": "failed", "worse": "failed", "above": "skipped", "all": "skipped", "some": "written",
    }  # fmt: skip
    assert {each["name"]: each["because"] for each in said if each["event"] == "skipped"} == {"above": "bad", "all": "bad"}
    assert [each["text"] for each in said if each["event"] == "output"] == ["WHY"]
    assert said[-1] == {
        "version": 1, "event": "end", "exitStatus": 7, "built": 1, "written": 1, "failed": 2, "skipped": 2, "placed": 0, "unchanged": 0,
        "planned": 0,
    }  # fmt: skip
    assert not (user.home / "all").exists()
    result = make(user, FAILING, "-j", "2")
    assert_said(
        result, result.status, r"bad\| WHY", "bad: failed with status 7", "bad: run: the script failed with exit status 7",
        "above: not made, because of bad", "2 unchanged, 2 failed, 2 not made",
    )  # fmt: skip
    assert result.status in {7, 9}
    assert [line.split()[0] for line in result.out.splitlines()] == ["good", "some"]


def test_what_cannot_be_looked_up_fails_alone(user: User) -> None:
    """A layer whose tree turns out to be one that cannot be read whole fails, and nothing else does."""
    (user.home / "sparse").mkdir()
    with open(user.home / "sparse/holes", "wb") as file:
        file.truncate(2 << 30)
    text = '[layer.a]\nrun = "true"\n[layer.b]\ncopy-to-root = "sparse"\n[layer.c]\nrun = "mkdir c"\n'
    result = make(user, DIRECTORY + text)
    assert_said(result, 65, "b: failed with status 65", "b: /holes: ", "2 built, 1 failed")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_make_leaves_nothing(user: User, how: signal.Signals) -> None:
    """However make is ended: no process, no temporary tree, no output that is not whole; what was built is kept."""
    text = (
        DIRECTORY
        + """
    [layer.done]
    run = "mkdir done"
    output = "layer"
    [layer.long]
    base = "done"
    run = "echo READY; sleep 1000"
    [layer.longer]
    base = "done"
    run = "echo READY; sleep 1001"
    """
    )
    process = user.start([*COMMAND, "make", write(user, text), "-j", "2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    ready = 0
    while ready < 2:
        line = process.stderr.readline()
        assert line
        ready += b"READY" in line
    process.send_signal(how)
    status = process.wait(HANG)
    process.stderr.close()
    if how != signal.SIGKILL:
        assert status == 128 + how
        assert processes(user) == []
        assert user.leftovers() == []
    assert until(lambda: processes(user) == [])
    assert assert_whole_or_absent(user.home / "layer")
    assert ends(events(user, text, "done")) == {"done": "unchanged"}
