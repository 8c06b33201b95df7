"""Whether a layer's tar can be laid over the layers below by any reader, with the same result."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from rootless_layer.tar.read import END_MARKER, leaves_root
from rootless_layer.tree.changes import parents
from rootless_layer.tree.tree import legible, shown

from .attributes import unsettable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.oci.findings import Finder
    from rootless_layer.tar.read import Ending, Member
    from rootless_layer.tree.changes import Changes

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
        self.there: dict[bytes, Member] = {}
        self.gone: set[bytes] = set()

    def check(self) -> tuple[Contents, Changes[Member]]:
        """Find what is wrong; give what :meth:`.Contents.placed` gives."""
        placed, changes = self.contents.placed(self.below)
        added = changes.added
        paths = {member.entry.path for member in placed.members}
        self.finder.entries += len(placed.members)
        missing: set[bytes] = set()
        for given, member in zip(self.contents.members, placed.members, strict=True):
            path = member.entry.path
            if path != given.entry.path:
                above = given.entry.path.rpartition(b"/")[0]
                self._unusual(given, f"{shown(above)} is a link, or goes through one, which readers follow to {shown(path)}")
            if member.entry.link != given.entry.link:
                to = shown(given.entry.link or b"")
                self._unusual(given, f"the hard link is to {to}, which a link leads to: some readers refuse it")
            self._check_name(member)
            if path in self.there:
                self._unusual(member, "the path occurs twice: the last one counts")
            if member.is_whiteout:
                self._check_whiteout(member)
            elif member.entry.link is not None:
                self._check_link(member, member.entry.link, paths)
            self._check_parent(member, added, missing)
            self.there[path] = member
            if member.hides is not None:
                self.gone.add(member.hides)
        return placed, changes

    def _problem(self, member: Member, what: str) -> None:
        self.finder.problem(f"{self.where}: {shown(member.entry.path)}", what)

    def _unusual(self, member: Member, what: str) -> None:
        self.finder.unusual(f"{self.where}: {shown(member.entry.path)}", what)

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
            self._unusual(member, "the file is sparse, which not every reader of layers knows")

    def _check_within(self, member: Member, what: str, name: bytes) -> None:
        if leaves_root(name):
            self._problem(member, f"the {what} {legible(name)!r} leaves the root")
        elif b".." in name.split(b"/"):
            self._unusual(member, f"the {what} {legible(name)!r} goes up: readers take the path without the directory before it")
        elif name.startswith(b"/"):
            self._unusual(member, f"the {what} {legible(name)!r} is absolute: readers take it as relative to the root")

    def _check_whiteout(self, member: Member) -> None:
        name = member.entry.path.rpartition(b"/")[2]
        if name in _AUFS:
            self._note(member, "is a file of aufs's own, which means nothing in a layer")
            return
        if not member.entry.is_regular or member.target is not None:
            self._unusual(member, "a whiteout is not a regular file")
        elif member.entry.size:
            self._unusual(member, f"a whiteout is not empty: it has {member.entry.size} bytes")
        if member.empties is not None:
            if self.known and member.empties not in self.below:
                self._note(member, "empties a directory that no lower layer has")
        elif member.hides is None:
            self._unusual(member, "a whiteout names nothing that can be removed")
        elif member.hides in self.there:
            self._unusual(member, f"comes after {shown(member.hides)}: some readers remove that, not what lower layers have")
        elif self.known and member.hides not in self.below:
            self._note(member, f"removes {shown(member.hides)}, which no lower layer has")

    def _check_link(self, member: Member, link: bytes, paths: set[bytes]) -> None:
        target = self.there.get(link)
        if target is not None:
            self._check_target(member, target, link)
        elif link in paths:
            self._problem(member, f"the hard link's target {shown(link)} comes after it, or is the link itself")
        elif (below := self.below.get(link)) is not None:
            if below.entry.is_dir:
                self._problem(member, f"the hard link is to a directory, {shown(link)}")
            if self._at_that_time(link) is None or link.startswith(member.entry.path + b"/"):
                self._unusual(member, f"the hard link is to {shown(link)}, which this layer takes away: some readers refuse it")
            else:
                self._unusual(member, f"the hard link is to {shown(link)} of a lower layer, which some readers refuse")
        elif self.known:
            self._problem(member, f"the hard link's target {shown(link)} is not there")
        else:
            self._note(member, f"the hard link's target {shown(link)} is not in this layer, and the lower ones are not here")

    def _check_target(self, member: Member, target: Member, link: bytes) -> None:
        if target.entry.is_dir:
            self._problem(member, f"the hard link is to a directory, {shown(link)}")
        elif target.entry.link is not None:
            self._unusual(member, f"the hard link is to another, {shown(link)}")
        elif _owned(target) != _owned(member):
            self._unusual(member, f"the hard link's owner, mode or time is not that of {shown(link)}: readers take either")

    def _check_parent(self, member: Member, added: Mapping[bytes, Member], missing: set[bytes]) -> None:
        above = member.entry.path.rpartition(b"/")[0]
        if not above or above in missing:
            return
        there = self._at_that_time(above)
        if there is not None and there.entry.is_dir:
            return
        missing.add(above)
        if there is not None and there.entry.target is not None:
            self._problem(member, f"{shown(above)} goes through too many symbolic links")
        elif there is not None:
            self._problem(member, f"{shown(above)} is not a directory")
        elif above in added:
            self._unusual(member, f"comes before its directory {shown(above)}")
        elif not self.known:
            self._note(member, f"its directory {shown(above)} is not in this layer, and the lower ones are not here")
        elif not (member.is_whiteout and above in self.below):  # its directory went as well
            self._unusual(member, f"its directory {shown(above)} is in no layer: readers make one")

    def _at_that_time(self, path: bytes) -> Member | None:
        """Give what stands at a path once the members so far were unpacked."""
        if path in self.there:
            return self.there[path]
        gone = path in self.gone or any(self._went(above) for above in parents(path))
        return None if gone else self.below.get(path)

    def _went(self, above: bytes) -> bool:
        """Say whether what lower layers have in a directory is not there any more."""
        if above in self.gone or above in self.contents.emptied:
            return True
        return above in self.there and not self.there[above].entry.is_dir


def _owned(member: Member) -> tuple[int, int, int, int]:
    entry = member.entry
    return stat.S_IMODE(entry.mode) if entry.target is None else 0, entry.uid, entry.gid, entry.mtime


def check_ending(where: str, ending: Ending, finder: Finder) -> None:
    """Find what is wrong with how a tar ended."""
    if ending.damage:
        finder.problem(where, f"the tar cannot be read to its end: {ending.damage}")
    elif not ending.marker:
        finder.unusual(where, "the tar has no end marker: it may have been cut off before it was stored")
    elif ending.marker < END_MARKER:
        finder.unusual(where, "the tar's end marker is one block of zeros, and should be two")
    if ending.behind:
        finder.unusual(where, f"{ending.behind} bytes stand behind the end of the tar, which no reader of layers sees")
