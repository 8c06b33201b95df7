"""The loops in C list and write what Python does, and leave to it what they do not know."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer import LayerSpec
from rootless_layer.errors import RootlessLayerError
from rootless_layer.plan.plan import plan
from rootless_layer.system.native import library
from rootless_layer.tar import native as writing
from rootless_layer.tar.parallel import serialise
from rootless_layer.tar.write import SLOT_BYTES, SMALL_BYTES
from rootless_layer.tree import walk
from rootless_layer.tree.tree import Tree

compiled = pytest.mark.skipif(library() is None, reason="this package was installed where no compiler is")


@contextmanager
def without_loops() -> Iterator[None]:
    """Have Python do all."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (writing, walk):
            patch.setattr(module, "library", lambda: None)
        yield


def tar_of(tree: Tree, processes: int = 0) -> bytes:
    """Give a digest of a tree's tar."""
    digest = hashlib.sha256()
    serialise(tree.archived(), digest.update, processes=processes)
    return digest.digest()


def check(top: Path) -> Tree:
    """See that a directory's listing and its tar are the same with and without the loops."""
    spec = LayerSpec(copy_to_root=(str(top),), source_date_epoch=2**33, uid=5, gid=7, uname="five")
    tree = plan(spec).tree
    with without_loops():
        by_python = plan(spec).tree
        assert list(by_python) == list(tree)
        expected = tar_of(by_python)
    assert tar_of(tree) == expected
    assert tar_of(tree, processes=3) == expected
    return tree


SIZES = st.one_of(
    st.integers(0, 2000),
    st.sampled_from((511, 512, 513, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, SLOT_BYTES - 5000, SLOT_BYTES)),
)
NAMES = st.one_of(
    st.sampled_from(("ä", "\udcff", "a b", "new\nline", "n" * 99, "n" * 100, "n" * 101, "n" * 255)),
    st.text("abc.-0", min_size=1, max_size=12).filter(lambda name: name not in {".", ".."}),
)
TIMES = st.sampled_from((0, 1, 999_999_999, 10**9, -1, -(10**9), -(10**9) - 1, 2**31 * 10**9, 2**33 * 10**9 + 5))


@compiled
@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.tuples(NAMES, NAMES), st.tuples(SIZES, TIMES, st.sampled_from((0o644, 0o755, 0o4755, 0o600))), max_size=40)
)
def test_files(made: dict[tuple[str, str], tuple[int, int, int]]) -> None:
    """Of any size, name, time and mode, between links and files of several names."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for (above, name), (size, time, mode) in made.items():
            (top / above).mkdir(exist_ok=True)
            path = top / above / name
            path.write_bytes(os.urandom(min(size, 1000)).ljust(size, b"x"))
            path.chmod(mode)
            os.utime(path, ns=(0, time))
            if size % 3 == 0:
                (top / above / f"link-{len(os.listdir(top / above))}").symlink_to(name)
        check(top)


@compiled
def test_what_is_no_file(tmp_path: Path) -> None:
    """Pipes, sockets, devices and empty directories."""
    for number in range(20):
        (tmp_path / f"{number:02}/empty").mkdir(parents=True)
        os.mkfifo(tmp_path / f"{number:02}/pipe")
        (tmp_path / f"{number:02}/file").write_bytes(b"data")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "05/socket"))
        if os.geteuid() == 0:
            os.mknod(tmp_path / "07/null", 0o20666, os.makedev(1, 3))
        tree = check(tmp_path)
    assert b"05/socket" not in tree.entries
    assert tree.entries[b"06/pipe"].mode == 0o10644


@compiled
def test_deep_paths(tmp_path: Path) -> None:
    """As long as a layer takes them."""
    folder = tmp_path
    for length in range(1, 14):
        folder = folder / (f"{length:02}" * 127)[:254]
    os.makedirs(folder)
    for name in ("a", "b" * 200):
        (folder / name).write_bytes(b"deep")
    check(tmp_path)


def grow(path: Path) -> None:
    """Make a file longer."""
    path.write_bytes(b"longer than it was")


def shrink(path: Path) -> None:
    """Make a file shorter."""
    path.write_bytes(b"")


def touch(path: Path) -> None:
    """Give a file another time."""
    os.utime(path, (5, 5))


def replace(path: Path) -> None:
    """Put a link in a file's place."""
    path.unlink()
    path.symlink_to("/etc/passwd")


def exchange(path: Path) -> None:
    """Put another file of the same size and time in a file's place."""
    status = path.stat()
    path.rename(path.with_name("before"))
    path.write_bytes(b"y" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@compiled
@pytest.mark.parametrize("change", [grow, shrink, touch, replace, exchange, Path.unlink])
def test_a_file_that_changes(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """The error is the one that Python raises, and names the file."""
    for number in range(50):
        (tmp_path / f"{number:02}").write_bytes(b"x" * 10)
    tree = plan(LayerSpec(copy_to_root=(str(tmp_path),))).tree
    change(tmp_path / "25")
    told = []
    for processes in (0, 2):
        with pytest.raises(RootlessLayerError) as caught:
            tar_of(tree, processes)
        told.append(str(caught.value))
    with without_loops(), pytest.raises(RootlessLayerError) as caught:
        tar_of(tree)
    assert set(told) == {str(caught.value)}
    assert f"{tmp_path}/25" in told[0]


@compiled
def test_a_name_that_goes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, whoever looks for it."""
    (tmp_path / "there").touch()
    monkeypatch.setattr(os, "listdir", lambda _: ["there", "gone"])
    with pytest.raises(RootlessLayerError, match=f"{tmp_path}.*No such file"):
        plan(LayerSpec(copy_to_root=(str(tmp_path),)))


@compiled
def test_a_link_that_becomes_a_file_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at a link sees a file: the row has the file's size, and the tar its data."""
    (tmp_path / "first").touch()
    (tmp_path / "link").symlink_to("first")
    look = os.stat

    def replacing(path: Any, **options: Any) -> os.stat_result:
        if path == b"link" and (tmp_path / "link").is_symlink():
            (tmp_path / "link").unlink()
            (tmp_path / "link").write_bytes(b"data")
        return look(path, **options)

    monkeypatch.setattr(os, "stat", replacing)
    tree = plan(LayerSpec(copy_to_root=(str(tmp_path),))).tree
    assert not (tmp_path / "link").is_symlink()
    parts: list[bytes] = []
    serialise(tree.archived(), lambda part: parts.append(bytes(part)), processes=0)
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        found = archive.extractfile("link")
        assert found is not None
        assert found.read() == b"data"
    assert tree.entries[b"link"].size == 4


def test_they_are_compiled_where_a_compiler_is() -> None:
    """So that the tests above are about them."""
    assert library() is not None or shutil.which("cc") is None
