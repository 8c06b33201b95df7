"""The calls by which programs see the record: stat and its relatives, access, and extended attributes.

An answer is what this process has seen and the record says of that, and never a look of the kernel's own at another moment;
but for /proc, which shows each process another self, and for errors, which are the kernel's to give.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from typing import TYPE_CHECKING

from .attributes import LISTS, check_allowed, check_name, name_of
from .calls import PLACES
from .credentials import DAC_OVERRIDE, SYS_ADMIN
from .held import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, fail, held, is_proc
from .permissions import EXECUTE, READ, WRITE, check, restrict
from .record import Record, visible

if TYPE_CHECKING:
    from .caller import Caller, Named
    from .changes import Kept
    from .credentials import Users
    from .ways import Start

_NEWFSTATAT, _STATX = {"x86_64": (262, 332), "aarch64": (79, 291)}.get(os.uname().machine, (0, 0))
_STAT_SIZE, _STATX_SIZE = {"x86_64": 144, "aarch64": 128}.get(os.uname().machine, 144), 256
# Where a struct stat has the mode, the ids and the device that a file is; it begins with the device and the inode.
_MODE, _IDS, _RDEV = {"x86_64": (24, 28, 40), "aarch64": (16, 24, 32)}.get(os.uname().machine, (24, 28, 40))
_STATX_IDS, _STATX_MODE, _STATX_INODE, _STATX_RDEV, _STATX_DEVICE = 20, 28, 32, 128, 136
_STATX_FIELDS, _MOUNT_ROOT = struct.Struct("=8xQI8xH2xQ96xII"), 0x2000
"""The attributes, the number of names, the mode, the inode and the device; the attribute of what is mounted."""
_NO_MORE_FIELDS = (0,) * 15
"""The rest of what :class:`os.stat_result` has, up to the device that a file is."""
_STATX_BASIC, _ALL_FIELDS, _SYNCHRONISATION = 0x7FF, 0xFFFFFFFF, 0x6000
_INODE, _PAIR, _NUMBER = struct.Struct("QQ"), struct.Struct("II"), struct.Struct("Q")
_MODE_FIELD, _HALF = struct.Struct("I"), struct.Struct("H")
_X86_64 = struct.Struct("<QQQIII4xQqqqqQqQqQ")
_STAT64 = struct.Struct("<Q4xIIIIIQ4xqIQIIIIIIQ")
_STAT32 = struct.Struct("<IIHHHHIIIIIIIIII8x")
_SHORT, _OVERFLOW, _LARGEST = 0xFFFF, 0xFFFE, 0x7FFFFFFF
_PROC_ROOT, _PROC_FIXED = 1, 0xF0000000
"""The inode of /proc, and the least of those files there that are all processes' (fs/proc/generic.c)."""
_OUTPUTS = {name: 1 if place.path is None else place.path + 1 for name, place in PLACES.items()}
"""The argument that says where the caller wants a struct stat."""
_NARROW = frozenset(name for name in PLACES if name.endswith(("64", "32")))
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What keeps this process from looking: the kernel would answer without the record."""
_HERE = -100
_NO_NAMES = frozenset({b"", b".", b".."})
_EFFECTIVE = 0x200
_call = ctypes.CDLL(None, use_errno=True).syscall
_call.restype = ctypes.c_long


class Reads:
    """Answers what files are."""

    def __init__(self, record: Record, users: Users, kept: Kept | None) -> None:
        """Answer from a record; what is ``kept`` is the machine's."""
        self._record, self._users, self._kept = record, users, kept
        self._rows = record.rows
        self._stat = ctypes.create_string_buffer(_STAT_SIZE)
        self._statx = ctypes.create_string_buffer(_STATX_SIZE)

    def stat(self, caller: Caller) -> int | None:
        """Give a struct stat of the caller's ABI."""
        buffer, name = self._stat, caller.name
        found = self._look(caller, buffer)
        if found != 0:
            return found
        row = self._rows.get(_INODE.unpack_from(buffer))
        if row is not None:
            _MODE_FIELD.pack_into(buffer, _MODE, row.mode)
            _PAIR.pack_into(buffer, _IDS, row.uid, row.gid)
            _NUMBER.pack_into(buffer, _RDEV, row.rdev)
        else:
            _PAIR.pack_into(buffer, _IDS, 0, 0)
        output = caller.arguments[_OUTPUTS[name]]
        if name in _NARROW:
            caller.write(output, _narrow(name, buffer))
        else:
            caller.write_from(buffer, output, _STAT_SIZE)
        return 0

    def statx(self, caller: Caller) -> int | None:
        """Give a struct statx, which is every ABI's."""
        buffer, arguments = self._statx, caller.arguments
        found = self._look(caller, buffer, arguments[2] & _SYNCHRONISATION, arguments[3] & _ALL_FIELDS | _STATX_BASIC)
        if found != 0:
            return found
        device = os.makedev(*_PAIR.unpack_from(buffer, _STATX_DEVICE))
        row = self._rows.get((device, _NUMBER.unpack_from(buffer, _STATX_INODE)[0]))
        if row is not None:
            _PAIR.pack_into(buffer, _STATX_IDS, row.uid, row.gid)
            _HALF.pack_into(buffer, _STATX_MODE, row.mode)
            _PAIR.pack_into(buffer, _STATX_RDEV, os.major(row.rdev), os.minor(row.rdev))
        else:
            _PAIR.pack_into(buffer, _STATX_IDS, 0, 0)
        caller.write_from(buffer, arguments[4], _STATX_SIZE)
        return 0

    def _look(self, caller: Caller, buffer: ctypes.Array[ctypes.c_char], flags: int = 0, mask: int = 0) -> int | None:
        """Look at the file that a call is about, with a mask by statx(2); give 0.

        Nothing where the kernel is to say it, as of a file of /proc; a negative number where there is no file. A file that is no
        link is looked at without holding it, where it is one name in a directory that is held or the caller's own.
        """
        try:
            start, path, follow = caller.named()
            folder, name = _without_holding(caller, start, path)
            if name:
                if not _look_at(folder, name, flags | AT_SYMLINK_NOFOLLOW, mask, buffer):
                    return -errno.ENOENT if folder != _HERE and ctypes.get_errno() == errno.ENOENT else None
                if not stat.S_ISLNK(_mode(mask, buffer)):
                    return _unless_proc(folder, name, mask, buffer)
                if not follow:  # on what its directory is on
                    return _unless_proc(folder, name.rpartition(b"/")[0], mask, buffer)
            descriptor = caller.hold(start, path, follow)
        except OSError as error:
            if error.errno in _SHORTAGES or (caller.stepwise and error.errno == errno.EACCES):
                raise
            return None
        try:
            there = _look_at(descriptor, b"", flags | AT_EMPTY_PATH, mask, buffer)
            return _unless_proc(descriptor, b"", mask, buffer) if there else None
        finally:
            os.close(descriptor)

    def access(self, caller: Caller) -> int | None:
        """Say whether a file may be read, written or executed, by the real ids or the effective ones."""
        credentials = self._users.of(caller.pid)
        if credentials.has(DAC_OVERRIDE) and credentials.users.real == 0:
            return None
        want = caller.arguments[1 if caller.name == "access" else 2] & 0xFFFFFFFF
        if want & ~(READ | WRITE | EXECUTE):
            raise fail(errno.EINVAL)
        if caller.name != "faccessat2" or not caller.arguments[3] & _EFFECTIVE:
            users, groups = credentials.users, credentials.groups
            credentials = credentials._replace(
                users=users._replace(files=users.real),
                groups=groups._replace(files=groups.real),
                effective=credentials.permitted if users.real == 0 else 0,
            )
        status = _status(restrict(caller, credentials, self._record, self._kept))
        if status is not None:
            check(self._record, credentials, want, status)
        return None  # what is mounted may forbid it yet

    def get_attribute(self, caller: Caller) -> int | None:
        """Give the value of an attribute."""
        _, name_at, output, size = caller.arguments[:4]
        name = name_of(caller, name_at)
        pairs: dict[bytes, bytes] = {}
        if not self._is_bare(caller):
            status = _status(caller)
            if status is None:
                return None
            if name in LISTS and stat.S_ISLNK(status.st_mode):
                raise fail(errno.EOPNOTSUPP)
            check_allowed(self._record, self._users.of(caller.pid), name, READ, status)
            pairs = self._record.attributes.get((status.st_dev, status.st_ino), pairs)
        check_name(name)
        if name not in pairs:
            raise fail(errno.ENODATA)
        return _give(caller, pairs[name], output, size)

    def list_attributes(self, caller: Caller) -> int | None:
        """Give the names of the attributes."""
        pairs: dict[bytes, bytes] = {}
        if not self._is_bare(caller):
            status = _status(caller)
            if status is None:
                return None
            pairs = self._record.attributes.get((status.st_dev, status.st_ino), pairs)
            if not self._users.of(caller.pid).has(SYS_ADMIN):
                pairs = {name: value for name, value in pairs.items() if not name.startswith(b"trusted.")}
        return _give(caller, visible(pairs), caller.arguments[1], caller.arguments[2])

    def _is_bare(self, caller: Caller) -> bool:
        """Say whether a call is about an open file, and there is no attribute anywhere: what it is matters little then."""
        return not self._record.attributes and caller.name[0] == "f" and not caller.named()[1]


def _status(caller: Caller) -> os.stat_result | None:
    """Look at the file that a call is about; nothing for one of /proc."""
    descriptor = caller.open()
    try:
        status = os.fstat(descriptor)
        return None if is_proc(held(descriptor), status.st_dev) else status
    finally:
        os.close(descriptor)


_named = ctypes.create_string_buffer(_STATX_SIZE)


def look_unmounted(named: Named) -> os.stat_result:
    """Look at the file of a name, or the link: its kind, mode, inode, device and number of names; the rest is 0.

    Raises ``EBUSY`` where something is mounted at the name: the kernel would look into other mounts than the caller's.
    """
    if _call(_STATX, named.folder, named.name, AT_SYMLINK_NOFOLLOW, _STATX_BASIC, _named) < 0:
        raise fail(ctypes.get_errno())
    attributes, links, mode, inode, major, minor = _STATX_FIELDS.unpack_from(_named)
    if attributes & _MOUNT_ROOT:
        raise fail(errno.EBUSY)
    return os.stat_result((mode, inode, os.makedev(major, minor), links, *_NO_MORE_FIELDS))


def _look_at(folder: int, path: bytes, flags: int, mask: int, buffer: ctypes.Array[ctypes.c_char]) -> bool:
    result: int = _call(_STATX, folder, path, flags, mask, buffer) if mask else _call(_NEWFSTATAT, folder, path, buffer, flags)
    return result == 0


def _without_holding(caller: Caller, start: Start, path: bytes) -> tuple[int, bytes]:
    """Give a directory that is held, and a name in it; or the path of a name in the caller's own; no name where it is neither."""
    if path.startswith(b"/"):
        above, _, name = path.rpartition(b"/")
        folder = None if name in _NO_NAMES else caller.folder(above)
        return (_HERE, b"") if folder is None else (folder, name)
    if not path or b"/" in path or path == b".." or caller.stepwise:
        return _HERE, b""
    return _HERE, caller.path(start) + b"/" + path


def _unless_proc(folder: int, name: bytes, mask: int, buffer: ctypes.Array[ctypes.c_char]) -> int | None:
    """Give 0, but nothing for a file of /proc that may be another one for each process."""
    device = os.makedev(*_PAIR.unpack_from(buffer, _STATX_DEVICE)) if mask else _NUMBER.unpack_from(buffer)[0]
    if not is_proc(name if folder == _HERE else held(folder) + (b"/" + name if name else b""), device):
        return 0
    number: int = _NUMBER.unpack_from(buffer, _STATX_INODE if mask else _NUMBER.size)[0]
    return 0 if number == _PROC_ROOT or number >= _PROC_FIXED else None


def _mode(mask: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    mode: int = (_HALF.unpack_from(buffer, _STATX_MODE) if mask else _MODE_FIELD.unpack_from(buffer, _MODE))[0]
    return mode


def _narrow(name: str, buffer: ctypes.Array[ctypes.c_char]) -> bytes:
    """Write a struct stat of x86-64 as one of i386: its ``stat64``, or its older one of 32 bits."""
    (device, number, links, mode, uid, gid, rdev, size, block, blocks, *times) = _X86_64.unpack_from(buffer)
    low = 0xFFFFFFFF
    if name.endswith("64"):
        clocks = [value & low for value in times]
        return _STAT64.pack(device, number & low, mode, links & low, uid, gid, rdev, size, block & low, blocks, *clocks, number)
    if size > _LARGEST or number > low:
        raise fail(errno.EOVERFLOW)
    ids = (value if value <= _SHORT else _OVERFLOW for value in (uid, gid))
    clocks = [value & low for value in times]
    return _STAT32.pack(device & low, number, mode, links & _SHORT, *ids, rdev & low, size, block & low, blocks & low, *clocks)


def _give(caller: Caller, value: bytes, output: int, size: int) -> int:
    if size:
        if size < len(value):
            raise fail(errno.ERANGE)
        caller.write(output, value)
    return len(value)
