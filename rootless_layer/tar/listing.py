"""An mtree file (mtree(5)) that says what a directory cannot: owners, modes and devices.

libarchive takes a number as far as it is one, and what is missing for nought. So the few
keywords that count are read here: each is what it says, or an error.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.tree.tree import Entry, shown, unrepresentable

from .unpack import check_file, give_plain, relative_to_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    b"file": stat.S_IFREG, b"dir": stat.S_IFDIR, b"link": stat.S_IFLNK, b"char": stat.S_IFCHR,
    b"block": stat.S_IFBLK, b"fifo": stat.S_IFIFO, b"socket": stat.S_IFSOCK,
}  # fmt: skip
_NAMES = {kind: name.decode() for name, kind in _KINDS.items()}
_DEVICES = frozenset({stat.S_IFCHR, stat.S_IFBLK})
_NODES = _DEVICES | {stat.S_IFIFO}
_FLAGS = frozenset({b"ignore", b"nochange", b"optional"})
_ID, _TIME, _OCTAL = re.compile(rb"-?[0-9]{1,19}"), re.compile(rb"(-?[0-9]{1,19})(?:\.[0-9]*)?"), re.compile(rb"[0-7]{1,9}")
_DEVICE = re.compile(rb"[a-z0-9]+,(0|[1-9][0-9]{0,9}|0x[0-9a-f]{1,8}),(0|[1-9][0-9]{0,9}|0x[0-9a-f]{1,8})")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.?)", re.DOTALL)
_LETTERS = dict(zip(b"abfnrstv\\#", b"\a\b\f\n\r \t\v\\#", strict=True))
_HINT = "Write the mtree file's line as mtree(5) has it: ids and times in decimal, modes in octal."


@attrs.frozen(slots=True)
class Listed:
    """What a listing says of a path; ``None`` where it says nothing.

    ``where`` is what messages call the line, ``kind`` the type bits of a mode, ``device`` the
    major and minor number.
    """

    where: str
    kind: int | None
    mode: int | None
    uid: int | None
    gid: int | None
    time: int | None
    device: tuple[int, int] | None

    def over(self, entry: Entry) -> Entry:
        """Give what the entry of a file on disk is by the listing; a regular file may stand for a device or a fifo.

        Raises :class:`InputError` where it cannot be what the listing says.
        """
        on_disk = stat.S_IFMT(entry.mode)
        kind = on_disk if self.kind is None else self.kind
        if kind != on_disk and not (kind in _NODES and entry.is_regular):
            raise self._error(f"type={_NAMES[kind]}, and on disk it is {_NAMES[on_disk]}")
        mode = entry.mode if self.mode is None or entry.target is not None else on_disk | self.mode
        if kind != on_disk:
            entry = attrs.evolve(entry, size=0, source=None, stamp=None, link=None)
        rdev = self._rdev(kind, entry)
        return attrs.evolve(
            entry, mode=kind | stat.S_IMODE(mode), rdev=rdev,
            uid=entry.uid if self.uid is None else self.uid, gid=entry.gid if self.gid is None else self.gid,
        )  # fmt: skip

    def made(self, path: bytes, epoch: int) -> Entry | None:
        """Give the entry for a device or a fifo that is not on disk, and nothing for what else is not there."""
        if self.kind not in _NODES:
            return None
        if self.mode is None:
            raise self._error("it is not on disk, and has no mode=")
        time = epoch if self.time is None else min(self.time, epoch)
        return self.over(Entry(path=path, mode=self.kind | self.mode, mtime=time))

    def _rdev(self, kind: int, entry: Entry) -> int:
        if self.device is None:
            if kind in _DEVICES and not entry.rdev:
                raise self._error(f"type={_NAMES[kind]} without device=")
            return entry.rdev
        if kind not in _DEVICES:
            raise self._error(f"device={self.device[0]},{self.device[1]}, and it is {_NAMES[kind]}")
        return os.makedev(*self.device)

    def _error(self, what: str) -> InputError:
        return InputError(f"{self.where}: {what}", hint=_HINT)


def read_listing(path: str) -> dict[bytes, Listed]:
    """Read what an mtree file of any compression says, by path.

    Raises :class:`InputError`, which names the line, the path and the keyword, for what is no mtree file.
    """
    check_file(path, "mtree file")
    parts: list[bytes] = []
    give_plain(path, lambda part: parts.append(bytes(part)))
    said: dict[bytes, dict[bytes, bytes]] = {}
    places: dict[bytes, str] = {}
    for number, name, words in _entries(b"".join(parts), path):
        said[name] = said.get(name, {}) | words
        places[name] = f"{path}: line {number}: {shown(name)}"
    if not any(said.values()):
        message = f"{path}: is no mtree file"
        raise InputError(message, hint=_HINT)
    return {name: _listed(places[name], words) for name, words in said.items()}


def _entries(text: bytes, path: str) -> Iterator[tuple[int, bytes, dict[bytes, bytes]]]:
    """Give each entry's line, path and keywords, those of ``/set`` among them."""
    defaults: dict[bytes, bytes] = {}
    folder = b""
    continued: list[bytes] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        words = continued + line.removesuffix(b"\\").split()
        if line.endswith(b"\\"):
            continued = words
            continue
        continued = []
        if not words or words[0].startswith(b"#"):
            continue
        where = f"{path}: line {number}"
        if words[0] == b"..":
            folder = folder.rpartition(b"/")[0]
        elif words[0] == b"/set":
            defaults |= _words(words[1:], where)
        elif words[0] == b"/unset":
            defaults = {key: value for key, value in defaults.items() if key not in words and b"all" not in words}
        else:
            if b"=" in words[0] and b"=" not in words[-1]:  # mtree -D
                words.insert(0, words.pop())
            given = defaults | _words(words[1:], where)
            name = _plain(words[0], where)
            if b"/" not in words[0]:
                name = folder + b"/" + name
            name = relative_to_root(name, where)
            if b"/" not in words[0] and given.get(b"type") == b"dir":
                folder = name
            yield number, name, given


def _words(words: list[bytes], where: str) -> dict[bytes, bytes]:
    wrong = [word for word in words if b"=" not in word and word not in _FLAGS]
    if wrong:
        message = f"{where}: {os.fsdecode(wrong[0])!r} is no keyword of mtree"
        raise InputError(message, hint=_HINT)
    pairs = (word.partition(b"=") for word in words if word not in _FLAGS)
    return {key: value for key, _, value in pairs}


def _plain(text: bytes, where: str) -> bytes:
    """Undo vis(3)."""

    def letter(match: re.Match[bytes]) -> bytes:
        code = int(match[1], 8) if len(match[1]) > 1 else _LETTERS.get((match[1] or b"\0")[0], 0)
        if not 0 < code < 256:  # noqa: PLR2004 - a byte
            message = f"{where}: {os.fsdecode(text)!r} has an escape that stands for no byte of a name"
            raise InputError(message, hint=_HINT)
        return bytes((code,))

    return _ESCAPE.sub(letter, text)


def _listed(where: str, words: dict[bytes, bytes]) -> Listed:
    def number(key: bytes, form: re.Pattern[bytes], base: int = 10) -> int | None:
        if key not in words:
            return None
        found = form.fullmatch(words[key])
        if found is None:
            raise _wrong(where, key, words[key])
        return int(found[1] if form.groups else found[0], base)

    kind = _KINDS.get(words.get(b"type", b""))
    if kind is None and b"type" in words:
        raise _wrong(where, b"type", words[b"type"])
    mode = number(b"mode", _OCTAL, 8)
    if mode is not None and mode != stat.S_IMODE(mode):
        raise _wrong(where, b"mode", words[b"mode"])
    uid, gid, time = number(b"uid", _ID), number(b"gid", _ID), number(b"time", _TIME)
    device = None
    rdev = 0
    if b"device" in words:
        found = _DEVICE.fullmatch(words[b"device"])
        try:
            device = None if found is None else (int(found[1], 0), int(found[2], 0))
            rdev = os.makedev(*device) if device else 0
        except OverflowError:
            device = None
        if device is None:
            raise _wrong(where, b"device", words[b"device"])
    if fault := unrepresentable(Entry(path=b"", mode=0, uid=uid or 0, gid=gid or 0, mtime=time or 0, rdev=rdev)):
        message = f"{where}: {fault}"
        raise InputError(message, hint=_HINT)
    return Listed(where, kind, mode, uid, gid, time, device)


def _wrong(where: str, key: bytes, value: bytes) -> InputError:
    return InputError(f"{where}: {key.decode()}={os.fsdecode(value)} cannot be read", hint=_HINT)
