"""The command's face: its exit statuses, what it says when it ends, what a terminal shows."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from helpers.aftermath import assert_said
from helpers.users import COMMAND, User

import rootless_layer
from rootless_layer import errors, progress, terminal
from rootless_layer.cli import end, main, statuses
from rootless_layer.cli.progress import Shower
from rootless_layer.system import replace

PAGE = Path(__file__).parents[2] / "docs/troubleshooting.md"
Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Ran]:
    """The command, run in this process in a directory of its own: its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE", str(tmp_path / "cache"))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rootless-layer", *words])
        status = end._status(main.main)
        return status, *capsys.readouterr()

    yield run
    replace.PLACED.clear()


def verbs(group: click.Group = main.main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb by its words, those of groups as well."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from verbs(command, (*path, name))


VERBS = dict(verbs())


# --- the table of exit statuses ---


def classes(root: type[errors.RootlessLayerError] = errors.RootlessLayerError) -> Iterator[type[errors.RootlessLayerError]]:
    """The tree of errors."""
    yield root
    for below in root.__subclasses__():
        yield from classes(below)


def test_every_error_has_a_row() -> None:
    """The status of each class of the tree is a row of the table; docs/troubleshooting.md has the whole table, sentence by sentence."""
    assert {each.exit_code for each in classes()} <= errors.FAULTS.keys()
    assert {str(status) for status in errors.FAULTS} <= statuses.STATUSES.keys()
    table = PAGE.read_text().partition("| exit status | |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| (\S+) \| (.*) \|$", table, re.MULTILINE)) == statuses.STATUSES


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_help_has_an_example_and_the_statuses(ran: Ran, words: tuple[str, ...]) -> None:
    """Each verb's --help ends with an example that begins as the verb does, and with every exit status."""
    status, said, _ = ran(*words, "-h")
    assert status == 0
    assert f"rootless-layer {' '.join(words)}" in said or words[0].startswith("nix-")
    assert re.search(r"^Examples?:\n  \S", said, re.MULTILINE)
    assert statuses.table() in said


GIVEN_BY = {
    "69": "session.test_failures.test_a_machine_without_fakeroot",
    "70": "layer.test_outputs.test_a_write_that_is_cut_short_is_an_error",
    "71": "session.test_failures.test_a_daemon_that_does_not_come_up",
    "76": "session.test_bypass",
    "77": "session.test_hostile",
    "124": "session.test_failures.test_a_script_that_hangs_is_ended",
    "129": "session.test_failures.test_a_signal_while_a_script_runs",
    "143": "session.test_failures.test_a_signal_while_a_script_runs",
    "N": "session.test_failures.test_a_scripts_status_is_the_commands",
}
"""Rows that need a session, a signal or a broken machine, and the tests of the command where they are seen."""
SEEN_HERE = {"0", "1", "2", "65", "66", "73", "74", "130", "141"}


def test_every_row_is_seen_to_happen() -> None:
    """Each row of the table is what some test of the command expects."""
    assert GIVEN_BY.keys() | SEEN_HERE == statuses.STATUSES.keys()
    for name in GIVEN_BY.values():
        package, module, function = [*name.split("."), ""][:3]
        assert f"def {function or 'test_'}" in (Path(__file__).parents[1] / package / f"{module}.py").read_text()


def test_statuses_of_this_process(ran: Ran, tmp_path: Path) -> None:
    """0 where all is right, 1 where two differ, 65 for what is no image, 73 for an output that is in the way."""
    (tmp_path / "tree").mkdir()
    assert ran("build", "--copy-to-root", "tree", "-o", "one")[0] == 0
    (tmp_path / "tree/file").write_text("text")
    assert ran("build", "--copy-to-root", "tree", "-o", "two")[0] == 0
    assert ran("diff", "one", "two")[0] == 1
    assert ran("validate", "tree")[0] == 65
    assert ran("build", "--copy-to-root", "one", "-o", "tree")[0] == 73


def test_74_is_what_this_machine_refuses(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system's that no other row has names the file, and is told apart from an input's."""

    def broken(_cache: object) -> None:
        raise OSError(5, "Input/output error", "/some/file")

    monkeypatch.setattr("rootless_layer.cli.cache.contents", broken)
    status, said, told = ran("cache", "ls", "--json")
    assert (status, told.startswith("rootless-layer: /some/file: ")) == (74, True), told
    assert json.loads(said)["error"]["kind"] == "MachineError"


MISSING = {
    "a script": ["build", "--script", "none", "-o", "x"],
    "a closure": ["build", "--closure", "none", "-o", "x"],
    "tools": ["build", "--tools", "none", "-o", "x"],
    "a store path": ["build", "--store-path", "/nix/store/00000000000000000000000000000000-none", "-o", "x"],
    "a tree": ["build", "--copy-to-root", "none", "-o", "x"],
    "a root": ["build", "--rootfs", "none", "-o", "x"],
    "a listing": ["build", "--rootfs", ".", "--rootfs-listing", "none", "-o", "x"],
    "a base": ["build", "--base", "none", "-o", "x"],
    "an image's base": ["image", "--base", "none", "-o", "x"],
    "a layer": ["image", "--layer", "none", "-o", "x"],
    "a config": ["image", "--config", "none", "-o", "x"],
    "an image's closure": ["image", "--closure", "none", "-o", "x"],
    "a layering": ["image", "--closure", "/dev/null", "--layering", "none", "-o", "x"],
    "an image to merge": ["merge", "none", "-o", "x"],
    "a file": ["make", "none"],
    "a script of a file": ["make", "images.toml"],
    "an image to check": ["validate", "none"],
    "an image to look at": ["inspect", "none"],
    "an image to compare": ["diff", "none", "none"],
    "an image to archive": ["nix-archive", "none", "-o", "x"],
    "an image to export": ["nix-export", "none", "-o", "x"],
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_66_in_every_verb(ran: Ran, tmp_path: Path, what: str) -> None:
    """An input that is not there is 66 and named, whichever verb and option names it, and nothing is written."""
    (tmp_path / "images.toml").write_text('[layer.a]\nscript = "none"\n')
    status, _, told = ran(*MISSING[what])
    assert status == 66, told
    assert "none" in told
    assert not (tmp_path / "x").exists()


WRITTEN = {
    "a verb": ["buidl"],
    "a verb of a group": ["cache", "lst"],
    "an option": ["build", "--absent", "-o", "x"],
    "a platform": ["build", "--base", "none", "--platform", "a/b/c/d", "-o", "x"],
    "an image's platform": ["image", "--platform", "a/b/c/d", "-o", "x"],
    "a platform to compare": ["diff", "a", "b", "--platform", "//"],
    "a name": ["image", "-t", ":", "-o", "x"],
    "an index": ["merge", "none", "--index", ":", "-o", "x"],
    "a size": ["cache", "gc", "--keep", "much"],
    "a compression": ["image", "--closure", "/dev/null", "--compression", "gzip:²", "-o", "x"],
    "an owner": ["build", "--uid", "-1", "-o", "x"],
    "a store path": ["build", "--store-path", "/etc", "-o", "x"],
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_is_wrong_as_written_is_2_in_every_verb(ran: Ran, tmp_path: Path, what: str) -> None:
    """A value that cannot be, whatever is on the disk, is a fault of the command line, which the message ends with."""
    status, said, told = ran(*WRITTEN[what])
    assert (status, said) == (2, ""), told
    assert told.splitlines()[-1].endswith("--help` says how it is written.")
    assert not (tmp_path / "x").exists()


def test_the_verb_that_is_meant_is_named(ran: Ran) -> None:
    """A verb with a slip in it is compared with those there are; one like none has them listed. Alone, the command is helped."""
    assert "did you mean build?" in ran("buidl")[2]
    assert "there are: build, cache, " in ran("zzz")[2]
    status, said, told = ran()
    assert (status, said) == (2, "")
    assert "validate" in told
    assert ran("--version")[1].startswith("rootless-layer")


def test_the_library_raises_its_own_errors_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the system refuses, unforeseen, is a MachineError of each public function, which keeps its name and its cause."""

    def broken(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr("rootless_layer.layer.build._tree", broken)
    with pytest.raises(errors.MachineError, match=r"^/some/file: No space left on device") as caught:
        rootless_layer.build_layer(rootless_layer.LayerSpec(), tmp_path / "x")
    assert isinstance(caught.value.__cause__, OSError)
    assert rootless_layer.build_layer.__name__ == "build_layer"
    assert rootless_layer.build_layer is rootless_layer.build_layer
    assert not (tmp_path / "x").exists()


# --- errors for a program ---


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (["build", "--json", "-o", "x", "--uid", "x"], "UsageError", 2),
        (["build", "-o", "x", "--absent", "--json"], "UsageError", 2),
        (["inspect", "--json", "none"], "SourceError", 66),
        (["make", "none", "--json"], "SourceError", 66),
        (["build", "--json", "-o", "x", "--closure", "none"], "MissingClosureError", 66),
    ],
)
def test_an_error_is_json_where_json_is_asked_for(ran: Ran, words: list[str], kind: str, status: int) -> None:
    """With --json stdout has one line that names the error's class, its status, all problems and the hint."""
    ended, said, told = ran(*words)
    assert ended == status
    assert said.count("\n") == 1
    error = json.loads(said)["error"]
    assert (error["kind"], error["status"]) == (kind, status)
    assert told == "".join(f"rootless-layer: {line}\n" for line in (*error["problems"], *filter(None, [error["hint"]])))


def test_a_command_of_the_scripts_is_not_asked_for_json(ran: Ran) -> None:
    """What stands behind -- is the script's own."""
    assert ran("build", "-o", "x", "--closure", "none", "--", "tool", "--json")[:2] == (66, "")


def test_a_scripts_own_status_is_told_apart(user: User) -> None:
    """A script that ends with 66 is a ScriptError, whose message says that the script failed."""
    (user.home / "tree").mkdir()
    command = ["/bin/sh", "-c", "exit 66"]
    done = user.run([*COMMAND, "build", "--json", "--view", "directory", "--copy-to-root", "tree", "-o", "x", "--", *command])
    error = json.loads(done.out)["error"]
    assert (done.status, error["kind"], error["status"]) == (66, "ScriptError", 66)
    assert "the script failed with exit status 66" in error["problems"][0]


def test_json_with_a_list_is_one_document(ran: Ran, tmp_path: Path) -> None:
    """`build --json --list` prints layer.json with a list of the entries, as inspect names them."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("/else")
    said = json.loads(ran("build", "--copy-to-root", "tree", "-o", "x", "--json", "--list")[1])
    [link] = [row for row in said.pop("list") if row["path"] == "/link"]
    assert link == {"path": "/link", "mode": "120777", "uid": 0, "gid": 0, "mtime": 1, "size": 0, "target": "/else"}
    assert said == json.loads((tmp_path / "x/layer.json").read_text())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("layers"), "it has no layers"), (RecursionError("maximum …"), "it is nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), "it is not UTF-8"), (FileNotFoundError(2, "No such file"), "No such file"),
        (TypeError("'int' object is not iterable"), "a value in it is not of the kind that it should be"),
    ],
)  # fmt: skip
def test_pythons_own_errors_are_put_in_words(error: Exception, said: str) -> None:
    """A document's fault is said in words, and not as Python writes its exceptions."""
    assert errors.reason(error) == said


# --- the beginning and the end ---

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
    result = user.run(["bash", "-c", f"{{ sleep 0.05; {command}; echo $? >&3; }} 3>status | exec true"])
    assert ((user.home / "status").read_text(), result.err) == ("141\n", "")


# --- what a terminal shows ---


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
    """On a terminal a script's seconds go up while it is silent at the start of a line; all its lines are whole, and the last is ended."""
    script = user.script("echo first; sleep 4; printf half; sleep 3; echo ' whole'; printf last; exit 3")
    command = shlex.join(map(str, [*COMMAND, "build", "--view", "directory", "--script", script, "-o", user.home / "out"]))
    result = user.run(["script", "-qec", f"TERM=xterm NO_COLOR= {command}", "/dev/null"])
    assert result.status == 3, result.out
    shown = [line.replace("\x1b[K", "") for line in result.out.splitlines()]
    seconds = [int(found[1]) for line in shown if (found := re.search(r"run \S+  (\d+) s$", line))]
    assert seconds, result.out
    assert seconds == sorted(set(seconds))
    assert seconds[0] >= 2
    assert [line for line in shown if line in {"first", "half whole", "last"}] == ["first", "half whole", "last"]


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
