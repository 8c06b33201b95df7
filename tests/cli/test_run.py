"""A command run in an image or a layer: with the image's own words and variables, and nothing of it is kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from pathlib import Path

import pytest
from helpers.caches import place
from helpers.person import on_a_terminal
from helpers.users import COMMAND, Result, User, good

pytestmark = pytest.mark.slow

PROGRAMS = ("sh", "cat", "echo", "stat", "id", "env", "rm", "touch", "ls", "true", "kill", "sleep", "test", "stty", "chown")


@pytest.fixture
def image(user: User) -> str:
    """An image of a busybox and a file that is somebody's, with an entry point, a command and variables."""
    busybox = shutil.which("busybox")
    assert busybox
    (user.home / "tree/bin").mkdir(parents=True)
    (user.home / "tree/data").mkdir()
    shutil.copy(busybox, user.home / "tree/bin/busybox")
    for name in PROGRAMS:
        (user.home / "tree/bin" / name).symlink_to("busybox")
    (user.home / "tree/data/file").write_text("text\n")
    good(user.build("--copy-to-root", "tree", "--", "chown", "33:44", "/data/file"))
    words = [
        "--layer",
        "layer",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--entrypoint",
        '["sh", "-c"]',
        "--cmd",
        '["echo $A-$B; exit 7"]',
    ]
    good(user.run([*COMMAND, "image", *words, "-t", "x:1", "-o", "image.tar"]))
    return "image.tar"


def run(user: User, *words: str | Path, **more: object) -> Result:
    """Run ``rootless-layer run``."""
    return user.run([*COMMAND, "run", *words], **more)


def test_the_image_says_what_runs(user: User, image: str) -> None:
    """The command is the entry point and what is given, else the image's own; the variables are the image's, less those given."""
    own = run(user, image)
    assert (own.status, own.out) == (7, "1-2\n")
    given = run(user, image, "--env", "B=3", "--", "echo $A+$B >&2")
    assert (given.status, given.out) == (0, "")
    assert given.err.splitlines()[-1] == "1+3"
    assert run(user, image, "--entrypoint", "echo", "--", "a", "b").out == "a b\n"
    assert run(user, image, "--entrypoint", '["cat", "/data/file"]').out == "text\n"


def test_the_image_says_as_whom_and_where(user: User, image: str) -> None:
    """The command is the image's User, in its WorkingDir; options go before both, and a layer alone has root."""
    words = ["--base", image, "--config", '{"User": "33:44", "WorkingDir": "/data"}']
    good(user.run([*COMMAND, "image", *words, "-t", "x:2", "-o", "other.tar"]))
    script = "pwd; id -u; id -g; cat file; > new; stat -c %u:%g new"
    own = run(user, "other.tar", "--entrypoint", "sh", "--", "-c", "pwd; id -u; id -g; cat file")
    assert own.out.split() == ["/data", "33", "44", "text"]
    assert run(user, "other.tar", "--user", "5", "--workdir", "/", "--", "pwd; id -u").out.split() == ["/", "5"]
    assert run(user, "other.tar", "--user", "0", "--", script).out.split() == ["/data", "0", "0", "text", "0:0"]
    assert run(user, "layer", "--", "sh", "-c", "pwd; id -u").out.split() == ["/", "0"]


def test_it_sees_the_owners_and_keeps_nothing(user: User, image: str) -> None:
    """Files have their owners, and may be changed; afterwards neither the image nor a layer nor the cache is another."""
    before = {path: hashlib.sha256((user.home / path).read_bytes()).digest() for path in (image, "layer/layer.json")}
    script = "stat -c %u:%g /data/file; chown 5:6 /data/file; rm /bin/ls; echo new > /data/new; stat -c %u:%g /data/file; id -u"
    for _ in range(2):
        done = run(user, image, "--", script)
        assert (done.status, done.out.split()) == (0, ["33:44", "5:6", "0"])
    assert {path: hashlib.sha256((user.home / path).read_bytes()).digest() for path in before} == before
    assert run(user, "layer", "--", "cat", "/data/file").out == "text\n"
    assert user.run([*COMMAND, "cache", "verify"]).status == 0
    assert not list(place(user).rglob("new"))
    assert user.leftovers() == []


def test_its_end_is_the_commands(user: User, image: str) -> None:
    """The exit status is the command's own, or says the signal; one that is not found or takes too long is a fault in words."""
    assert [run(user, "layer", "--", "sh", "-c", each).status for each in ("exit 3", "kill -9 $$", "kill -15 $$")] == [
        3,
        137,
        143,
    ]
    absent = run(user, "layer", "--", "/absent")
    assert (absent.status, "/absent" in absent.err) == (127, True)
    assert run(user, "layer", "--timeout", "0.2", "--", "sleep", "600").status == 124
    nothing = run(user, "layer")
    assert (nothing.status, "layer" in nothing.err) == (2, True)


def test_streams_are_the_callers(user: User, image: str) -> None:
    """What comes in goes to the command, byte for byte; its stdout and stderr are apart, and a reader that is gone ends it."""
    data = bytes(range(256)) * 1000
    (user.home / "data.bin").write_bytes(data)
    words = " ".join([*COMMAND, "run", "layer", "--"])
    user.run(["sh", "-c", f"{words} cat < data.bin > out.bin 2> err.txt"])
    assert (user.home / "out.bin").read_bytes() == data
    piped = user.run(["bash", "-c", f"yes | {words} cat | head -n 2"])
    assert (piped.status, piped.out) == (0, "y\ny\n")
    assert run(user, "layer", "--", "cat").out == ""  # nothing comes in
    both = run(user, "layer", "--", "sh", "-c", "echo out; echo err >&2")
    assert (both.out, both.err.splitlines()[-1]) == ("out\n", "err")


def test_a_person_has_a_terminal(user: User, image: str) -> None:
    """On a terminal the command has one of its own, as large, which is put back when it ends."""
    with on_a_terminal(user, [*COMMAND, "run", image, "--", "sh"]) as person:
        before = person.settings()
        person.type("stty size; test -t 0 && test -t 2 && echo has-$((1+1)); echo $TERM; exit 5\n")
        person.reads("30 100")
        person.reads("has-2")
        person.reads("xterm")
        assert person.ends() == 5
        assert person.settings() == before


def test_a_layer_upon_others(user: User, image: str) -> None:
    """A layer that was built upon others is shown upon them, with the config of the image below."""
    good(user.build("--base", image, "--", "sh", "-c", "echo more > /data/more; rm /data/file", output="above"))
    shown = run(user, "above", "--base", image, "--", "cat /data/more; echo $A; ls /data")
    assert shown.out.split() == ["more", "1", "more"]


def test_nothing_outlives_it(user: User, image: str) -> None:
    """A command that is left running, or is ended, leaves no process and no file."""
    assert run(user, "layer", "--", "sh", "-c", "sleep 1000 & exit 0").status == 0
    with on_a_terminal(user, [*COMMAND, "run", "layer", "--", "sh"]) as person:
        person.type("echo on-$((2+3))\n")
        person.reads("on-5")
        os.kill(person.pid, signal.SIGTERM)
        assert person.ends() == 143
    assert user.leftovers() == []
