"""A path followed through a tree's symbolic links, none of which leads out of it (path_resolution(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import Entry

    Lookup = Callable[[bytes], Entry | None]
    """Gives what stands at a path of a tree."""

MOST_LINKS = 40
"""As many symbolic links are followed as the kernel follows."""


@attrs.frozen(slots=True)
class Way:
    """Where a path leads.

    ``end`` is the path without links and dots; a part that is missing counts as a directory that is to be
    made. ``passed`` has the entries on the way, up to the first part that is ``missing``. An ``endless``
    way has more than :data:`MOST_LINKS` links, and no end.
    """

    end: bytes
    passed: tuple[Entry, ...]
    missing: bool = False
    endless: bool = False


def follow(path: bytes, there: Lookup, start: bytes = b"") -> Way:
    """Follow a path from a directory ``start`` of the tree, which has no links in it itself."""
    current, rest, followed, missing = start, path.split(b"/")[::-1], 0, False
    passed: list[Entry] = []
    while rest:
        part = rest.pop()
        if part == b"..":
            current = current.rpartition(b"/")[0]
        elif part not in {b"", b"."}:
            above, current = current, current + b"/" + part if current else part
            entry = there(current)
            if entry is None:
                missing = True
                continue
            if not missing:
                passed.append(entry)
            if entry.target is not None:
                followed += 1
                if followed > MOST_LINKS:
                    return Way(current, tuple(passed), missing, endless=True)
                current = b"" if entry.target.startswith(b"/") else above
                rest += entry.target.split(b"/")[::-1]
    return Way(current, tuple(passed), missing)
