"""Who a process of a session is: its ids, groups and capabilities, and how calls change them (credentials(7), capabilities(7)).

Each process has a number that stands for them: its soft limit RLIMIT_RSS, which Linux ignores since 2.4. It is inherited by
fork(2), kept by execve(2), and set from outside by prlimit(2). So no table of processes has to follow what they do.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
from typing import NamedTuple

from .held import fail

CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, SETPCAP, SYS_CHROOT, SYS_ADMIN, MKNOD, SETFCAP = (
    0, 1, 2, 3, 4, 6, 7, 8, 18, 21, 27, 31,
)  # fmt: skip
LIMIT = resource.RLIMIT_RSS
UNCHANGED = 0xFFFFFFFF
_ALL = (1 << 41) - 1
"""Every capability of Linux 5.9 and newer."""
_FILES = 1 << CHOWN | 1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH | 1 << FOWNER | 1 << FSETID | 1 << MKNOD | 1 << 9 | 1 << 32
"""Those that follow the file system's user id: with CAP_LINUX_IMMUTABLE and CAP_MAC_OVERRIDE."""
_READ, _WRITE = 4, 2
_VALUE = struct.Struct("<5I")
"""``struct vfs_cap_data``: a head, and each half of the permitted and of the inheritable capabilities."""


class Ids(NamedTuple):
    """A user's or a group's ids: real, effective, saved, and of the file system."""

    real: int = 0
    effective: int = 0
    saved: int = 0
    files: int = 0


class Granted(NamedTuple):
    """The capabilities of a program (``security.capability``)."""

    permitted: int
    inheritable: int
    effective: bool
    """Whether the process has them in effect from the start."""

    @classmethod
    def parse(cls, value: bytes | None) -> Granted | None:
        """Read an attribute's value; nothing where there is none, or one of another user namespace's root."""
        if value is None or any(value[_VALUE.size :]):
            return None
        head, *words = _VALUE.unpack_from(value)
        return cls(words[0] | words[2] << 32, words[1] | words[3] << 32, bool(head & 1))


class Credentials(NamedTuple):
    """What a process is allowed."""

    users: Ids = Ids()
    groups: Ids = Ids()
    supplementary: tuple[int, ...] = (0,)
    permitted: int = _ALL
    effective: int = _ALL
    inheritable: int = 0
    bounding: int = _ALL
    ambient: int = 0
    keeps: bool = False
    """Whether the permitted capabilities are kept when no user id is root's any more (PR_SET_KEEPCAPS)."""
    gains_none: bool = False
    """Whether no program gives the process more than it has (PR_SET_NO_NEW_PRIVS)."""

    def has(self, capability: int) -> bool:
        """Say whether a capability is in effect."""
        return bool(self.effective >> capability & 1)

    @property
    def all_groups(self) -> tuple[int, ...]:
        """Give the groups that count for a file."""
        return (self.groups.files, *self.supplementary)

    def with_users(self, new: Ids) -> Credentials:
        """Change the user ids, and the capabilities with them."""
        old, permitted, effective, ambient = self.users, self.permitted, self.effective, self.ambient
        if 0 in old[:3] and 0 not in new[:3]:
            ambient = 0
            if not self.keeps:
                permitted = effective = 0
        if old.effective == 0 != new.effective:
            effective = 0
        elif new.effective == 0 != old.effective:
            effective = permitted
        return self._replace(users=new, permitted=permitted, effective=effective, ambient=ambient)

    def becoming(self, user: int, group: int, supplementary: tuple[int, ...]) -> Credentials:
        """Become somebody for good, as login(1) does."""
        ids, groups = Ids(user, user, user, user), Ids(group, group, group, group)
        return self._replace(groups=groups, supplementary=tuple(sorted(supplementary))).with_users(ids)

    def with_files(self, new: Ids) -> Credentials:
        """Change the file system's user id alone, as setfsuid(2) does, and the capabilities that follow it."""
        effective = self.effective
        if self.users.files == 0 != new.files:
            effective &= ~_FILES
        elif new.files == 0 != self.users.files:
            effective |= _FILES & self.permitted
        return self._replace(users=new, effective=effective)

    def executing(self, user: int | None, group: int | None, granted: Granted | None = None) -> Credentials:
        """Give the credentials after an execve, of a program that is another user's or group's where it is set-ID.

        Raises ``EPERM`` where the program is ``granted`` capabilities, and counts on those that the process may not have.
        """
        users, groups = self.users, self.groups
        if self.gains_none:
            user = group = None
        if user is not None:
            users = users._replace(effective=user)
        if group is not None:
            groups = groups._replace(effective=group)
        users = Ids(users.real, users.effective, users.effective, users.effective)
        groups = Ids(groups.real, groups.effective, groups.effective, groups.effective)
        ambient = self.ambient if user is group is None and granted is None else 0
        permitted, all_of_them = 0, False
        if granted is not None:
            permitted, all_of_them = self.bounding & granted.permitted | self.inheritable & granted.inheritable, granted.effective
            if all_of_them and granted.permitted & ~permitted:
                raise fail(errno.EPERM)
        if 0 in users[:2] and (granted is None or users.real == 0):  # a set-user-ID program has what it is granted, and no more
            permitted, all_of_them = self.bounding | self.inheritable, all_of_them or users.effective == 0
        if self.gains_none:
            permitted &= self.permitted
        permitted |= ambient
        effective = permitted if all_of_them else ambient
        return self._replace(users=users, groups=groups, permitted=permitted, effective=effective, ambient=ambient, keeps=False)

    def may(self, want: int, mode: int, owner: int, group: int, *, folder: bool) -> bool:
        """Say whether a file may be read (4), written (2) or executed (1), or several of them."""
        if self.has(DAC_OVERRIDE) and (not want & 1 or folder or mode & 0o111):
            return True
        if self.has(DAC_READ_SEARCH) and (want == _READ or (folder and not want & _WRITE)):
            return True
        if self.users.files == owner:
            mode >>= 6
        elif group in self.all_groups:
            mode >>= 3
        return not want & ~mode & 7


ROOT = Credentials()


def set_one(ids: Ids, new: int, *, privileged: bool) -> Ids:
    """Set ids as setuid(2) does; raises ``EPERM``."""
    if privileged:
        return Ids(new, new, new, new)
    if new not in {ids.real, ids.saved}:
        raise fail(errno.EPERM)
    return Ids(ids.real, new, ids.saved, new)


def set_two(ids: Ids, real: int, effective: int, *, privileged: bool) -> Ids:
    """Set ids as setreuid(2) does."""
    if not privileged and (real not in {UNCHANGED, ids.real, ids.effective} or effective not in {UNCHANGED, *ids[:3]}):
        raise fail(errno.EPERM)
    new_real = ids.real if real == UNCHANGED else real
    new_effective = ids.effective if effective == UNCHANGED else effective
    saved = new_effective if real != UNCHANGED or (effective not in {UNCHANGED, ids.real}) else ids.saved
    return Ids(new_real, new_effective, saved, new_effective)


def set_three(ids: Ids, new: tuple[int, int, int], *, privileged: bool) -> Ids:
    """Set ids as setresuid(2) does."""
    if not privileged and not {*new} <= {UNCHANGED, *ids[:3]}:
        raise fail(errno.EPERM)
    real, effective, saved = (old if given == UNCHANGED else given for old, given in zip(ids[:3], new, strict=True))
    if new[1] == UNCHANGED and (real, saved) == (ids.real, ids.saved):
        return ids  # nothing changes (Linux 6.3), and the file system's id least of all
    return Ids(real, effective, saved, effective)


def set_files(ids: Ids, new: int, *, privileged: bool) -> Ids:
    """Set the file system's id as setfsuid(2) does, which fails without saying so."""
    return ids._replace(files=new) if new != UNCHANGED and (privileged or new in ids) else ids


class _Executing(NamedTuple):
    """The credentials of a process that executes a program: others, once it is no more the ``image`` that it was."""

    before: Credentials
    after: Credentials
    image: tuple[bytes, int, int]


class Users:
    """The credentials of all processes of a session."""

    def __init__(self) -> None:
        """Begin with root alone."""
        self._known: list[Credentials | _Executing] = [ROOT]
        self._numbers: dict[Credentials, int] = {ROOT: 0}
        self.several = False
        """Whether there has been anybody but root with all capabilities."""

    @staticmethod
    def begin() -> None:
        """Have this process, and so those that it starts, be root's."""
        hard = resource.getrlimit(LIMIT)[1]
        resource.setrlimit(LIMIT, (0, hard))

    def of(self, pid: int) -> Credentials:
        """Give a process's credentials."""
        if not self.several:
            return ROOT
        found = self._found(pid)
        if isinstance(found, _Executing):
            return found.before if _image(pid) == found.image else found.after
        return found

    def _found(self, pid: int) -> Credentials | _Executing:
        number = resource.prlimit(pid, LIMIT)[0]
        return self._known[number] if 0 <= number < len(self._known) else ROOT

    def execute(self, pid: int, credentials: Credentials) -> None:
        """Give a process others if it comes to execute the program that it is about to: the kernel may fail yet.

        Whether it did shows when the process, or one that it forked, is next asked for.
        """
        before = self.of(pid)
        image = None if before == credentials else _image(pid)
        if image is not None:
            self._put(pid, len(self._known))
            self._known.append(_Executing(before, credentials, image))
            self.several = True
        elif before != credentials or (self.several and isinstance(self._found(pid), _Executing)):
            self.set(pid, credentials)

    def set(self, pid: int, credentials: Credentials) -> None:
        """Give a process others."""
        number = self._numbers.get(credentials)
        if number is None:
            number = self._numbers[credentials] = len(self._known)
            self._known.append(credentials)
            self.several = True
        self._put(pid, number)

    @staticmethod
    def _put(pid: int, number: int) -> None:
        hard = resource.prlimit(pid, LIMIT)[1]
        resource.prlimit(pid, LIMIT, (number, hard))


def _image(pid: int) -> tuple[bytes, int, int] | None:
    """Say which program a process runs, and where in memory, which is another place each time; nothing where that is secret."""
    try:
        with open(f"/proc/{pid}/auxv", "rb", buffering=0) as file:
            status = os.stat(f"/proc/{pid}/exe")
            return file.read(), status.st_dev, status.st_ino
    except OSError:
        return None
