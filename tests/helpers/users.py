"""The command, and who runs it: real root and somebody without privilege."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from helpers.forked import may_be_forked, run_forked
from helpers.place import in_memory

COMMAND = [sys.executable, "-m", "rootless_layer"]
SOMEBODY = 12345
"""A user id with no privilege and no name: builds may need neither."""
HANG = 600.0
"""Seconds after which a command is taken to hang: no test waits for less, as a machine may be busy."""


@attrs.frozen
class Result:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def layer(self) -> dict[str, Any]:
        """What ``--json`` printed of a layer, however much of it was known; the command must have succeeded."""
        assert self.status == 0, self.err
        layer: dict[str, Any] = json.loads(self.out)
        layer.pop("known", None)
        return layer


@attrs.frozen
class User:
    """Somebody who runs commands, with a directory of their own."""

    name: str
    home: Path

    @property
    def is_root(self) -> bool:
        """Whether this is real root."""
        return self.name == "root"

    def arguments(self) -> dict[str, Any]:
        """What :mod:`subprocess` needs to become this user."""
        if self.is_root or os.geteuid() != 0:
            return {}
        return {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": []}

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of this user's commands: nothing of the caller's but PATH."""
        temporary = self.home / "tmp"
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "USER": self.name, "TMPDIR": str(temporary), **(extra or {})}

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = HANG, **more: Any
    ) -> Result:
        """Run a command as this user, to its end."""
        words, environment, cwd = [str(word) for word in command], self.environment(env), str(more.pop("cwd", self.home))
        if may_be_forked(words, environment, more):
            status, out, err = run_forked(words, environment, cwd, timeout, user=self.arguments().get("user"), **more)
        else:
            done = subprocess.run(
                words, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL, env=environment, cwd=cwd,
                **self.arguments(), **more,
            )  # fmt: skip
            status, out, err = done.returncode, done.stdout, done.stderr
        return Result(status, out.decode(errors="replace"), err.decode(errors="replace"))

    def start(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        """Start a command as this user."""
        return subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, env=self.environment(env), cwd=self.home,
            **self.arguments(), **more,
        )  # fmt: skip

    def build(self, *words: str | Path, output: str = "layer", env: Mapping[str, str] | None = None, **more: Any) -> Result:
        """Run ``rootless-layer build … -o HOME/output --json``; options may end with ``--`` and a command."""
        return self.run([*COMMAND, "build", "-o", self.home / output, "--json", *words], env=env, **more)

    def script(self, text: str, name: str = "script") -> Path:
        """Write a script into this user's directory."""
        path, aside = self.home / name, self.home / f"{name}.aside"
        aside.write_text(text)
        aside.chmod(0o755)
        return aside.rename(path)  # a build that reads the earlier one reads all of it

    def leftovers(self) -> list[str]:
        """Name the temporary trees that are left: there must be none."""
        return sorted(os.listdir(self.home / "tmp")) + [
            name for name in os.listdir(self.home) if name.startswith(".rootless-layer-")
        ]


def good(result: Result) -> Result:
    """Give the result of a command that must have succeeded."""
    assert result.status == 0, result.err
    return result


def make_user(shared: Path, name: str) -> User:
    """Make a user a fresh directory: root's is on the disk, and somebody's in memory where there is root to use the disk."""
    other = name != "root" and os.geteuid() == 0
    home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=in_memory(shared) if other else shared))
    (home / "tmp").mkdir()
    if other:
        for path in (home, home / "tmp"):
            os.chown(path, SOMEBODY, SOMEBODY)
    home.chmod(0o755)
    return User(name, home)
