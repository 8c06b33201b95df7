"""Whoever uses another builder: the files of a page of the documentation, and the programs that it names."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from helpers.place import remove
from helpers.users import Result, User, make_user


@attrs.frozen
class Builder:
    """Somebody with the files of a page, and the variables of their commands."""

    user: User
    variables: Mapping[str, str]

    @property
    def home(self) -> Path:
        """Where the files are."""
        return self.user.home

    def run(self, *words: str | Path, cwd: Path | None = None, **variables: str) -> Result:
        """Run a program to its end."""
        return self.user.run(words, env={**self.variables, **variables}, cwd=cwd or self.home)


@contextlib.contextmanager
def builder_with(
    shared: Path, name: str, files: Mapping[str, str], programs: Mapping[str, str], inputs: Path
) -> Iterator[Builder]:
    """Make somebody a directory with files, a base image of the inputs, and programs that stand for others."""
    if name == "root" and os.geteuid() != 0:
        pytest.skip("these tests were not started by root")
    user = make_user(shared, name)
    (user.home / "bin").mkdir()
    for program, command in programs.items():
        user.script(f"#!/bin/bash\n{command}\n", f"bin/{program}")
    for path, text in files.items():
        if "/" not in path:
            user.script(text, path)
    shutil.copy(inputs / "base.tar", user.home)
    yield Builder(user, {"INPUTS": str(inputs), "PATH": f"{user.home}/bin:{user.environment()['PATH']}"})
    remove(user.home)
