"""A script that goes wrong ends its build with a status and a word; one that makes a mess does so in its tree alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers.aftermath import assert_said, marked, members, names, owner, processes
from helpers.running import VIEWS, script_of
from helpers.stores import Store, fingerprint
from helpers.users import COMMAND, HANG, User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]


@pytest.mark.parametrize("view", VIEWS)
def test_a_scripts_status_is_the_commands(user: User, small: Store, view: str) -> None:
    """A script's exit status is the command's, a signal is 128 + its number; the script is named."""
    for text, status, word in (
        ("exit 3", 3, "exit status 3"),
        ("exit 255", 255, "exit status 255"),
        ("false", 1, "exit status 1"),  # without a #! line, the first failure ends it
        ("no-such-program", 127, "127"),
        ("kill -9 $$", 137, "SIGKILL"),
        ("kill -15 $$", 143, "SIGTERM"),
        ("kill -SEGV $$", 139, "SIGSEGV"),
        ("kill -35 $$", 163, "35|SIGRTMIN"),
    ):
        result = script_of(user, small, text + "\n", view=view)
        assert_said(result, status, "script: ", word)
        assert not (user.home / "layer").exists()


@pytest.mark.parametrize("view", VIEWS)
def test_the_machine_has_no_name(user: User, small: Store, view: str) -> None:
    """The host name is one for all machines; a program that has its files synced waits for no disk, and finds that well."""
    result = script_of(user, small, 'test "$(uname -n)" = localhost\necho > file; sync file; sync\n', view=view)
    assert result.status == 0, result.err


def test_the_first_failure_counts(user: User, small: Store) -> None:
    """After a script that fails no other one runs."""
    second = user.script("echo SECOND\n", "second")
    result = script_of(user, small, "exit 4\n", "--script", second)
    assert_said(result, 4, "exit status 4")
    assert "SECOND" not in result.err


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "hang", ["sleep 1000", "trap '' TERM INT HUP; while :; do sleep 1000 || :; done", "kill -STOP $$", "sleep 1000 & wait"]
)
def test_a_script_that_hangs_is_ended(user: User, small: Store, hang: str, view: str) -> None:
    """With --timeout a script that does not end is killed with all it started: 124."""
    assert_said(script_of(user, small, hang + "\n", "--timeout", "0.3", view=view), 124, "0.3 seconds", "killed")


@pytest.mark.parametrize("view", VIEWS)
def test_what_a_script_leaves_running_is_ended(user: User, small: Store, tools: Path, view: str) -> None:
    """Jobs, daemons and processes that are never the same are killed when the script ends; the build succeeds."""
    text = f"""{names(view)}
sleep 1000 &
(trap '' TERM HUP; setsid sleep 1000 &) &
(setsid sh -c 'sleep 1000 & sleep 1000' > /dev/null 2>&1 < /dev/null &)
$RAW comet x; $STATIC comet x
echo made > $TOP/made
"""
    result = script_of(user, small, text, "--copy-to-root", tools, view=view)
    assert result.status == 0, result.err
    assert processes(user) == []


@pytest.mark.parametrize("view", VIEWS)
def test_a_daemon_that_is_stopped_is_gone(user: User, small: Store, view: str) -> None:
    """Whoever stops a process that has lost its parent waits until nobody has its number: so start-stop-daemon does."""
    text = "(sleep 1000 & echo $! > number)\nread number < number\nkill $number\nwhile kill -0 $number; do sleep 0.01; done\n"
    result = script_of(user, small, text, view=view)
    assert result.status == 0, result.err


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("how", ["by name", "stopped", "everything"])
def test_no_script_reaches_the_daemon(user: User, small: Store, how: str, view: str) -> None:
    """A script that would kill or stop the daemon of its record, or every process, finds none; the record goes on."""
    find = """for process in /proc/[0-9]*; do
    read -r name < $process/comm || continue
    case $name in faked*) kill -%s ${process#/proc/} ;; esac
done
"""
    text = {"by name": find % "9", "stopped": find % "STOP", "everything": "kill -9 -1 || :\nsleep 0.1 || :\n"}[how]
    shell = "/bin/sh\n" if view == "directory" else small.path("bash") + "/bin/bash\ncd /\n"
    script = user.script(f"#!{shell}{text}echo > f\nchown 33:34 f\n")
    result = user.build(*small.options, *marked(user), "--view", view, "--script", script)
    assert result.status == 0, result.err
    assert owner(members(user)["f"]) == (33, 34, 0o644)


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_that_would_end_its_init(user: User, small: Store, view: str) -> None:
    """The init of a session hears no signal of a script's, as any init of a PID namespace: the script goes on."""
    shell = "/bin/sh" if view == "directory" else small.path("bash") + "/bin/bash"
    text = "for signal in TERM INT HUP USR1 KILL STOP; do kill -$signal 1; done\n: >${TOP:-.}/there\n"
    result = user.build(*small.options, "--view", view, "--script", user.script(f"#!{shell}\n{text}"))
    assert result.status == 0, result.err
    assert "there" in members(user)


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_that_makes_a_mess(user: User, small: Store, view: str) -> None:
    """Closed outputs, 200 children at once and every descriptor used up are a script's own affair."""
    for text in (
        "exec >&- 2>&- <&-\nmkdir ${TOP:-.}/d\n",
        "i=0; while [ $i -lt 200 ]; do (echo $i > f$i; sleep 0.01; chown $i f$i) & i=$((i+1)); done; wait\n",
        'ulimit -n 20; i=3; while [ $i -lt 200 ]; do eval "exec $i</dev/null" || break; i=$((i+1)); done 2>/dev/null\n',
    ):
        bash = "/bin/bash" if view == "directory" else small.path("bash") + "/bin/bash"
        result = user.build(*small.options, *marked(user), "--view", view, "--script", user.script(f"#!{bash}\n{text}"))
        assert result.status == 0, result.err
        if "200 ]; do (echo" in text:
            found = members(user)
            assert [found[f"f{number}"].uid for number in range(200)] == list(range(200))


def test_a_script_that_says_much(user: User, small: Store) -> None:
    """What a script writes goes to stderr, all of it: 100 MB, and stdout stays for the data."""
    script = user.script("yes 0123456789abcdef0123456789abcdef | head -c 100000000\n")
    with open(user.home / "said", "wb") as said:
        done = subprocess.run(
            [*COMMAND, "build", "-o", user.home / "layer", *small.options, *marked(user), "--blob", "derived", "--script", script],
            stdout=subprocess.PIPE, stderr=said, check=False, env=user.environment(), cwd=user.home, **user.arguments(),
        )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith(b"sha256:")
    assert len(done.stdout.splitlines()) == 1
    assert 100_000_000 <= os.path.getsize(user.home / "said") < 100_010_000


def test_nobody_reads_what_a_script_says(user: User, small: Store) -> None:
    """A reader of stderr that goes away ends the script like any other writer to a closed pipe; nothing is left."""
    script = user.script("yes\n")
    process = user.start(
        [*COMMAND, "build", "-o", user.home / "layer", *small.options, *marked(user), "--script", script], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.read(1000)
    process.stderr.close()
    assert process.wait(HANG) != 0


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_that_deletes_everything(user: User, small: Store, content: Path, view: str) -> None:
    """``rm -rf`` of all that a script sees reaches its tree alone, and a store path that it cannot remove is no loss."""
    before = fingerprint(content), fingerprint(small.root)
    what = "/* /.[!.]*" if view == "root" else f"$PWD/* {user.home}/* {content} {small.root}"
    result = user.build(*small.options, *marked(user), "--copy-to-root", content, "--view", view, "--script",
                        user.script(f"rm -rf {what} 2>/dev/null || :\n"))  # fmt: skip
    assert result.status == 0, result.err
    assert (user.home / "script").exists()
    assert (fingerprint(content), fingerprint(small.root)) == before
    found = members(user)
    assert "etc/hostname" not in found
    assert any(name.endswith("bin/bash") for name in found)


@pytest.mark.parametrize("view", VIEWS)
def test_a_tree_deeper_than_any_path(user: User, small: Store, tools: Path, view: str) -> None:
    """Directories nested 3000 deep, more than a path can name, are a layer or an error; and they are removed."""
    text = f"{names(view)}cd ${{TOP:-/}}; $RAW deep 3000\n"
    result = script_of(user, small, text, "--copy-to-root", tools, view=view)
    assert "Traceback" not in result.err, result.err[-2000:]
    assert result.status in {0, 65, 66, 70, 73}, result.err[-2000:]
    if result.status:
        assert "deep" in result.err
        assert len(result.err) < 10_000


@pytest.mark.parametrize("view", VIEWS)
def test_odd_names(user: User, small: Store, view: str) -> None:
    """Names with newlines, of no encoding, and of the greatest length are names; one that a layer reserves is an error."""
    bash = "/bin/bash" if view == "directory" else small.path("bash") + "/bin/bash"
    name = "n" * 255
    text = f"#!{bash}\ncd ${{TOP:-.}}\necho > $'a\\nb'; chown 5 $'a\\nb'; echo > $'\\xff\\xfe'; echo > {name}; echo > ' '; echo > -- || :\n"
    result = user.build(*small.options, *marked(user), "--view", view, "--script", user.script(text))
    assert result.status == 0, result.err
    found = members(user)
    assert found["a\nb"].uid == 5
    assert "\udcff\udcfe" in found
    assert name in found
    result = script_of(user, small, "echo > .wh.gone\n", view=view)
    assert_said(result, 65, r"/\.wh\.gone")


def test_scripts_that_are_hardly_one(user: User, small: Store) -> None:
    """An empty script changes nothing; one without a last newline, with a NUL, or only a comment runs as a shell runs it."""
    digests = {script_of(user, small, text, "--json").layer["digest"] for text in ("", "\n", "# nothing", "true")}
    assert len(digests) == 1
    result = script_of(user, small, "mkdir /a\r\nmkdir /b\r\n")  # CRLF: a shell takes the \r as a part of the name
    assert "Traceback" not in result.err
    assert result.status == 0
