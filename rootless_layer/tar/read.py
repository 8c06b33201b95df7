"""A layer's tar, read while it streams: each member, and the digest of its data. Nothing is unpacked."""

from __future__ import annotations

import ctypes
import hashlib
import posixpath
import stat
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from rootless_layer.tar import libarchive
from rootless_layer.tree.tree import MOST_PATH, WHITEOUT_PREFIX, Entry, shown, unrepresentable

from .feed import Consume, Feed
from .stream import ACL_LEFT_OUT, TarStream

if TYPE_CHECKING:
    from .feed import Give

OPAQUE = b".wh..wh..opq"
"""image-spec ``layer.md``, "Opaque Whiteout": all that lower layers have in this directory is gone."""
END_MARKER = 1024
"""How long the end of a tar is: two blocks of zeros."""
_HOLE = bytes(1 << 16)
_MOST_HOLE = 4 << 30
_IN_ANOTHER_CODING = "can't be converted"  # a name that is not UTF-8: its bytes are right


@attrs.frozen(slots=True, kw_only=True)
class Member:
    """A member of a layer's tar.

    ``name`` is its name as it stands there, ``target`` that of what it is a hard link of;
    the paths of ``entry`` are relative to the root and never leave it. ``digest`` is of a
    regular file's data, the holes of a ``sparse`` one filled. ``warning`` is what
    libarchive says of a header that it could read in part, ``fault`` what in it no layer can have.
    """

    name: bytes
    entry: Entry
    target: bytes | None = None
    digest: str = ""
    sparse: bool = False
    warning: str = ""
    fault: str = ""

    @property
    def is_dir(self) -> bool:
        """Say whether it is a directory."""
        return self.entry.is_dir

    @property
    def is_whiteout(self) -> bool:
        """Say whether it marks a deletion."""
        return self.entry.path.rpartition(b"/")[2].startswith(WHITEOUT_PREFIX)

    @property
    def hides(self) -> bytes | None:
        """Give the path that an explicit whiteout removes; ``None`` where it is none, or names nothing."""
        above, slash, name = self.entry.path.rpartition(b"/")
        gone = name.removeprefix(WHITEOUT_PREFIX)
        if gone == name or gone in {b"", b".", b".."} or gone.startswith(WHITEOUT_PREFIX):
            return None
        return above + slash + gone

    @property
    def empties(self) -> bytes | None:
        """Give the directory whose lower contents an opaque whiteout removes; ``None`` where it is none."""
        above, _, name = self.entry.path.rpartition(b"/")
        return above if name == OPAQUE else None


@attrs.frozen(slots=True)
class Ending:
    """How a tar ended.

    ``damage`` is what kept it from being read to its end, ``marker`` the bytes of the end
    marker that there were, and ``behind`` how much stands behind that and is not zeros.
    """

    damage: str = ""
    marker: int = 0
    behind: int = 0


Keep = Callable[[Entry], Consume | None]
"""What says of a regular file whether its data is wanted, and who takes it; holes come as zeros."""


def read_members(give: Give, where: str, take: Callable[[Member], object], keep: Keep | None = None) -> Ending:
    """Give each member of the tar that ``give`` gives to ``take``; say how the tar ended.

    All bytes are asked for, whatever stands in them, so that whoever gives them may check
    them. ``keep`` may have the data of files, before they are given. Raises what ``give`` raises;
    :class:`MachineError` and :class:`UnreadableError`, which name ``where``, for what this machine cannot read.
    """
    with Feed(give, where) as feed:
        ending, end = _read(feed.reading, where, take, keep)
        feed.drain()
    return ending if ending.damage else attrs.evolve(ending, behind=max(0, feed.last - end))


def _read(descriptor: int, where: str, take: Callable[[Member], object], keep: Keep | None) -> tuple[Ending, int]:
    """Read to the end marker, and give where that ends."""
    with TarStream(descriptor, where) as stream:
        for record in stream:
            member = _member(record, stream)
            if len(member.entry.path) > MOST_PATH or len(member.entry.link or b"") > MOST_PATH:  # each look at it would take long
                return Ending(damage=f"{shown(member.entry.path[:200])}…: {member.fault}"), 0
            if member.entry.size > 0:
                wanted = keep(member.entry) if keep is not None else None
                digest, sparse, code = _digest(stream.archive, member.entry.size, wanted or _unwanted)
                take(attrs.evolve(member, digest=digest, sparse=sparse))
                if code != libarchive.OK:
                    stream.stop()
                    break
            else:
                take(member)
        if stream.damage:
            return Ending(damage=stream.damage), 0
        if stream.unended:
            return Ending(), sys.maxsize
        end = stream.position
        return Ending(marker=end - int(libarchive.read_header_position(stream.archive))), end


def _member(record: int, stream: TarStream) -> Member:
    mode = libarchive.mode_of(record)
    name, target = libarchive.entry_pathname(record) or b"", libarchive.entry_hardlink(record)
    symbolic = libarchive.entry_symlink(record) if stat.S_ISLNK(mode) and target is None else None
    kind = stat.S_IFMT(mode) if target is None else stat.S_IFREG
    entry = Entry(
        path=relative(name),
        mode=stat.S_IFLNK | 0o777 if symbolic is not None else kind | stat.S_IMODE(mode),
        uid=libarchive.entry_uid(record),
        gid=libarchive.entry_gid(record),
        mtime=libarchive.entry_mtime(record),
        size=libarchive.entry_size(record) if target is None and kind == stat.S_IFREG else 0,
        rdev=libarchive.entry_rdev(record) if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
        target=symbolic,
        link=None if target is None else relative(target),
        xattrs=stream.xattrs,
    )
    regular = entry.is_regular and target is None
    return Member(
        name=name, entry=entry, target=target, digest=_NO_DATA if regular else "",
        warning=_warning(stream),
        fault=stream.fault or unrepresentable(entry),
    )  # fmt: skip


def _warning(stream: TarStream) -> str:
    if stream.acls:
        return ACL_LEFT_OUT
    return "" if _IN_ANOTHER_CODING in stream.warning else stream.warning


_NO_DATA = f"sha256:{hashlib.sha256().hexdigest()}"


def relative(name: bytes) -> bytes:
    """Give the path, relative to the root, that a member's name stands for; one that would leave the root ends there."""
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def leaves_root(name: bytes) -> bool:
    """Say whether a name leads out of the root, as ``a/../../b`` does: engines refuse it. ``a/../b`` is ``b`` for them all."""
    return posixpath.normpath(name.lstrip(b"/")).split(b"/", 1)[0] == b".."


def _unwanted(_part: memoryview) -> None:
    """Take data that nobody wants."""


def _digest(archive: int, whole: int, consume: Consume) -> tuple[str, bool, int]:
    """Hash a member's data, of ``whole`` bytes with its holes; give libarchive's code where it could not go on."""
    digest = hashlib.sha256()
    buffer, size, offset = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_int64()
    at, sparse = 0, False
    while True:
        code = libarchive.read_data_block(archive, ctypes.byref(buffer), ctypes.byref(size), ctypes.byref(offset))
        if code not in {libarchive.OK, libarchive.WARN}:
            break
        if offset.value > at:
            sparse = True
            _hash_hole(digest, offset.value - at, consume)
        if size.value and buffer.value:
            data = (ctypes.c_char * size.value).from_address(buffer.value)
            digest.update(data)
            consume(memoryview(data))
        at = offset.value + size.value
    if code == libarchive.EOF:
        if at < whole:
            sparse = True
            _hash_hole(digest, whole - at, consume)
        code = libarchive.OK
    return f"sha256:{digest.hexdigest()}", sparse, code


def _hash_hole(digest: hashlib._Hash, size: int, consume: Consume) -> None:
    if size > _MOST_HOLE:  # a few bytes may claim to be endless
        digest.update(b"%d" % size)
        return
    while size > 0:
        digest.update(_HOLE[:size])
        consume(memoryview(_HOLE)[:size])
        size -= len(_HOLE)
