"""The directory in which a build has what lasts as long as it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rootless_layer.errors import SourceError
from rootless_layer.system.machine import unwritable
from rootless_layer.system.replace import ASIDE
from rootless_layer.system.temporary import PREFIX, temporary_folder

if TYPE_CHECKING:
    from rootless_layer.system.temporary import Temporary
    from rootless_layer.tree.base import Base


def work_directory(temporary: Temporary, below: Base | None = None) -> str:
    """Make a directory for what lasts as long as the build, on the file system of the base that an overlay shows.

    Raises :class:`SourceError` where the base is gone, and :class:`OutputError` where no directory can be made.
    """
    folder, prefix = temporary_folder(), PREFIX
    if below is not None and not _beside(below, folder):
        folder, prefix = os.fsdecode(os.path.dirname(os.path.dirname(below.trees[0]))), ASIDE
    try:
        return temporary.make(folder, prefix)
    except OSError as error:
        hint = "Set TMPDIR to a directory that is there."
        raise unwritable(error, folder, "no directory for the build can be made there", hint=hint) from error


def _beside(base: Base, folder: str) -> bool:
    """Say whether a directory is on the file system of a base's snapshots: overlayfs keeps inode numbers within one only."""
    for tree in base.trees:
        if not os.path.isdir(tree):
            message = f"{os.fsdecode(tree)}: the base that was unpacked there is gone"
            raise SourceError(message, hint="Open the base again: what is not in the cache is unpacked again.")
    return not os.path.isdir(folder) or os.stat(base.trees[0]).st_dev == os.stat(folder).st_dev
