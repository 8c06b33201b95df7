"""Python's compiled modules, as they are valid beside a source of another time."""

from __future__ import annotations

import os
import py_compile
import stat
from importlib.util import cache_from_source
from pathlib import Path

import attrs
import pytest

from rootless_layer.tree.compiled import EARLIEST, mended, put_time, shown_time, valid
from rootless_layer.tree.tree import Entry

WRITTEN = 1_700_000_000


def compiled(folder: Path, mode: py_compile.PycInvalidationMode = py_compile.PycInvalidationMode.TIMESTAMP) -> dict[bytes, Entry]:
    """Give the entries of a source and of what Python makes of it, as a layer has them: of the second 1."""
    source = folder / "mod.py"
    source.write_text("x = 1\n")
    os.utime(source, (WRITTEN, WRITTEN))
    made = py_compile.compile(str(source), invalidation_mode=mode)
    assert made == cache_from_source(str(source))
    paths = {os.fsencode(path.relative_to(folder)): path for path in (source, Path(made))}
    return {
        name: Entry(path=name, mode=stat.S_IFREG | 0o644, mtime=1, size=path.stat().st_size, source=os.fsencode(path))
        for name, path in paths.items()
    }


def recorded(path: bytes) -> int:
    """Read the source's time that a compiled module records (PEP 552)."""
    return int.from_bytes(Path(os.fsdecode(path)).read_bytes()[8:12], "little")


def test_a_module_becomes_valid_for_its_sources_time(tmp_path: Path) -> None:
    """A copy has the time that the source has in the layer; the file that it is made of stays."""
    entries = compiled(tmp_path)
    place = tmp_path / "place"
    place.mkdir()
    (path, entry), *more = mended(entries.values(), entries.get, lambda: os.fsencode(place)).items()
    assert not more
    assert path.endswith(b".pyc")
    assert recorded(entry.source or b"") == 1
    before = entries[path].source or b""
    assert recorded(before) == WRITTEN
    assert Path(os.fsdecode(before)).read_bytes()[12:] == Path(os.fsdecode(entry.source or b"")).read_bytes()[12:]


@pytest.mark.parametrize("change", ["stale", "grown", "gone", "elsewhere"])
def test_a_module_that_is_not_valid_stays(tmp_path: Path, change: str) -> None:
    """What Python would compile anew where it lies is compiled anew from the layer, too."""
    entries = compiled(tmp_path)
    if change == "stale":
        os.utime(tmp_path / "mod.py", (WRITTEN + 1, WRITTEN + 1))
    elif change == "grown":
        entries[b"mod.py"] = Entry(path=b"mod.py", mode=stat.S_IFREG | 0o644, mtime=1, size=7, source=entries[b"mod.py"].source)
    elif change == "gone":
        del entries[b"mod.py"]
    else:
        (module,) = (entry for path, entry in entries.items() if path.endswith(b".pyc"))
        entries = {b"mod.py": entries[b"mod.py"], b"mod.pyc": attrs.evolve(module, path=b"mod.pyc")}
    assert [*valid(entries.values(), entries.get)] == []


@pytest.mark.parametrize("mode", [py_compile.PycInvalidationMode.CHECKED_HASH, py_compile.PycInvalidationMode.UNCHECKED_HASH])
def test_a_module_that_is_valid_by_its_sources_bytes_stays(tmp_path: Path, mode: py_compile.PycInvalidationMode) -> None:
    """Such a module records no time."""
    entries = compiled(tmp_path, mode)
    assert [*valid(entries.values(), entries.get)] == []


def test_a_module_is_valid_for_what_scripts_see(tmp_path: Path) -> None:
    """A source is shown as of 1980 where it is older, and what is compiled then is valid, too."""
    entries = compiled(tmp_path)
    (entry, source), *more = valid(entries.values(), entries.get)
    assert not more
    assert shown_time(source) == EARLIEST
    path = entry.source or b""
    before = os.stat(path)
    put_time(path, EARLIEST)
    assert recorded(path) == EARLIEST
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert [one.path for one, _ in valid(entries.values(), entries.get)] == [entry.path]


def test_what_is_no_module_is_left_alone(tmp_path: Path) -> None:
    """Short files, files of other formats, and links are none."""
    folder = tmp_path / "__pycache__"
    folder.mkdir()
    (tmp_path / "mod.py").write_text("")
    entries = {b"mod.py": Entry(path=b"mod.py", mode=stat.S_IFREG | 0o644, source=os.fsencode(tmp_path / "mod.py"))}
    for number, data in enumerate((b"", b"\r\n", b"x" * 100)):
        path = folder / f"mod.{number}.pyc"
        path.write_bytes(data)
        name = b"__pycache__/mod.%d.pyc" % number
        entries[name] = Entry(path=name, mode=stat.S_IFREG | 0o644, source=os.fsencode(path))
    assert [*valid(entries.values(), entries.get)] == []
