"""fakeroot's save file, and what a row says of the file that it is found for."""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless_layer.errors import RecordError
from rootless_layer.session.ownership import OwnershipRecord, Row, Shown, save_file

IDS = st.integers(0, 2**32 - 2)
KINDS = st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
ROWS = st.builds(
    lambda kind, mode, uid, gid, rdev: Row(kind | mode, uid, gid, rdev),
    KINDS,
    st.integers(0, 0o7777),
    IDS,
    IDS,
    st.integers(0, 2**40),
)


def status(mode: int, links: int = 1) -> os.stat_result:
    """Make what lstat says of a file with a mode."""
    return os.stat_result((mode, 7, 1, links, 0, 0, 0, 0, 0, 0))


def record(mode: int, uid: int = 0, gid: int = 0) -> OwnershipRecord:
    """Make a record of one row, for the inode of :func:`status`."""
    return OwnershipRecord({(1, 7): Row(mode, uid, gid, 0)})


@given(st.dictionaries(st.tuples(st.integers(0, 2**32), st.integers(1, 2**60)), ROWS, max_size=5))
def test_rows_are_read_as_they_are_written(rows: dict[tuple[int, int], Row]) -> None:
    """What is loaded into faked is what faked saves."""
    assert OwnershipRecord.parse(save_file(rows.items())).rows == rows


def test_every_line_that_is_no_row_is_named() -> None:
    """All at once, with their numbers."""
    with pytest.raises(RecordError) as raised:
        OwnershipRecord.parse(b"dev=1,ino=2\ndev=1,ino=2,mode=100644,uid=0,gid=0,nlink=1,rdev=0\nx\n")
    assert [problem.partition(": not")[0] for problem in raised.value.problems] == ["save file, line 1", "save file, line 3"]


def test_a_regular_file_of_mknod_has_no_type() -> None:
    """mknod(2) takes none for a regular file."""
    row = OwnershipRecord.parse(b"dev=1,ino=7,mode=4755,uid=3,gid=4,nlink=1,rdev=0\n").rows[1, 7]
    assert row == Row(stat.S_IFREG | 0o4755, 3, 4, 0)


def test_without_a_row_a_file_is_roots() -> None:
    """Its mode is that on disk."""
    assert OwnershipRecord({}).owner("f", (1, 7), status(0o100640)) == Row(0o100640, 0, 0, 0)


@pytest.mark.parametrize(
    ("row", "on_disk"),
    [
        (0o100644, 0o100644),
        (0o100000, 0o100600),  # fakeroot keeps a file readable for its owner
        (0o040000, 0o040700),
        (0o104755, 0o100755),  # a sandbox refuses set-ID bits
        (0o120777, 0o120777),
    ],
)
def test_a_row_that_fits(row: int, on_disk: int) -> None:
    """The row's mode counts."""
    assert record(row, 5, 6).owner("f", (1, 7), status(on_disk)).mode == row


@pytest.mark.parametrize(("row", "on_disk"), [(0o100644, 0o040755), (0o120777, 0o100777), (0o020644, 0o040755)])
def test_a_row_of_another_file(row: int, on_disk: int) -> None:
    """A number that was freed unseen and given again does not pass for the file that it was."""
    with pytest.raises(RecordError, match=r"^f: recorded"):
        record(row).owner("f", (1, 7), status(on_disk))


def test_numbers_that_an_overlay_moved() -> None:
    """Paths that were copied up unknown have numbers of their own there; all others have those on disk."""
    shown = Shown(9, {b"a": 3}, {4: b"b"})
    found = OwnershipRecord({}, shown=shown)
    assert (found.inode(b"a", status(0o100644)), found.inode(b"c", status(0o100644))) == ((9, 3), (9, 7))
    assert list(shown.inodes()) == [((9, 4), b"b")]
