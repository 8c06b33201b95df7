"""The key of a layer in the cache: a digest of everything that decides its bytes.

What cannot change stands in it by its name: store paths, and a base by its chain ID. What
can is read: trees with all of their files, scripts. Of this program and the libraries that
write the bytes it has the versions. Not in it is how a layer is built (the stage, the
timeout) and what is no part of it (the names of scripts, the places of trees).

A *derived* layer's bytes come again from its sources. So its key has the places of these
as well, and when each store path got there: a path that went and was built again may be
different by a bit.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from rootless_layer.plan.locate import Locator
from rootless_layer.plan.plan import read_directory
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.store.closure import StorePath
from rootless_layer.system.machine import unreadable
from rootless_layer.tar import libarchive
from rootless_layer.tree.sparse import check_holes
from rootless_layer.tree.walk import entry_of
from rootless_layer.version import __version__

if TYPE_CHECKING:
    from rootless_layer.plan.locate import Place
    from rootless_layer.plan.spec import Blob, LayerSpec
    from rootless_layer.tar.compression import Compression
    from rootless_layer.tree.tree import Entry

FORMAT = 3
"""Goes up when the same spec gives other bytes, or an entry of the cache has another form."""
_STORE = "/nix/store"
_TOLD_ENTRIES = 64


def layer_key(spec: LayerSpec, *, blob: Blob = "stored", chain_id: str | None = None, progress: Report = silent) -> str:
    """Give the key of a layer, 64 hexadecimal digits.

    ``chain_id`` stands for a base that is not open: of the base only that counts. ``progress`` is
    called with the entries that are read. Raises
    :class:`InputError` for an input that is not there or cannot be read.
    """
    if chain_id is None and spec.base is not None:
        chain_id = spec.base.chain_id
    parts = _parts(spec, blob, chain_id, progress)
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parts(spec: LayerSpec, blob: Blob, chain_id: str | None, progress: Report) -> dict[str, Any]:
    derived = blob == "derived"
    parts: dict[str, Any] = {
        "versions": [FORMAT, __version__, libarchive.version_number(), *_codec(spec.compression)],
        "machine": os.uname().machine,
        "blob": blob,
        "base": chain_id,
        "closure": _closure(spec, derived=derived),
        "tools": None if spec.tools is None else [path.path for path in spec.tools.paths],
        "contents": _contents(spec, progress, derived=derived),
        "rootfs": _rootfs(spec, progress, derived=derived),
        "scripts": [
            [_sha256(script.data) if script.data is not None else None, list(script.arguments)] for script in spec.scripts
        ],
        "environment": list(spec.environment.items()),  # a script sees their order
    }
    for name in (
        "view",
        "closure_writable",
        "link",
        "keep_dirlinks",
        "follow_dirlinks",
        "conflict",
        "uid",
        "gid",
        "source_date_epoch",
    ):
        parts[name] = getattr(spec, name)
    return parts


def _codec(compression: Compression) -> list[Any]:
    if compression.kind == "gzip":
        import isal  # noqa: PLC0415 - needed by few

        return ["gzip", compression.level, isal.ISAL_VERSION, isal.__version__]
    if compression.kind == "zstd":
        import zstandard  # noqa: PLC0415 - slow to import

        return ["zstd", compression.level, zstandard.ZSTD_VERSION, zstandard.__version__]
    return ["none"]


def _closure(spec: LayerSpec, *, derived: bool) -> Any:  # noqa: ANN401 - JSON
    closure = spec.closure
    if closure is None:
        return None
    closure.check()
    if not derived:
        return [path.path for path in closure.paths]
    stamps = []
    for path in closure.paths:
        status = os.lstat(closure.location(path))
        stamps.append([path.path, closure.location(path), status.st_ino, status.st_ctime_ns])
    return stamps


def _contents(spec: LayerSpec, progress: Report, *, derived: bool) -> list[list[Any]]:
    locator = Locator(spec)
    trees = _Trees(locator, spec, progress, derived=derived)
    return [trees.identify(locator.find(content)) for content in spec.copy_to_root]


class _Trees:
    """Says what identifies trees, each once: many links may lead to one."""

    def __init__(self, locator: Locator, spec: LayerSpec, progress: Report, *, derived: bool) -> None:
        self.locator, self.spec, self.progress, self.derived = locator, spec, progress, derived
        self.known: dict[bytes, list[Any]] = {}

    def identify(self, place: Place) -> list[Any]:
        if place.stored:
            return ["closure", os.fsdecode(place.stored)]
        if place.on_disk not in self.known:
            self.known[place.on_disk] = self._read(place)
        return self.known[place.on_disk]

    def _read(self, place: Place) -> list[Any]:
        path = os.fsdecode(place.on_disk)
        if _is_stored(path):
            status = os.lstat(place.on_disk)
            return ["store", path, *([status.st_ino, status.st_ctime_ns] if self.derived else [])]
        entries = [
            entry_of(relative, on_disk, status, self.spec.source_date_epoch, (0, 0))
            for relative, on_disk, status in self.locator.walk(place)
        ]
        if not self.spec.allow_sparse:
            check_holes(entries)
        found = ["tree", _digest(entries, self.progress), *([path] if self.derived else [])]
        links = [entry.path for entry in entries if entry.target is not None] if self.spec.follow_dirlinks else []
        linked = [self.locator.follow(place, link) for link in links]
        return found + [_sha256(json.dumps(self.identify(tree)).encode()) for tree in linked if tree is not None]


def _rootfs(spec: LayerSpec, progress: Report, *, derived: bool) -> list[Any] | None:
    """Give what identifies a root filesystem; a directory always by what is in it.

    In a store a directory's owners depend on who reads them, and its hard links on whether
    the store was optimised.
    """
    if spec.rootfs is None:
        return None if spec.rootfs_listing is None else [spec.rootfs_listing]  # never built
    path = os.path.realpath(spec.rootfs)
    listing = _file(os.fsencode(spec.rootfs_listing)) if spec.rootfs_listing else None
    if os.path.isdir(path):
        entries = read_directory(spec.rootfs, spec)
        if not spec.allow_sparse:
            check_holes(entries)
        return ["tree", _digest(entries, progress), listing, *([path] if derived else [])]
    return ["store", path, listing] if _is_stored(path) else ["tar", _file(os.fsencode(path)), listing]


def _is_stored(path: str) -> bool:
    found = StorePath.containing(path)
    return found is not None and found.store_dir == _STORE


def _digest(entries: list[Entry], progress: Report) -> str:
    """Give a digest of a tree: all that an entry has, and the data of its files."""
    whole = hashlib.sha256()
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry.path)):
        if not number % _TOLD_ENTRIES:
            progress(Progress("plan", entries=number))
        data = _file(entry.source) if entry.source is not None and entry.link is None else ""
        row = (
            entry.path, entry.mode, entry.uid, entry.gid, entry.mtime, entry.rdev, entry.target, entry.link, entry.xattrs, data,
        )  # fmt: skip
        whole.update(repr(row).encode() + b"\n")
    return whole.hexdigest()


def _file(path: bytes) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(error, os.fsdecode(path)) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
