"""How scripts start: as whom, and in which directory of the tree.

Names of users and groups are those of the tree's own ``/etc/passwd`` and ``/etc/group`` (passwd(5), group(5)),
found through links of the tree alone. The rules are a Dockerfile's USER and WORKDIR.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.links import follow
from rootless_layer.tree.tree import MOST_ID, Entry, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless_layer.tree.links import Lookup

    from .spec import LayerSpec

_PASSWD, _GROUP = b"etc/passwd", b"etc/group"
_USER_FIELDS, _GROUP_FIELDS = 7, 4
_NAME, _ID, _OWN_GROUP, _HOME, _MEMBERS = 0, 2, 3, 5, 3


@attrs.frozen(slots=True)
class Account:
    """A user: ids, the supplementary groups, and the name and the home that the tree knows, ``""`` for no name."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    name: str = "root"
    home: str = "/root"


ROOT = Account()


@attrs.frozen(slots=True)
class Start:
    """As whom scripts run, and the path in the tree, without links, of the directory in which they start."""

    account: Account = ROOT
    folder: bytes = b""


AS_ROOT = Start()


class Accounts:
    """The users and groups of a tree."""

    def __init__(self, there: Lookup) -> None:
        """Take what gives the tree's entries; nothing is read yet."""
        self._there = there

    def find(self, option: str, given: str) -> Account:
        """Find ``USER`` or ``USER:GROUP``, each a name or a number.

        The group of a known user is the one in ``/etc/passwd``, and supplementary groups are those that list the user,
        unless a group is given. A number that ``/etc/passwd`` does not have is a user of group 0. Raises
        :class:`InputError` for a name that the tree does not have; ``option`` begins the message.
        """
        user, _, group = given.partition(":")
        line = next((line for line in self._lines(_PASSWD, _USER_FIELDS) if user in (line[_NAME], line[_ID])), None)
        if line is None:
            uid, gid, name, home = self._number(option, user, _PASSWD, "user"), 0, "", "/"
        else:
            uid, gid, name, home = int(line[_ID]), _whole(line[_OWN_GROUP]) or 0, line[_NAME], line[_HOME] or "/"
        if group:
            gid = self.group(option, group)
            return Account(uid, gid, (gid,), name, home)
        listed = [line for line in self._lines(_GROUP, _GROUP_FIELDS) if name and name in line[_MEMBERS].split(",")]
        return Account(uid, gid, tuple(sorted({gid, *(int(line[_ID]) for line in listed)})), name, home)

    def owner(self, option: str, given: str) -> tuple[int, int]:
        """Find the owner that COPY's ``--chown`` means: of a user alone the own group, or that of the same number."""
        user, _, group = given.partition(":")
        account = self.find(option, given)
        return account.uid, account.gid if group or not user.isdecimal() else account.uid

    def group(self, option: str, given: str) -> int:
        """Find a group by its name or number."""
        line = next((line for line in self._lines(_GROUP, _GROUP_FIELDS) if given in (line[_NAME], line[_ID])), None)
        return self._number(option, given, _GROUP, "group") if line is None else int(line[_ID])

    @staticmethod
    def _number(option: str, given: str, path: bytes, noun: str) -> int:
        number = _whole(given)
        if number is None:
            message = f"{option}: there is no {noun} {given!r} in {shown(path)} of the tree"
            raise InputError(message, hint=f"Give the {noun}'s number, or a tree or a base that has the {noun}.")
        return number

    def _lines(self, path: bytes, count: int) -> Iterator[list[str]]:
        """Give the fields of a file's lines, in their order; those without a number in their place are none."""
        found = follow(path, self._there)
        entry = None if found.missing or found.endless else self._there(found.end)
        if entry is not None and entry.link is not None:
            entry = self._there(entry.link)
        if entry is None or not entry.is_regular or entry.source is None:
            return
        try:
            text = Path(os.fsdecode(entry.source)).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise unreadable(error, os.fsdecode(entry.source)) from error
        for line in text.split("\n"):
            fields = line.strip().split(":")
            if len(fields) >= count and _whole(fields[_ID]) is not None:
                yield fields


def _whole(text: str) -> int | None:
    """Read an id."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_ID)) else MOST_ID + 1
    return number if number <= MOST_ID else None


def start_of(spec: LayerSpec, there: Lookup) -> tuple[Start, tuple[Entry, ...]]:
    """Say how a spec's scripts start, in a tree of which ``there`` gives the entries.

    The second value has the directories that the working directory lacks: as WORKDIR makes them they are the user's,
    0755. A base's own working directory, which is root's, is made where a script is to start there. Raises
    :class:`InputError` for a user whom the tree does not have, and for a directory that is something else.
    """
    account = Accounts(there).find("user", spec.user) if spec.user else ROOT
    if not spec.workdir and not (spec.scripts and spec.view == "root"):
        return Start(account), ()
    path = os.fsencode(spec.folder)
    way = follow(path, there)
    for entry in (*way.passed, there(way.end)):
        if entry is not None and entry.target is None and not entry.is_dir:
            message = f"workdir: {shown(path)} cannot be a directory: {shown(entry.path)} is none"
            raise InputError(message, hint="Name another directory, or leave the file out.")
    if way.endless:
        message = f"workdir: {shown(path)} has too many symbolic links"
        raise InputError(message)
    owner = (account.uid, account.gid) if spec.workdir else (0, 0)
    return Start(account, way.end), tuple(missing_folders(way.end, there, spec.source_date_epoch, owner))


def missing_folders(path: bytes, there: Lookup, epoch: int, owner: tuple[int, int]) -> Iterator[Entry]:
    """Give a directory for each part of a path that is not there, the upper ones first."""
    parts = path.split(b"/") if path else []
    for depth in range(1, len(parts) + 1):
        folder = b"/".join(parts[:depth])
        if there(folder) is None:
            yield Entry(path=folder, mode=stat.S_IFDIR | 0o755, uid=owner[0], gid=owner[1], mtime=epoch)
