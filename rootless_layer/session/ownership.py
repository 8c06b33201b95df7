"""What the scripts gave: fakeroot's save file and the extended attributes, by inode.

The save file has a row for an inode that was chown'ed, chmod'ed, made by mkdir or mknod,
or given an extended attribute::

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

    from .inside.messages import Inode

_ROW = re.compile(
    rb"dev=(?P<dev>[0-9a-f]+),ino=(?P<ino>\d+),mode=(?P<mode>[0-7]+),"
    rb"uid=(?P<uid>\d+),gid=(?P<gid>\d+),nlink=(?P<nlink>\d+),rdev=(?P<rdev>\d+)"
)
_FAKED_AS_REGULAR = frozenset({stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})


@attrs.frozen(slots=True)
class Row:
    """What one inode was given; ``mode`` has the type bits.

    ``linked`` is false where the row came when the inode had no name: a file that was
    unlinked while open, or one made by ``O_TMPFILE``. ``stands_in`` is true where the mode
    on disk says nothing: mknod makes a regular file with a mode of its own.
    """

    mode: int
    uid: int
    gid: int
    rdev: int
    linked: bool = True
    stands_in: bool = False


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
    tools: Mapping[Inode, tuple[bytes, bytes]] = attrs.field(factory=dict)
    """The files with a row that the scripts only see: where the tool that has it lies, or nothing, and its path below that."""
    unseen: Mapping[Inode, str] = attrs.field(factory=dict)
    """Programs that changed an inode's mode unseen by libfakeroot."""
    builder: tuple[int, int] | None = None
    """The uid and gid that setxattr gave to a file without a row, where they are not mapped to 0:0."""
    set_id_refused: bool = False
    """The machine refused to set set-ID bits on disk, so that such a chmod did nothing there."""
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
                linked=match["nlink"] != b"0",
                stands_in=not kind or kind in _FAKED_AS_REGULAR,
            )
        if problems:
            raise RecordError(*problems, hint="Is this machine's fakeroot newer than this program knows?")
        return cls(rows)

    def inode(self, path: bytes, status: os.stat_result) -> Inode:
        """Give the inode by which the record knows what stands at a path of the staged tree."""
        return (status.st_dev, status.st_ino) if self.shown is None else self.shown.inode(path, status)

    def owner(self, path: str, inode: Inode, status: os.stat_result) -> Row:
        """Give what a file on disk is, by the record; ``status`` is its ``os.stat_result``.

        Raises :class:`RecordError` where the row cannot be this file's: a program that
        libfakeroot does not see may have freed the row's inode, which the file system
        then gave to another file.
        """
        row = self.rows.get(inode)
        if row is None:
            return Row(status.st_mode, 0, 0, 0)
        if self.builder == (row.uid, row.gid) and inode in self.xattrs:
            raise RecordError(
                f"{path}: its recorded owner {row.uid}:{row.gid} may be the builder's, whom fakeroot takes when it first"
                " sees a file in setxattr",
                hint="Give the file its owner by chown before its attribute, or build where there are user namespaces.",
            )
        program = self.unseen.get(inode)
        added = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600  # on disk, where fakeroot set the mode
        if program is not None and status.st_mode & 0o7777 not in {row.mode & 0o7777, (row.mode | added) & 0o7777}:
            raise RecordError(
                f"{path}: {program} changed its mode, which fakeroot did not see: recorded {row.mode & 0o7777:04o},"
                f" on disk {status.st_mode & 0o7777:04o}",
                hint="Change the mode of a file that was given an owner or a mode with a dynamic program only.",
            )
        refused = self.set_id_refused and bool(row.mode & 0o6000)
        fault = _contradiction(row, status.st_mode, mode_on_disk=not refused)
        if fault:
            raise RecordError(
                f"{path}: {fault}",
                hint="A program that fakeroot cannot see (a static one?) changed or replaced the file behind its back.",
            )
        if stat.S_ISDIR(status.st_mode) and status.st_mode & ~row.mode & stat.S_ISGID:
            return attrs.evolve(row, mode=row.mode | stat.S_ISGID)
        return row


def _contradiction(row: Row, mode: int, *, mode_on_disk: bool) -> str:
    recorded, found = stat.S_IFMT(row.mode), stat.S_IFMT(mode)
    if row.stands_in and stat.S_ISREG(mode):
        return ""
    if recorded != found:
        return f"recorded as another type of file ({stat.filemode(row.mode)}) than it is ({stat.filemode(mode)})"
    if stat.S_ISLNK(mode):
        return ""
    # fakeroot sets the mode on disk too, but keeps it accessible to its owner. Set-ID bits
    # may be missing there: a sandbox refuses them, and a write may clear them.
    added = 0o700 if stat.S_ISDIR(mode) else 0o600
    # A directory made in a set-group-ID one has the bit on disk only: mkdir passes it on.
    inherited = stat.S_ISGID if stat.S_ISDIR(mode) else 0
    differs = (row.mode | added) & 0o777 != (mode | added) & 0o777 or mode & ~(row.mode | inherited) & 0o7000
    if mode_on_disk and differs:
        return f"recorded with the mode {row.mode & 0o7777:04o}, which the mode on disk, {mode & 0o7777:04o}, contradicts"
    if not row.linked and (row.uid, row.gid) != (0, 0):
        return f"recorded for {row.uid}:{row.gid} while the inode had no name, so it may have been another file's"
    return ""


def save_file(rows: Iterable[tuple[Inode, Row]]) -> bytes:
    """Write rows as ``faked --load`` reads them."""
    return b"".join(
        b"dev=%x,ino=%d,mode=%o,uid=%d,gid=%d,nlink=1,rdev=%d\n" % (dev, ino, row.mode, row.uid, row.gid, row.rdev)
        for (dev, ino), row in rows
    )
