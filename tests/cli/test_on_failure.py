"""A shell where a script has failed: on a terminal, in the script's view, and with the record of owners as it is."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from helpers.make import write
from helpers.person import on_a_terminal
from helpers.stores import Store
from helpers.users import COMMAND, User

pytestmark = pytest.mark.slow

SCRIPT = "mkdir /data\necho 1 > /data/file\nchown 33:44 /data/file\ncd /data\necho SAID\nexit 9\n"


def build(user: User, store: Store, *words: str | Path) -> list[str | Path]:
    """Say how a layer is built whose script fails."""
    return [*COMMAND, "build", *store.options, "--script", user.script(SCRIPT), "-o", "layer", *words]


def test_a_shell_is_where_the_script_failed(user: User, shell_store: Store) -> None:
    """The shell sees files and owners as the script left them, is root, and has a terminal; then the build fails as it would have."""
    with on_a_terminal(user, build(user, shell_store, "--on-failure", "shell")) as person:
        before = person.settings()
        person.reads("SAID")
        person.reads("exit status 9")
        person.type(
            "stat -c 'owner=%u:%g' /data/file; id -u; stty size 2>/dev/null; test -t 0 && echo is-$((1+1))-tty; echo $TERM\n"
        )
        person.reads("owner=33:44")
        person.reads("is-2-tty")
        person.reads("xterm")
        person.type("chown 5:6 /data/file; stat -c 'now=%u:%g' /data/file\n")
        person.reads("now=5:6")
        person.type("sh -c 'echo in-$((5+5)); sleep 1000'\n")
        person.reads("in-10")
        person.type("\x03")  # Ctrl-C is for the program there
        person.type("echo still-$((2+2))\n")
        person.reads("still-4")
        person.type("exit 3\n")
        assert person.ends() == 9
        assert "status 9" in person.shown[person.seen :]
        assert person.settings() == before
    assert not (user.home / "layer").exists()


def test_a_shell_knows_the_size_of_the_window(user: User) -> None:
    """A program there has as many rows and columns as the person's window, also when it changes."""
    words = [*COMMAND, "build", "--view", "directory", "--on-failure", "shell", "-o", "layer", "--", "sh", "-c", "exit 4"]
    with on_a_terminal(user, words) as person:
        person.reads("exit status 4")
        person.type("stty size\n")
        person.reads("30 100")
        person.resize(20, 70)
        person.type("until test \"$(stty size)\" = '20 70'; do sleep 0.1; done; echo is-$((4+4))\n")
        person.reads("is-8")
        person.type("\x04")
        assert person.ends() == 4


def test_nothing_runs_without_a_terminal(user: User) -> None:
    """Where there is no terminal the command ends with 69 before any script runs."""
    words = ["--view", "directory", "--on-failure", "shell", "--", "sh", "-c", "echo RAN >&2"]
    result = user.build(*words, start_new_session=True)
    assert (result.status, "RAN" in result.err) == (69, False)
    file = write(user, '[layer.a]\nview = "directory"\nrun = "echo RAN"\n')
    made = user.run([*COMMAND, "make", file, "--on-failure", "shell"], start_new_session=True)
    assert (made.status, "RAN" in made.err) == (69, False)


def test_a_script_that_ends_well_opens_none(user: User) -> None:
    """Where nothing fails, all is as without the option."""
    words = ["--view", "directory", "--on-failure", "shell"]
    with on_a_terminal(user, [*COMMAND, "build", *words, "-o", "layer", "--", "mkdir", "a"]) as person:
        assert person.ends() == 0
    plain = user.build("--view", "directory", "--", "mkdir", "a", output="plain").layer
    assert plain["digest"] in person.shown


def test_a_view_without_a_shell(user: User, tmp_path: Path) -> None:
    """Where the view has no shell, that is said, and the build fails as it would have."""
    os.mkdir(user.home / "tree")
    words = [*COMMAND, "build", "--copy-to-root", "tree", "--on-failure", "shell", "-o", "layer", "--", "/bin/absent"]
    with on_a_terminal(user, words) as person:
        assert person.ends() == 127
    assert "no shell in the view" in person.shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_puts_the_terminal_back(user: User, number: signal.Signals) -> None:
    """A signal ends shell and command, and the person's terminal is as it was."""
    words = [*COMMAND, "build", "--view", "directory", "--on-failure", "shell", "-o", "layer", "--", "sh", "-c", "exit 4"]
    with on_a_terminal(user, words) as person:
        before = person.settings()
        person.reads("exit status 4")
        person.type("echo there-$((1+2))\n")
        person.reads("there-3")
        assert person.settings() != before
        os.kill(person.pid, number)
        assert person.ends() == 128 + number
        assert person.settings() == before


FAILING = """
[defaults.layer]
view = "directory"
[layer.one]
run = "echo ONE > one; exit 5"
[layer.two]
run = "echo TWO > two; exit 6"
[layer.good]
run = "mkdir good"
"""


def test_make_opens_one_shell_at_a_time(user: User) -> None:
    """Of several scripts that fail at once each has its shell, one after the other, and the rest is made all the same."""
    words = [*COMMAND, "make", write(user, FAILING), "-j", "3", "--on-failure", "shell"]
    with on_a_terminal(user, words) as person:
        before = person.settings()
        for _ in range(2):
            person.reads("a shell opens")
            person.type("cat one two 2>/dev/null | sed s/^/found-/; echo that-$((3+3))\n")
            said = person.reads("that-6")
            assert len(re.findall("found-(ONE|TWO)", said)) == 1
            person.type("exit\n")
        assert person.ends() in {5, 6}
        assert person.settings() == before
    assert {name for name in ("ONE", "TWO") if f"found-{name}" in person.shown} == {"ONE", "TWO"}
    assert "1 built" in person.shown
    assert "2 failed" in person.shown
