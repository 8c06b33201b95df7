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
import stat
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import SourceError
from rootless_layer.plan.copies import find
from rootless_layer.plan.locate import Locator
from rootless_layer.plan.rootfs import read_directory
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.store.closure import StorePath
from rootless_layer.store.order import needed_first
from rootless_layer.system.machine import unreadable
from rootless_layer.tar import libarchive
from rootless_layer.tar.codecs import versions
from rootless_layer.tree.sparse import check_holes
from rootless_layer.tree.walk import entry_of, walk
from rootless_layer.version import __version__

from .parts import Key, short

if TYPE_CHECKING:
    from rootless_layer.plan.copies import Copy
    from rootless_layer.plan.locate import Place
    from rootless_layer.plan.spec import Blob, LayerSpec
    from rootless_layer.tar.compression import Compression
    from rootless_layer.tree.tree import Entry

FORMAT = 6
"""Goes up when the same spec gives other bytes, or an entry of the cache has another form."""
Listed = dict[str, dict[str, str]]
"""The paths of trees that were read, each with a short digest, by the digest of the tree."""
_STORE = "/nix/store"
_TOLD_ENTRIES = 64


def layer_key(spec: LayerSpec, *, blob: Blob = "stored", progress: Report = silent) -> str:
    """Give the key of a layer, 64 hexadecimal digits.

    Of a base only the chain ID counts, so it need not be open. ``progress`` is
    called with the entries that are read. Raises
    :class:`InputError` for an input that is not there or cannot be read.
    """
    return key_of(spec, blob=blob, progress=progress).digest


def key_of(spec: LayerSpec, *, blob: Blob = "stored", progress: Report = silent) -> Key:
    """Give the key of a layer with its parts, as :func:`layer_key` gives the digest."""
    listed: Listed = {}
    return Key.of(_parts(spec, blob, progress, listed), listed)


def _parts(spec: LayerSpec, blob: Blob, progress: Report, listed: Listed) -> dict[str, Any]:
    derived = blob == "derived"
    parts: dict[str, Any] = {
        "versions": written_by(spec.compression),
        "machine": os.uname().machine,
        "blob": blob,
        "platform": None if spec.platform is None else str(spec.platform),
        "base": None if spec.base is None else [spec.base.chain_id, attrs.astuple(spec.base.run_config)],
        "closure": _closure(spec, derived=derived),
        "tools": None if spec.tools is None else [path.path for path in spec.tools.paths],
        "contents": _contents(spec, progress, listed, derived=derived),
        "copies": [_copy(copy, spec, progress, listed, derived=derived) for copy in spec.copies],
        "rootfs": _rootfs(spec, progress, listed, derived=derived),
        "scripts": [
            [_sha256(script.data) if script.data is not None else None, list(script.arguments)] for script in spec.scripts
        ],
        "mounts": _mounts(spec, progress, listed),
        "environment": list(spec.environment.items()),  # a script sees their order
    }
    for name in (
        "view",
        "network",
        "closure_writable",
        "link",
        "keep_dirlinks",
        "follow_dirlinks",
        "conflict",
        "uid",
        "gid",
        "uname",
        "gname",
        "user",
        "workdir",
        "shell",
        "source_date_epoch",
        "tidy",
        "link_identical",
    ):
        parts[name] = getattr(spec, name)
    return parts


def written_by(compression: Compression) -> list[Any]:
    """Give the versions of all that writes a layer's bytes, and the compression."""
    return [FORMAT, __version__, libarchive.version_number(), *_codec(compression)]


def _codec(compression: Compression) -> list[object]:
    """Give what decides how a stream is compressed; where it is not, no level does."""
    level = [] if compression.kind == "none" else [compression.level]
    return [compression.kind, *level, *versions(compression.kind)]


def _closure(spec: LayerSpec, *, derived: bool) -> Any:  # noqa: ANN401 - JSON
    closure = spec.closure
    if closure is None:
        return None
    closure.check()
    if not derived:
        return [path.path for path in needed_first(closure)]
    stamps = []
    for path in needed_first(closure):
        status = os.lstat(closure.location(path))
        stamps.append([path.path, closure.location(path), status.st_ino, status.st_ctime_ns])
    return stamps


def _mounts(spec: LayerSpec, progress: Report, listed: Listed) -> list[list[Any]]:
    """Give what decides, of each mount, what a script leaves: where it is, and all of what is bound.

    What a cache or a secret holds counts for nothing, nor where it lies.
    """
    return [
        [
            mount.type, mount.place, mount.env, mount.readonly, mount.uid, mount.gid, mount.permissions, mount.size,
            _bound(mount.source, spec, progress, listed) if mount.type == "bind" and mount.source is not None else None,
        ]
        for mount in sorted(spec.mounts, key=lambda mount: (mount.place, mount.env))
    ]  # fmt: skip


def _bound(source: str, spec: LayerSpec, progress: Report, listed: Listed) -> list[str]:
    path = os.path.realpath(source)
    if _is_stored(path):
        return ["store", path]
    found = walk(os.fsencode(path), left_out=spec.left_out)
    entries = [
        entry_of(relative, on_disk, status, spec.source_date_epoch, (0, 0))
        for relative, on_disk, status in found
        if not stat.S_ISSOCK(status.st_mode)
    ]
    return ["tree", _digest(entries, progress, listed)]


def _contents(spec: LayerSpec, progress: Report, listed: Listed, *, derived: bool) -> list[list[Any]]:
    locator = Locator(spec)
    trees = _Trees(locator, spec, progress, listed, derived=derived)
    return [trees.identify(locator.find(content)) for content in spec.copy_to_root]


def _copy(copy: Copy, spec: LayerSpec, progress: Report, listed: Listed, *, derived: bool) -> list[Any]:
    """Give what identifies a copy: of an image its chain ID and the paths there, else what is found, and by which names."""
    how = [copy.destination, copy.chown, copy.chmod]
    if copy.image is not None:
        return [*how, "image", copy.image.chain_id, *copy.sources]
    found = []
    for source in find(copy, spec):
        entries = [attrs.evolve(source.entry, path=b""), *source.below]
        if not spec.allow_sparse:
            check_holes(entries)
        places = [os.fsdecode(entry.source) for entry in entries if entry.source is not None] if derived else []
        found.append([os.fsdecode(source.name), source.entry.is_dir, _digest(entries, progress, listed), *places])
    return [*how, "files", *found]


class _Trees:
    """Says what identifies trees, each once: many links may lead to one."""

    def __init__(self, locator: Locator, spec: LayerSpec, progress: Report, listed: Listed, *, derived: bool) -> None:
        self.locator, self.spec, self.progress, self.listed, self.derived = locator, spec, progress, listed, derived
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
        found = ["tree", _digest(entries, self.progress, self.listed), *([path] if self.derived else [])]
        followed = self.spec.follow_dirlinks or self.spec.conflict != "error"  # then a link may become a directory
        links = [entry.path for entry in entries if entry.target is not None] if followed else []
        linked = [self._linked(place, link) for link in links]
        return found + [_sha256(json.dumps(self.identify(tree)).encode()) for tree in linked if tree is not None]

    def _linked(self, place: Place, link: bytes) -> Place | None:
        try:
            return self.locator.follow(place, link)
        except SourceError:
            if self.spec.follow_dirlinks:
                raise
            return None  # where another tree has a directory there the plan says so


def _rootfs(spec: LayerSpec, progress: Report, listed: Listed, *, derived: bool) -> list[Any] | None:
    """Give what identifies a root filesystem; a directory always by what is in it.

    In a store a directory's owners depend on who reads them, and its hard links on whether
    the store was optimised.
    """
    if spec.rootfs is None:
        return None if spec.rootfs_listing is None else [spec.rootfs_listing]  # never built
    path = os.path.realpath(spec.rootfs)
    listing = _file(os.fsencode(spec.rootfs_listing)) if spec.rootfs_listing else None
    if os.path.isdir(path):
        entries = read_directory(spec.rootfs, spec, progress=progress)
        if not spec.allow_sparse:
            check_holes(entries)
        return ["tree", _digest(entries, progress, listed), listing, *([path] if derived else [])]
    return ["store", path, listing] if _is_stored(path) else ["tar", _file(os.fsencode(path)), listing]


def _is_stored(path: str) -> bool:
    found = StorePath.containing(path)
    return found is not None and found.store_dir == _STORE


def _digest(entries: list[Entry], progress: Report, listed: Listed) -> str:
    """Give a digest of a tree: all that an entry has, and the data of its files; and have its paths listed by that."""
    whole, paths = hashlib.sha256(), {}
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry.path)):
        if not number % _TOLD_ENTRIES:
            progress(Progress("plan", entries=number))
        data = _file(entry.source) if entry.source is not None and entry.link is None else ""
        row = (
            entry.path, entry.mode, entry.uid, entry.gid, entry.mtime, entry.rdev, entry.target, entry.link, entry.xattrs, data,
        )  # fmt: skip
        said = repr(row).encode() + b"\n"
        whole.update(said)
        paths[os.fsdecode(entry.path)] = short(said)
    listed[whole.hexdigest()] = paths
    return whole.hexdigest()


def _file(path: bytes) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(error, os.fsdecode(path)) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
