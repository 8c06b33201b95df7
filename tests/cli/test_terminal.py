"""What a terminal shows of a build: lines that fit, change in their place, and cannot steer it."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from helpers.users import COMMAND, User

import rootless_layer
from rootless_layer import progress, terminal
from rootless_layer.cli.progress import Shower
from rootless_layer.layer.build import build_layer


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        """Be one."""
        return True


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("plain", 3, "pla"), ("日本語", 4, "日本"), ("日本語", 5, "日本"), ("e\u0301e\u0301e\u0301", 2, "e\u0301e\u0301"), ("\x1b[2J\r\n", 80, "\\x1b[2J\\r\\n"),
        ("\udcff", 80, "\\udcff"), ("é", 1, "é"),
    ],
)  # fmt: skip
def test_a_line_fits_and_cannot_steer(text: str, columns: int, shown: str) -> None:
    """A line is cut to the columns that it takes, wide letters counted as two; control characters are escaped."""
    assert terminal.fitted(text, columns) == shown


@pytest.mark.parametrize(
    ("value", "said"), [("a", "'a'"), (["a", None, True], '["a", null, true]'), ({"b": 1}, '{"b": 1}'), ("x" * 99, "'" + "x" * 79 + "…")]
)  # fmt: skip
def test_a_value_is_quoted_as_documents_write_it(value: object, said: str) -> None:
    """What a message says of a document's value is JSON, and short; text is in quotes."""
    assert terminal.quoted(value) == said


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TERM", ""), ("TERM", None), ("NO_COLOR", "1")])
def test_who_wants_no_escapes_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """On a dumb terminal, on none, and with NO_COLOR, notes are lines, and nothing else is written."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert terminal.is_live(Terminal())
    assert not terminal.is_live(io.StringIO())
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    show = Shower()
    show(progress.Progress("plan"))
    show(progress.Progress("write", 1, 2, note="a \x1b[31mnote"))
    show.end()
    assert shown.getvalue() == "rootless-layer: a \\x1b[31mnote\n"


def test_the_line_of_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that changes says the stage, counts and seconds; each script is named in a line of its own, above its words."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    clock = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    show = Shower()
    for step in (
        progress.Progress("plan"), progress.Progress("plan", entries=1), progress.Progress("plan", 3 << 20, entries=2000),
        progress.Progress("run", script="setup"), progress.Progress("run", script="setup"), progress.Progress("run", script="b\n"),
        progress.Progress("write", 5 << 20, 9 << 20),
    ):  # fmt: skip
        show(step)
    show.end()
    clear = "\r\x1b[K"
    assert shown.getvalue() == (
        f"{clear}plan{clear}plan 1 entry{clear}plan 3 MiB, 2000 entries  2 s{clear}{clear}rootless-layer: run setup\n"
        f"{clear}rootless-layer: run b\\n\n{clear}write 5 of 9 MiB{clear}"
    )


def test_each_script_is_named_when_it_begins(tmp_path: Path) -> None:
    """A build tells its caller which script runs, in order, and how many entries it has planned."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()
    scripts = tuple(rootless_layer.Script(name, None, ("/bin/true",)) for name in ("one", "two"))
    spec = rootless_layer.LayerSpec(copy_to_root=(str(tree),), scripts=scripts, view="directory")
    steps: list[progress.Progress] = []
    rootless_layer.build_layer(spec, tmp_path / "x", progress=steps.append)
    assert [step.script for step in steps if step.script] == ["one", "two"]
    assert max(step.entries for step in steps if step.stage == "plan") == 1


def test_the_seconds_of_a_script_and_its_words(user: User) -> None:
    """On a terminal a script's seconds go up while it is silent at the start of a line.

    All its lines are whole, with its name and seconds before them, and the last is ended.
    """
    script = user.script("echo first; sleep 4; printf half; sleep 3; echo ' whole'; printf last; exit 3")
    command = shlex.join(map(str, [*COMMAND, "build", "--view", "directory", "--script", script, "-o", user.home / "out"]))
    result = user.run(["script", "-qec", f"TERM=xterm NO_COLOR= {command}", "/dev/null"])
    assert result.status == 3, result.out
    shown = [line.replace("\x1b[K", "") for line in result.out.splitlines()]
    seconds = [int(found[1]) for line in shown if (found := re.search(r"run \S+  (\d+) s$", line))]
    assert seconds, result.out
    assert seconds == sorted(set(seconds))
    assert seconds[0] >= 2
    said = [line for line in shown if re.match(r"script \d+\.\d s\| ", line)]
    assert [line.partition("| ")[2] for line in said] == ["first", "half whole", "last"]


def test_the_words_of_several_scripts(users: list[User]) -> None:
    """Each line has the name of its script and seconds; of one script, for a program, and with --quiet it has neither."""
    for user in users:
        names = [f"step{number}" for number in range(8)]
        steps = [word for name in names for word in ("--script", user.script(f"echo {name} >&2; printf half", name))]
        build = [*COMMAND, "build", "--view", "directory", "-o", user.home / "out"]
        said = [line for line in user.run([*build, *steps]).err.splitlines() if "| " in line]
        assert [re.sub(r" \d+\.\d s\|", "", line) for line in said] == [
            f"{name} {word}" for name in names for word in (name, "half")
        ]
        plain = "half".join(f"{name}\n" for name in names) + "half"
        for words in ("--quiet", "--json"):
            # Where others mount overlays of the same directory, the machine may refuse one, and that is said between.
            assert plain in re.sub("rootless-layer: scripts reach .*\n", "", user.run([*build, *steps, words]).err)
        assert "step0\nhalf" in user.run([*build, *steps[:2]]).err


def test_words_come_after_their_script_has_begun(tmp_path: Path) -> None:
    """A caller that listens hears of each script that it begins, and then what it says, however short it is."""
    begun, heard = [""], list[tuple[str, str]]()

    def hear(step: progress.Progress) -> None:
        if step.script not in {"", begun[-1]}:  # it is told twice a second
            begun.append(step.script)

    names = [f"step{number}" for number in range(20)]
    scripts = tuple(rootless_layer.Script(name, f"echo {name} said; echo more".encode()) for name in names)
    spec = rootless_layer.LayerSpec(scripts=scripts, view="directory")
    build_layer(spec, tmp_path / "x", progress=hear, on_output=lambda words: heard.append((begun[-1], words.decode())))
    for name in names:
        assert "".join(words for script, words in heard if script == name) == f"{name} said\nmore\n"


def test_progress_costs_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a build tells how far it is, a line is drawn no more than ten times a second."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    monkeypatch.setattr("time.monotonic", lambda: 1.0)
    show = Shower()
    for number in range(1000):
        show(progress.Progress("plan", entries=number))
    assert shown.getvalue() == "\r\x1b[Kplan"
