"""Base images unpacked: each layer once, into the cache, by anybody and without privilege.

A snapshot's name is the layer's chain ID. Its ``tree`` is a directory that an overlay can
show: the layer's files with what modes the disk may have, their hard links, and overlayfs's
own whiteouts. Owners, devices and attributes are never on the disk; they stand in its
``index``, with what the layer hides of those below.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from .base import Base, Entries
from .compression import MOST_BYTES
from .errors import InputError, OutputError, RootlessLayerError, reason
from .namespace import sync_file_system
from .output import make_folder
from .removal import remove
from .source import walk
from .tarball import read_layer
from .tree import ROOT_MODE, shown
from .unpacking import TREE, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .base import Facts
    from .blob import LayerBlob
    from .image import Image
    from .tarball import Changes
    from .temporary import Temporary
    from .tree import Entry

_INDEX = "index.json"


def cache_directory() -> Path:
    """Give the place of what is kept between builds: ``ROOTLESS_LAYER_CACHE``, else the user's cache directory."""
    given = os.environ.get("ROOTLESS_LAYER_CACHE")
    return Path(given).absolute() if given else platformdirs.user_cache_path("rootless-layer")


def open_base(
    image: Image,
    cache: Path,
    temporary: Temporary,
    *,
    most_bytes: int = MOST_BYTES,
    tell: Callable[[str], object] = lambda _note: None,
) -> Base:
    """Give the tree that an image's layers make, unpacking those that ``cache`` does not have.

    ``temporary`` makes the directories for what is half done; a layer may unpack to
    ``most_bytes`` at the most; ``tell`` gets a note for a person before each that takes a
    while. Raises :class:`InputError` for a layer that is damaged, is
    not what its digest says or names paths outside of the root.
    """
    merged = _Merged()
    for number, (layer, chain_id) in enumerate(zip(image.layers, image.chain_ids, strict=True), 1):
        folder = cache / "snapshots" / chain_id.removeprefix("sha256:")
        if not ((folder / _INDEX).is_file() and (folder / TREE).is_dir()):
            remove(str(folder))  # of an earlier form, or damaged
            tell(f"unpacking layer {number} of {len(image.layers)} of the base, once")
            _unpack(layer, folder, merged.base(""), temporary, most_bytes)
        merged.add(folder)
    return merged.base(image.chain_ids[-1] if image.layers else "")


def damage(folder: Path) -> str:
    """Say what in a snapshot is not as it was unpacked, as far as names, kinds, sizes and times tell; else nothing."""
    try:
        said = json.loads((folder / _INDEX).read_bytes())
        entries = {_bytes(row[0]): row for row in said["entries"]}
        hidden = {path for path in map(_bytes, said["gone"]) if path not in entries and path.rpartition(b"/")[0] in entries}
        left = hidden | entries.keys()
        for path, on_disk, status in walk(os.fsencode(folder / TREE)):
            if path not in left:
                return f"{shown(path)} is not of it"
            left.remove(path)
            if path in hidden and stat.S_ISCHR(status.st_mode):
                continue
            if path in hidden:
                return f"{shown(path)} is not what it was"
            _, mode, _, _, mtime, size, _, target, _ = entries[path]
            kind = stat.S_IFMT(mode) if stat.S_ISFIFO(mode) or target is not None or stat.S_ISDIR(mode) else stat.S_IFREG
            same = kind == stat.S_IFMT(status.st_mode) and (kind != stat.S_IFREG or status.st_size == size)
            same = same and (kind == stat.S_IFDIR or int(status.st_mtime) == mtime)
            if not same or (target is not None and os.readlink(on_disk) != _bytes(target)):
                return f"{shown(path)} is not what it was"
        return f"{shown(min(left))} is missing" if left else ""
    except RootlessLayerError as error:
        return "; ".join(error.problems)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"it cannot be read: {reason(error)}"


class _Merged:
    """The snapshots one above the other, so far."""

    def __init__(self) -> None:
        self.facts: dict[bytes, Facts] = {b"": (ROOT_MODE, 0, 0, 0, 0, 0, None, (), b"")}
        self.links: list[tuple[bytes, list[bytes]]] = []
        self.special: dict[bytes, None] = {}
        self.trees: list[bytes] = []

    def add(self, folder: Path) -> None:
        """Put a snapshot above those there are."""
        try:
            self._add(json.loads((folder / _INDEX).read_bytes()), os.fsencode(folder / TREE))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{folder}: the snapshot of a base is damaged: {reason(error)}"
            raise InputError(message, hint="Remove that directory: it is made again.") from error

    def _add(self, said: Any, top: bytes) -> None:  # noqa: ANN401 - JSON
        facts, special = self.facts, self.special
        for path in map(_bytes, said["gone"]):
            facts.pop(path)
            special.pop(path, None)
        for path, mode, uid, gid, mtime, size, rdev, target, xattrs in said["entries"]:
            special.pop(_bytes(path), None)
            pairs = tuple((_bytes(name), base64.b64decode(value)) for name, value in xattrs)
            facts[_bytes(path)] = (mode, uid, gid, mtime, size, rdev, None if target is None else _bytes(target), pairs, top)
        special.update((_bytes(path), None) for path in said["special"])
        self.links += [(top, [_bytes(name) for name in names]) for names in said["links"]]
        self.trees.append(top)

    def base(self, chain_id: str) -> Base:
        """Give what the snapshots make."""
        links: dict[bytes, tuple[bytes, ...]] = {}
        carriers: dict[bytes, bytes] = {}
        for top, names in self.links:
            kept = tuple(name for name in names if name in self.facts and self.facts[name][-1] is top)
            if kept and len(names) > 1:  # also where one name is left: on the disk it has several
                links.update((name, kept) for name in kept)
                carriers.update((name, kept[0]) for name in kept[1:])
        return Base(Entries(self.facts, carriers), chain_id, links, tuple(self.trees), tuple(self.special))


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _unpack(layer: LayerBlob, folder: Path, below: Base, temporary: Temporary, most_bytes: int) -> None:
    try:
        make_folder(folder.parent)
        made = Path(temporary.make(str(folder.parent), ".rootless-layer-"))
        name = layer.piece.path if layer.piece else layer.listing
        spool = made / "files"
        changes = _changes(layer, name, str(spool), below.entries, most_bytes)
        (made / _INDEX).write_bytes(Snapshot(name, below, changes, os.fsencode(made)).write())
        remove(str(spool))  # what a later member of the layer replaced is there still
        sync_file_system(made)
        with contextlib.suppress(FileExistsError):  # another build was quicker; what it made is the same
            _rename(made, folder)
    except OSError as error:
        message = f"{folder.parent}: the base cannot be unpacked there: {error.strerror or error}"
        raise OutputError(message, hint="Make room, or name another place in ROOTLESS_LAYER_CACHE.") from error


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError as error:
        if folder.is_dir():
            raise FileExistsError from error
        raise


def _changes(layer: LayerBlob, name: str, spool: str, below: Mapping[bytes, Entry], most_bytes: int) -> Changes:
    """Read a layer's tar as it is decompressed: a thread feeds the pipe from which libarchive reads."""
    reading, writing = os.pipe()
    failures: list[RootlessLayerError] = []

    def feed() -> None:
        passed = 0

        def write(part: memoryview) -> None:
            nonlocal passed
            passed += len(part)
            if passed > most_bytes:
                message = f"{name}: a layer unpacks to more than {most_bytes} bytes"
                raise InputError(message, hint="If it is to be trusted, allow more with --most-bytes.")
            while part:
                part = part[os.write(writing, part) :]

        try:
            layer.copy_plain(write)
        except RootlessLayerError as error:
            failures.append(error)
        except BrokenPipeError:
            pass  # the reader has found something wrong, and says so
        finally:
            os.close(writing)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        changes = read_layer(reading, name, spool, below)
        while os.read(reading, 1 << 16):
            pass  # what stands behind the archive's end counts for the digest
    finally:
        os.close(reading)
        feeder.join()
        if failures:
            raise failures[0]
    return changes
