"""What the scripts gave: fakeroot's save file and the extended attributes, by inode.

The save file has a row for an inode of which the disk does not say all: its owner, its mode or
its device, or that has an extended attribute::

    dev=fe00,ino=2203957,mode=104755,uid=0,gid=0,nlink=1,rdev=0

``dev`` is hexadecimal, ``ino`` and ``rdev`` are decimal, ``mode`` is octal with the type
bits (``faked.c``, ``save_database``). An inode without a row is root's, with the mode on
disk.
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import RecordError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from .inside.messages import Inode, Wish

_ROW = re.compile(
    rb"dev=(?P<dev>[0-9a-f]+),ino=(?P<ino>\d+),mode=(?P<mode>[0-7]+),"
    rb"uid=(?P<uid>\d+),gid=(?P<gid>\d+),nlink=(?P<nlink>\d+),rdev=(?P<rdev>\d+)"
)
_FAKED_AS_REGULAR = frozenset({stat.S_IFCHR, stat.S_IFBLK})


@attrs.frozen(slots=True)
class Row:
    """What one inode was given; ``mode`` has the type bits."""

    mode: int
    uid: int
    gid: int
    rdev: int


@attrs.frozen(slots=True)
class Shown:
    """How an overlay showed the staged tree to the scripts, and so to the record.

    Inodes there are of ``device`` and have the numbers of the directory on disk, but for the
    paths in ``moved``. ``paths`` has, by number, a path of each that has a row and is the
    base's.
    """

    device: int
    moved: Mapping[bytes, int]
    paths: Mapping[int, bytes]

    def inode(self, path: bytes, status: os.stat_result) -> Inode:
        """Give the inode by which the record knows a path; ``status`` is what the directory on disk says."""
        return self.device, self.moved.get(path, status.st_ino)

    def inodes(self) -> Iterator[tuple[Inode, bytes]]:
        """Go through the paths that have a row, with the inodes that the record has."""
        return (((self.device, number), path) for number, path in self.paths.items())


@attrs.frozen(slots=True)
class OwnershipRecord:
    """The rows and the extended attributes of a session, by inode."""

    rows: Mapping[Inode, Row]
    xattrs: Mapping[Inode, tuple[tuple[bytes, bytes], ...]] = attrs.field(factory=dict)
    wishes: tuple[Wish, ...] = ()
    """What scripts wished files to be that they only see."""
    shown: Shown | None = None
    """How an overlay showed the tree, where one did."""

    @classmethod
    def parse(cls, save_file: bytes) -> OwnershipRecord:
        """Read a save file.

        Raises :class:`RecordError` for a line of another form: every fault at once.
        """
        rows: dict[Inode, Row] = {}
        problems = []
        for number, line in enumerate(save_file.splitlines(), 1):
            match = _ROW.fullmatch(line)
            if match is None:
                problems.append(f"save file, line {number}: not a row: {line[:200]!r}")
                continue
            inode = int(match["dev"], 16), int(match["ino"])
            mode = int(match["mode"], 8)
            kind = stat.S_IFMT(mode)
            rows[inode] = Row(
                mode if kind else mode | stat.S_IFREG,  # mknod(2) takes no type for a regular file
                int(match["uid"]),
                int(match["gid"]),
                int(match["rdev"]),
            )
        if problems:
            raise RecordError(*problems, hint="Is this machine's fakeroot newer than this program knows?")
        return cls(rows)

    def inode(self, path: bytes, status: os.stat_result) -> Inode:
        """Give the inode by which the record knows what stands at a path of the staged tree."""
        return (status.st_dev, status.st_ino) if self.shown is None else self.shown.inode(path, status)

    def owner(self, path: str, inode: Inode, status: os.stat_result) -> Row:
        """Give what a file on disk is, by the record; ``status`` is its ``os.stat_result``.

        Raises :class:`RecordError` where the row cannot be this file's.
        """
        row = self.rows.get(inode)
        if row is None:
            return Row(status.st_mode, 0, 0, 0)
        recorded, found = stat.S_IFMT(row.mode), stat.S_IFMT(status.st_mode)
        if recorded != found and not (recorded in _FAKED_AS_REGULAR and stat.S_ISREG(found)):
            kinds = stat.filemode(row.mode), stat.filemode(status.st_mode)
            raise RecordError(
                f"{path}: recorded as another type of file ({kinds[0]}) than it is ({kinds[1]})",
                hint="Did something else than the scripts change the files of the build?",
            )
        return row


def save_file(rows: Iterable[tuple[Inode, Row]]) -> bytes:
    """Write rows as ``faked --load`` reads them."""
    return b"".join(
        b"dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=1,rdev=%d\n" % (dev, ino, row.mode, row.uid, row.gid, row.rdev)
        for (dev, ino), row in rows
    )
