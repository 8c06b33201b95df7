"""``rootless-layer completion``: a shell that has read it completes verbs, options, their values, and files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.users import COMMAND, User, good

ASK = """
source "$1"
compopt() { echo compopt "$@"; }
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_rootless_layer_completion rootless-layer
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def program(somebody: User) -> str:
    """A PATH on which the command is, as a shell starts it."""
    command = somebody.home / "rootless-layer"
    command.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    return f"{somebody.home}:/usr/bin:/bin"


def asked(somebody: User, program: str, *words: str) -> list[str]:
    """Give what bash offers for the last of these words."""
    text = good(somebody.run([*COMMAND, "completion", "bash"])).out
    (somebody.home / "completion").write_text(text)
    done = somebody.run(["bash", "-c", ASK, "bash", somebody.home / "completion", *words], env={"PATH": program})
    return good(done).out.split("\n")[:-1]


def test_bash_completes_verbs_options_values_and_files(somebody: User, program: str) -> None:
    """Each word is of its place; a directory is asked for where only one may stand; nothing is offered behind ``--``."""
    assert asked(somebody, program, "rootless-layer", "b") == ["build"]
    assert {"gc", "ls"} <= set(asked(somebody, program, "rootless-layer", "cache", ""))
    assert asked(somebody, program, "rootless-layer", "build", "--rootf") == ["--rootfs", "--rootfs-listing"]
    assert asked(somebody, program, "rootless-layer", "build", "--link", "h") == ["hard"]
    assert asked(somebody, program, "rootless-layer", "build", "--rootfs", "de")[0] == "compopt -o default"
    assert asked(somebody, program, "rootless-layer", "image", "--layer", "de")[0] == "compopt -o dirnames"
    assert asked(somebody, program, "rootless-layer", "diff", "de")[0] == "compopt -o default"
    assert asked(somebody, program, "rootless-layer", "build", "--source-date-epoch", "1") == [""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_can_read_its_own(somebody: User, shell: str) -> None:
    """The text is a program of that shell's."""
    text = good(somebody.run([*COMMAND, "completion", shell])).out
    path = somebody.home / "completion"
    path.write_text(text)
    assert "_ROOTLESS_LAYER_COMPLETE" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", Path(path)], check=True)
