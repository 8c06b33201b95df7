"""What the files of a session are, where the disk does not say it: the rows, which are faked's, and the extended attributes.

The recorder is the only one that changes the record, through the functions of fakeroot's own library, which is loaded into
this process for them. So it knows which inodes have a row, and what is in it, without asking the daemon; in the end the two
are compared. Attributes are kept here: libfakeroot carries values of up to 2000 bytes, and no access control lists.

An inode without a row is root's, with the mode on disk.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import resource
import stat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from rootless_layer.errors import DaemonError
from rootless_layer.system.acl import DEFAULT

from .held import AT_REMOVEDIR, fail, held

if TYPE_CHECKING:
    from .caller import Named
    from .messages import Inode

CAPABILITY = b"security.capability"
_ROW = re.compile(rb"dev=([0-9a-f]+),ino=(\d+),mode=([0-7]+),uid=(\d+),gid=(\d+),nlink=\d+,rdev=(\d+)")
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})
_FEW_NAMELESS, _SHARE = 200, 2
"""How many files without a name are held before any is looked at; which part of this process's descriptors is for them."""
_UNCHANGED = 0xFFFFFFFF


class Pins(Protocol):
    """Holds files that have a row, so that the number of none of them is another file's."""

    def pin(self, descriptor: int, status: os.stat_result) -> None:
        """Hold a file where others may remove it."""

    def unpin(self, inode: Inode) -> None:
        """Let go of a file that has no row any more."""


class Row(NamedTuple):
    """What a file is: ``mode`` has the type bits."""

    mode: int
    uid: int
    gid: int
    rdev: int = 0


def inode_of(status: os.stat_result) -> Inode:
    """Give the device and the number of a file."""
    return status.st_dev, status.st_ino


def parse(save_file: bytes) -> dict[Inode, Row]:
    """Read rows as faked writes them."""
    return {
        (int(device, 16), int(number)): Row(int(mode, 8), int(uid), int(gid), int(rdev))
        for device, number, mode, uid, gid, rdev in _ROW.findall(save_file)
    }


class Record:
    """The rows and attributes by inode."""

    def __init__(self, library: str, environment: dict[str, str], loaded: bytes) -> None:
        """Speak to the daemon that the variables name, through a libfakeroot; ``loaded`` are the rows that it began with."""
        os.environ.update(environment)
        # Its functions call each other, and are to find themselves before the C library's.
        self._fakeroot = ctypes.CDLL(library, os.RTLD_NOW | os.RTLD_DEEPBIND, use_errno=True)
        self.rows = parse(loaded)
        self.attributes: dict[Inode, dict[bytes, bytes]] = {}
        self.inheriting = {inode for inode, row in self.rows.items() if stat.S_ISDIR(row.mode) and row.mode & stat.S_ISGID}
        """Directories that give what is made in them a group, or an access control list."""
        self.set_id = {inode for inode, row in self.rows.items() if stat.S_ISREG(row.mode) and row.mode & 0o6000}
        """Programs that change the ids of who executes them."""
        self.capable: set[Inode] = set()
        """Files that have capabilities."""
        self._nameless: dict[Inode, int] = {}
        self._many_nameless = _FEW_NAMELESS
        self.pins: Pins | None = None
        """What holds files that other sessions may remove."""
        self._held = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def of(self, status: os.stat_result) -> Row:
        """Say what a file is."""
        return self.rows.get((status.st_dev, status.st_ino)) or Row(status.st_mode, 0, 0, status.st_rdev)

    def change(self, descriptor: int, status: os.stat_result, row: Row, *, on_disk: bool = True, always: bool = False) -> None:
        """Have a file that is held be this; without ``on_disk`` its mode there stays.

        Where the disk says all there is no row, unless there is to be one ``always``.
        """
        inode = inode_of(status)
        before = self.rows.get(inode)
        if before is None and not always and _says_all(status, row):
            if stat.S_IMODE(status.st_mode) != stat.S_IMODE(row.mode) and on_disk:
                os.chmod(b"%d" % descriptor, stat.S_IMODE(row.mode), dir_fd=self._held)
            return
        if not status.st_nlink:
            self._keep(inode, descriptor)
            self._set(inode, row)
            return
        if before is None and self.pins is not None:
            self.pins.pin(descriptor, status)
        if before is None or (before.uid, before.gid) != (row.uid, row.gid):
            self._do("fchown", descriptor, ctypes.c_uint(row.uid), ctypes.c_uint(row.gid))
        known = stat.S_IMODE(status.st_mode if before is None else before.mode)
        if stat.S_IMODE(row.mode) != known and not stat.S_ISLNK(row.mode):
            try:
                self._do("fchmodat", self._held, b"%d" % descriptor, ctypes.c_uint(stat.S_IMODE(row.mode)), 0)
            except OSError as error:
                self._set(inode, row)  # the daemon has it by now
                self._put_mode(held(descriptor), row.mode, error, on_disk=on_disk)
        self._set(inode, row)

    @staticmethod
    def _put_mode(path: bytes, mode: int, error: OSError, *, on_disk: bool) -> None:
        """Set a mode on disk that cannot be set as a whole: a sandbox of Nix refuses set-ID bits, which the record has by now."""
        if not on_disk:
            return
        if error.errno != errno.EPERM or not mode & 0o6000:
            raise error
        os.chmod(path, mode & 0o1777 | (0o700 if stat.S_ISDIR(mode) else 0o600))

    def make_device(self, path: bytes, row: Row) -> None:
        """Make a device where nothing is: a regular file on disk, and its row."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        self._do("mknod", path, ctypes.c_uint(row.mode), ctypes.c_ulong(row.rdev))
        self._do("chown", path, ctypes.c_uint(row.uid), ctypes.c_uint(row.gid))
        status = os.lstat(path)
        self._set(inode_of(status), row)
        if self.pins is not None:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            self.pins.pin(descriptor, status)
            os.close(descriptor)

    def unlink(self, named: Named, status: os.stat_result, *, folder: bool) -> None:
        """Remove a name; its row goes where it is the last one."""
        inode = inode_of(status)
        if self._is_last(status) and inode in self.rows:
            self._do("unlinkat", named.folder, named.name, AT_REMOVEDIR if folder else 0)
        elif folder:
            os.rmdir(named.name, dir_fd=named.folder)
        else:
            os.unlink(named.name, dir_fd=named.folder)
        self._forget(inode, status)

    def rename(self, old: Named, new: Named, replaced: os.stat_result | None) -> None:
        """Give a file another name, which may have been ``replaced``'s."""
        if replaced is not None and self._is_last(replaced) and inode_of(replaced) in self.rows:
            self._do("renameat", old.folder, old.name, new.folder, new.name)
        else:
            os.rename(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)
        if replaced is not None:
            self._forget(inode_of(replaced), replaced)

    def set_attribute(self, descriptor: int, status: os.stat_result, row: Row, name: bytes, value: bytes | None) -> None:
        """Have a file that is held be this, with an attribute, or without it for ``None``; a file that has one has a row."""
        inode = inode_of(status)
        self.change(descriptor, status, row, always=value is not None)
        pairs = self.attributes.setdefault(inode, {})
        if value is None:
            pairs.pop(name, None)
        else:
            pairs[name] = value
        if not pairs:
            del self.attributes[inode]
        self._note(inode)

    def check(self, save_file: bytes) -> dict[Inode, Row]:
        """Compare with what the daemon has written in the end; give the rows.

        Raises :class:`DaemonError` where the two differ.
        """
        found = parse(save_file)
        if len(found) < len(self.rows):
            message = f"faked wrote {len(found)} of {len(self.rows)} rows of its record"
            raise DaemonError(message, hint="Is the disk full? Set TMPDIR to a directory with room.")
        for inode in found.keys() | self.rows.keys():
            here, there = self.rows.get(inode), found.get(inode)
            if here is None or there is None or not _agree(here, there):
                message = f"faked's record of inode {inode[1]:d} is {there}, and the session's {here}"
                raise DaemonError(message, hint="Is the disk full? Else rootless-layer or this machine's fakeroot is at fault.")
        return self.rows

    def synchronise(self) -> None:
        """Return when the daemon has done all that it was told: a stat is answered after that."""
        buffer = ctypes.create_string_buffer(512)
        self._fakeroot.stat(b"/", buffer)

    def _do(self, name: str, *arguments: object) -> None:
        if getattr(self._fakeroot, name)(*arguments) < 0:
            raise fail(ctypes.get_errno() or errno.EIO)

    def _set(self, inode: Inode, row: Row) -> None:
        self.rows[inode] = row
        self._note(inode)

    def _note(self, inode: Inode) -> None:
        row, attributes = self.rows.get(inode), self.attributes.get(inode, {})
        gives = DEFAULT in attributes or (row is not None and stat.S_ISDIR(row.mode) and bool(row.mode & stat.S_ISGID))
        (self.inheriting.add if gives else self.inheriting.discard)(inode)
        changes = row is not None and stat.S_ISREG(row.mode) and bool(row.mode & 0o6000)
        (self.set_id.add if changes else self.set_id.discard)(inode)
        (self.capable.add if CAPABILITY in attributes else self.capable.discard)(inode)

    @staticmethod
    def _is_last(status: os.stat_result) -> bool:
        return status.st_nlink <= 1 or stat.S_ISDIR(status.st_mode)

    def _forget(self, inode: Inode, status: os.stat_result) -> None:
        if self._is_last(status) and (inode in self.rows or inode in self.attributes):
            self.rows.pop(inode, None)
            self.attributes.pop(inode, None)
            self._note(inode)
            if self.pins is not None:
                self.pins.unpin(inode)

    def _keep(self, inode: Inode, descriptor: int) -> None:
        """Hold a file that has a row and no name: its number is to be no other file's. It may get a name yet (O_TMPFILE)."""
        if inode not in self._nameless:
            if len(self._nameless) >= self._many_nameless:
                self._let_go([each for each, kept in self._nameless.items() if not is_written(kept)])
                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE
                if len(self._nameless) >= most:
                    raise fail(errno.EMFILE)
                self._many_nameless = min(max(_FEW_NAMELESS, 2 * len(self._nameless)), most)
            # Held, and not open: whoever reads from a pipe waits until nobody has its other end open.
            self._nameless[inode] = os.open(held(descriptor), os.O_PATH | os.O_CLOEXEC)

    def release(self) -> None:
        """Let go of files without a name, when nobody has one open any more; tell the daemon of those that have one now."""
        self._let_go(list(self._nameless))

    def _let_go(self, inodes: list[Inode]) -> None:
        for inode in inodes:
            descriptor = self._nameless.pop(inode)
            row, status = self.rows.pop(inode, None), os.fstat(descriptor)
            if row is not None and status.st_nlink:
                self.change(descriptor, status, row)
            self._note(inode)
            os.close(descriptor)


def is_written(descriptor: int) -> bool:
    """Say whether anybody may write to a file that is held: of any other one the kernel gives a lease (fcntl(2))."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return True
    try:
        opened = os.open(held(descriptor), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return error.errno != errno.ETXTBSY  # a program that runs is written to by nobody
    try:
        fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return True
    finally:
        os.close(opened)
    return False


def _says_all(status: os.stat_result, row: Row) -> bool:
    """Say whether the disk can have all of a row, and give it to whoever looks at it as root."""
    kind = stat.S_IFMT(status.st_mode)
    if (row.uid, row.gid, row.rdev) != (0, 0, status.st_rdev) or kind != stat.S_IFMT(row.mode) or kind in _DEVICES:
        return False
    if kind == stat.S_IFLNK:
        return True
    added = 0o700 if kind == stat.S_IFDIR else 0o600
    return not row.mode & 0o6000 and row.mode & added == added and not status.st_mode & 0o6000


def _agree(here: Row, there: Row) -> bool:
    """Compare rows; a regular file's row of faked may be without type."""
    kind = stat.S_IFMT(there.mode)
    mode = there.mode if kind else there.mode | stat.S_IFREG
    return here == there._replace(mode=mode) or (stat.S_ISLNK(kind) and here[1:] == there[1:])


def changed_by_chown(row: Row, uid: int, gid: int) -> Row:
    """Give a row after a chown, where -1 leaves an id: the kernel takes set-ID bits away, but those of directories."""
    mode = row.mode
    if not stat.S_ISDIR(mode):
        mode &= ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))
    return Row(mode, row.uid if uid == _UNCHANGED else uid, row.gid if gid == _UNCHANGED else gid, row.rdev)


def visible(attributes: dict[bytes, bytes]) -> bytes:
    """Write the names of attributes as listxattr(2) gives them."""
    return b"".join(name + b"\0" for name in sorted(attributes))
