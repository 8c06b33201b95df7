"""A layer unpacked: the directory that an overlay shows, and the index of what the disk does not say."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.tree.compiled import put_time, shown_time, valid
from rootless_layer.tree.copy import copy_source
from rootless_layer.tree.tree import ROOT_MODE, Entry, shown

from .row import text, to_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless_layer.tree.base import Base
    from rootless_layer.tree.changes import Changes

TREE = "tree"
_WHITEOUT = os.makedev(0, 0)
"""overlayfs's mark of a deletion, which since Linux 5.8 anybody may make."""


class Snapshot:
    """A layer on its way into a directory of its own."""

    def __init__(self, name: str, below: Base, changes: Changes[Entry], made: bytes) -> None:
        """Take what a layer does to a base; its files lie in ``files`` below ``made``, where ``tree`` is to be made.

        Raises :class:`InputError`, which has the ``name``, for a path that lies in no directory.
        """
        self.name = name
        self.below = below
        self.top = made + b"/" + os.fsencode(TREE)
        self.spool = made + b"/files/"
        self.added = {b"": below.entries[b""], **changes.added}  # a layer may be of nothing
        self.gone = changes.hides(below.entries)
        self.special: list[bytes] = []
        self._bring_links()
        self._bring_parents([*self.added, *self.gone])

    def _bring_links(self) -> None:
        """Have all names of a lower layer's file that gets a new one here: no link reaches into another layer."""
        lower: dict[bytes, list[bytes]] = {}
        for path, entry in self.added.items():
            if entry.source is not None and not entry.source.startswith(self.spool):
                lower.setdefault(entry.source, []).append(path)
        for number, (source, new) in enumerate(lower.items()):
            first = next(source.removeprefix(top + b"/") for top in self.below.trees if source.startswith(top + b"/"))
            copy = self.spool + b"lower-%d" % number
            copy_source(self.below.entries[first], copy)
            named = frozenset(new)
            for name in named.union(self.below.links.get(first, (first,))):
                if name in named or (name not in self.added and name not in self.gone):
                    self.added[name] = attrs.evolve(self.added[new[0]], path=name, source=copy)

    def _bring_parents(self, paths: Iterable[bytes]) -> None:
        """Have the directories of all that is here, and of what is marked as gone: as they are below."""
        below = self.below.entries
        seen: set[bytes] = set()
        for path in paths:
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                if above in seen:
                    break
                there = self.added.get(above)
                if there is None and above in below and above not in self.gone:
                    there = self.added[above] = below[above]
                elif there is None:
                    if path in self.gone:
                        continue  # it went with its directory
                    there = self.added[above] = Entry(path=above, mode=ROOT_MODE)
                if there.is_dir:
                    seen.add(above)
                else:
                    if path in self.gone:
                        break  # a file took the place of its directory
                    message = f"{self.name}: {shown(path)}: {shown(above)} is not a directory"
                    raise InputError(message, hint="The layer is damaged, or not for this base.")

    def write(self) -> bytes:
        """Make the tree, and give the index; raises :class:`OSError`."""
        first: dict[bytes, list[bytes]] = {}
        ordered = sorted(self.added)
        below = self.below.entries
        found = valid(self.added.values(), lambda path: self.added.get(path) or below.get(path))
        compiled = {entry.path: shown_time(source) for entry, source in found}
        for path in ordered:
            entry = self.added[path]
            on_disk = self.top + b"/" + path if path else self.top
            if entry.is_dir:
                os.mkdir(on_disk, 0o700)
                if not path:  # directories inherit a group from a set-group-ID parent, which a session cannot map
                    os.chown(on_disk, -1, os.getegid())
                    os.chmod(on_disk, 0o700)
            elif entry.target is not None:
                os.symlink(entry.target, on_disk)
            elif entry.source is not None:
                self._place(entry, on_disk, first.setdefault(entry.source, []))
            elif stat.S_ISFIFO(entry.mode):
                os.mkfifo(on_disk, 0o600)
            else:
                os.close(os.open(on_disk, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # as fakeroot has devices
        self._mark_gone()
        for path, time in compiled.items():
            put_time(self.top + b"/" + path, time)
        for path in reversed(ordered):  # what is in a directory before it may be closed
            self._finish(self.added[path])
        return json.dumps(
            {
                "entries": [to_row(self.added[path]) for path in ordered],
                "gone": [text(path) for path in sorted(self.gone)],
                "links": [[text(path) for path in names] for names in first.values() if len(names) > 1],
                "special": [text(path) for path in self.special],
            },
            separators=(",", ":"),
        ).encode()

    def _place(self, entry: Entry, on_disk: bytes, names: list[bytes]) -> None:
        if names:
            os.link(self.top + b"/" + names[0], on_disk)
        else:
            os.rename(entry.source or b"", on_disk)
        names.append(entry.path)

    def _mark_gone(self) -> None:
        for path in self.gone:
            above = self.added.get(path.rpartition(b"/")[0])
            if path not in self.added and above is not None and above.is_dir:
                os.mknod(self.top + b"/" + path, stat.S_IFCHR, _WHITEOUT)

    def _finish(self, entry: Entry) -> None:
        """Set mode and time, and note where the disk does not say all of the entry."""
        on_disk = self.top + b"/" + entry.path
        mode = stat.S_IMODE(entry.mode)
        special = bool(entry.uid or entry.gid or entry.xattrs)
        if entry.target is None:
            wanted = 0o700 if entry.is_dir else 0o400
            # A set-ID bit is refused by a sandbox, and what the owner may not read, a copy-up may not.
            safe = mode if mode & wanted == wanted and not mode & 0o6000 else mode & 0o1777 | wanted | 0o200
            if not (entry.is_regular or entry.is_dir or stat.S_ISFIFO(entry.mode)):
                safe, special = 0o600, True
            special = special or safe != mode
            os.chmod(on_disk, safe)
        if not entry.is_dir:
            time = shown_time(entry)
            os.utime(on_disk, (time, time), follow_symlinks=False)
        if special:
            self.special.append(entry.path)
