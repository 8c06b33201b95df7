"""However a build is ended by a signal, nothing is left, and the output is whole or absent; which signals its caller ignores does not matter."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.aftermath import assert_nothing_left, assert_whole_or_absent, marked, until
from helpers.effort import DAY, EVERY
from helpers.place import remove
from helpers.running import STARTED, VIEWS, read, say, started
from helpers.stores import Store
from helpers.users import COMMAND, HANG, User

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]

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
    chance = random.Random(f"{user.name} {number} {kind} {DAY}")
    for _ in range((6 if kind == "script" else 3) if EVERY else 1):
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

    keeper = next(pid for pid in children(process.pid) if b"keeper" in read(Path(f"/proc/{pid}/cmdline")))
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
