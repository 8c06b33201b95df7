"""The files of an image as it lies on disk, each a run of bytes: in a directory, or in an archive that nobody unpacks."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
import tarfile
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import Piece
from rootless_layer.system.machine import is_of_machine, shortage, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

DAMAGED = "It is damaged or is no image: get or build it again."
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
_MOST_LINKS = 8
_OF_ANY_BLOB = re.compile(r"blobs/[^/]+/[^/]+")  # whichever counts is compared with its name


def in_directory(top: str) -> Callable[[str], Piece | None]:
    """Give what finds a directory's files by their names, which may be any."""
    top = os.path.realpath(top)

    def find(name: str) -> Piece | None:
        if "\0" in name:
            return None
        path = os.path.join(top, *clean(name).split("/"))
        # A link could point anywhere on this machine; image layouts have none within.
        try:
            status = os.stat(path) if os.path.realpath(path) == path else None
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise unreadable(error, path) from error
        return Piece(path, status.st_size) if status is not None and stat.S_ISREG(status.st_mode) else None

    return find


def in_archive(path: str, where: str = "") -> Callable[[str], Piece | None]:
    """Give what finds an archive's files, without unpacking it; links within it are followed. Messages may call it ``where``."""
    where = where or path
    files: dict[str, Piece] = {}
    links: dict[str, str] = {}
    whole = os.path.getsize(path)
    for member in headers(path, where):
        name = clean(member.name)
        if member.isreg() and not member.issparse():
            piece = Piece(path, member.size, member.offset_data, name=where)
            if name in files and not _OF_ANY_BLOB.match(name) and not _same(files[name], piece):
                message = f"{where}: {name} is in it more than once, and not the same: readers take one or the other"
                raise InputError(message, hint=DAMAGED)
            files[name] = piece
            if member.offset_data + member.size > whole:
                message = f"{where}: ends within {name}"
                raise InputError(message, hint=DAMAGED)
        elif member.islnk() or member.issym():
            above = posixpath.dirname(name) if member.issym() else ""
            links[name] = clean(posixpath.join(above, member.linkname))

    def find(name: str) -> Piece | None:
        name = clean(name)
        for _ in range(_MOST_LINKS):
            if name not in links:
                break
            name = links[name]
        return files.get(name)

    return find


def _same(one: Piece, other: Piece) -> bool:
    """Say whether two files hold the same."""
    digests = []
    for piece in (one, other) if one.size == other.size else ():
        digest = hashlib.sha256()
        piece.copy(digest.update)
        digests.append(digest.digest())
    return bool(digests) and digests[0] == digests[1]


def headers(path: str, where: str = "") -> list[tarfile.TarInfo]:
    """Read an archive's headers, the members' data passed over; raises :class:`InputError`, which may call it ``where``."""
    found: list[tarfile.TarInfo] = []
    problem: object = None
    with open(path, "rb") as file:
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the file is closed
            while not problem and (header := archive.next()) is not None:
                found.append(header)
                if header.size < 0:  # the next one would stand before it, for ever
                    problem = f"{header.name} has a size of {header.size}"
        except Exception as error:
            if shortage(error) and not isinstance(error, OSError):
                raise
            if isinstance(error, OSError) and is_of_machine(error.errno):
                raise unreadable(error, where or path) from error
            problem = error
    if problem:
        message = f"{where or path}: cannot be read as a tar archive: {problem}"
        raise InputError(message, hint=DAMAGED)
    return found


def clean(name: str) -> str:
    """Give the path, relative to the top, that a name in an archive or a layout stands for; none leads out of it."""
    return posixpath.normpath("/" + name).lstrip("/")
