"""Databases of installed packages read: dpkg's, apk's, and rpm's where it is SQLite."""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
import struct
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError

from .component import Package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_STATUS_D = re.compile(rb"var/lib/dpkg/status\.d/[^/]+(?<!\.md5sums)")
_PLACES: dict[bytes, str] = {
    b"var/lib/dpkg/status": "deb",
    b"lib/apk/db/installed": "apk",
    b"usr/lib/apk/db/installed": "apk",
    b"var/lib/rpm/rpmdb.sqlite": "rpm",
    b"usr/lib/sysimage/rpm/rpmdb.sqlite": "rpm",
}
_UNREAD = {
    folder + name: f"is a database of rpm's older form {form}, which is not read"
    for folder in (b"var/lib/rpm/", b"usr/lib/sysimage/rpm/")
    for name, form in ((b"Packages", "Berkeley DB"), (b"Packages.db", "ndb"))
}
_NAMES = re.compile(rb"(?:.*/)?(?:dpkg/status|dpkg/status\.d/[^/]+|db/installed|rpm/rpmdb\.sqlite|(?:etc|lib)/os-release)")


def may_be_database(path: bytes) -> bool:
    """Say whether a file may turn out to be one that :func:`kind_of` knows, once links to directories are followed."""
    return _NAMES.fullmatch(path) is not None


def kind_of(path: bytes) -> str:
    """Give the kind of the packages in a database at ``path``, ``""`` where it is none."""
    return "deb" if _STATUS_D.fullmatch(path) else _PLACES.get(path, "")


def why_unread(path: bytes) -> str:
    """Say why the database at a path is not read; ``""`` for any other path."""
    return _UNREAD.get(path, "")


def read_database(kind: str, data: bytes) -> list[Package]:
    """Read a database of packages; raises :class:`InputError` for one that is damaged."""
    return list(_READERS[kind](data))


# --- dpkg and apk: text ---

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")


def _dpkg(data: bytes) -> Iterator[Package]:
    """Read deb822 stanzas (deb-control(5), dpkg-status)."""
    for said in _stanzas(data, ":"):
        status = said.get("Status", "install ok installed").split()
        if not said.get("Package") or not status or status[-1] not in {"installed", "triggers-awaited", "triggers-pending"}:
            continue
        source, _, rest = said.get("Source", "").partition(" ")
        upstream = "@".join(filter(None, (source, rest.strip("() "))))
        yield Package(
            kind="deb",
            name=said["Package"],
            version=said.get("Version", ""),
            architecture=said.get("Architecture", ""),
            source=source,
            supplier=said.get("Maintainer", ""),
            needs=tuple(
                tuple(map(_name, group.split("|")))
                for field in ("Pre-Depends", "Depends")
                for group in said.get(field, "").split(",")
                if group.strip()
            ),
            provides=tuple(map(_name, filter(str.strip, said.get("Provides", "").split(",")))),
            qualifiers=(("upstream", upstream),) if source else (),
        )


def _apk(data: bytes) -> Iterator[Package]:
    """Read apk-tools' database of installed packages: a field is a letter, a package ends at an empty line."""
    for said in _stanzas(data, ":", repeated="FRaMZ"):
        if not said.get("P"):
            continue
        source = said.get("o", "")
        yield Package(
            kind="apk",
            name=said["P"],
            version=said.get("V", ""),
            architecture=said.get("A", ""),
            source=source,
            license=said.get("L", ""),
            supplier=said.get("m", ""),
            needs=tuple((_provided(word),) for word in said.get("D", "").split() if not word.startswith("!")),
            provides=tuple(map(_provided, said.get("p", "").split())),
            qualifiers=(("upstream", source),) if source and source != said["P"] else (),
        )


def _stanzas(data: bytes, separator: str, repeated: str = "") -> Iterator[Mapping[str, str]]:
    """Give the fields of each paragraph; lines that begin with a blank go on with what is before them, and are left out."""
    said: dict[str, str] = {}
    for line in data.decode(errors="replace").split("\n"):
        if not line.strip():
            if said:
                yield said
            said = {}
        elif not line[0].isspace():
            key, found, value = line.partition(separator)
            if found and not (repeated and key in repeated):
                said[key] = value.strip()
    if said:
        yield said


def _name(text: str) -> str:
    """Give the name in a relation such as ``libc6:any (>= 2.36)``."""
    found = _WORD.match(text.strip())
    return found[0] if found else ""


def _provided(text: str) -> str:
    """Give the name in ``so:libc.musl-x86_64.so.1=1`` or ``busybox>=1.36``."""
    return re.split(r"[<>=~@]", text, maxsplit=1)[0]


# --- rpm: headers in a table ---

_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1011, 1014, 1022, 1044
_SHA256 = 273  # of the header
_TAGS = {_NAME, _VERSION, _RELEASE, _EPOCH, _VENDOR, _LICENSE, _ARCH, _SOURCE, _SHA256}
_INT32, _STRINGS = 4, {6, 8, 9}
_MOST_ENTRIES = 1 << 16
_JOURNAL = slice(18, 20)
_STEP, _MOST_STEPS = 1_000_000, 100
"""After so many instructions of SQLite's machine a signal is heard, and so many times."""
_LEAST_LENGTH = 1 << 20


def _rpm(data: bytes) -> Iterator[Package]:
    """Read the headers of installed packages; a key that packages are signed with is none."""
    rows = rpm_headers(data)
    with _reading_rpm():
        for said in map(_header, rows):
            if said.get(_NAME) and said[_NAME] != "gpg-pubkey":
                yield _of_header(said)


def rpm_headers(data: bytes) -> list[bytes]:
    """Read ``rpmdb.sqlite``, whose rows are headers without their magic number (rpm's ``rpmdb/sqlite.c``).

    Raises :class:`InputError` for what is no such database.
    """
    # A database in memory has no write-ahead log, which rpm's says that it has: the form is otherwise the same.
    plain = bytearray(data)
    plain[_JOURNAL] = b"\1\1"[: len(plain[_JOURNAL])]
    with _reading_rpm(), contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(bytes(plain))
        _bound(database, len(plain))
        return [bytes(memoryview(row)) for (row,) in database.execute("SELECT blob FROM Packages ORDER BY hnum")]


@contextlib.contextmanager
def _reading_rpm() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, struct.error, TypeError, MemoryError, OverflowError, AttributeError) as error:
        message = f"cannot be read as rpm's database: {error}"
        raise InputError(message) from error


def _bound(database: sqlite3.Connection, size: int) -> None:
    """See that reading it ends: what stands in an image may compute its rows without end, while no signal is heard."""
    steps = itertools.count()
    database.set_progress_handler(lambda: next(steps) > _MOST_STEPS, _STEP)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(size, _LEAST_LENGTH))
    kinds = [kind for (kind,) in database.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'")]
    if kinds != ["table"] or any(column[-1] for column in database.execute("PRAGMA table_xinfo(Packages)")):
        raise sqlite3.DatabaseError("Packages is not a table of values")


def _of_header(said: Mapping[int, str]) -> Package:
    version = "-".join(filter(None, (said.get(_VERSION, ""), said.get(_RELEASE, ""))))
    named = (("epoch", said.get(_EPOCH, "")), ("upstream", said.get(_SOURCE, "")))
    return Package(
        kind="rpm",
        name=said[_NAME],
        version=version,
        architecture=said.get(_ARCH, ""),
        source=said.get(_SOURCE, ""),
        license=said.get(_LICENSE, ""),
        supplier=said.get(_VENDOR, ""),
        hashes=(("SHA256", said[_SHA256]),) if _SHA256 in said else (),
        qualifiers=tuple(pair for pair in named if pair[1]),
    )


def _header(row: bytes) -> dict[int, str]:
    """Read the tags that are of use, each once, however often it is said."""
    said: dict[int, str] = {}
    for tag, kind, at, _ in rpm_tags(row):
        if tag not in _TAGS or tag in said:
            continue
        if kind in _STRINGS:
            said[tag] = row[at:].partition(b"\0")[0].decode(errors="replace")
        elif kind == _INT32 and tag == _EPOCH:
            said[tag] = str(struct.unpack_from(">I", row, at)[0])
    return said


def rpm_tags(row: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Give of each tag of a header its number, the kind of its values, the place of the first in ``row``, and how many there are.

    A header is an index of numbers, big-endian, and a store that they point into. Raises :class:`struct.error`
    for one that is cut short; a place outside of the store is left out.
    """
    count, length = struct.unpack_from(">II", row)
    begin = 8 + 16 * count
    if count > _MOST_ENTRIES or begin + length > len(row):
        raise struct.error("a header is cut short")
    for number in range(count):
        tag, kind, offset, values = struct.unpack_from(">IIiI", row, 8 + 16 * number)
        if begin <= begin + offset < len(row):
            yield tag, kind, begin + offset, values


_READERS: dict[str, Callable[[bytes], Iterator[Package]]] = {"deb": _dpkg, "apk": _apk, "rpm": _rpm}
