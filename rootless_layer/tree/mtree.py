"""A layer's listing: an mtree file, which ``bsdtar`` reads.

mtree(5) has no word for a hard link's target or for an extended attribute, and readers
refuse a keyword that they do not know; so these stand in comments before the entry.
So does, at the top, all that is said of the whole tree.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from itertools import takewhile
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError

from .compact import CompactTree
from .owner_names import NAMELESS, OwnerNames
from .table import NANOSECONDS, Rows
from .tree import Entry, shown, unrepresentable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from .table import Shape, Table
    from .tree import Tree

_TYPES = {
    stat.S_IFREG: b"file",
    stat.S_IFDIR: b"dir",
    stat.S_IFLNK: b"link",
    stat.S_IFCHR: b"char",
    stat.S_IFBLK: b"block",
    stat.S_IFIFO: b"fifo",
}
_ODD = re.compile(rb"[^!-\"$-<>-\[\]-~]")
"""What vis(3) writes as an octal escape: not printable, a space, ``#``, ``=``, a backslash."""


_HEAD, _ROOT_STANDS, _UNAME, _GNAME, _STORED = b"#mtree\n", b"#root\n", b"#uname=", b"#gname=", b"#store="
_HEADS = (_ROOT_STANDS, _UNAME, _GNAME, _STORED)
_AT_ONCE = 1000


@attrs.frozen(slots=True)
class Head:
    """What a listing says of the whole tree: the fields of :class:`.Tree` that are of no single path."""

    root_stands: bool = False
    stored: tuple[bytes, ...] = ()
    names: OwnerNames = NAMELESS

    @classmethod
    def of(cls, file: BinaryIO, name: str) -> Head:
        """Read the head of a listing; the file is at its beginning, and stays there.

        ``name`` is what messages call it. Raises :class:`InputError` for a line that is not of this form.
        """
        head = list(takewhile(lambda line: line == _HEAD or line.startswith(_HEADS), file))
        file.seek(0)
        found = (line.removeprefix(_STORED).rstrip(b"\n") for line in head if line.startswith(_STORED))
        stored = tuple(_ESCAPE.sub(_letter, path.removeprefix(b"./")) for path in found)
        try:
            user, group = _named(head, _UNAME), _named(head, _GNAME)
        except ValueError as error:  # UnicodeDecodeError is one
            message = f"{name}: the name of an owner is not one of a layer's listing"
            raise InputError(message, hint="Build the layer again.") from error
        return cls(_ROOT_STANDS in head, stored, OwnerNames(user, group))


def _named(head: list[bytes], key: bytes) -> tuple[int, str] | None:
    for line in head:
        if line.startswith(key):
            number, _, name = line.removeprefix(key).rstrip(b"\n").partition(b",")
            return int(number), _plain(name).decode()
    return None


def _vis(text: bytes) -> bytes:
    return _ODD.sub(lambda match: b"\\%03o" % match[0][0], text)


def _name(path: bytes) -> bytes:
    return b"./" + _vis(path) if path else b"."


def lines(tree: Tree, *, files: bytes | None) -> Iterator[bytes]:
    """Write a tree as mtree lines.

    Where ``files`` is given, each regular file's line names the file that holds its bytes,
    relative to the listing where that is below the path ``files``.
    """
    yield from _head(tree)
    if isinstance(tree.entries, Rows):
        yield from _of_table(tree.entries.table, _Words.of(tree.entries.table, files))
        return
    for entry in tree:
        yield from _of_entry(entry, files)


def write(tree: Tree, file: BinaryIO, *, files: bytes | None) -> dict[bytes, tuple[int, int]]:
    """Write the lines of a tree to a file; of sealed paths they are known.

    Gives from where to where in the file each store path stands that is whole; the rest is as of :func:`lines`.
    """
    runs: dict[bytes, tuple[int, int]] = {}
    if not isinstance(tree, CompactTree):
        file.writelines(lines(tree, files=files))
        return runs
    file.writelines(_head(tree))
    table, begin = tree.entries.table, 0
    words = _Words.of(table, files)
    for path in sorted(tree.whole):
        if (found := tree.entries.run(path)) is None:
            continue
        place, end = found
        file.writelines(_of_table(table[begin:place], words))
        first, known = file.tell(), tree.sealed.get(path)
        file.writelines(_of_table(table[place:end], words) if known is None else [known.lines])
        runs[path], begin = (first, file.tell()), end
    file.writelines(_of_table(table[begin:], words))
    return runs


def _head(tree: Tree) -> Iterator[bytes]:
    yield _HEAD
    if tree.root_stands:
        yield _ROOT_STANDS
    for key, named in ((_UNAME, tree.names.user), (_GNAME, tree.names.group)):
        if named is not None:
            yield b"%s%d,%s\n" % (key, named[0], _vis(named[1].encode()))
    yield from (b"%s%s\n" % (_STORED, _name(path)) for path in tree.stored)


def _of_entry(entry: Entry, files: bytes | None) -> Iterator[bytes]:
    if entry.link is not None:
        yield b"#link=%s\n" % _name(entry.link)
    for name, value in entry.xattrs:
        yield b"#xattr=%s,%s\n" % (_vis(name).replace(b",", b"\\054"), base64.b64encode(value))
    yield _line(entry, files)


@attrs.frozen(slots=True)
class _Words:
    """What the lines of files of each of a table's shapes have in common: words, the latest time, their directory, and a cut."""

    files: bytes | None
    shapes: Sequence[tuple[bytes, int, bytes, int] | None]
    """Nothing for directories, which are few."""

    @classmethod
    def of(cls, table: Table, files: bytes | None) -> _Words:
        return cls(files, [_words(shape, files) for shape in table.shapes])


def _of_table(table: Table, words: _Words) -> Iterator[bytes]:
    """Write the lines of many rows: each is what files of its shape have in common, and the little that they have not."""
    files, shapes = words.files, words.shapes
    for begin in range(0, len(table), _AT_ONCE):
        part = table[begin : begin + _AT_ONCE]
        if _ODD.search(b"".join(part.paths)):
            for entry in part:
                yield from _of_entry(entry, files)
            continue
        rows = zip(part.paths, part.kinds, part.sizes, part.times, strict=True)
        for place, (path, kind, size, time) in enumerate(rows):
            if kind < 0 or (word := shapes[kind]) is None:
                yield from _of_entry(part[place], files)
                continue
            said, epoch, contents, cut = word
            seconds = min(time // NANOSECONDS, epoch)
            if contents:
                yield b"./%b %b%d.0 size=%d%b%b\n" % (path, said, seconds, size, contents, path[cut:])
            else:
                yield b"./%b %b%d.0 size=%d\n" % (path, said, seconds, size)


def _words(shape: Shape, files: bytes | None) -> tuple[bytes, int, bytes, int] | None:
    if shape.is_dir or (files or b"").startswith(shape.top):
        return None
    said = b"type=file mode=%04o uid=%d gid=%d time=" % (shape.mode & 0o7777, shape.uid, shape.gid)
    return said, shape.epoch, b"" if files is None else b" contents=" + _vis(shape.top.removeprefix(files)), shape.cut


def _line(entry: Entry, files: bytes | None) -> bytes:
    mode = entry.mode
    kind = stat.S_IFMT(mode)
    rest = b""
    if kind == stat.S_IFREG:
        rest = b" size=%d" % entry.size
        if files is not None and entry.source is not None and entry.link is None:
            rest += b" contents=" + _vis(entry.source.removeprefix(files))
    elif entry.target is not None:
        rest = b" link=" + _vis(entry.target)
    elif entry.rdev:
        rest = b" device=native,%d,%d" % (os.major(entry.rdev), os.minor(entry.rdev))
    return b"%s type=%s mode=%04o uid=%d gid=%d time=%d.0%s\n" % (
        _name(entry.path), _TYPES[kind], mode & 0o7777, entry.uid, entry.gid, entry.mtime, rest,
    )  # fmt: skip


_ESCAPE = re.compile(rb"\\([0-7]{3})")
_KINDS = {name: kind for kind, name in _TYPES.items()}


def _letter(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 8) & 0xFF,))


def _plain(text: bytes) -> bytes:
    """Undo :func:`_vis`; raise :class:`ValueError` for a NUL, which no path and no name of an attribute has."""
    plain = _ESCAPE.sub(_letter, text)
    if b"\0" in plain:
        raise ValueError(plain)
    return plain


def _path(name: bytes) -> bytes:
    return _plain(name.removeprefix(b"./")) if name != b"." else b""


def read(listed: Iterable[bytes], folder: bytes, name: str) -> list[Entry]:
    """Read what :func:`lines` wrote; the files that hold the bytes are relative to ``folder``.

    ``name`` is what messages call it. Raises :class:`InputError` for a line that is not of
    this form: other mtree files are :func:`rootless_layer.tar.listing.read_listing`'s.
    """
    entries: list[Entry] = []
    link: bytes | None = None
    xattrs: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(listed, 1):
        try:
            if line.startswith(b"#link="):
                link = _path(line[6:].rstrip(b"\n"))
            elif line.startswith(b"#xattr="):
                key, _, value = line[7:].partition(b",")
                xattrs.append((_plain(key), base64.b64decode(value, validate=False)))
            elif not line.startswith(b"#"):
                entry = _entry(line.split(), link, tuple(xattrs), folder)
                if fault := unrepresentable(entry):
                    message = f"{name}: line {number}: {shown(entry.path)}: {fault}"
                    raise InputError(message, hint="Build the layer again.")
                entries.append(entry)
                link, xattrs = None, []
        except (ValueError, KeyError, TypeError, OverflowError) as error:  # the last two are of a device's numbers
            message = f"{name}: line {number} is not one of a layer's listing"
            raise InputError(message, hint="Build the layer again.") from error
    return entries


def _entry(words: list[bytes], link: bytes | None, xattrs: tuple[tuple[bytes, bytes], ...], folder: bytes) -> Entry:
    given = dict(word.split(b"=", 1) for word in words[1:])
    kind = _KINDS[given[b"type"]]
    source = given.get(b"contents")
    device = given.get(b"device")
    mode = int(given[b"mode"], 8)
    if mode != stat.S_IMODE(mode):
        raise ValueError(mode)
    return Entry(
        path=_path(words[0]),
        mode=kind | mode,
        uid=int(given[b"uid"]),
        gid=int(given[b"gid"]),
        mtime=int(given[b"time"].partition(b".")[0]),
        size=int(given.get(b"size", b"0")),
        rdev=os.makedev(*map(int, device.split(b",")[1:])) if device else 0,
        target=_plain(given[b"link"]) if kind == stat.S_IFLNK else None,
        link=link,
        source=os.path.join(folder, _plain(source)) if source is not None else None,
        xattrs=xattrs,
    )
