"""Whether a layer's tar can be laid over the layers below by any reader, with the same result."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from rootless_layer.tar.read import END_MARKER, leaves_root
from rootless_layer.tree.changes import parents
from rootless_layer.tree.hiding import resolve
from rootless_layer.tree.tree import legible, shown

from .attributes import unsettable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.oci.findings import Finder
    from rootless_layer.tar.read import Ending, Member
    from rootless_layer.tree.tree import Entry

    from .contents import Contents

_AUFS = (b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk")


class Soundness:
    """Checks one layer. ``below`` is the tree that the lower layers make, where they are known."""

    def __init__(self, where: str, contents: Contents, below: Mapping[bytes, Member], finder: Finder, *, known: bool) -> None:
        """Take what is to be checked; ``where`` is what findings call the layer."""
        self.where = where
        self.contents = contents
        self.below = below
        self.known = known
        self.finder = finder
        self.first: dict[bytes, Member] = {}
        self.gone: set[bytes] = set()

    def check(self, added: Mapping[bytes, Member]) -> None:
        """Find what is wrong; ``added`` is what the layer adds to the tree below."""
        paths = {member.entry.path for member in self.contents.members}
        self.finder.entries += len(self.contents.members)
        missing: set[bytes] = set()
        for member in self.contents.members:
            path = member.entry.path
            self._check_name(member)
            if path in self.first:
                self._note(member, "the path occurs twice: the last one counts")
            if member.is_whiteout:
                self._check_whiteout(member)
            elif member.entry.link is not None:
                self._check_link(member, member.entry.link, paths)
            self._check_parent(member, added, missing)
            self.first.setdefault(path, member)
            if member.hides is not None:
                self.gone.add(member.hides)

    def _problem(self, member: Member, what: str) -> None:
        self.finder.problem(f"{self.where}: {shown(member.entry.path)}", what)

    def _note(self, member: Member, what: str) -> None:
        self.finder.note(f"{self.where}: {shown(member.entry.path)}", what)

    def _check_name(self, member: Member) -> None:
        if not member.name:
            self._problem(member, "a member has no name")
        self._check_within(member, "name", member.name)
        if member.target is not None:
            self._check_within(member, "hard link's target", member.target)
        if not member.entry.path and not member.entry.is_dir:
            self._problem(member, "the root is not a directory")
        if member.fault:
            self._problem(member, member.fault)
        if member.warning:
            self._note(member, member.warning)
        for note in unsettable(member.entry) if member.entry.xattrs else ():
            self._note(member, note)
        if member.sparse:
            self._note(member, "the file is sparse, which not every reader of layers knows")

    def _check_within(self, member: Member, what: str, name: bytes) -> None:
        if leaves_root(name.lstrip(b"/")):
            self._problem(member, f"the {what} {legible(name)!r} leaves the root")
        elif name.startswith(b"/"):
            self._note(member, f"the {what} {legible(name)!r} is absolute: readers take it as relative to the root")

    def _check_whiteout(self, member: Member) -> None:
        name = member.entry.path.rpartition(b"/")[2]
        if name in _AUFS:
            self._note(member, "is a file of aufs's own, which means nothing in a layer")
            return
        if not member.entry.is_regular or member.target is not None:
            self._note(member, "a whiteout is not a regular file")
        elif member.entry.size:
            self._note(member, f"a whiteout is not empty: it has {member.entry.size} bytes")
        if member.empties is not None:
            if self.known and member.empties not in self.below:
                self._note(member, "empties a directory that no lower layer has")
        elif member.hides is None:
            self._note(member, "a whiteout names nothing that can be removed")
        elif member.hides in self.first:
            self._note(member, f"comes after {shown(member.hides)}: some readers remove that, instead of what lower layers have")
        elif self.known and member.hides not in self.below:
            self._note(member, f"removes {shown(member.hides)}, which no lower layer has")

    def _check_link(self, member: Member, link: bytes, paths: set[bytes]) -> None:
        target = self.first.get(link)
        if target is not None:
            self._check_target(member, target, link)
        elif link in paths:
            self._problem(member, f"the hard link's target {shown(link)} comes after it, or is the link itself")
        elif (below := self.below.get(link)) is not None:
            if below.entry.is_dir:
                self._problem(member, f"the hard link is to a directory, {shown(link)}")
            if self._at_that_time(link) is None or link.startswith(member.entry.path + b"/"):
                self._note(member, f"the hard link is to {shown(link)}, which this layer takes away: some readers refuse it")
            else:
                self._note(member, f"the hard link is to {shown(link)} of a lower layer, which some readers refuse")
        elif (led := resolve(link, self._entry)[0]) is not None and not led.is_dir:
            self._note(member, f"the hard link is to {shown(link)}, which a link leads to: some readers refuse it")
        elif self.known:
            self._problem(member, f"the hard link's target {shown(link)} is not there")
        else:
            self._note(member, f"the hard link's target {shown(link)} is not in this layer, and the lower ones are not here")

    def _check_target(self, member: Member, target: Member, link: bytes) -> None:
        if target.entry.is_dir:
            self._problem(member, f"the hard link is to a directory, {shown(link)}")
        elif target.entry.link is not None:
            self._note(member, f"the hard link is to another, {shown(link)}")
        elif _owned(target) != _owned(member):
            self._note(member, f"the hard link's owner, mode or time is not that of {shown(link)}: readers take one or the other")

    def _check_parent(self, member: Member, added: Mapping[bytes, Member], missing: set[bytes]) -> None:
        above = member.entry.path.rpartition(b"/")[0]
        if not above or above in missing:
            return
        there = self._at_that_time(above)
        if there is not None and there.entry.is_dir:
            return
        missing.add(above)
        if there is not None and there.entry.target is not None:
            self._note(member, f"{shown(above)} is a link, which readers follow")
        elif there is not None:
            self._problem(member, f"{shown(above)} is not a directory")
        elif above in added:
            self._note(member, f"comes before its directory {shown(above)}")
        elif not self.known:
            self._note(member, f"its directory {shown(above)} is not in this layer, and the lower ones are not here")
        elif not (member.is_whiteout and above in self.below):  # its directory went as well
            self._note(member, f"its directory {shown(above)} is in no layer: readers make one")

    def _at_that_time(self, path: bytes) -> Member | None:
        """Give what stands at a path once the members so far were unpacked."""
        if path in self.first:
            return self.first[path]
        gone = path in self.gone or any(self._went(above) for above in parents(path))
        return None if gone else self.below.get(path)

    def _entry(self, path: bytes) -> Entry | None:
        there = self._at_that_time(path)
        return None if there is None else there.entry

    def _went(self, above: bytes) -> bool:
        """Say whether what lower layers have in a directory is not there any more."""
        if above in self.gone or above in self.contents.emptied:
            return True
        return above in self.first and not self.first[above].entry.is_dir


def _owned(member: Member) -> tuple[int, int, int, int]:
    entry = member.entry
    return stat.S_IMODE(entry.mode) if entry.target is None else 0, entry.uid, entry.gid, entry.mtime


def check_ending(where: str, ending: Ending, finder: Finder) -> None:
    """Find what is wrong with how a tar ended."""
    if ending.damage:
        finder.problem(where, f"the tar cannot be read to its end: {ending.damage}")
    elif not ending.marker:
        finder.note(where, "the tar has no end marker: it may have been cut off before it was stored")
    elif ending.marker < END_MARKER:
        finder.note(where, "the tar's end marker is one block of zeros, and should be two")
    if ending.behind:
        finder.note(where, f"{ending.behind} bytes stand behind the end of the tar, which no reader of layers sees")
