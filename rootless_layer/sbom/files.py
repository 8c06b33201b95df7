"""The package that each file of an image belongs to: by the lists of dpkg, and the databases of apk and rpm."""

from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import sha256

from .databases import kind_of, rpm_headers, rpm_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rootless_layer.tar.feed import Consume
    from rootless_layer.tar.read import Member
    from rootless_layer.tree.tree import Entry

    Owned = Iterator[tuple[bytes, str]]

_DPKG = re.compile(rb"var/lib/dpkg/(?:info/(?P<name>[^/:]+)(?::[^/]+)?\.list|status\.d/(?P<small>[^/]+)\.md5sums)")
_MAY_BE = re.compile(rb"(?:.*/)?(?:dpkg/info/[^/]+\.list|dpkg/status\.d/[^/]+\.md5sums|db/installed|rpm/rpmdb\.sqlite)")
_MOST_BYTES = 512 << 20
"""A list of so many bytes is no list of files."""
_NAME, _FOLDER_NUMBERS, _BASE_NAMES, _FOLDERS = 1000, 1116, 1117, 1118
_MOST_FILES = 1 << 20


@attrs.define(slots=True)
class FileLists:
    """The lists of files that packages of several layers have; ``keep`` gathers them while a layer is read."""

    _kept: list[bytearray] = attrs.field(factory=list)

    def keep(self, entry: Entry) -> Consume | None:
        """Have the data of a file that may be such a list, once links to directories are followed."""
        if not _MAY_BE.fullmatch(entry.path) or entry.size > _MOST_BYTES:
            return None
        self._kept.append(bytearray())
        return self._kept[-1].extend

    def owners(self, layers: Iterable[Mapping[bytes, Member]], folder: Callable[[bytes], bytes]) -> dict[bytes, str]:
        """Give the name of the package that each path is a file of, in one layer or another; the uppermost one counts.

        :param layers: what each layer has by its path, the lowest first.
        :param folder: gives the directory that a path leads to: packages of Debian have files in ``lib``, a link to ``usr/lib``.
        :returns: the names by paths; a directory is of no package. A list that is damaged names nothing.
        """
        data = {sha256(bytes(each)): bytes(each) for each in self._kept}
        found: dict[bytes, str] = {}
        for members in layers:
            for path, member in members.items():
                if member.digest not in data:
                    continue
                with contextlib.suppress(InputError, struct.error):  # a bill of materials says it; a page can do without
                    for owned, name in _owned(path, data[member.digest]):
                        above, _, last = owned.lstrip(b"/").rpartition(b"/")
                        real = folder(above)
                        found[real + b"/" + last if real else last] = name
        return found


def _owned(path: bytes, data: bytes) -> Owned:
    """Read a list or a database; what is none of them gives nothing."""
    kind = kind_of(path)
    if kind == "apk":
        return _of_apk(data)
    if kind == "rpm":
        return _of_rpm(data)
    return _of_dpkg(path, data)


def _of_dpkg(path: bytes, data: bytes) -> Owned:
    """Read a list of dpkg's, a path a line; images without dpkg have digests and paths instead (``status.d``)."""
    named = _DPKG.fullmatch(path)
    if named is None:
        return
    name = (named["name"] or named["small"]).decode(errors="replace")
    for line in data.split(b"\n"):
        yield line.partition(b"  ")[2] if named["small"] else line, name


def _of_apk(data: bytes) -> Owned:
    """Read apk-tools' database: ``P`` names the package, ``F`` a directory, ``R`` a file in it."""
    name = ""
    folder = b""
    for line in data.split(b"\n"):
        kind, value = line[:2], line[2:]
        if kind == b"P:":
            name = value.decode(errors="replace")
        elif kind == b"F:":
            folder = value
        elif kind == b"R:":
            yield folder + b"/" + value, name


def _of_rpm(data: bytes) -> Owned:
    """Read rpm's headers: the last part of each path, the number of its directory, and the directories."""
    for row in rpm_headers(data):
        tags = {tag: (at, count) for tag, _, at, count in rpm_tags(row)}
        if not {_NAME, _FOLDER_NUMBERS, _BASE_NAMES, _FOLDERS} <= tags.keys():
            continue
        at, count = tags[_FOLDER_NUMBERS]
        if count > _MOST_FILES:
            continue
        folders = _strings(row, *tags[_FOLDERS])
        name = _strings(row, tags[_NAME][0], 1)[0].decode(errors="replace")
        for number, last in zip(struct.unpack_from(f">{count}I", row, at), _strings(row, *tags[_BASE_NAMES]), strict=False):
            if number < len(folders):
                yield folders[number] + last, name


def _strings(row: bytes, at: int, count: int) -> list[bytes]:
    """Give values of a header that are text: each ends with a NUL."""
    return row[at:].split(b"\0", count)[:count]
