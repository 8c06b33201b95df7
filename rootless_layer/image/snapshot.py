"""Base images unpacked: each layer once, into the cache, by anybody and without privilege.

A snapshot's name is the layer's chain ID. Its ``tree`` is a directory that an overlay can
show: the layer's files with what modes the disk may have, their hard links, and overlayfs's
own whiteouts. Owners, devices and attributes are never on the disk; they stand in its
``index``, with what the layer hides of those below.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import InputError, reason
from rootless_layer.progress import Report, silent
from rootless_layer.system.machine import unreadable
from rootless_layer.system.namespaces import sync_file_system
from rootless_layer.system.removal import remove
from rootless_layer.system.replace import ASIDE
from rootless_layer.tar.unpack import unpack_layer
from rootless_layer.tree.base import Base, Entries, Facts
from rootless_layer.tree.compiled import EARLIEST
from rootless_layer.tree.tree import ROOT_MODE, of_overlay, shown
from rootless_layer.tree.walk import walk

from .row import bytes_of, from_row
from .snapshot_writer import TREE, Snapshot

if TYPE_CHECKING:
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.system.lease import Lease
    from rootless_layer.system.temporary import Temporary
    from rootless_layer.tar.feed import Consume, Give

_INDEX = "index.json"
_AGAIN = "Remove that directory: it is made again."


def is_whole(folder: Path) -> bool:
    """Say whether a snapshot is there, of the form that this program reads."""
    return (folder / _INDEX).is_file() and (folder / TREE).is_dir()


def damage(folder: Path) -> str:
    """Say what in a snapshot is not as it was unpacked, as far as names, kinds, sizes and times tell; else nothing.

    Raises :class:`UnreadableError` and :class:`MachineError` where that cannot be seen.
    """
    try:
        said = json.loads((folder / _INDEX).read_bytes())
        entries = dict(from_row(row, b"") for row in said["entries"])
        hidden = {path for path in map(bytes_of, said["gone"]) if path not in entries and path.rpartition(b"/")[0] in entries}
        left = hidden | entries.keys()
        for path, on_disk, status in walk(os.fsencode(folder / TREE)):
            if path not in left:
                return f"{shown(path)} is not of it"
            left.remove(path)
            if path in hidden and stat.S_ISCHR(status.st_mode):
                continue
            if path in hidden:
                return f"{shown(path)} is not what it was"
            if not _is_of(entries[path], on_disk, status):
                return f"{shown(path)} is not what it was"
        return f"{shown(min(left))} is missing" if left else ""
    except FileNotFoundError as error:
        return f"it cannot be read: {error.strerror}"
    except OSError as error:
        raise unreadable(error, str(folder)) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"it cannot be read: {reason(error)}"


def _is_of(facts: Facts, on_disk: bytes, status: os.stat_result) -> bool:
    """Say whether a file on disk may be the one that was unpacked there; a device was made as a regular file."""
    mode, target = facts.mode, facts.target
    kind = stat.S_IFMT(mode) if stat.S_ISFIFO(mode) or target is not None or stat.S_ISDIR(mode) else stat.S_IFREG
    if kind != stat.S_IFMT(status.st_mode) or (kind == stat.S_IFREG and status.st_size != facts.size):
        return False
    if kind != stat.S_IFDIR and int(status.st_mtime) != max(facts.mtime, EARLIEST):
        return False
    return target is None or os.readlink(on_disk) == target


class Snapshots:
    """The snapshots one above the other, so far."""

    def __init__(self) -> None:
        """Begin with none."""
        self.facts: dict[bytes, Facts] = {b"": Facts(ROOT_MODE, 0, 0, 0, 0, 0, None, (), b"")}
        self.links: list[tuple[bytes, list[bytes]]] = []
        self.special: dict[bytes, None] = {}
        self.trees: list[bytes] = []
        self.cleaned: dict[bytes, None] = {}
        """Paths of which attributes of overlayfs's own were left out."""

    def add(self, folder: Path) -> None:
        """Put a snapshot above those there are."""
        try:
            self._add(json.loads((folder / _INDEX).read_bytes()), os.fsencode(folder / TREE))
        except OSError as error:
            raise unreadable(error, str(folder), "the snapshot of a base cannot be read", hint=_AGAIN) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{folder}: the snapshot of a base is damaged: {reason(error)}"
            raise InputError(message, hint=_AGAIN) from error

    def _add(self, said: Any, top: bytes) -> None:  # noqa: ANN401 - JSON
        facts, special = self.facts, self.special
        for path in map(bytes_of, said["gone"]):
            facts.pop(path)
            special.pop(path, None)
        for path, found in (from_row(row, top) for row in said["entries"]):
            special.pop(path, None)
            facts[path] = found
            if any(of_overlay(name) for name, _ in found.xattrs):
                self.cleaned[path] = None
                facts[path] = found._replace(xattrs=tuple(pair for pair in found.xattrs if not of_overlay(pair[0])))
        special.update((bytes_of(path), None) for path in said["special"])
        self.links += [(top, [bytes_of(name) for name in names]) for names in said["links"]]
        self.trees.append(top)

    def base(self, chain_id: str, leases: tuple[Lease, ...] = ()) -> Base:
        """Give what the snapshots make, which are leased for as long as it is used."""
        links: dict[bytes, tuple[bytes, ...]] = {}
        carriers: dict[bytes, bytes] = {}
        for top, names in self.links:
            kept = tuple(name for name in names if name in self.facts and self.facts[name].top is top)
            if kept and len(names) > 1:  # one name in the tree, too: on the disk the file has more names
                links.update((name, kept) for name in kept)
                carriers.update((name, kept[0]) for name in kept[1:])
        return Base(Entries(self.facts, carriers), chain_id, links, tuple(self.trees), tuple(self.special), leases=leases)


def unpack(  # noqa: PLR0913 - a layer, upon what, where to, and how
    layer: LayerBlob, folder: Path, below: Base, temporary: Temporary, *, most_bytes: int, progress: Report = silent
) -> None:
    """Unpack a layer upon those ``below`` into ``folder``, whole or not at all.

    ``temporary`` makes the directory for what is half done; the layer may have ``most_bytes`` as a tar.
    ``progress`` is called on the calling thread, with the bytes that are unpacked. Raises
    :class:`InputError` for a layer that is damaged or names paths outside of the root, :class:`OSError` where the
    disk refuses.
    """
    made = Path(temporary.make(str(folder.parent), ASIDE))
    name = layer.piece.path if layer.piece else layer.listing
    spool = made / "files"
    changes = unpack_layer(_limited(layer, name, most_bytes), name, str(spool), below.entries, progress)
    (made / _INDEX).write_bytes(Snapshot(name, below, changes, os.fsencode(made)).write())
    remove(str(spool))  # what a later member of the layer replaced is there still
    sync_file_system(made)
    with contextlib.suppress(FileExistsError):  # another build was quicker; what it made is the same
        _rename(made, folder)


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError as error:
        if folder.is_dir():
            raise FileExistsError from error
        raise


def _limited(layer: LayerBlob, name: str, most_bytes: int) -> Give:
    """Give a layer's tar as it is decompressed, up to so many bytes."""

    def give(consume: Consume) -> None:
        passed = 0

        def count(part: memoryview) -> None:
            nonlocal passed
            passed += len(part)
            if passed > most_bytes:
                message = f"{name}: a layer unpacks to more than {most_bytes} bytes"
                raise InputError(message, hint="If it is to be trusted, allow more with --most-bytes.")
            consume(part)

        layer.copy_plain(count)

    return give
