"""The machine as the scripts of the directory view see it: its files, and none of the doors that files may be.

A pipe or a socket is the machine's own on a mount that is read-only, too: whoever may write to one there reaches the program at
its other end, and a lock is one of the machine's file. An overlay of the kernel's shows the bytes of a file, while pipes, sockets
and locks are its own. So each directory is shown by an overlay that has nothing above it. One below which something else is
mounted cannot be: what it holds is shown one by one. A name that comes or goes on the machine meanwhile may not be noticed.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

from rootless_layer.system import namespaces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_KERNELS = frozenset(
    b"autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs proc pstore"
    b" rpc_pipefs securityfs selinuxfs sysfs tracefs".split()
)
"""File systems that have no files of anybody's: an overlay would not show what they say."""
_MOST_ENTRIES = 256
"""More than so many names of a directory are not shown one by one: each takes some 50 µs."""
_STORE = b"/nix/store"
"""Nix puts no pipe and no socket there, and its sandbox mounts each path."""
_OUT_OF_REACH = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOTCONN, errno.EIO})
"""How a name fails that has gone meanwhile, is a mount of somebody else's or has nobody behind it any more: it is shown empty."""
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Machine:
    """What is shown of this machine, below a directory of the session's."""

    def __init__(self, top: bytes, empty: bytes, own: Collection[bytes]) -> None:
        """Show all of it at ``top``, read-only and without devices.

        ``empty`` is an empty directory. At the paths of ``own`` the view gets empty directories, for what it has itself.
        """
        self.open: list[bytes] = []
        """The directories whose pipes and sockets are the machine's own, as the kernel makes no overlay of them."""
        self._top, self._own = top, own
        self._empty = os.open(empty, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._kinds = {point: kind for point, kind in _mounts() if not self._is_own(point)}
        self._above = {point[:end] for point in self._kinds for end in _slashes(point)}
        namespaces.mount(b"machine", top, b"tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, b"mode=755")
        for path in own:
            os.mkdir(top + path)
        self._show_each(b"")
        os.close(self._empty)
        namespaces.restrict(top)

    def _is_own(self, path: bytes) -> bool:
        return any((path + b"/").startswith(own + b"/") for own in self._own)

    def _show_each(self, folder: bytes) -> None:
        with os.scandir(folder or b"/") as listing:
            for entry in listing:
                path = folder + b"/" + entry.name
                try:
                    self._show(path, entry)
                except OSError as error:
                    if error.errno not in _OUT_OF_REACH:
                        raise

    def _show(self, path: bytes, entry: os.DirEntry[bytes]) -> None:
        place = self._top + path
        if entry.is_symlink():
            os.symlink(os.readlink(path), place)
        elif entry.is_dir() and path not in self._own:
            os.mkdir(place)
            os.chmod(place, stat.S_IMODE(entry.stat().st_mode))
            self._show_folder(path)
        elif entry.is_file():
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            namespaces.bind(path, place, read_only=False)

    def _show_folder(self, path: bytes) -> None:
        if self._kinds.get(path) in _KERNELS or (path == _STORE and path in self._above):
            namespaces.bind(path, self._top + path, read_only=False, recursive=True)
            return
        try:
            if path not in self._above:
                self._mount_overlay(path)
            elif len(os.listdir(path)) <= _MOST_ENTRIES:
                self._show_each(path)
            else:
                self._show_open(path)
        except OSError:
            self._show_open(path)

    def _show_open(self, path: bytes) -> None:
        """Show a directory as it is."""
        namespaces.bind(path, self._top + path, read_only=False, recursive=True)
        if os.access(path, os.X_OK):
            self.open.append(path)

    def _mount_overlay(self, path: bytes) -> None:
        shown = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            options = b"lowerdir=/proc/self/fd/%d:/proc/self/fd/%d" % (shown, self._empty)  # paths might need to be escaped
            namespaces.mount(b"machine", self._top + path, b"overlay", namespaces.MS_NOSUID, options)
        finally:
            os.close(shown)


def _slashes(path: bytes) -> Iterator[int]:
    """Give where the directories above a path end, the root's at 0."""
    return (place for place, byte in enumerate(path) if byte == ord("/"))


def _mounts() -> Iterator[tuple[bytes, bytes]]:
    """Give each mount that this process sees, with the kind of its file system; of several at a place the last counts."""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split()
            point = _ESCAPED.sub(lambda match: bytes((int(match[1], 8),)), fields[4])
            yield point.rstrip(b"/"), fields[fields.index(b"-") + 1]
