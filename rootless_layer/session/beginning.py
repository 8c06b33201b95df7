"""What a session begins with: the attributes and the rows of what is staged, and of a base below that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_layer.tree.base import Delta

from .inside.messages import Attribute, OverlayPlan, PlacedRow

if TYPE_CHECKING:
    from rootless_layer.tree.base import Base
    from rootless_layer.tree.tree import Entry

    from .stage import Staged


def staged_xattrs(staged: Staged, base: Base | None) -> tuple[Attribute, ...]:
    """Give the attributes of what is staged, and of what a base has."""
    entries = [entry for entry in staged.plan.tree if entry.path in staged.stamps]
    return tuple(
        Attribute(staged.tree + b"/" + entry.path, name, value)
        for entry in entries + _special(base, staged)
        for name, value in entry.xattrs
        if entry.link is None
    )


def _special(base: Base | None, staged: Staged) -> list[Entry]:
    """Give the base's entries of which the disk does not say all, as far as the staged tree leaves them."""
    if base is None:
        return []
    staged_there = staged.plan.tree.entries
    delta = Delta(staged_there)
    return [base.entries[path] for path in base.special if path not in staged_there and delta.leaves(path)]


def overlay(base: Base, staged: Staged) -> OverlayPlan:
    """Say where an overlay shows a base below what is staged, and the rows of either by path: its inodes are not known yet."""
    work = os.path.dirname(staged.tree)
    placed = [PlacedRow(path, row.mode, row.uid, row.gid, row.rdev) for path, row in staged.placed.items()]
    placed += [PlacedRow(entry.path, entry.mode, entry.uid, entry.gid, entry.rdev) for entry in _special(base, staged)]
    return OverlayPlan(staged.tree, staged.top, work + b"/scratch", work + b"/lowers", tuple(placed))
