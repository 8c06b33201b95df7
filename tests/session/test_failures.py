"""However a build ends, nothing is left, the output is whole or absent, and the message says what to do."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import (
    ABSENT,
    CLOSED,
    CONFINED,
    FULL,
    assert_nothing_left,
    assert_said,
    assert_whole_or_absent,
    is_ready,
    make_tools,
    marked,
    members,
    names,
    owner,
    processes,
    queues,
    until,
)
from helpers.effort import EVERY
from helpers.place import once, remove
from helpers.stores import Store, fingerprint
from helpers.users import COMMAND, HANG, SOMEBODY, Result, User

from rootless_layer import Entry, LayerSpec, Script
from rootless_layer.errors import SourceError
from rootless_layer.plan.plan import plan
from rootless_layer.session.environment import Environment
from rootless_layer.session.failure import failed
from rootless_layer.session.inside.interpreter import missing
from rootless_layer.session.inside.messages import NotStarted
from rootless_layer.system.namespaces import refusal
from rootless_layer.tree.sparse import check_holes

pytestmark = pytest.mark.slow

VIEWS = ("root", "directory")


@pytest.fixture(scope="module")
def small(shell_store: Store) -> Store:
    """A closure with a shell and coreutils."""
    return shell_store


@pytest.fixture(scope="module")
def tools(small: Store) -> Path:
    """Programs that make bare system calls."""
    return once("failure-tools", lambda folder: make_tools(folder, small))


@pytest.fixture(scope="module")
def content(shared: Path) -> Path:
    """A tree with one small file."""
    folder = shared / "content"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/hostname").write_text("here\n")
    return folder


STARTED: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test, whatever it did: no process, mount, queue, temporary tree; no layer that is not whole."""
    fixtures = request.fixturenames
    everybody = (
        [request.getfixturevalue("user")]
        if "user" in fixtures
        else request.getfixturevalue("users")
        if "users" in fixtures
        else []
    )
    before = queues()
    yield
    while STARTED:  # what a failed test left
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
    for user in everybody:
        assert_nothing_left(user, before, patiently=True)
        assert_whole_or_absent(user.home / "layer")


def script_of(user: User, store: Store, text: str, *more: str | Path, view: str = "root", **other: object) -> Result:
    """Build with one script."""
    options = [*store.options, *marked(user), "--view", view, "--script", user.script(text), *more]
    return user.build(*options, "--blob", "derived", **other)  # type: ignore[arg-type]


# --- scripts that go wrong ---


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
@pytest.mark.parametrize("how", ["by name", "stopped", "everything", "init"])
def test_a_script_that_kills_its_keepers(user: User, small: Store, tools: Path, how: str, view: str) -> None:
    """A script that kills or stops the daemon of its record, its init or everything fails the build, and the cause is named."""
    find = """for process in /proc/[0-9]*; do
    read -r name < $process/comm || continue
    case $name in faked*) kill -%s ${process#/proc/} ;; esac
done
"""
    text, status, words = {
        "by name": (find % "9", 71, ["faked"]),
        "stopped": (find % "STOP" + "chown 1:1 ${TOP:-/} || :; ls -l /\nls -l /\n", 124, ["seconds"]),
        "everything": ("kill -9 -1 || :\nsleep 0.1 || :\n", 71, ["faked"]),
        "init": ("kill -TERM 1\nsleep 5\n", 71, ["ended"]),
    }[how]
    more = ["--timeout", "1"] if how == "stopped" else []
    result = script_of(
        user, small, f"#!{'/bin/sh' if view == 'directory' else small.path('bash') + '/bin/bash'}\n{text}", *more, view=view
    )
    assert_said(result, status, *words)
    assert not (user.home / "layer").exists()


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


# --- scripts that cannot be run ---


@pytest.mark.parametrize("view", VIEWS)
def test_a_script_that_cannot_start(user: User, small: Store, view: str) -> None:
    """A missing interpreter, a command that is not there or that is no program: 127 or 126, and what is missing is named."""
    assert_said(script_of(user, small, "#!/no/such/interpreter\n", view=view), 127, "script: .*: /no/such/interpreter")
    assert_said(script_of(user, small, "#!/bin/sh\r\nexit 0\r\n", view=view), 127, "script: .*: /bin/sh", "CRLF")
    options = [*small.options, *marked(user), "--view", view]
    assert_said(user.build(*options, "--", "no-such-command"), 127, "no-such-command", "PATH")
    folder = "/nix" if view == "root" else "/etc"
    assert_said(user.build(*options, "--", folder), 126, folder)
    long = user.build(*options, "--env", f"PATH={'/some/where:' * 9000}", "--", "no-such-command")
    assert_said(long, 127, "no-such-command", "PATH", "--copy-to-root")
    assert len(long.err) < 1000
    assert not (user.home / "layer").exists()


LONG = """\
from rootless_layer import LayerSpec, RootlessLayerError, Script, build_layer
try:
    build_layer(LayerSpec(scripts=(Script.command(["/bin/true"]),), view="directory", environment={"A": "b", "LONG": "x" * (130 << 10)}), "layer")
except RootlessLayerError as error:
    print(error.status, error)
"""


def test_a_variable_that_is_too_long_is_named(user: User) -> None:
    """Linux takes 128 KiB for one variable: 126, and the variable is named, with its size."""
    result = user.run([sys.executable, "-c", LONG])
    assert_said(attrs.evolve(result, status=int(result.out[:3]), err=result.out), 126, "LONG", "133125 bytes")


DEAF = """\
import signal, sys
from rootless_layer import LayerSpec, Script, build_layer
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
scripts = (Script.text("head -c 9000000 /dev/zero > zeros", "first"), Script.command(["true"]))
seen = []
spec = LayerSpec(scripts=scripts, view="directory")
layer = build_layer(spec, "deaf", progress=lambda step: seen.append(step.script) if step.stage == "run" else None)
assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN
print(layer.descriptor.digest, *seen)
"""


def test_who_ignores_the_end_of_children_builds_the_same(user: User) -> None:
    """SIGCHLD may be ignored, by the library's caller or whoever starts the command; progress names each script that begins."""
    command = ["--view", "directory", "--script", user.script("head -c 9000000 /dev/zero > zeros\n"), "--", "true"]
    digest = user.build(*command).layer["digest"]
    deaf = [*COMMAND, "build", "-o", user.home / "layer", "-q", "--json", *command]
    assert user.run(["env", "--ignore-signal=CHLD", *deaf]).layer["digest"] == digest
    library = user.run([sys.executable, "-c", DEAF])
    assert library.out.split() == [digest, "first", "true"], library.err
    assert "TMPDIR" not in library.err


MASKED = """\
import signal
from rootless_layer import LayerSpec, Script, build_layer
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
script = Script.text("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '0\\n' >&2")
build_layer(LayerSpec(scripts=(script,), view="directory"), "masked")
assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
"""


def test_a_script_has_no_signal_blocked_or_ignored(user: User) -> None:
    """Whatever its caller blocks and ignores, a script begins with all signals as they are, and the build ends; the caller keeps its own."""
    done = user.run([sys.executable, "-c", MASKED])
    assert (done.status, "".join(done.err.split())) == (0, "SigBlk:SigIgn:")


def test_scripts_that_are_hardly_one(user: User, small: Store) -> None:
    """An empty script changes nothing; one without a last newline, with a NUL, or only a comment runs as a shell runs it."""
    digests = {script_of(user, small, text, "--json").layer["digest"] for text in ("", "\n", "# nothing", "true")}
    assert len(digests) == 1
    result = script_of(user, small, "mkdir /a\r\nmkdir /b\r\n")  # CRLF: a shell takes the \r as a part of the name
    assert "Traceback" not in result.err
    assert result.status == 0


def test_script_files_that_are_not_there(user: User, small: Store) -> None:
    """A script file that is missing, a directory or unreadable is named: 66, and nothing is started."""
    (user.home / "folder").mkdir()
    options = [*small.options, *marked(user)]
    assert_said(user.build(*options, "--script", user.home / "none"), 66, "none: ", ABSENT)
    assert_said(user.build(*options, "--script", user.home / "folder"), 66, "folder: ", "directory")
    if not user.is_root:
        path = user.script("true\n", "secret")
        path.chmod(0)
        assert_said(user.build(*options, "--script", path), 66, "secret: ", CLOSED)


# --- builds that are ended ---


@pytest.fixture(scope="module")
def many(shared: Path) -> Path:
    """A tree that takes a while to plan and to stage."""
    folder = shared / "many"
    for number in range(40):
        below = folder / f"d{number}"
        below.mkdir(parents=True)
        for name in range(100):
            (below / f"f{name}").write_text(f"{number} {name}\n")
    return folder


@pytest.fixture(scope="module")
def big(shared: Path) -> Path:
    """A tree with a file that takes a while to read; it has no blocks on disk."""
    folder = shared / "big"
    folder.mkdir()
    with open(folder / "sparse", "wb") as file:
        file.truncate(1 << 30)
    return folder


STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}


def say(user: User) -> str:
    """Read what a started command wrote to stderr."""
    return (user.home / "said").read_text(errors="replace")


def started(user: User, *words: str | Path) -> subprocess.Popen[bytes]:
    """Start a build in a process group of its own, and wait until it handles signals."""
    with open(user.home / "said", "wb") as said:
        process = user.start(
            [*COMMAND, "build", "-o", user.home / "layer", *marked(user), *words],
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
    STARTED.append(process)
    assert until(lambda: is_ready(process))
    return process


def ended(user: User, process: subprocess.Popen[bytes], number: int) -> None:
    """Check how a build ended that got a signal, maybe too late."""
    status = process.wait(HANG)
    said = say(user)
    assert "Traceback" not in said, said
    assert status in {0, STATUSES[signal.Signals(number)]}, f"{status}\n{said}"
    if status in {129, 130, 143}:  # without a word where the output is in its place, and only its digest was not told
        assert ("nothing was kept" in said) != (user.home / "layer").exists(), said
    assert_nothing_left(user, patiently=number == signal.SIGKILL)
    assert_whole_or_absent(user.home / "layer")


@pytest.mark.parametrize("number", list(STATUSES), ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("kind", ["script", "no script", "big"])
def test_a_signal_at_any_moment(user: User, small: Store, many: Path, big: Path, number: int, kind: str) -> None:
    """A build that is interrupted, terminated or killed at any moment leaves nothing, and its output is whole or absent."""
    script = user.script("sleep 0.1\nmkdir /made\nchown 5:6 /made\n")
    words = {
        "script": [*small.options, "--copy-to-root", str(many), "--script", str(script)],
        "no script": [*small.options, "--copy-to-root", str(many)],
        "big": ["--copy-to-root", str(big), "--blob", "derived"],
    }[kind]
    chance = random.Random(f"{user.name} {number} {kind}")
    for _ in range((6 if kind == "script" else 3) if EVERY else 2):
        process = started(user, *words)
        time.sleep(chance.uniform(0, {"script": 0.8, "no script": 0.5, "big": 1.0}[kind]))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        ended(user, process, number)
        remove_output(user)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_nobody_reads_the_listing(user: User, many: Path, number: signal.Signals) -> None:
    """The output is in its place: what ends the command then has the status of a signal, and takes nothing back."""
    process = user.start(
        [*COMMAND, "build", "-o", user.home / "layer", *marked(user), "--copy-to-root", many, "--list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    STARTED.append(process)
    assert process.stdout is not None
    assert process.stdout.read(1)
    process.send_signal(number)
    assert process.wait(HANG) == 128 + number
    process.stdout.close()
    assert assert_whole_or_absent(user.home / "layer")
    assert_nothing_left(user)


def remove_output(user: User) -> None:
    """Make room for the next build."""
    if (user.home / "layer").exists():
        remove(user.home / "layer")


@pytest.mark.parametrize("number", list(STATUSES), ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("view", VIEWS)
def test_a_signal_while_a_script_runs(user: User, small: Store, number: int, view: str) -> None:
    """A signal to the command ends the script and everything that it started, whatever they do against it."""
    text = "trap '' TERM INT HUP\n(setsid sleep 1000 &)\necho RUNNING\nwhile :; do sleep 1000 || :; done\n"
    process = started(user, *small.options, "--view", view, "--script", user.script(text))
    assert until(lambda: "RUNNING" in say(user))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(HANG) == STATUSES[signal.Signals(number)]
    ended(user, process, number)


@pytest.mark.parametrize("pause", [0.0, 0.003, 0.02])
def test_an_impatient_person(user: User, small: Store, many: Path, pause: float) -> None:
    """Ctrl-C pressed again and again, or a TERM after it, does not keep the command from tidying up."""
    text = "echo RUNNING\nsleep 1000\n"
    process = started(user, *small.options, "--copy-to-root", many, "--script", user.script(text))
    assert until(lambda: "RUNNING" in say(user))
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if process.poll() is None:
            process.send_signal(number)
        time.sleep(pause)
    assert process.wait(HANG) in {129, 130, 143}
    assert "Traceback" not in say(user), say(user)
    assert_nothing_left(user)


def descendants(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Give the session's own two processes: the keeper, then the init."""

    def children(parent: int) -> list[int]:
        return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

    keeper = next(pid for pid in children(process.pid) if b"keeper" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return keeper, children(keeper)[0]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("victim", ["keeper", "init", "both"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_the_sessions_own_processes_are_killed(user: User, small: Store, victim: str, number: int, view: str) -> None:
    """Whoever kills a session's own processes ends the build: 71, the message says so, and nothing is left."""
    text = "echo RUNNING\n(setsid sleep 1000 &)\nsleep 1000\n"
    process = started(user, *small.options, "--view", view, "--script", user.script(text))
    assert until(lambda: "RUNNING" in say(user))
    keeper, init = descendants(process)
    for pid in {"keeper": [keeper], "init": [init], "both": [keeper, init]}[victim]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            assert victim == "both"
    assert process.wait(HANG) == 71, say(user)
    assert "ended" in say(user)
    assert "Traceback" not in say(user)
    assert_nothing_left(user, patiently=True)


def stopped(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a process is stopped, or has ended before."""
    return read(Path(f"/proc/{process.pid}/stat")).rpartition(b") ")[2][:1] in {b"T", b"Z", b""}


def test_a_build_that_is_stopped_goes_on(user: User, small: Store) -> None:
    """Stopping and continuing the command while it runs changes nothing."""
    process = started(user, *small.options, "--script", user.script("echo RUNNING\nsleep 0.2\n"))
    assert until(lambda: "RUNNING" in say(user))
    process.send_signal(signal.SIGSTOP)
    assert until(lambda: stopped(process))
    process.send_signal(signal.SIGCONT)
    assert process.wait(HANG) == 0, say(user)


# --- disks ---


@pytest.fixture
def tiny(user: User) -> Iterator[Path]:
    """A file system of 4 MiB that is the user's."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = user.home / "tiny"
    folder.mkdir()
    owner_ = 0 if user.is_root else SOMEBODY
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=4m,uid={owner_},gid={owner_},mode=0755", "tmpfs", folder], check=True)
    yield folder
    left = os.listdir(folder)
    subprocess.run(["umount", folder], check=True)
    assert left == []


@pytest.fixture
def heavy(user: User) -> Path:
    """A tree of 6 MiB."""
    folder = user.home / "heavy"
    folder.mkdir()
    for number in range(6):
        (folder / f"part{number}").write_bytes(bytes([number]) * (1 << 20))
    return folder


def test_no_room_to_stage(user: User, small: Store, heavy: Path, tiny: Path) -> None:
    """A tree that does not fit into TMPDIR is an error that names the place and TMPDIR: 73."""
    result = script_of(user, small, "true\n", "--copy-to-root", heavy, env={"TMPDIR": str(tiny)})
    assert_said(result, 73, FULL, "TMPDIR", str(tiny))
    assert not (user.home / "layer").exists()


def test_no_room_to_unpack(user: User, heavy: Path, tiny: Path) -> None:
    """Where a base or a root filesystem does not fit unpacked, nobody says that it is damaged: 73, and the place is named."""
    assert user.build("--copy-to-root", heavy, "--compression", "zstd", *marked(user), output="base").status == 0
    subprocess.run(["tar", "-C", heavy, "-cJf", user.home / "root.tar.xz", "."], check=True)
    script = ["--view", "directory", "--script", user.script("true\n")]
    small = {"ROOTLESS_LAYER_CACHE": str(tiny / "cache")}
    for words, env in ((["--base", user.home / "base"], small), (["--rootfs", user.home / "root.tar.xz"], {"TMPDIR": str(tiny)})):
        result = user.build(*words, *script, *marked(user), env=env)
        assert_said(result, 73, "No space left", str(tiny), "room")
        assert "damaged" not in result.err
    remove(tiny / "cache")


def test_a_sparse_giant_is_named_before_it_is_written(user: User) -> None:
    """A file with more than 1 GiB of holes is an error with both sizes, be it a script's or a tree's; less is written."""
    giant = ["--view", "directory", "--", "truncate", "-s", "500G", "lastlog"]
    assert_said(user.build(*giant), 65, "/lastlog: ", "500.0 GiB", "--allow-sparse")
    tree = user.home / "sparse"
    tree.mkdir()
    with open(tree / "holes", "wb") as file:
        file.truncate((1 << 30) + 1)
    for words in ([], ["--cache"]):
        result = user.build("--copy-to-root", tree, *words, env={"ROOTLESS_LAYER_CACHE": str(user.home / "cache")})
        assert_said(result, 65, "/holes: ", "1.0 GiB", "0 bytes")
    assert not (user.home / "layer").exists()
    entry = Entry(path=b"holes", mode=stat.S_IFREG | 0o644, size=(1 << 30) + 1, source=os.fsencode(tree / "holes"))
    os.truncate(tree / "holes", 1 << 30)
    check_holes([attrs.evolve(entry, size=1 << 30), attrs.evolve(entry, path=b"link", link=b"holes")])
    os.truncate(tree / "holes", 1 << 40)
    assert plan(LayerSpec(copy_to_root=(tree,), allow_sparse=True)).tree.entries[b"holes"].size == 1 << 40


def test_no_room_for_the_record(user: User, small: Store, tiny: Path) -> None:
    """A script that fills the disk never costs a row of the record: the build fails, or every owner is right."""
    bash = small.path("bash")
    text = f"#!{bash}/bin/bash\nfor i in {{1..300}}; do echo > f$i; chown $i:$i f$i; done\ncat /dev/zero > fill 2>/dev/null\nexit 0\n"
    result = user.build(*small.options, *marked(user), "--script", user.script(text), env={"TMPDIR": str(tiny)})
    assert "Traceback" not in result.err, result.err
    if result.status == 0:
        found = members(user)
        assert [owner(found[f"f{i}"])[:2] for i in range(1, 301)] == [(i, i) for i in range(1, 301)]
    else:
        assert_said(result, result.status, "space|disk|room|TMPDIR")
        assert result.status in {71, 73}


def test_a_script_that_finds_no_room(user: User, small: Store, tiny: Path) -> None:
    """A script that cannot write fails by its own status."""
    result = script_of(user, small, "cat /dev/zero > fill\n", env={"TMPDIR": str(tiny)})
    assert_said(result, 1, FULL, "exit status 1")


def test_no_room_for_the_output(user: User, heavy: Path, tiny: Path) -> None:
    """A blob that does not fit is an error that says so: 73, and nothing of it is kept."""
    for compression in ("none", "gzip:0"):
        (heavy / "random").write_bytes(random.Random(0).randbytes(6 << 20))
        result = user.run(
            [*COMMAND, "build", "-o", tiny / "layer", "--copy-to-root", heavy, "--compression", compression, *marked(user)]
        )
        assert_said(result, 73, FULL, str(tiny), "[Nn]othing was kept")
        assert os.listdir(tiny) == []


def test_no_room_beside_an_earlier_layer(user: User, content: Path, heavy: Path, tiny: Path) -> None:
    """Where a new layer does not fit, the one that was there stays, whole."""
    command = [*COMMAND, "build", "-o", str(tiny / "layer"), *marked(user)]
    assert user.run([*command, "--copy-to-root", content]).status == 0
    before = fingerprint(tiny)
    assert_said(user.run([*command, "--copy-to-root", heavy]), 73, FULL)
    assert fingerprint(tiny).keys() == before.keys()
    assert assert_whole_or_absent(tiny / "layer")
    remove(tiny / "layer")


def test_no_temporary_directory(user: User, small: Store) -> None:
    """A TMPDIR that is not there, or not writable, is an error with a hint, or another place is taken."""
    result = script_of(user, small, "true\n", env={"TMPDIR": "/no/such/folder"})
    assert "Traceback" not in result.err
    assert result.status in {0, 73}


# --- sources ---


def test_a_source_that_cannot_be_read(user: User, small: Store, content: Path) -> None:
    """A source without read permission is named: 66, with what to do."""
    if user.is_root:
        pytest.skip("root reads everything")
    tree = user.home / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/secret").write_text("secret\n")
    for path in (tree / "below/secret", tree / "below"):
        path.chmod(0)
        for option in ("--copy-to-root", "--rootfs"):
            for script in ([], ["--script", str(user.script("true\n"))]):
                result = user.build(*small.options, option, tree, *script, *marked(user))
                assert_said(result, 66, str(path), CLOSED, "readable")
        path.chmod(0o755)
    assert_said(user.build("--copy-to-root", user.home / "none", *marked(user)), 66, "none: ", "does not exist")


def changed(how: str, path: Path) -> None:
    """Change a file while somebody reads it."""
    if how == "grown":
        with path.open("ab") as file:
            file.write(b"more")
    elif how == "cut":
        os.truncate(path, 1 << 20)
    elif how == "rewritten":
        with path.open("r+b") as file:
            file.write(b"x")
    elif how == "replaced":
        other = path.with_name("other")
        with other.open("wb") as file:
            file.truncate(1 << 30)
        other.rename(path)
    elif how == "removed":
        path.unlink()


def open_files(pid: int) -> list[str]:
    """Name the descriptors of a process and of its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [f"/proc/{each}/fd/{name}" for each in (str(pid), *children) for name in os.listdir(f"/proc/{each}/fd")]
    except OSError:
        return []


@pytest.mark.parametrize("how", ["grown", "cut", "rewritten", "replaced", "removed"])
def test_a_source_that_changes_while_it_is_read(users: list[User], how: str) -> None:
    """A file that grows, shrinks or is written to while it is read fails the build and is named: 66; one that is replaced is read to its end."""
    user = users[-1]
    (user.home / "big").mkdir()
    path = user.home / "big/sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    path.chmod(0o666)
    if os.geteuid() == 0:
        for each in (path, path.parent):
            os.chown(each, SOMEBODY, SOMEBODY)
    process = started(user, "--copy-to-root", user.home / "big", "--blob", "derived")
    reading = threading.Event()

    def change() -> None:
        while process.poll() is None:
            for descriptor in open_files(process.pid):
                try:
                    if (
                        os.readlink(descriptor) == str(path)
                        and "pos:\t0\n" not in Path(descriptor.replace("/fd/", "/fdinfo/")).read_text()
                    ):
                        reading.set()
                        changed(how, path)
                        return
                except OSError:
                    continue

    changer = threading.Thread(target=change)
    changer.start()
    status = process.wait(HANG)
    changer.join()
    assert reading.is_set()
    said = say(user)
    assert "Traceback" not in said
    if how in {"replaced", "removed"} and status == 0:
        return  # what was opened was read whole
    assert status == 66, said
    assert str(path) in said
    assert "changed" in said
    assert not (user.home / "layer").exists()


def test_a_source_that_changes_between_plan_and_script(users: list[User], small: Store) -> None:
    """A tree that another changes while the scripts run does not matter once it is copied; a mounted store path is read as it is planned, or refused."""
    user = users[-1]
    (user.home / "tree").mkdir()
    path = user.home / "tree/file"
    path.write_text("before\n")
    path.chmod(0o666)
    process = started(
        user, *small.options, "--copy-to-root", user.home / "tree", "--script", user.script("echo RUNNING\nsleep 0.5\n")
    )
    assert until(lambda: "RUNNING" in say(user))
    path.write_text("after it was staged\n")
    status = process.wait(HANG)
    said = say(user)
    assert "Traceback" not in said
    if status:
        assert status == 66, said
        assert str(path) in said
    else:
        assert members(user)["file"].size == len("before\n")


# --- outputs ---


def test_an_output_that_is_in_the_way(user: User, content: Path) -> None:
    """What is no layer is never replaced: 73, it is named and stays; an empty directory or an earlier layer is."""
    home = user.home
    (home / "full").mkdir()
    (home / "full/mine").write_text("mine\n")
    (home / "file").write_text("mine\n")
    (home / "dangling").symlink_to(home / "nowhere")
    (home / "empty").mkdir()
    if os.geteuid() == 0 and not user.is_root:
        os.chown(home / "empty", SOMEBODY, SOMEBODY)
    options = ["--copy-to-root", str(content), *marked(user)]
    for name in ("full", "file", "dangling"):
        before = fingerprint(home / "full"), os.lstat(home / name).st_ino
        assert_said(user.build(*options, output=name), 73, f"{name}: ", "-o")
        assert (fingerprint(home / "full"), os.lstat(home / name).st_ino) == before
    for name in ("none/layer", "file/layer"):
        assert_said(user.build(*options, output=name), 73, name.split("/")[0], "-o")
    assert user.build(*options, output="empty").status == 0
    assert user.build(*options, output="empty").status == 0
    assert assert_whole_or_absent(home / "empty")


def test_an_output_that_may_not_be_written(user: User, content: Path) -> None:
    """A place that the user may not write to is named: 73."""
    if user.is_root:
        pytest.skip("root writes everywhere")
    (user.home / "closed").mkdir()
    (user.home / "closed").chmod(0o555)
    assert_said(user.build("--copy-to-root", content, *marked(user), output="closed/layer"), 73, "closed/layer", CLOSED, "-o")


def test_a_link_to_an_earlier_layer(user: User, content: Path) -> None:
    """Where the output is a link to a layer, either the layer or the link is replaced, or it is refused: in order."""
    options = ["--copy-to-root", str(content), *marked(user)]
    assert user.build(*options, output="layer").status == 0
    (user.home / "link").symlink_to("layer")
    result = user.build(*options, output="link")
    assert "Traceback" not in result.err, result.err
    assert result.status in {0, 73}, result.err
    assert assert_whole_or_absent(user.home / "layer")


def test_nobody_takes_the_data(user: User, content: Path) -> None:
    """A closed stdout is no crash: the layer is whole, and no traceback is printed."""
    for redirection in (">&-", "> /dev/full", "| true"):
        for words in ("--json", "--list"):
            command = " ".join(
                map(str, [*COMMAND, "build", "-o", user.home / "layer", "--copy-to-root", content, *marked(user), words])
            )
            result = user.run(["sh", "-c", f"{command} {redirection}"])
            assert "Traceback" not in result.err, (redirection, result.err)
            assert "Exception" not in result.err, (redirection, result.err)
            assert assert_whole_or_absent(user.home / "layer")


# --- machines that lack something ---


@pytest.fixture
def programs(user: User) -> Path:
    """A directory to put other programs in."""
    (user.home / "bin").mkdir()
    return user.home / "bin"


def program(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_machine_without_fakeroot(user: User, small: Store, programs: Path, content: Path) -> None:
    """Without fakeroot a script is refused: 69, naming it and how to get it; without a script it is not needed."""
    environment = {"PATH": str(programs)}
    assert_said(script_of(user, small, "true\n", env=environment), 69, "fakeroot", "[Ii]nstall")
    assert user.build("--copy-to-root", content, *marked(user), env=environment).status == 0


WRAPPERS = {
    # What the wrapper says, what the daemon does, and what is to be said of it.
    "old": (
        "FAKED=$HERE/faked\nPATHS=/usr/lib/x86_64-linux-gnu/libfakeroot\nFAKEROOT_LIB=libfakeroot-sysv.so",
        "echo fakeroot version 1.20",
        ["1.20", "1.25"],
    ),
    "no version": (
        "FAKED=$HERE/faked\nPATHS=/usr/lib/x86_64-linux-gnu/libfakeroot\nFAKEROOT_LIB=libfakeroot-sysv.so",
        "exit 3",
        ["faked", "1.25"],
    ),
    "silent": ("", "", ["FAKED"]),
    "no daemon": ("FAKED=/no/such/faked\nPATHS=/usr/lib\nFAKEROOT_LIB=libfakeroot.so", "", ["/no/such/faked"]),
    "no library": (
        "FAKED=$HERE/faked\nPATHS=/no/such/folder\nFAKEROOT_LIB=libfakeroot.so",
        "echo 1.31",
        ["libfakeroot.so", "/no/such/folder"],
    ),
    "not text": ("\x7fELF\x01\x02", "", ["fakeroot"]),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_fakeroot_that_is_of_no_use(user: User, small: Store, programs: Path, kind: str) -> None:
    """A fakeroot that is too old or broken is refused: 69, with what was found and what is needed."""
    wrapper, daemon, words = WRAPPERS[kind]
    for name in ("fakeroot", "fakeroot-sysv"):
        program(programs / name, wrapper.replace("$HERE", str(programs)))
    program(programs / "faked", daemon)
    result = script_of(user, small, "true\n", env={"PATH": f"{programs}:{os.environ['PATH']}"})
    assert_said(result, 69, *words, "1.25 or newer")


def real_library() -> tuple[str, str]:
    """Give the directory and the name of this machine's libfakeroot."""
    from rootless_layer.session.fakeroot import find_programs

    library = find_programs().library
    return os.path.dirname(library), os.path.basename(library)


@pytest.mark.parametrize(("daemon", "status"), [("exit 1", 71), ("echo nonsense; exec sleep 1000", 71), ("kill -9 $$", 71)])
def test_a_daemon_that_does_not_come_up(user: User, small: Store, programs: Path, daemon: str, status: int) -> None:
    """A daemon that ends at once, or says what no daemon says, fails the build: 71, without waiting for ever."""
    folder, name = real_library()
    for wrapper in ("fakeroot", "fakeroot-sysv"):
        program(programs / wrapper, f"FAKED={programs}/faked\nPATHS={folder}\nFAKEROOT_LIB={name}")
    program(programs / "faked", f'case "$*" in *--version*) echo 1.31; exit 0 ;; esac\n{daemon}')
    result = script_of(user, small, "true\n", env={"PATH": f"{programs}:{os.environ['PATH']}"})
    assert_said(result, status, "faked")


def confined(user: User, store: Store, text: str, *more: str | Path) -> Result:
    """Build with a script where there are no namespaces to be had."""
    result = user.run([
        sys.executable, CONFINED, "root" if user.is_root else "user", *COMMAND, "build", "-o", user.home / "layer", *store.options,
        *marked(user), "--script", user.script(text), "--json", *more,
    ])  # fmt: skip
    assert "left:" not in result.err, result.err
    assert "Traceback" not in result.err, result.err
    return result


SCRIPT = "mkdir d; chown 33:34 d; chmod 2750 d; echo x > f; chown 1:2 f; chmod 4711 f; mknod c c 5 1; mkfifo p; ln -s f l; chown -h 3:4 l\n"


def test_without_namespaces_the_layer_is_the_same(users: list[User], small: Store) -> None:
    """A machine without namespaces gives the same layer from a copy, in the views that it can show; stderr says what was done."""
    for view in VIEWS:
        digests = set()
        for user in users:
            digests.add(
                user.build(*small.options, *marked(user), "--view", view, "--script", user.script(SCRIPT)).layer["digest"]
            )
            if view == "root" and not user.is_root:
                continue
            result = confined(user, small, SCRIPT, "--view", view)
            digests.add(result.layer["digest"])
            assert "user namespaces are" in result.err
            assert ("is a chroot" if view == "root" else "the directory view") in result.err
            assert "copied" in result.err
        assert len(digests) == 1


def test_without_namespaces_somebody_has_no_root_view(users: list[User], small: Store) -> None:
    """Where somebody cannot be shown another root, the root view is refused with a hint, and the script never runs; or it is the true one."""
    user = users[-1]
    result = confined(user, small, f"ls -d {user.home} && echo REACHED\nmkdir /data || exit 9\nchown 5 /data\n", "--view", "root")
    assert "REACHED" not in result.err
    if result.status:
        assert_said(result, 69, "view", "directory")
    else:
        assert owner(members(user)["data"])[:2] == (5, 0)


def test_without_namespaces_bind_is_refused(users: list[User], small: Store) -> None:
    """What was asked for and cannot be is an error: --stage bind where nothing can be mounted, 69."""
    for user in users:
        assert_said(confined(user, small, "true\n", "--stage", "bind", "--view", "directory"), 69, "mount", "--stage copy")


def test_without_namespaces_an_attribute_alone_makes_root_the_owner(users: list[User], big_store: Store) -> None:
    """Also where the builder's own id is visible in the session, setfattr on a fresh file does not make the builder its owner."""
    for user in users:
        text = "echo > a; setfattr -n user.x -v y a\n"
        result = confined(user, big_store, text, "--view", "directory")
        if result.status == 0:
            assert owner(members(user)["a"])[:2] == (0, 0)
        else:
            assert_said(result, 76, "/a: ")


def test_without_namespaces_the_caller_survives(users: list[User], small: Store) -> None:
    """A script that kills all that it may kill ends at most its own build: whoever started the command lives on."""
    for user in users:
        bystander = 'sleep 1000 & before=$!; "$@"; status=$?; kill -0 $before && echo ALIVE >&2; kill $before; exit $status'
        script = user.script("kill -9 -1 || :\nsleep 0.1\n")
        result = user.run([
            sys.executable, CONFINED, "root" if user.is_root else "user", "sh", "-c", bystander, "sh", *COMMAND, "build", "-o",
            user.home / "layer", *small.options, *marked(user), "--view", "root" if user.is_root else "directory", "--script", script,
        ])  # fmt: skip
        assert "ALIVE" in result.err, result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["SIGINT", "SIGTERM", "SIGKILL"])
def test_without_namespaces_a_signal_ends_everything(users: list[User], small: Store, number: int) -> None:
    """Where no process namespace ends them together, the processes of a build that gets a signal end all the same."""
    for user in users:
        script = user.script("(setsid sleep 1000 &)\necho RUNNING\nsleep 1000\n")
        command = [*COMMAND, "build", "-o", str(user.home / "layer"), *small.options, *marked(user)]
        with open(user.home / "said", "wb") as said:
            process = user.start(
                [
                    sys.executable,
                    CONFINED,
                    "root" if user.is_root else "user",
                    *command,
                    "--view",
                    "directory",
                    "--script",
                    script,
                ],
                stderr=said,
            )
        STARTED.append(process)
        assert until(lambda user=user: "RUNNING" in say(user)), say(user)  # type: ignore[misc]
        (build,) = [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if read(folder / "cmdline").split(b"\0")[1:3] == [b"-m", b"rootless_layer"]
            and str(user.home).encode() in read(folder / "cmdline")
        ]
        os.kill(build, number)
        assert process.wait(HANG) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: 137}[signal.Signals(number)], say(
            user
        )
        assert "left:" not in say(user), say(user)
        assert "Traceback" not in say(user), say(user)
        assert not (user.home / "layer").exists()


def read(path: Path) -> bytes:
    """Read a file that may go meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


# --- what is typed ---

NONSENSE: dict[str, tuple[list[str], set[int], str]] = {
    "no output": ([], {2}, "--output"),
    "an unknown option": (["--no-such-option"], {2}, "no-such-option"),
    "a view": (["--view", "sideways"], {2}, "sideways"),
    "a stage": (["--stage", "magic"], {2}, "magic"),
    "a blob": (["--blob", "none"], {2}, "none"),
    "a link": (["--link", "soft"], {2}, "soft"),
    "a kind of compression": (["--compression", "lzma"], {2}, "lzma"),
    "a level": (["--compression", "zstd:99"], {2}, "99"),
    "a level of none": (["--compression", "gzip:fast"], {2}, "gzip:fast"),
    "a level below": (["--compression", "zstd:-3"], {2}, "zstd:-3"),
    "nothing to compress with": (["--compression", ""], {2}, "compression"),
    "an epoch": (["--source-date-epoch", "yesterday"], {2}, "yesterday"),
    "an epoch before all": (["--source-date-epoch", "-5"], {2}, "-5"),
    "an epoch beyond": (["--source-date-epoch", "99999999999999999999"], {2}, "99999999999999999999"),
    "a user": (["--uid", "root"], {2}, "root"),
    "a user below": (["--uid", "-1"], {2}, "-1"),
    "a user beyond": (["--uid", "4294967296"], {2}, "4294967296"),
    "a group": (["--gid", "1.5"], {2}, "1.5"),
    "a time": (["--timeout", "soon"], {2}, "soon"),
    "no time": (["--timeout", "0"], {2}, "timeout"),
    "less than no time": (["--timeout", "-1"], {2}, "timeout"),
    "not a time": (["--timeout", "nan"], {2}, "nan"),
    "for ever": (["--timeout", "inf"], {2}, "inf"),
    "a variable": (["--env", "NOTHING"], {2}, "NOTHING"),
    "a variable without a name": (["--env", "=x"], {2}, "env"),
    "a closure": (["--closure", "/no/such/graph"], {66}, "/no/such/graph"),
    "a closure that never ends": (["--closure", "/"], {2}, "/"),
    "a store path": (["--store-path", "/etc"], {2}, "/etc"),
    "a store path that is not there": (["--store-path", "/nix/store/00000000000000000000000000000000-none"], {66}, "none"),
    "a store": (
        ["--store-root", "/no/such", "--store-path", "/nix/store/00000000000000000000000000000000-none"],
        {66},
        "none",
    ),
    "a tree": (["--copy-to-root", "/no/such/tree"], {66}, "/no/such/tree"),
    "a tree that is a file": (["--copy-to-root", "/etc/passwd"], {65}, "/etc/passwd"),
    "a root": (["--rootfs", "/no/such/root"], {66}, "/no/such/root"),
    "a root that is no archive": (["--rootfs", "/etc/passwd"], {65}, "/etc/passwd"),
    "a root that is a device": (["--rootfs", "/dev/null"], {65}, "/dev/null"),
    "a listing": (["--rootfs", "/etc/default", "--rootfs-listing", "/no/such/list"], {66}, "/no/such/list"),
    "a listing of nothing": (["--rootfs-listing", "/etc/passwd"], {2, 65, 66}, "listing|/etc/passwd"),
    "a script": (["--script", "/no/such/script"], {66}, "/no/such/script"),
    "no command": (["--", ""], {2}, "command|argument"),
    "an empty tree": (["--copy-to-root", ""], {2, 65, 66}, ".+"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused_in_few_words(users: list[User], case: str) -> None:
    """A value that cannot be is 2, a file of no use 65, one that is missing 66: the message has it, and nothing is written."""
    user = users[-1]
    words, statuses, said = NONSENSE[case]
    output = [] if case == "no output" else ["-o", str(user.home / "layer")]
    result = user.run([*COMMAND, "build", *output, *marked(user), *words])
    assert result.status in statuses, f"{result.status}\n{result.err}"
    assert_said(result, result.status, said)
    assert result.out == ""
    assert len(result.err.splitlines()) <= 4, result.err
    assert not (user.home / "layer").exists()


def test_nonsense_in_the_environment(users: list[User], content: Path) -> None:
    """A SOURCE_DATE_EPOCH that is no number is refused by its name; odd locales and terminals change nothing."""
    user = users[-1]
    for value in ("now", "-1", "1e3", " 5", "٣", "99999999999999999999"):
        result = user.build("--copy-to-root", content, *marked(user), env={"SOURCE_DATE_EPOCH": value})
        assert result.status == 2, (value, result.err)
        assert_said(result, 2, "SOURCE_DATE_EPOCH|epoch")
    digests = {
        user.build("--copy-to-root", content, *marked(user), env=environment).layer["digest"]
        for environment in ({}, {"LC_ALL": "C"}, {"LC_ALL": "no_SUCH.locale"}, {"TERM": ""}, {"COLUMNS": "x"}, {"HOME": "/no/such"}, {"PYTHONWARNINGS": "error"})
    }  # fmt: skip
    assert len(digests) == 1


def test_what_a_program_lacks_is_named(tmp_path: Path) -> None:
    """Of a script that is the interpreter, of an ELF file its loader, and of a script whose interpreter lacks one, that one's."""
    loader, absent = b"/lib64/ld-nowhere.so.2\0", tmp_path / "absent"
    row = struct.pack("<IIQQQQQQ", 3, 4, 64 + 56, 0, 0, len(loader), len(loader), 1)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    (tmp_path / "elf").write_bytes(head + row + loader)
    for name, text in (("script", f"#! {absent} -e\n"), ("over", f"#!{tmp_path}/elf\n"), ("dos", f"#!{absent}\r\n")):
        (tmp_path / name).write_text(text)
    assert missing(f"{tmp_path}/script") == (f"the interpreter that the first line names is not there: {absent}", False)
    assert missing(f"{tmp_path}/dos") == (f"the interpreter that the first line names is not there: {absent}", True)
    assert missing(f"{tmp_path}/elf") == ("the loader is not there: /lib64/ld-nowhere.so.2", False)
    assert missing(f"{tmp_path}/over") == (f"the loader of {tmp_path}/elf is not there: /lib64/ld-nowhere.so.2", False)
    (tmp_path / "none").write_bytes(b"\x7fELF\2\1")
    assert missing(f"{tmp_path}/none")[0] == "the loader is not there: it has none"


def test_a_command_in_one_word_is_said_to_be_one(tmp_path: Path) -> None:
    """A line for the shell that is given as a program, or as a script's path, is said to be no such thing."""
    spec = LayerSpec(scripts=(Script.command(["echo hi > /x"]),))
    error = failed(spec.scripts[0], NotStarted(127, "absent", "echo hi > /x"), spec, Environment.of(spec, mounted=True))
    assert error.status == 127
    assert "-- sh -c" in error.hint
    with pytest.raises(SourceError) as raised:
        Script.file(str(tmp_path / "echo hi"))
    assert "-- sh -c" in raised.value.hint


def test_why_there_are_no_namespaces_is_told() -> None:
    """What the kernel calls a full device is a setting, and what it calls no permission is one of three."""
    assert "max_user_namespaces" in refusal(OSError(errno.ENOSPC, "unshare: No space left on device"))
    assert "AppArmor" in refusal(PermissionError(errno.EPERM, "unshare: Operation not permitted"))
    assert refusal(OSError(errno.EIO, "unshare: broken")) == "unshare: broken"
