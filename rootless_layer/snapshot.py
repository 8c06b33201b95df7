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

import attrs
import platformdirs

from .base import Base, Entries
from .compression import MOST_BYTES
from .errors import InputError, OutputError, RootlessLayerError
from .namespace import sync_file_system
from .output import make_folder
from .removal import remove
from .stage import copy_source
from .tarball import Changes, read_layer
from .tree import ROOT_MODE, Entry, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .base import Facts
    from .blob import LayerBlob
    from .image import Image
    from .temporary import Temporary

_INDEX, _TREE = "index.json", "tree"
_WHITEOUT = os.makedev(0, 0)
"""overlayfs's mark of a deletion, which since Linux 5.8 anybody may make."""


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
        if not ((folder / _INDEX).is_file() and (folder / _TREE).is_dir()):
            remove(str(folder))  # of an earlier form, or damaged
            tell(f"unpacking layer {number} of {len(image.layers)} of the base, once")
            _unpack(layer, folder, merged.base(""), temporary, most_bytes)
        merged.add(folder)
    return merged.base(image.chain_ids[-1] if image.layers else "")


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
            self._add(json.loads((folder / _INDEX).read_bytes()), os.fsencode(folder / _TREE))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"{folder}: the snapshot of a base is damaged: {getattr(error, 'strerror', None) or repr(error)}"
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


def _text(path: bytes) -> str:
    return path.decode("latin-1")


def _unpack(layer: LayerBlob, folder: Path, below: Base, temporary: Temporary, most_bytes: int) -> None:
    try:
        make_folder(folder.parent)
        made = Path(temporary.make(str(folder.parent), ".rootless-layer-"))
        name = layer.listing or (layer.piece.path if layer.piece else "")
        spool = made / "files"
        changes = _changes(layer, name, str(spool), below.entries, most_bytes)
        (made / _INDEX).write_bytes(_Snapshot(name, below, changes, os.fsencode(made)).write())
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


class _Snapshot:
    """A layer on its way into a directory of its own."""

    def __init__(self, name: str, below: Base, changes: Changes, made: bytes) -> None:
        self.name = name
        self.below = below
        self.top = made + b"/" + os.fsencode(_TREE)
        self.spool = made + b"/files/"
        self.added = {b"": below.entries[b""], **changes.added}  # a layer may be of nothing
        self.gone = changes.hides(below.entries)
        self.special: list[bytes] = []
        self._bring_links()
        self._bring_parents([*self.added, *self.gone])

    def _bring_links(self) -> None:
        """Have all names of a lower layer's file that gets a new one here: no link reaches into another layer."""
        lower: dict[bytes, list[bytes]] = {}
        for path, entry in self.added.items():
            if entry.source is not None and not entry.source.startswith(self.spool):
                lower.setdefault(entry.source, []).append(path)
        for number, (source, new) in enumerate(lower.items()):
            first = next(source.removeprefix(top + b"/") for top in self.below.trees if source.startswith(top + b"/"))
            copy = self.spool + b"lower-%d" % number
            copy_source(self.below.entries[first], copy)
            for name in {*new, *self.below.links.get(first, (first,))}:
                if name in new or (name not in self.added and name not in self.gone):
                    self.added[name] = attrs.evolve(self.added[new[0]], path=name, source=copy)

    def _bring_parents(self, paths: Iterable[bytes]) -> None:
        """Have the directories of all that is here, and of what is marked as gone: as they are below."""
        below = self.below.entries
        for path in paths:
            above = path
            while above:
                above = above.rpartition(b"/")[0]
                there = self.added.get(above)
                if there is None and above in below and above not in self.gone:
                    there = self.added[above] = below[above]
                elif there is None:
                    if path in self.gone:
                        continue  # it went with its directory
                    there = self.added[above] = Entry(path=above, mode=ROOT_MODE)
                if not there.is_dir:
                    if path in self.gone:
                        break  # a file took the place of its directory
                    message = f"{self.name}: {shown(path)}: {shown(above)} is not a directory"
                    raise InputError(message, hint="The layer is damaged, or not for this base.")

    def write(self) -> bytes:
        """Make the tree, and give the index."""
        first: dict[bytes, list[bytes]] = {}
        ordered = sorted(self.added)
        for path in ordered:
            entry = self.added[path]
            on_disk = self.top + b"/" + path if path else self.top
            if entry.is_dir:
                os.mkdir(on_disk, 0o700)
                if not path:  # directories inherit a group from a set-group-ID parent, which a session cannot map
                    os.chown(on_disk, -1, os.getegid())
                    os.chmod(on_disk, 0o700)
            elif entry.target is not None:
                os.symlink(entry.target, on_disk)
            elif entry.source is not None:
                self._place(entry, on_disk, first.setdefault(entry.source, []))
            elif stat.S_ISFIFO(entry.mode):
                os.mkfifo(on_disk, 0o600)
            else:
                os.close(os.open(on_disk, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # as fakeroot has devices
        self._mark_gone()
        for path in reversed(ordered):  # what is in a directory before it may be closed
            self._finish(self.added[path])
        return json.dumps(
            {
                "entries": [_row(self.added[path]) for path in ordered],
                "gone": [_text(path) for path in sorted(self.gone)],
                "links": [[_text(path) for path in names] for names in first.values() if len(names) > 1],
                "special": [_text(path) for path in self.special],
            },
            separators=(",", ":"),
        ).encode()

    def _place(self, entry: Entry, on_disk: bytes, names: list[bytes]) -> None:
        if names:
            os.link(self.top + b"/" + names[0], on_disk)
        else:
            os.rename(entry.source or b"", on_disk)
        names.append(entry.path)

    def _mark_gone(self) -> None:
        for path in self.gone:
            above = self.added.get(path.rpartition(b"/")[0])
            if path not in self.added and above is not None and above.is_dir:
                os.mknod(self.top + b"/" + path, stat.S_IFCHR, _WHITEOUT)

    def _finish(self, entry: Entry) -> None:
        """Set mode and time, and note where the disk does not say all of the entry."""
        on_disk = self.top + b"/" + entry.path
        mode = stat.S_IMODE(entry.mode)
        special = bool(entry.uid or entry.gid or entry.xattrs)
        if entry.target is None:
            wanted = 0o700 if entry.is_dir else 0o400
            # A set-ID bit is refused by a sandbox, and what the owner may not read, a copy-up may not.
            safe = mode if mode & wanted == wanted and not mode & 0o6000 else mode & 0o1777 | wanted | 0o200
            if not (entry.is_regular or entry.is_dir or stat.S_ISFIFO(entry.mode)):
                safe, special = 0o600, True
            special = special or safe != mode
            os.chmod(on_disk, safe)
        if not entry.is_dir:
            os.utime(on_disk, (entry.mtime, entry.mtime), follow_symlinks=False)
        if special:
            self.special.append(entry.path)


def _row(entry: Entry) -> list[Any]:
    return [
        _text(entry.path), entry.mode, entry.uid, entry.gid, entry.mtime, entry.size, entry.rdev,
        None if entry.target is None else _text(entry.target),
        [[_text(name), base64.b64encode(value).decode()] for name, value in entry.xattrs],
    ]  # fmt: skip
