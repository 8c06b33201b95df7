"""The directory in which a build has what lasts as long as it does, and what of that is kept."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import SourceError
from rootless_layer.system.machine import unwritable
from rootless_layer.system.replace import ASIDE, make_folder
from rootless_layer.system.temporary import PREFIX, temporary_folder

from .made import FILES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rootless_layer.system.temporary import Temporary
    from rootless_layer.tree.base import Base
    from rootless_layer.tree.tree import Tree


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


def keep_own_files(tree: Tree, passing: Iterable[bytes], folder: Path) -> Tree:
    """Keep the bytes that are in directories of ours, by digest: what the scripts made, or a snapshot has."""
    prefixes = tuple(place + b"/" for place in passing)
    if not prefixes:
        return tree
    files = folder / FILES
    kept = {}
    for entry in [entry for entry in tree if entry.source and entry.source.startswith(prefixes) and entry.link is None]:
        make_folder(files)
        with open(entry.source or b"", "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        path = os.fsencode(files / digest)
        if not os.path.exists(path):
            shutil.copyfile(entry.source or b"", path)
            os.chmod(path, os.stat(path).st_mode | 0o600)  # whatever the umask is
        kept[entry.path] = attrs.evolve(entry, source=path, stamp=None)
    return tree.replacing(kept)
