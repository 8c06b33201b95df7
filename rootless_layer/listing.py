"""A layer's listing: an mtree file, which ``bsdtar`` reads.

mtree(5) has no word for a hard link's target or for an extended attribute, and readers
refuse a keyword that they do not know; so these stand in comments before the entry.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tree import Entry, Tree

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


def _vis(text: bytes) -> bytes:
    return _ODD.sub(lambda match: b"\\%03o" % match[0][0], text)


def _name(path: bytes) -> bytes:
    return b"./" + _vis(path) if path else b"."


def lines(tree: Tree, *, files: bytes | None) -> Iterator[bytes]:
    """Write a tree as mtree lines.

    Where ``files`` is given, each regular file's line names the file that holds its bytes,
    relative to the listing where that is below the path ``files``.
    """
    yield b"#mtree\n"
    for entry in tree:
        if entry.link is not None:
            yield b"#link=%s\n" % _name(entry.link)
        for name, value in entry.xattrs:
            yield b"#xattr=%s,%s\n" % (_vis(name), base64.b64encode(value))
        yield _line(entry, files)


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
