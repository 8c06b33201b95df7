"""Several builders of one cache, and builders that are killed: no result is wrong, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.aftermath import processes, until
from helpers.caches import SCRIPT, entries, tidy
from helpers.damage import grow
from helpers.effort import DAY, EVERY
from helpers.place import remove
from helpers.stores import files
from helpers.users import COMMAND, HANG, User

from rootless_layer.system.lease import Lease
from rootless_layer.system.temporary import Temporary

pytestmark = pytest.mark.slow


def test_a_lease_is_shared_or_exclusive(tmp_path: Path) -> None:
    """A directory that is leased is not to be had alone, and one that is had alone is not gone through for it; renaming keeps it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    one, two = Lease.shared(folder), Lease.shared(folder)
    assert one is not None
    assert two is not None
    assert Lease.exclusive(folder) is None
    one.release()
    folder.rename(tmp_path / "other")
    assert Lease.shared(folder) is None
    assert Lease.exclusive(tmp_path / "other") is None
    two.release()
    alone = Lease.exclusive(tmp_path / "other")
    assert alone is not None
    alone.release()
    (tmp_path / "link").symlink_to("other")
    assert Lease.exclusive(tmp_path / "link") is None


def test_the_next_build_removes_what_killed_ones_left(tmp_path: Path) -> None:
    """Whoever makes a temporary directory removes those beside it that nobody holds, and no other."""
    dead, used, other = (tmp_path / f".rootless-layer-{name}" for name in ("0" * 16, "1" * 16, "mine"))
    for folder in (dead, used, other):
        (folder / "inner").mkdir(parents=True)
    lease = Lease.shared(used)
    assert lease is not None
    with Temporary() as temporary:
        made = temporary.make(str(tmp_path), ".rootless-layer-")
        assert {Path(made), used, other} == set(tmp_path.iterdir())
    lease.release()
    assert {used, other} == set(tmp_path.iterdir())


def test_a_directory_that_others_tidy_away_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its lease another build may take a directory for one that was left: then there is another."""
    gone: list[str] = []
    chmod = os.chmod

    def swept(path: str, mode: int) -> None:
        if not gone:
            gone.append(path)
            os.rmdir(path)
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", swept)
    with Temporary() as temporary:
        made = temporary.make(str(tmp_path), ".rootless-layer-")
        assert os.listdir(tmp_path) == [os.path.basename(made)]
        assert made not in gone
    assert os.listdir(tmp_path) == []


def test_several_builders_at_once(user: User, accounts: Path) -> None:
    """Four builds of one layer at the same time, and four that find it damaged, all give it, and one entry is left."""
    words = ["--cache", "--copy-to-root", accounts, "--view", "directory", "--script", user.script(SCRIPT)]
    right = user.build("--copy-to-root", accounts, "--view", "directory", "--script", user.home / "script", output="plain").layer
    for _ in range(2):
        running = [
            user.start([*COMMAND, "build", *words, "-o", user.home / f"layer-{number}"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
            for number in range(4)
        ]  # fmt: skip
        assert [process.wait(HANG) for process in running] == [0, 0, 0, 0]
        for number in range(4):
            assert json.loads((user.home / f"layer-{number}/layer.json").read_text()) == right
        (entry,) = entries(user)
        assert tidy(user, "verify").status == 0
        grow(entry / "layer.mtree")


GRAPH = """
[defaults.layer]
view = "directory"
[layer.one]
copy-to-root = "accounts"
script = "script"
output = "out-0"
[layer.two]
base = "one"
run = "rm etc/shadow; chown 5:6 data"
output = "out-1"
"""


def test_builders_killed_at_any_moment(user: User, accounts: Path) -> None:
    """Builders killed outright, also with all that tidies up after them, leave no wrong result, and no rubbish after gc."""
    shutil.copytree(accounts, user.home / "accounts")
    script = user.script(SCRIPT)
    words = ["--copy-to-root", "accounts", "--view", "directory", "--script", "script"]
    begun = time.monotonic()
    plain = [user.build(*words, output="plain-0").layer]
    whole = time.monotonic() - begun
    second = user.script("rm etc/shadow; chown 5:6 data", "run")
    plain.append(user.build("--base", "plain-0", "--view", "directory", "--script", "run", output="plain-1").layer)
    second.unlink()
    (user.home / "make.toml").write_text(GRAPH)
    build, make = [*COMMAND, "build", "--cache", *words, "-o", user.home / "out-0"], [*COMMAND, "make", "make.toml", "-j", "2"]
    pick = random.Random(f"{user.name} {DAY}")
    for number in range(200 if EVERY else 4):
        running = [
            user.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in ([build], [make], [make, build])[number % 3]
        ]
        time.sleep(pick.uniform(0, 2 * whole))
        everything = [int(process.partition(":")[0]) for process in processes(user)] if number % 2 else []
        for pid in [*(process.pid for process in running), *everything]:
            with_pid_gone(pid)
        for process in running:
            process.wait()
        assert until(lambda: not processes(user))
        for one in range(2):
            output = user.home / f"out-{one}"
            if output.exists():
                assert files(output) == files(user.home / f"plain-{one}")
                remove(output)
        assert tidy(user, "verify").status == 0
        if number % 4 == 3:
            assert tidy(user, "gc", "--keep", "0").status == 0
            assert [entries(user), entries(user, "snapshots"), os.listdir(user.home / "tmp")] == [[], [], []]
    result = user.run(make)
    assert result.status == 0, result.err
    assert [json.loads((user.home / f"out-{one}/layer.json").read_text()) for one in range(2)] == plain
    assert tidy(user, "gc").status == 0
    left = [*entries(user), *entries(user, "snapshots"), *user.home.iterdir()]  # beside outputs the next build has tidied up
    assert [path.name for path in left if path.name.startswith(".rootless-layer-")] == []
    assert script.exists()


def with_pid_gone(pid: int) -> None:
    """Kill a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
