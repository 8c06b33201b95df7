"""Room for what has to be decompressed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless_layer.errors import OutputError
from rootless_layer.image.spool import Spool


def test_a_spool_names_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names differ before any file is made; the directory is made for the first, and goes in the end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Spool() as spool:
        assert list(tmp_path.iterdir()) == []
        names = [Path(spool()) for _ in range(3)]
        assert len(set(names)) == len(names)
        assert {name.parent for name in names} == {Path(spool.folder)} == set(tmp_path.iterdir())
        names[0].write_bytes(b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_spool_without_room_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is that of the caller, and the hint says which variable to set."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    with Spool("nothing can be unpacked there") as spool, pytest.raises(OutputError, match="unpacked there") as caught:
        spool()
    assert "TMPDIR" in caught.value.hint
