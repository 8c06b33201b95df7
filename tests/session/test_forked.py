"""A forked run is the command: what the tests' own fork server leaves out shows nowhere."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.aftermath import processes, until
from helpers.effort import EVERY
from helpers.forked import may_be_forked
from helpers.users import COMMAND, HANG, User

pytestmark = pytest.mark.skipif(EVERY, reason="every command is started here")


def test_a_fork_says_what_a_started_command_says(user: User) -> None:
    """Exit status, stdout and stderr are the same, for what is well and for what is not; so are umask and directory."""
    (user.home / "tree").mkdir()
    (user.home / "tree/größe").write_text("data")
    for words in (
        ["--version"],
        ["build", "--help"],
        ["build", "--json", "--copy-to-root", "tree", "-o", "layer"],
        ["build", "--json", "--copy-to-root", "absent", "-o", "layer"],
        [
            "build",
            "--json",
            "--copy-to-root",
            "tree",
            "-o",
            "layer",
            "--view",
            "directory",
            "--",
            "sh",
            "-c",
            "pwd >&2; umask; exit 7",
        ],
        ["validate", "layer"],
        ["no-such-verb", "\N{GREEK SMALL LETTER OMEGA}"],
    ):
        assert may_be_forked([*COMMAND, *words], user.environment(), {})
        started = user.run(["sh", "-c", 'exec "$@"', "-", *COMMAND, *words])
        assert user.run([*COMMAND, *words]) == started, words


def test_proc_tells_of_a_fork_as_of_a_started_command(user: User) -> None:
    """Arguments and variables of a running fork are its own: by them the tests find what is left of a build."""
    os.mkfifo(user.home / "wait")
    (user.home / "wait").chmod(0o666)
    (user.home / "tree").mkdir()
    with ThreadPoolExecutor(1) as pool:
        script = user.script(f"cat {user.home}/wait\n")
        running = pool.submit(user.build, "--copy-to-root", user.home / "tree", "--view", "directory", "--script", script)
        assert until(lambda: any(is_command(int(found.partition(":")[0]), user) for found in processes(user)))
        with open(user.home / "wait", "wb"):
            pass
        assert running.result(HANG).status == 0
    assert until(lambda: processes(user) == [])
    assert Path(f"{user.home}/layer/layer.json").is_file()


def is_command(pid: int, user: User) -> bool:
    """Say whether a process has a user's arguments and variables."""
    folder = Path(f"/proc/{pid}")
    try:
        words, variables = ((folder / name).read_bytes().rstrip(b"\0").split(b"\0") for name in ("cmdline", "environ"))
    except OSError:
        return False  # it has just ended
    build = [*map(os.fsencode, (*COMMAND, "build", "-o", user.home / "layer"))]
    return words[: len(build)] == build and os.fsencode(f"HOME={user.home}") in variables
