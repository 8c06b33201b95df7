"""Copies put into the tree where a Dockerfile's COPY puts them, in the place of what is there."""

from __future__ import annotations

import os
import posixpath
import stat
from typing import TYPE_CHECKING, Protocol

import attrs

from rootless_layer.errors import InputError
from rootless_layer.tree.links import follow
from rootless_layer.tree.tree import Entry, shown

from .copies import find, joined
from .start import Accounts, missing_folders

if TYPE_CHECKING:
    from .copies import Copy, Found
    from .spec import LayerSpec


class _Merge(Protocol):
    """The tree so far."""

    problems: list[str]

    def there(self, path: bytes) -> Entry | None:
        """Give what stands at a path."""

    def put(self, entry: Entry, origin: str) -> None:
        """Put an entry in the place of whatever is there."""


def copy_in(copy: Copy, spec: LayerSpec, merge: _Merge) -> None:
    """Put the copies in; what cannot go where it is to go is added to the merge's problems.

    Raises :class:`InputError` for several sources that would be one file, and what :func:`.copies.find` and
    :meth:`.start.Accounts.find` raise.
    """
    _Copying(copy, spec, merge).run()


class _Copying:
    """One copy on its way."""

    def __init__(self, copy: Copy, spec: LayerSpec, merge: _Merge) -> None:
        self._copy, self._spec, self._merge = copy, spec, merge
        own = (spec.uid, spec.gid)
        self._owner = Accounts(merge.there).owner("chown", copy.chown) if copy.chown else None
        self._above = own if self._owner is None else self._owner
        """Who owns the directories that the destination lacks."""
        whole = posixpath.join("/", spec.folder, copy.destination)
        self._is_folder = copy.destination.endswith("/") or posixpath.basename(whole) in {".", ".."}
        self._asked = posixpath.normpath(whole)

    def run(self) -> None:
        way = follow(os.fsencode(self._asked), self._merge.there)
        for entry in (*way.passed, self._merge.there(way.end)):
            if entry is not None and entry.target is None and not entry.is_dir and (entry.path != way.end or self._is_folder):
                self._blame(way.end, f"{shown(entry.path)} is no directory")
                return
        if way.endless:
            self._blame(way.end, "it has too many symbolic links")
            return
        found = list(find(self._copy, self._spec))
        there = self._merge.there(way.end)
        if len(found) > 1 and way.end and not self._is_folder and not (there is not None and there.is_dir):
            message = f"{self._copy.name}: {len(found)} sources cannot be the one file {shown(way.end)}"
            raise InputError(message, hint="End the destination with a slash: then it is a directory.")
        for source in found:
            self._put(source, way.end)

    def _put(self, source: Found, end: bytes) -> None:
        there = self._merge.there(end)
        if source.entry.is_dir:
            if there is None and end:
                self._make(end.rpartition(b"/")[0])
                self._place(attrs.evolve(source.entry, path=end))
            elif there is not None and not there.is_dir:
                self._blame(end, "a directory cannot be copied onto a file")
                return
            for entry in source.below:
                link = None if entry.link is None else joined(end, entry.link)
                self._place(attrs.evolve(entry, path=joined(end, entry.path), link=link))
            return
        if self._is_folder or not end or (there is not None and there.is_dir):
            self._make(end)
            end = joined(end, source.name)
        else:
            self._make(end.rpartition(b"/")[0])
        self._place(attrs.evolve(source.entry, path=end))

    def _make(self, folder: bytes) -> None:
        for entry in missing_folders(folder, self._merge.there, self._spec.source_date_epoch, self._above):
            self._merge.put(entry, self._copy.name)

    def _place(self, entry: Entry) -> None:
        there = self._merge.there(entry.path)
        if there is not None and there.is_dir != entry.is_dir:
            linked = ", a link: name the directory that it leads to" if there.target is not None else ""
            self._blame(entry.path, f"a {_noun(entry)} cannot take the place of a {_noun(there)}{linked}")
            return
        uid, gid = self._owner or (entry.uid, entry.gid)
        mode, epoch = entry.mode, self._spec.source_date_epoch
        if self._copy.chmod is not None and entry.target is None:
            mode = stat.S_IFMT(mode) | self._copy.chmod
        time = epoch if entry.is_dir else min(entry.mtime, epoch)
        self._merge.put(attrs.evolve(entry, uid=uid, gid=gid, mode=mode, mtime=time), self._copy.name)

    def _blame(self, path: bytes, problem: str) -> None:
        self._merge.problems.append(f"{shown(path)}: {self._copy.name}: {problem}")


def _noun(entry: Entry) -> str:
    return "directory" if entry.is_dir else "file"
