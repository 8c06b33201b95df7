"""The command's beginning and end: signals, streams that are closed or full, a reader that goes away."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.aftermath import assert_said
from helpers.command import VERBS, Ran
from helpers.users import COMMAND, User

from rootless_layer.cli import end
from rootless_layer.system import replace

STOPPED = "import os, signal\nos.kill(os.getpid(), signal.{})\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("module", ["click", "attrs"])
def test_a_signal_while_python_still_imports(users: list[User], module: str, name: str) -> None:
    """A signal that comes before the command has begun ends it by that signal, without a word; while a verb is loaded, in order."""
    user = users[-1]
    (user.home / f"{module}.py").write_text(STOPPED.format(name))
    done = user.run([*COMMAND, "build", "-o", "x", "--base", "none"], env={"PYTHONPATH": str(user.home)})
    number = getattr(signal, name)
    if module == "click":
        assert (done.status, done.out, done.err) == (-number, "", "")
    else:
        assert (done.status, done.out) == (128 + number, "")
        assert re.fullmatch(r"rootless-layer: .*; nothing was kept: the output is as it was before\n", done.err)


def test_an_ignored_signal_stays_ignored(users: list[User]) -> None:
    """Under nohup, and in the background of a shell without jobs, SIGINT ends nothing, at the start neither."""
    user = users[-1]
    (user.home / "late.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfrom rootless_layer.cli import start\nstart.run()\n"
    )
    done = user.run(["sh", "-c", f"trap '' INT; exec {sys.executable} late.py --version"])
    assert done.status == 0


def test_an_output_takes_its_place_before_a_signal_is_heard(tmp_path: Path) -> None:
    """A signal amidst the placing of an output is held back until it is in its place, and known to be."""
    heard: list[list[Path]] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(list(replace.PLACED)))
    replace.PLACED.clear()
    try:
        with replace.placing(tmp_path):
            signal.raise_signal(signal.SIGTERM)
            assert heard == []
        assert heard == [[tmp_path]]
    finally:
        signal.signal(signal.SIGTERM, before)
        replace.PLACED.clear()


ENDINGS = """\
import os, sys
from rootless_layer.cli import end
import click
with click.Context(click.Command("x"), info_name=sys.argv[1]) as context:
    context.params = {"output": sys.argv[2] or None}
    end._terminate(int(sys.argv[3]), None)
"""


@pytest.mark.parametrize(
    ("verb", "output_", "number", "said"),
    [
        ("build", "layer", signal.SIGINT, "interrupted; nothing was kept: the output is as it was before"),
        ("image", "-", signal.SIGTERM, "terminated; what went to stdout is not whole"),
        ("make", "", signal.SIGINT, "interrupted; what is finished is in its place"),
        ("gc", "", signal.SIGHUP, "hung up; what it has removed is gone"),
        ("validate", "", signal.SIGINT, "interrupted"),
    ],
)
def test_each_verb_says_what_is_true_when_it_is_ended(verb: str, output_: str, number: int, said: str) -> None:
    """What is kept of an interrupted verb's work is said as it is: of an output nothing, of a graph what is finished."""
    words = [sys.executable, "-c", ENDINGS, verb, output_, str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, f"rootless-layer: {said}\n")
    assert end._INTERRUPTED.keys() <= {words[-1] for words in VERBS}


THREADED = """\
import os, subprocess, threading
from rootless_layer.cli import end
opened, _ = os.pipe()
def reading():
    while True:
        os.fstat(opened)
threading.Thread(target=reading, daemon=True).start()
subprocess.Popen(["sleep", "0.2"])
end._terminate(2, None)
"""


def test_a_thread_that_loses_its_files_says_nothing() -> None:
    """Where a command is interrupted whose threads read files, as one that unpacks a base, no traceback is said."""
    done = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (130, 1)
    assert done.stderr.startswith("rootless-layer: interrupted")


@pytest.mark.parametrize("words", [["validate", "none"], ["make", "none"], ["build", "-o", "x", "--copy-to-root", "none"]])
def test_the_status_is_right_where_nobody_can_be_told(users: list[User], words: list[str]) -> None:
    """With a stderr that is full or closed, and a stdin and stdout that are closed, the status is the fault's all the same."""
    for streams in ("2>/dev/full", "2>&-", "<&- >&- 2>&-"):
        done = users[-1].run(["sh", "-c", f'"$@" {streams}', "sh", *COMMAND, *words])
        assert done.status == 66, streams


def test_a_build_goes_on_where_nobody_can_be_told(users: list[User]) -> None:
    """A build that has a note to say to a full stderr succeeds; one whose digest stdout does not take ends with 73."""
    user = users[-1]
    (user.home / "tree").mkdir()
    build = [*COMMAND, "build", "--copy-to-root", "tree", "-o", "x"]
    assert user.run(["sh", "-c", '"$@" 2>/dev/full', "sh", *build]).status == 0
    done = user.run(["sh", "-c", '"$@" >/dev/full', "sh", *build])
    assert done.status == 73
    assert "stdout" in done.err
    assert "x is in its place" in done.err


def test_a_stdout_that_takes_nothing_is_73(users: list[User]) -> None:
    """An archive for a closed stdout is refused, by each verb that writes one; whatever a full one is to take fails."""
    user = users[-1]
    archives = [
        ["image", "--layer", "x", "-o", "-"],
        ["merge", "x", "-o", "-"],
        ["nix-archive", "x", "-o", "-"],
        ["nix-export", "x", "-o", "-"],
    ]
    for words, stream in [
        *((words, ">&-") for words in archives),
        (["--help"], ">/dev/full"),
    ]:
        done = user.run(["sh", "-c", f'"$@" {stream}', "sh", *COMMAND, *words])
        assert_said(done, 73, "stdout: ")


def test_a_working_directory_that_is_gone_is_named(ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the working directory was removed, a relative path's error says so, whatever else it says."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for words, status in ((["build", "--copy-to-root", "t", "-o", "l"], 74), (["diff", "a", "b"], 66)):
        found = ran(*words)
        assert (found[0], "working directory is gone" in found[2]) == (status, True), found


@pytest.mark.parametrize("verb", ["image", "nix-archive", "nix-export", "inspect"])
def test_a_reader_that_goes_away_is_141_in_every_verb(users: list[User], verb: str) -> None:
    """Where the reader of stdout has gone away the status is 141, without a word, whichever verb writes."""
    user = users[-1]
    (user.home / "tree").mkdir()
    (user.home / "tree/large").write_bytes(bytes(1 << 20))
    assert user.build("--copy-to-root", user.home / "tree").status == 0
    words = {
        "image": ["image", "--layer", "layer", "-o", "-"],
        "nix-archive": ["nix-archive", "layer", "-o", "-"],
        "nix-export": ["nix-export", "layer", "-o", "-"],
        "inspect": ["inspect", "--list", "layer"],
    }[verb]
    command = " ".join([*COMMAND, *words])
    # The reader has gone before a byte is written.
    result = user.run(["bash", "-c", f"exec 3> >(:); wait $!; {command} >&3; echo $? >status"])
    assert ((user.home / "status").read_text(), result.err) == ("141\n", "")
