"""Paths that lead through links of a tree."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.tree.links import MOST_LINKS, follow
from rootless_layer.tree.tree import Entry

LIBC = ctypes.CDLL(None, use_errno=True)
OPENAT2, RESOLVE_IN_ROOT = 437, 0x10  # linux/openat2.h; the number is the same on every architecture


def tree(links: dict[str, str], *folders: str) -> dict[bytes, Entry]:
    """Make a tree of links and directories."""
    made = {path.encode(): Entry(path=path.encode(), mode=stat.S_IFDIR | 0o755) for path in ("", *folders)}
    return made | {path.encode(): Entry(path=path.encode(), mode=stat.S_IFLNK, target=to.encode()) for path, to in links.items()}


@pytest.mark.parametrize(
    ("path", "start", "end"),
    [
        (b"lib/x", b"", b"usr/lib/x"),
        (b"x", b"usr/lib", b"usr/lib/x"),
        (b"../../../lib", b"usr", b"usr/lib"),
        (b"here", b"usr/lib", b"usr/lib"),
        (b"top/usr", b"usr/lib", b"usr"),
        (b"", b"usr", b"usr"),
    ],
)
def test_where_a_path_leads(path: bytes, start: bytes, end: bytes) -> None:
    """A link that is not absolute leads on from its own directory; the root is its own parent."""
    there = tree({"lib": "usr/lib", "usr/lib/here": ".", "usr/lib/top": "/"}, "usr", "usr/lib")
    way = follow(path, there.get, start)
    assert (way.end, way.endless) == (end, False)


def test_what_is_missing() -> None:
    """A part that is not there is taken for a directory that is to be made; what was passed before it is told."""
    way = follow(b"a/b/../c", tree({"a": "x"}, "x").get)
    assert (way.end, way.missing) == (b"x/c", True)
    assert [entry.path for entry in way.passed] == [b"a", b"x"]


@pytest.mark.parametrize(("count", "endless"), [(MOST_LINKS, False), (MOST_LINKS + 1, True)])
def test_links_one_behind_the_other(count: int, endless: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """As many as the kernel follows; a circle has no end."""
    there = tree({str(number): str(number + 1) for number in range(count)}, str(count))
    assert follow(b"0", there.get).endless is endless
    assert follow(b"a", tree({"a": "b", "b": "a"}).get).endless


def opened(root: Path, path: str) -> str | None:
    """Give where the kernel follows a path to with a directory for its root (openat2(2)); nothing where it does not."""
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        found = LIBC.syscall(OPENAT2, folder, path.encode(), how, len(how))
    finally:
        os.close(folder)
    if found < 0:
        assert ctypes.get_errno() in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}
        return None
    try:
        return os.path.relpath(os.readlink(f"/proc/self/fd/{found}"), root)
    finally:
        os.close(found)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "d/a", "d/b"]),
        st.sampled_from(["a", "b", "d", "..", "../a", "d/a", "./b", ".", "/d", "/"]),
        max_size=4,
    ),
    st.lists(st.sampled_from(["a", "b", "d", ".."]), min_size=1, max_size=4),
)
def test_it_leads_where_the_kernel_says(
    tmp_path_factory: pytest.TempPathFactory, links: dict[str, str], parts: list[str]
) -> None:
    """Of any few links: as openat2(2) follows them with the tree for its root."""
    way = follow("/".join(parts).encode(), tree(links, "d").get)
    root = tmp_path_factory.mktemp("tree").resolve()
    (root / "d").mkdir()
    for path, to in links.items():
        os.symlink(to, root / path)
    found = opened(root, "/".join(parts))
    assert found == (None if way.missing or way.endless else way.end.decode() or ".")
