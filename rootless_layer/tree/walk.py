"""A source tree as it lies on disk: its entries, read once, nothing changed."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from array import array
from bisect import bisect_left
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import attrs

from rootless_layer.system.machine import unreadable
from rootless_layer.system.native import library

from .ahead import read_ahead
from .places import OF_A_BUILD
from .tree import Entry, of_overlay, stamp

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Collection, Iterator, Sequence

    from .places import Hidden, LeftOut, Places

Found = tuple[bytes, bytes, os.stat_result]
"""The path below the top (``b""`` for the top itself), the path on disk, what lstat says."""

# SELinux labels come from the policy of whoever runs the image.
_LOCAL = (b"security.selinux", b"trusted.", b"system.nfs4")
_COMPARED_BYTES = 1 << 20
_AT_ONCE = 1000
_PLAIN = frozenset({stat.S_IFREG, stat.S_IFDIR})
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENCODING = sys.getfilesystemencoding()
_HINT = "Make it readable for the user who builds, or leave it out."


def walk(
    top: bytes, *, own: bool = False, left_out: Places | None = None, without: Callable[[bytes], bool] | None = None
) -> Iterator[Found]:
    """Read a tree, parents before children, in no other order; links are not followed.

    A tree of our ``own`` is made readable where it is not, after its modes were read. An input
    is read without the places that are ``left_out`` of it, and without what builds are making there. Paths from the top
    of which ``without`` says so are passed over, with all that is below.
    Raises :class:`SourceError` for what cannot be read, naming it.
    """
    with reading(top):
        status = os.lstat(top)
        hidden = None if left_out is None else left_out.hidden((status.st_dev, status.st_ino))
        yield b"", top, status
        folders = [(b"", top, status)] if stat.S_ISDIR(status.st_mode) else []
        while folders:
            above, folder, there = folders.pop()
            if own and not os.access(folder, os.R_OK | os.X_OK):
                os.chmod(folder, 0o700)
            for name, status in _children(folder, None if hidden is None else hidden.get((there.st_dev, there.st_ino), ())):
                relative, on_disk = above + name, folder + b"/" + name
                if without is not None and without(relative):
                    continue
                yield relative, on_disk, status
                if status.st_mode & 0o170000 == stat.S_IFDIR:
                    folders.append((relative + b"/", on_disk, status))


@attrs.define(slots=True, eq=False)
class Listing:
    """What lies in a directory, as columns; ``odd`` has what lstat says of what is no file and no directory.

    Names are ordered, and are paths from the directory where more than one is listed. Sizes are of files, 0 for anything else;
    times are in nanoseconds.
    """

    names: list[bytes] = attrs.field(factory=list)
    modes: array[int] = attrs.field(factory=lambda: array("I"))
    sizes: array[int] = attrs.field(factory=lambda: array("q"))
    devices: array[int] = attrs.field(factory=lambda: array("Q"))
    inodes: array[int] = attrs.field(factory=lambda: array("Q"))
    times: array[int] = attrs.field(factory=lambda: array("q"))
    changes: array[int] = attrs.field(factory=lambda: array("q"))
    odd: dict[int, os.stat_result] = attrs.field(factory=dict)

    @classmethod
    def of(cls, names: list[bytes], descriptor: int) -> Self:
        """Take down what lstat says of the names in a directory that is open."""
        made = cls(names)
        if (loops := library()) is not None and made._look_by(loops.look_at_names, descriptor):
            return made
        for begin in range(0, len(names), _AT_ONCE):
            part = [os.stat(name, dir_fd=descriptor, follow_symlinks=False) for name in names[begin : begin + _AT_ONCE]]
            modes = [status.st_mode for status in part]
            made.modes.extend(modes)
            made.sizes.extend([status.st_size for status in part])
            if any(mode & 0o170000 != stat.S_IFREG for mode in set(modes)):
                made._note_odd(part, begin)
            made.devices.extend([status.st_dev for status in part])
            made.inodes.extend([status.st_ino for status in part])
            made.times.extend([status.st_mtime_ns for status in part])
            made.changes.extend([status.st_ctime_ns for status in part])
        return made

    def _look_by(self, look: ctypes._NamedFuncPointer, descriptor: int) -> bool:
        """Look at the names by a loop in C; say whether all stayed what it was, and leave nothing where it did not."""
        count = len(self.names)
        columns = [array(column.typecode, bytes(column.itemsize * count)) for column in self._columns]
        addresses = (column.buffer_info()[0] for column in columns)
        if look(descriptor, b"\0".join(self.names) + b"\0", count, *addresses) < count:
            return False
        modes, _, devices, inodes, *_ = columns
        odd = {}
        for number, mode in enumerate(modes):
            if mode & 0o170000 not in _PLAIN:
                status = odd[number] = os.stat(self.names[number], dir_fd=descriptor, follow_symlinks=False)
                if (status.st_mode, status.st_dev, status.st_ino) != (mode, devices[number], inodes[number]):
                    return False  # it is another one by now
        self.modes, self.sizes, self.devices, self.inodes, self.times, self.changes = columns
        self.odd = odd
        return True

    def _note_odd(self, part: Sequence[os.stat_result], begin: int) -> None:
        for number, status in enumerate(part, begin):
            kind = status.st_mode & 0o170000
            if kind != stat.S_IFREG:
                self.sizes[number] = 0
                if kind != stat.S_IFDIR:
                    self.odd[number] = status

    def take(self, other: Listing, begin: int, end: int, prefix: bytes) -> None:
        """Add a part of another listing, of the directory with this path and slash."""
        here = slice(begin, end)
        if other.odd:
            shift = len(self.names) - begin
            self.odd |= {number + shift: status for number, status in other.odd.items() if begin <= number < end}
        self.names += [prefix + name for name in other.names[here]] if prefix else other.names[here]
        for column, more in zip(self._columns, other._columns, strict=True):
            column.extend(more[here])

    @property
    def _columns(self) -> tuple[array[int], ...]:
        return self.modes, self.sizes, self.devices, self.inodes, self.times, self.changes

    def folders(self) -> list[tuple[bytes, int]]:
        """Give the names of the directories with a slash, and where they stand, in the order of those names."""
        found = [(self.names[number] + b"/", number) for number, mode in enumerate(self.modes) if mode & 0o170000 == stat.S_IFDIR]
        found.sort()
        return found


def listings(
    top: bytes, *, left_out: Places | None = None, without: Collection[bytes] = (), alone: bool = False
) -> Iterator[Listing]:
    """Read the directory ``top``, and all below it, in the order of the paths' bytes, a thousand or two at a time.

    All is as of :func:`walk`, but that the top itself is not given. Names of the top's own that are in ``without`` are
    passed over. Where there is much to read, other processes help, unless it is to be done ``alone``.
    """
    with reading(top):
        status = os.lstat(top)
        hidden = None if left_out is None else left_out.hidden((status.st_dev, status.st_ino))
        listing = _listing(top, None if hidden is None else hidden.get((status.st_dev, status.st_ino), ()), without)
    if alone:
        yield from _below(_Folder(listing, b"", top), hidden)
        return
    folders = listing.folders()
    units = [partial(_unit, _Folder(listing, b"", top), name, number, hidden) for name, number in folders]
    begin = 0
    for (name, _), found in zip(folders, read_ahead(units), strict=True):
        # What stands between a directory and what is in it has a name that goes on where the directory's ends.
        end = bisect_left(listing.names, name, begin)
        yield from _parts(listing, begin, end)
        begin = end
        yield from found
    yield from _parts(listing, begin, len(listing.names))


def below(top: bytes) -> Iterator[Listing]:
    """Read what is in a directory as :func:`listings` does, alone; there is nothing in anything else."""
    with reading(top):
        status = os.lstat(top)
    if stat.S_ISDIR(status.st_mode):
        yield from listings(top, alone=True)


class _Folder(NamedTuple):
    """A directory that was listed: its path from the top, with a slash, or nothing, and the path on disk."""

    listing: Listing
    prefix: bytes
    on_disk: bytes

    def enter(self, name: bytes, number: int, hidden: Hidden | None) -> _Folder:
        """List one of its directories, which is given as :meth:`Listing.folders` has it."""
        there = None if hidden is None else hidden.get((self.listing.devices[number], self.listing.inodes[number]), ())
        on_disk = self.on_disk + b"/" + name[:-1]
        return _Folder(_listing(on_disk, there), self.prefix + name, on_disk)


def _unit(folder: _Folder, name: bytes, number: int, hidden: Hidden | None) -> Iterator[Listing]:
    with reading(folder.on_disk):
        entered = folder.enter(name, number, hidden)
    yield from _below(entered, hidden)


def _below(folder: _Folder, hidden: Hidden | None) -> Iterator[Listing]:
    """Give what is in a directory, and read all that is below it."""
    found = Listing()
    waiting = [(folder, iter(folder.listing.folders()), 0)]
    with reading(folder.on_disk):
        while waiting:
            folder, folders, begin = waiting.pop()
            listing = folder.listing
            name, number = next(folders, (b"", 0))
            end = bisect_left(listing.names, name, begin) if name else len(listing.names)
            for first in range(begin, end, _AT_ONCE):
                found.take(listing, first, min(first + _AT_ONCE, end), folder.prefix)
                if len(found.names) >= _AT_ONCE:
                    yield found
                    found = Listing()
            if name:
                waiting.append((folder, folders, end))
                entered = folder.enter(name, number, hidden)
                waiting.append((entered, iter(entered.listing.folders()), 0))
    if found.names:
        yield found


def _parts(listing: Listing, begin: int, end: int) -> Iterator[Listing]:
    for first in range(begin, end, _AT_ONCE):
        part = Listing()
        part.take(listing, first, min(first + _AT_ONCE, end), b"")
        yield part


def _listing(folder: bytes, hidden: LeftOut | tuple[()] | None, without: Collection[bytes] = ()) -> Listing:
    descriptor = os.open(folder, _OPEN)
    try:
        names = [name.encode(_ENCODING, "surrogateescape") for name in os.listdir(descriptor)]
        if without:
            names = [name for name in names if name not in without]
        if hidden is not None:
            names = [name for name in names if not _is_hidden(name, hidden, descriptor)]
        names.sort()
        return Listing.of(names, descriptor)
    except OSError as error:
        error.filename = folder  # and not the name alone, or the descriptor
        raise
    finally:
        os.close(descriptor)


def _is_hidden(name: bytes, hidden: LeftOut | tuple[()], folder: int) -> bool:
    if name in hidden:
        return True
    return OF_A_BUILD.fullmatch(name) is not None and stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _children(folder: bytes, hidden: LeftOut | tuple[()] | None) -> Iterator[tuple[bytes, os.stat_result]]:
    descriptor = os.open(folder, _OPEN)
    try:
        # By its descriptor: the kernel then looks each name up where it is, not from the root.
        with os.scandir(descriptor) as listing:
            for item in listing:
                name = item.name.encode(_ENCODING, "surrogateescape")
                if hidden is not None and (name in hidden or (OF_A_BUILD.fullmatch(name) and item.is_dir(follow_symlinks=False))):
                    continue
                yield name, item.stat(follow_symlinks=False)
    except OSError as error:
        error.filename = folder  # and not the name alone, or the descriptor
        raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reading(top: bytes) -> Iterator[None]:
    """Raise :class:`SourceError`, or the machine's error, for what cannot be read of a tree."""
    try:
        yield
    except OSError as error:
        raise unreadable(error, os.fsdecode(error.filename or top), hint=_HINT) from error


def entry_of(path: bytes, on_disk: bytes, status: os.stat_result, epoch: int, owner: tuple[int, int]) -> Entry:
    """Make the entry for one file of a source, with the owner given as uid and gid.

    Times are clamped to ``epoch`` (a directory's does not count: it depends on how the
    tree was made), fractions of a second dropped.
    """
    mode = status.st_mode
    uid, gid = owner
    seconds = status.st_mtime_ns // 1_000_000_000
    seconds = min(seconds, epoch)
    if mode & 0o170000 == stat.S_IFREG:
        return Entry(
            path=path, mode=mode, uid=uid, gid=gid, mtime=seconds,
            size=status.st_size, source=on_disk, stamp=stamp(status),
        )  # fmt: skip
    if stat.S_ISDIR(mode):
        return Entry(path=path, mode=mode, uid=uid, gid=gid, mtime=epoch, stamp=stamp(status))
    target = os.readlink(on_disk) if stat.S_ISLNK(mode) else None
    return Entry(
        path=path, mode=stat.S_IFLNK | 0o777 if target is not None else mode, uid=uid, gid=gid,
        mtime=seconds, target=target, stamp=stamp(status),
        rdev=status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
    )  # fmt: skip


def xattrs_of(on_disk: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Read a file's extended attributes, but for those that belong to the machine it is on; overlayfs's own are among them."""
    names = sorted(os.fsencode(name) for name in os.listxattr(on_disk, follow_symlinks=False))
    wanted = (name for name in names if of_overlay(name) or not name.startswith(_LOCAL))
    return tuple((name, os.getxattr(on_disk, name, follow_symlinks=False)) for name in wanted)


def agree(one: Entry, other: Entry) -> bool:
    """Say whether two entries may stand for the same path."""
    if one.is_dir and other.is_dir:
        return True
    if stat.S_IFMT(one.mode) != stat.S_IFMT(other.mode) or one.target != other.target or one.rdev != other.rdev:
        return False
    if not one.is_regular:
        return True
    return one.mode == other.mode and same_data(one.source, other.source, one.size, other.size)


def same_data(one: bytes | None, other: bytes | None, size: int, other_size: int) -> bool:
    """Compare two files' bytes; raises :class:`SourceError` where one cannot be read."""
    if size != other_size or one is None or other is None:
        return size == other_size and one == other
    if one == other:
        return True
    try:
        with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
            while (data := first.read(_COMPARED_BYTES)) == second.read(_COMPARED_BYTES):
                if not data:
                    return True
    except OSError as error:
        raise unreadable(error, os.fsdecode(error.filename or one)) from error
    return False
