"""Files whose bytes are another's: shared, passed to the disk from memory, or copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless_layer.system import files
from rootless_layer.system.files import WritebackFile

SIZES = [0, 1, 65_535, 65_536, 65_537, (16 << 20) + 70_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ways", [(), ("_passed",), ("_cloned", "_passed")])
def test_the_beginning_of_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ways: tuple[str, ...]) -> None:
    """However the bytes get there: they are those of the other file, and what is written next comes behind them."""
    for way in ways:
        monkeypatch.setattr(files, way, lambda *_: 0)
    data = os.urandom(size)
    (tmp_path / "other").write_bytes(data + b"more")
    with (tmp_path / "other").open("rb") as other, WritebackFile(tmp_path / "new") as new:
        new.copy_from(other.fileno(), size)
        new.write(b"end")
        new.sync()
    assert (tmp_path / "new").read_bytes() == data + b"end"


@pytest.mark.parametrize("size", [1, 70_000, 20 << 20])
def test_a_file_that_is_too_short(tmp_path: Path, size: int) -> None:
    """Where the other file has fewer bytes than were said, that is an error."""
    (tmp_path / "other").write_bytes(bytes(size - 1))
    with (tmp_path / "other").open("rb") as other, WritebackFile(tmp_path / "new") as new, pytest.raises(OSError):  # noqa: PT011
        new.copy_from(other.fileno(), size)
