"""What the tests of the command share: the command, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import Ran

from rootless_layer.cli import end, main
from rootless_layer.system import replace


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Ran]:
    """The command, run in this process in a directory of its own: its status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROOTLESS_LAYER_CACHE", str(tmp_path / "cache"))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rootless-layer", *words])
        status = end._status(main.main)
        return status, *capsys.readouterr()

    yield run
    replace.PLACED.clear()
