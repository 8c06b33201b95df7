"""Builds with a script: run to their end, or started and looked at while they run."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from helpers.aftermath import assert_nothing_left, assert_whole_or_absent, is_ready, marked, members, names, owner, queues, until
from helpers.stores import Store
from helpers.users import COMMAND, Result, User

VIEWS = ("root", "directory")
STARTED: list[subprocess.Popen[bytes]] = []
"""Builds that a test has started: :func:`nothing_outlives` ends those that it did not wait for."""


@contextlib.contextmanager
def nothing_outlives(users: Sequence[User]) -> Iterator[None]:
    """Check in the end that the builds within left no process, mount, queue or temporary tree, and no layer that is not whole."""
    before = queues()
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
    for user in users:
        assert_nothing_left(user, before, patiently=True)
        assert_whole_or_absent(user.home / "layer")


def script_of(user: User, store: Store, text: str, *more: str | Path, view: str = "root", **other: object) -> Result:
    """Build with one script."""
    options = [*store.options, *marked(user), "--view", view, "--script", user.script(text), *more]
    return user.build(*options, "--blob", "derived", **other)  # type: ignore[arg-type]


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


def read(path: Path) -> bytes:
    """Read a file that may go meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@attrs.frozen
class Runner:
    """Builds layers from scripts that find the programs."""

    user: User
    options: list[str]
    view: str

    def run(self, text: str, *more: str, status: int | None = 0) -> str:
        """Run a script; give what was said on stderr."""
        script = self.user.script(f"{names(self.view)}cd ${{TOP:-/}}\n{text}\n")
        result = self.user.build(*self.options, "--view", self.view, "--script", script, *more)
        assert status is None or result.status == status, f"{result.status}\n{result.err}"
        assert "Traceback" not in result.err
        assert (self.user.home / "layer").exists() == (result.status == 0)
        assert_nothing_left(self.user)
        return result.err

    def leaves(self, text: str, right: dict[str, tuple[int, int, int]]) -> None:
        """Run a script, and see that the layer has these owners, groups and modes."""
        self.run(text)
        found = members(self.user)
        assert {path: owner(found[path]) for path in right} == right
