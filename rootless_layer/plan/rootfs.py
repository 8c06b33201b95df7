"""A root filesystem that is given as a directory or a tar archive, as the entries of a tree."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, SourceError
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.machine import unreadable
from rootless_layer.tree.walk import entry_of, walk, xattrs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rootless_layer.tar.listing import Listed
    from rootless_layer.tree.tree import Entry

    from .spec import LayerSpec

_IMAGE_FILES = frozenset({b"oci-layout", b"manifest.json", b"layer.json"})
_OF_IMAGE = re.compile(
    rb"oci-layout|(?:index|manifest|image|layer)\.json|layer\.mtree|blobs|files|listings|repositories|version|[0-9a-f]{64}(?:\.json|\.tar)?|[0-9]{3,4}"
)
"""What is at the top of an image layout, of archives of both shapes, and of a layer's directory, and nothing else."""


def read_rootfs(spec: LayerSpec, spool: str, progress: Report) -> list[Entry]:
    """Read the root filesystem that a spec names; the files of an archive go into the new directory ``spool``.

    Without one there are no entries. Raises :class:`InputError`, :class:`SourceError` and, for a spool that
    cannot be written, :class:`OutputError`.
    """
    check_rootfs(spec.rootfs, spec.rootfs_listing)
    if spec.rootfs is None:
        return []
    if os.path.isdir(spec.rootfs):
        from rootless_layer.tar.listing import read_listing  # noqa: PLC0415 - needed by few

        owners = read_listing(spec.rootfs_listing) if spec.rootfs_listing else None
        return read_directory(spec.rootfs, spec, owners, progress)
    from rootless_layer.tar.unpack import unpack_tar  # noqa: PLC0415 - as above

    entries = unpack_tar(spec.rootfs, spool, spec.source_date_epoch, progress)
    check_no_image(spec.rootfs, (entry.path for entry in entries))
    return entries


def check_rootfs(rootfs: str | None, listing: str | None) -> None:
    """Raise :class:`InputError` for a root filesystem and an mtree file that do not go together, or are not there."""
    if listing and not rootfs:
        message = f"{listing}: an mtree file goes with a root filesystem, and none is given"
        raise InputError(message)
    if listing and rootfs and os.path.isfile(rootfs):
        message = f"{listing}: an mtree file goes with a directory; {rootfs} has its own owners"
        raise InputError(message)
    problems = [f"{path}: does not exist" for path in (rootfs, listing) if path and not os.path.exists(path)]
    if problems:
        raise SourceError(*problems)
    if rootfs and os.path.isdir(rootfs):
        try:
            names = os.listdir(os.fsencode(rootfs))
        except OSError as error:
            raise unreadable(error, rootfs) from error
        check_no_image(rootfs, names)


def check_no_image(rootfs: str, names: Iterable[bytes]) -> None:
    """Raise :class:`InputError` where a root filesystem, with these paths or those at its top, is an image's files."""
    top = {name.partition(b"/")[0] for name in names} - {b""}
    if top & _IMAGE_FILES and all(_OF_IMAGE.fullmatch(name) for name in top):
        message = f"{rootfs}: is an image or a layer, and no root filesystem"
        raise InputError(message, hint="Build upon it with --base (`base` in a file of make).")


def read_directory(
    top: str, spec: LayerSpec, owners: Mapping[bytes, Listed] | None = None, progress: Report = silent
) -> list[Entry]:
    """Read a directory as a root filesystem, hard links and extended attributes kept.

    Real root sees the owners on disk; for anybody else they are whoever unpacked it, so
    everything is root's. ``owners``, from an mtree file, has the last word on owner, mode
    and device; the devices and fifos there are made that are not on disk.
    """
    believed = os.geteuid() == 0
    entries = []
    first: dict[tuple[int, int], bytes] = {}
    for path, on_disk, status in sorted(walk(os.fsencode(os.path.realpath(top)), left_out=spec.left_out)):
        owner = (status.st_uid, status.st_gid) if believed else (0, 0)
        entry = entry_of(path, on_disk, status, spec.source_date_epoch, owner)
        if stat.S_ISSOCK(entry.mode):
            continue  # it belongs to a process; no archive holds one
        try:
            entry = attrs.evolve(entry, xattrs=xattrs_of(on_disk))
        except OSError as error:
            message = f"{os.fsdecode(on_disk)}: its extended attributes cannot be read: {error.strerror}"
            raise SourceError(message) from error
        if status.st_nlink > 1 and entry.is_regular:
            inode = status.st_dev, status.st_ino
            if inode in first:
                entry = attrs.evolve(entry, link=first[inode])
            first.setdefault(inode, path)
        listed = (owners or {}).get(path)
        entries.append(entry if listed is None else listed.over(entry))
        progress(Progress("plan", entries=len(entries)))
    if not entries or not entries[0].is_dir:
        message = f"{top}: a root filesystem is a directory or a tar archive"
        raise InputError(message)
    return entries + _nodes(entries, owners or {}, top, spec.source_date_epoch)


def _nodes(entries: Iterable[Entry], owners: Mapping[bytes, Listed], top: str, epoch: int) -> list[Entry]:
    """Give the devices and fifos of a listing that are not on disk, where nobody but root could make them."""
    there = {entry.path: entry for entry in entries}
    nodes = []
    for path in sorted(owners.keys() - there.keys()):
        node = owners[path].made(path, epoch)
        if node is None:
            continue
        above = there.get(path.rpartition(b"/")[0])
        if above is None or not above.is_dir:
            message = f"{owners[path].where}: its directory is not in {top}"
            raise InputError(message, hint="Make the directory, or take the line out of the listing.")
        nodes.append(node)
    return nodes
