"""What a layer holds, for a person to read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from .tree import legible, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tree import Entry, Tree


def lines(tree: Tree) -> Iterator[str]:
    """List a tree as ``ls -l`` does: mode, owner, size or device, path, and what it links to."""
    for entry in tree:
        yield line(entry)


def facts(entry: Entry) -> dict[str, object]:
    """Give what JSON says of an entry."""
    said: dict[str, object] = {"path": shown(entry.path), "mode": f"{entry.mode:o}", "uid": entry.uid, "gid": entry.gid}
    said |= {"mtime": entry.mtime, "size": entry.size}
    if entry.target is not None:
        said["target"] = legible(entry.target)
    if entry.link is not None:
        said["link"] = shown(entry.link)
    if entry.rdev:
        said["device"] = [os.major(entry.rdev), os.minor(entry.rdev)]
    if entry.xattrs:
        said["xattrs"] = {legible(name): value.hex() for name, value in entry.xattrs}
    return said


def line(entry: Entry) -> str:
    """Give an entry's line of the list."""
    size = str(entry.size)
    if entry.rdev:
        size = f"{os.major(entry.rdev)},{os.minor(entry.rdev)}"
    owner = f"{entry.uid}:{entry.gid}"
    return f"{stat.filemode(entry.mode)} {owner:>9} {size:>10} {shown(entry.path)}{_rest(entry)}"


def _rest(entry: Entry) -> str:
    rest = ""
    if entry.target is not None:
        rest = f" -> {legible(entry.target)}"
    elif entry.link is not None:
        rest = f" link to {shown(entry.link)}"
    if entry.xattrs:
        rest += " [" + ", ".join(legible(name) for name, _ in entry.xattrs) + "]"
    return rest
