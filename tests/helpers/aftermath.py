"""What a build must leave behind, however it ended; and the programs that attack it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.stores import Store
    from helpers.users import Result, User

PROGRAMS = Path(__file__).parents[1] / "programs"
CONFINED = PROGRAMS / "confined.py"
_ENOUGH_SECONDS = 300
ABSENT, CLOSED, FULL = (os.strerror(number) for number in (errno.ENOENT, errno.EACCES, errno.ENOSPC))
"""What this system calls a file that is not there, one that may not be used, and a disk without room."""


def marked(user: User) -> list[str]:
    """Options by which every process of a build can be told from all others."""
    return ["--env", f"MARK={user.home}"]


def processes(user: User) -> list[str]:
    """Name the processes that belong to a user's builds: their environment or arguments name the home."""
    mark = os.fsencode(user.home)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes() + b" " + (folder / "environ").read_bytes()
        except OSError:
            continue
        if mark in words:
            found.append(f"{folder.name}: {words[:100]!r}")
    return found


def queues() -> set[str]:
    """Name the SysV message queues that nobody uses any more: a daemon of fakeroot's has two, and other tests have daemons."""
    rows = [line.split() for line in Path("/proc/sysvipc/msg").read_text().splitlines()[1:]]
    users = {" ".join(row[:2]): {*row[5:7]} - {"0"} for row in rows}  # who sent last, and who received: nobody yet in a new one
    return {name for name, found in users.items() if found and not any(Path("/proc", each).exists() for each in found)}


def mounts(user: User) -> list[str]:
    """Name the mounts below a user's home."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(user.home) in line]


def until(true: Callable[[], bool]) -> bool:
    """Wait until something holds; say whether it came to."""
    deadline = time.monotonic() + _ENOUGH_SECONDS  # only against a test that hangs
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_ready(process: subprocess.Popen[bytes]) -> bool:
    """Say whether the command has begun: from then on it handles signals."""
    try:
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1) or process.poll() is not None
    except OSError:
        pass
    return process.poll() is not None


def assert_whole_or_absent(output: Path) -> bool:
    """Check that an output is complete, byte for byte, or not there at all; say which."""
    if not os.path.lexists(output):
        return False
    layer = json.loads((output / "layer.json").read_text())
    assert (output / layer["listing"]).is_file()
    if layer["blob"] == "stored":
        blob = output / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
        with blob.open("rb") as file:
            assert f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == layer["digest"]
    return True


def assert_nothing_left(user: User, before: set[str] | None = None, *, patiently: bool = False) -> None:
    """Check that no process, mount, queue or temporary tree outlives a build.

    Where the command was killed outright, others tidy up after it, ``patiently`` waited for.
    ``before`` are the queues that nobody used before the build.
    """
    if patiently:
        until(lambda: not processes(user) and not user.leftovers())
    for left in (processes(user), user.leftovers(), mounts(user)):
        assert left == [], left
    if before is not None:
        assert until(lambda: queues() <= before), queues()


def assert_said(result: Result, status: int, *words: str) -> None:
    """Check that a command ended with a status, and told a person why in words."""
    assert result.status == status, f"{result.status}\n{result.err}"
    assert "Traceback" not in result.err, result.err
    for word in words:
        assert re.search(word, result.err), f"{word!r} is not said in:\n{result.err}"


def members(user: User, output: str = "layer") -> dict[str, tarfile.TarInfo]:
    """Give the entries of a built layer by path, without the slash before."""
    layer = json.loads((user.home / output / "layer.json").read_text())
    blob = user.home / output / "blobs/sha256" / layer["digest"].removeprefix("sha256:")
    with tarfile.open(blob) as archive:
        return {member.name: member for member in archive}


def owner(member: tarfile.TarInfo) -> tuple[int, int, int]:
    """Give what the traps of the record are about: the owner, the group, the mode."""
    return member.uid, member.gid, member.mode


def make_tools(folder: Path, store: Store) -> Path:
    """Make a tree with programs of several kinds, for both views, and give it.

    ``raw`` runs in the root view with the closure's C library, ``raw-machine`` with this
    machine's, ``raw-static`` and ``busybox`` with none.
    """
    if folder.exists():
        return folder
    busybox = shutil.which("busybox")
    assert busybox, "these tests need a static busybox"
    programs = folder / "bin"
    programs.mkdir(parents=True)
    shutil.copy(busybox, programs / "busybox")
    library = store.path("libc6")
    loader = next(store.on_disk("libc6").rglob("ld-linux*.so.*"))
    within = library + str(loader).removeprefix(str(store.on_disk("libc6")))
    machine = os.path.dirname(next(store.on_disk("libc6").rglob("libc.so.6")))
    run_path = library + machine.removeprefix(str(store.on_disk("libc6")))
    variants = {
        "raw-machine": [],
        "raw-static": ["-static", "-DSTATIC"],
        "raw": [f"-Wl,--dynamic-linker={within}", f"-Wl,-rpath={run_path}"],
    }
    for name, options in variants.items():
        subprocess.run(
            ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", programs / name, PROGRAMS / "raw.c", *options], check=True
        )
    return folder


def names(view: str) -> str:
    """Give the lines by which a script names those programs in either view: B, RAW, STATIC, and TOP, its tree."""
    if view == "root":
        return "TOP=\nB=/bin/busybox RAW=/bin/raw STATIC=/bin/raw-static\n"
    return "TOP=$PWD\nB=$PWD/bin/busybox RAW=$PWD/bin/raw-machine STATIC=$PWD/bin/raw-static\n"
