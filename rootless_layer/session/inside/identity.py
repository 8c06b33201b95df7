"""The calls by which a process asks who it is, and becomes somebody else.

Only the standard library is used: the session's processes import this at their start.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING

from . import credentials as rights
from . import interpreter, reach
from .caller import signed
from .calls import AUDIT, SO_PEERGROUPS
from .credentials import UNCHANGED, Granted, set_files, set_one, set_three, set_two
from .held import fail, held
from .permissions import EXECUTE, check
from .record import CAPABILITY, inode_of

if TYPE_CHECKING:
    from .caller import Caller
    from .changes import Kept
    from .credentials import Credentials, Users
    from .record import Record

_SHORT, _OVERFLOW = 0xFFFF, 0xFFFE
_MOST_GROUPS = 65536
_VERSION_1, _VERSION_2, _VERSION_3 = 0x19980330, 0x20071026, 0x20080522
_LOW = 0xFFFFFFFF
_KEEPS_CAPABILITIES, _KEEP_CAPABILITIES, _CAPBSET_READ, _CAPBSET_DROP, _AMBIENT = 7, 8, 23, 24, 47
_GAIN_NONE, _GAINS_NONE = 38, 39
_IS_SET, _RAISE, _LOWER, _CLEAR_ALL = 1, 2, 3, 4
_LAST_CAPABILITY = 40
_PEER = struct.Struct("=iII")
"""``struct ucred``: a process, a user and a group."""
_LOOKED_AT, _MOST_INTERPRETERS = 256, 5
"""How much of a program the kernel reads, and how many scripts may be each other's interpreters."""


class Identity:
    """Answers who a process is."""

    def __init__(self, record: Record, users: Users, kept: Kept | None) -> None:
        """Answer for all processes; the record says which programs are set-ID, but for the machine's, which are ``kept``."""
        self._record, self._users, self._kept = record, users, kept

    def get(self, caller: Caller) -> int:
        """Give one id: getuid, geteuid, getgid or getegid."""
        name = caller.name.removesuffix("16")
        who = self._users.of(caller.pid)
        ids = who.users if name.endswith("uid") else who.groups
        return _shown(ids.effective if name.startswith("gete") else ids.real, caller)

    def get_three(self, caller: Caller) -> int:
        """Give real, effective and saved ids."""
        who = self._users.of(caller.pid)
        ids = who.users if "uid" in caller.name else who.groups
        form = "=H" if caller.name.endswith("16") else "=I"
        for address, value in zip(caller.arguments, ids[:3], strict=False):
            caller.write(address, struct.pack(form, _shown(value, caller)))
        return 0

    def set(self, caller: Caller) -> int:
        """Set one, two or three ids, or that of the file system."""
        name = caller.name.removesuffix("16")
        who = self._users.of(caller.pid)
        of_users = name.endswith("uid")
        old = who.users if of_users else who.groups
        given = [_wide(value, caller) for value in caller.arguments[:3]]
        privileged = who.has(rights.SETUID if of_users else rights.SETGID)
        if name.startswith("setfs"):
            new = set_files(old, given[0], privileged=privileged)
        elif name.startswith("setres"):
            new = set_three(old, (given[0], given[1], given[2]), privileged=privileged)
        elif name.startswith("setre"):
            new = set_two(old, given[0], given[1], privileged=privileged)
        elif given[0] == UNCHANGED:
            raise fail(errno.EINVAL)
        else:
            new = set_one(old, given[0], privileged=privileged)
        if new != old:
            changed = who.with_files if name == "setfsuid" else who.with_users
            self._users.set(caller.pid, changed(new) if of_users else who._replace(groups=new))
        return _shown(old.files, caller) if name.startswith("setfs") else 0

    def get_groups(self, caller: Caller) -> int:
        """Give the supplementary groups."""
        groups = self._users.of(caller.pid).supplementary
        size, address = signed(caller.arguments[0]), caller.arguments[1]
        if size < 0 or 0 < size < len(groups):
            raise fail(errno.EINVAL)
        form = "=H" if caller.name.endswith("16") else "=I"
        if size:
            caller.write(address, b"".join(struct.pack(form, _shown(group, caller)) for group in groups))
        return len(groups)

    def set_groups(self, caller: Caller) -> int:
        """Set the supplementary groups."""
        who = self._users.of(caller.pid)
        count, address = caller.arguments[0] & _LOW, caller.arguments[1]
        if not who.has(rights.SETGID):
            raise fail(errno.EPERM)
        if count > _MOST_GROUPS:
            raise fail(errno.EINVAL)
        form = "H" if caller.name.endswith("16") else "I"
        size = struct.calcsize(form)
        data = caller.read(address, count * size) if count else b""
        if len(data) != count * size:
            raise fail(errno.EFAULT)
        groups = sorted(struct.unpack(f"={count}{form}", data))  # as the kernel keeps them
        if groups and _wide(groups[-1], caller) == UNCHANGED:
            raise fail(errno.EINVAL)
        self._users.set(caller.pid, who._replace(supplementary=tuple(groups)))
        return 0

    def get_capabilities(self, caller: Caller) -> int:
        """Give the capabilities of a process."""
        words, who, data = self._capabilities(caller)
        if not data:
            return 0
        sets = (who.effective, who.permitted, who.inheritable)
        caller.write(data, b"".join(struct.pack("=III", *(value >> 32 * word & _LOW for value in sets)) for word in range(words)))
        return 0

    def set_capabilities(self, caller: Caller) -> int:
        """Set the capabilities of a process."""
        words, who, data = self._capabilities(caller)
        read = struct.unpack(f"={3 * words}I", caller.read(data, 12 * words))
        effective, permitted, inheritable = (
            sum(read[3 * word + kind] << 32 * word for word in range(words)) for kind in range(3)
        )
        permitted &= (1 << _LAST_CAPABILITY + 1) - 1
        effective &= (1 << _LAST_CAPABILITY + 1) - 1
        inheritable &= (1 << _LAST_CAPABILITY + 1) - 1
        may_inherit = who.inheritable | (who.bounding if who.has(rights.SETPCAP) else who.permitted & who.bounding)
        if permitted & ~who.permitted or effective & ~permitted or inheritable & ~may_inherit:
            raise fail(errno.EPERM)
        ambient = who.ambient & permitted & inheritable
        new = who._replace(effective=effective, permitted=permitted, inheritable=inheritable, ambient=ambient)
        self._users.set(caller.pid, new)
        return 0

    def _capabilities(self, caller: Caller) -> tuple[int, Credentials, int]:
        header, data = caller.arguments[:2]
        version, pid = struct.unpack("=Ii", caller.read(header, 8))
        words = {_VERSION_1: 1, _VERSION_2: 2, _VERSION_3: 2}.get(version)
        if words is None:
            caller.write(header, struct.pack("=I", _VERSION_3))
            if data:
                raise fail(errno.EINVAL)
            return 0, self._users.of(caller.pid), 0
        try:
            return words, self._users.of(pid or caller.pid), data
        except ProcessLookupError as error:
            raise fail(errno.ESRCH) from error

    def control(self, caller: Caller) -> int | None:
        """Answer prctl(2) where it is about capabilities."""
        option, value = caller.arguments[0] & _LOW, caller.arguments[1]
        who = self._users.of(caller.pid)
        if option == _AMBIENT:
            return self._control_ambient(caller, who)
        if option in {_GAIN_NONE, _GAINS_NONE}:
            return self._control_gains(caller, who)
        most = {_CAPBSET_READ: _LAST_CAPABILITY, _CAPBSET_DROP: _LAST_CAPABILITY, _KEEP_CAPABILITIES: 1}.get(option)
        if most is not None and value > most:
            raise fail(errno.EINVAL)
        if option == _CAPBSET_READ:
            return who.bounding >> value & 1
        if option == _KEEPS_CAPABILITIES:
            return int(who.keeps)
        if option == _KEEP_CAPABILITIES:
            self._users.set(caller.pid, who._replace(keeps=bool(value)))
            return 0
        if not who.has(rights.SETPCAP):
            raise fail(errno.EPERM)
        if option == _CAPBSET_DROP:
            self._users.set(caller.pid, who._replace(bounding=who.bounding & ~(1 << value)))
        return 0

    def _control_gains(self, caller: Caller, who: Credentials) -> int | None:
        """Have no program give a process more than it has, or say whether that is so; for the kernel it is so in each session."""
        option, value, *rest = caller.arguments[:5]
        if option & _LOW == _GAINS_NONE and not any((value, *rest)):
            return int(who.gains_none)
        if option & _LOW == _GAIN_NONE and value == 1 and not any(rest):
            self._users.set(caller.pid, who._replace(gains_none=True))
        return None

    def _control_ambient(self, caller: Caller, who: Credentials) -> int:
        act, capability = caller.arguments[1], caller.arguments[2]
        if act == _CLEAR_ALL and not capability:
            self._users.set(caller.pid, who._replace(ambient=0))
            return 0
        if act not in {_IS_SET, _RAISE, _LOWER} or capability > _LAST_CAPABILITY:
            raise fail(errno.EINVAL)
        bit = 1 << capability
        if act == _IS_SET:
            return int(bool(who.ambient & bit))
        if act == _RAISE and not who.permitted & who.inheritable & bit:
            raise fail(errno.EPERM)
        self._users.set(caller.pid, who._replace(ambient=who.ambient | bit if act == _RAISE else who.ambient & ~bit))
        return 0

    def limit(self, caller: Caller) -> int | None:
        """Give no limit where the credentials are kept; let it be set in vain."""
        name, arguments = caller.name, caller.arguments
        if name == "setrlimit":
            return 0
        if name == "prlimit64":
            if arguments[1] & _LOW != rights.LIMIT:  # of another process, where its number may be anybody's
                reach.check(caller)
                return None
            if arguments[3]:
                caller.write(arguments[3], b"\xff" * 16)
        elif caller.audit != AUDIT["i386"]:
            caller.write(arguments[1], b"\xff" * 16)
        else:
            caller.write(arguments[1], (b"\xff\xff\xff\x7f" if name.endswith("16") else b"\xff" * 4) * 2)
        return 0

    def get_peer(self, caller: Caller) -> int | None:
        """Say who is at the other end of a socket: its user and group, or its other groups."""
        number, level, option, output, length = caller.arguments[:5]
        if level & _LOW != socket.SOL_SOCKET or option & _LOW not in {socket.SO_PEERCRED, SO_PEERGROUPS}:
            return None
        try:
            with caller.share_socket(signed(number)) as shared:
                pid, _, _ = _PEER.unpack(shared.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            who = self._users.of(pid) if pid > 0 else None
        except OSError:
            who = None
        size = struct.unpack("=i", caller.read(length, 4))[0]
        if who is None or size < 0:
            return None  # the other end is nobody, or has ended
        if option & _LOW == SO_PEERGROUPS:
            data = struct.pack(f"={len(who.supplementary)}I", *who.supplementary)
        else:
            data = _PEER.pack(pid, who.users.effective, who.groups.effective)[:size]
        caller.write(length, struct.pack("=i", len(data)))
        if len(data) > size:
            raise fail(errno.ERANGE)
        caller.write(output, data)
        return 0

    def execute(self, caller: Caller) -> int | None:
        """Have the ids change where a program is set-ID, and what any execve changes; the kernel carries the call out."""
        who = self._users.of(caller.pid)
        if who is rights.ROOT and not self._record.set_id:
            self._users.execute(caller.pid, who)
            return None
        descriptor = caller.open()
        try:
            user, group, granted = self._given(caller, descriptor, who)
        finally:
            os.close(descriptor)
        self._users.execute(caller.pid, who.executing(user, group, granted))
        return None

    def _given(
        self, caller: Caller, descriptor: int, who: Credentials, steps: int = 0
    ) -> tuple[int | None, int | None, Granted | None]:
        """Give the user, the group and the capabilities that a program has whoever executes it; a script has its interpreter's.

        Raises ``EACCES`` where somebody may not.
        """
        if steps > _MOST_INTERPRETERS or (self._kept is not None and self._kept.has(descriptor)):
            return None, None, None
        status = os.fstat(descriptor)
        row = self._record.of(status)
        if not stat.S_ISREG(row.mode):
            raise fail(errno.ELOOP if stat.S_ISLNK(row.mode) else errno.EACCES)
        check(self._record, who, EXECUTE, status)
        begin = _beginning(descriptor)
        if begin.startswith(interpreter.SCRIPT):
            return self._given_by(caller, interpreter.named_by(begin), who, steps + 1)
        granted = Granted.parse(self._record.attributes.get(inode_of(status), {}).get(CAPABILITY))
        if not (granted or row.mode & (stat.S_ISUID | stat.S_ISGID)) or not begin.startswith(interpreter.BINARY):
            return None, None, None
        return (
            row.uid if row.mode & stat.S_ISUID else None,
            row.gid if row.mode & stat.S_ISGID and row.mode & stat.S_IXGRP else None,
            granted,
        )

    def _given_by(
        self, caller: Caller, path: bytes, who: Credentials, steps: int
    ) -> tuple[int | None, int | None, Granted | None]:
        """Give what the interpreter of a script gives; nothing where there is none, as the kernel will say."""
        if not path:
            return None, None, None
        try:
            descriptor = caller.hold(caller.start(), path, True)  # noqa: FBT003 - a link is followed
        except FileNotFoundError:
            return None, None, None
        try:
            return self._given(caller, descriptor, who, steps)
        finally:
            os.close(descriptor)


def _beginning(descriptor: int) -> bytes:
    """Read as much of a program as the kernel looks at."""
    try:
        opened = os.open(held(descriptor), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(opened, _LOOKED_AT)  # a file object would take longer to be made than this
    except OSError:
        return b""
    finally:
        os.close(opened)


def _shown(value: int, caller: Caller) -> int:
    """Give an id as the call has it, in 16 bits or 32."""
    return _OVERFLOW if caller.name.endswith("16") and value > _SHORT else value


def _wide(value: int, caller: Caller) -> int:
    if caller.name.endswith("16"):
        value &= _SHORT
        return UNCHANGED if value == _SHORT else value
    return value & _LOW
