"""Base images unpacked: each layer once, into the cache, by anybody and without privilege.

A snapshot's name is the layer's chain ID. It holds the bytes of the layer's files and a
listing with their owners, modes, devices and attributes, which are never on the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from . import listing
from .compression import MOST_BYTES
from .errors import InputError, OutputError, RootlessLayerError
from .output import make_folder
from .spec import Base
from .tarball import Changes, direct, read_layer
from .tree import Entry, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .blob import LayerBlob
    from .image import Image
    from .temporary import Temporary

_ADDED, _GONE = "added.mtree", "gone"
_EMPTIED = b"/"


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
    snapshots = cache / "snapshots"
    merged: dict[bytes, Entry] = {}
    for number, (layer, chain_id) in enumerate(zip(image.layers, image.chain_ids, strict=True), 1):
        folder = snapshots / chain_id.removeprefix("sha256:")
        if not folder.is_dir():
            tell(f"unpacking layer {number} of {len(image.layers)} of the base, once")
            _unpack(layer, folder, merged, temporary, most_bytes)
        merged = _read(folder).apply(merged)
    return Base(Tree.of(direct(merged).values()), image.chain_ids[-1] if image.layers else "")


def _unpack(layer: LayerBlob, folder: Path, below: Mapping[bytes, Entry], temporary: Temporary, most_bytes: int) -> None:
    try:
        make_folder(folder.parent)
        made = Path(temporary.make(str(folder.parent), ".rootless-layer-"))
        changes = _changes(layer, made, below, most_bytes)
        with open(made / _ADDED, "wb") as file:
            file.writelines(listing.lines(changes.added.values(), files=os.fsencode(made) + b"/"))
        gone = [*sorted(changes.removed), *(path + _EMPTIED for path in sorted(changes.emptied))]
        (made / _GONE).write_bytes(b"".join(path + b"\0" for path in gone))
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


def _changes(layer: LayerBlob, made: Path, below: Mapping[bytes, Entry], most_bytes: int) -> Changes:
    """Read a layer's tar as it is decompressed: a thread feeds the pipe from which libarchive reads."""
    name = layer.listing or (layer.piece.path if layer.piece else "")
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
        changes = read_layer(reading, name, str(made / "files"), below)
        while os.read(reading, 1 << 16):
            pass  # what stands behind the archive's end counts for the digest
    finally:
        os.close(reading)
        feeder.join()
        if failures:
            raise failures[0]
    return changes


def _read(folder: Path) -> Changes:
    with open(folder / _ADDED, "rb") as file:
        added = {entry.path: entry for entry in listing.read(file, os.fsencode(folder), str(folder / _ADDED))}
    gone = (folder / _GONE).read_bytes().split(b"\0")[:-1]
    return Changes(
        added,
        frozenset(path for path in gone if not path.endswith(_EMPTIED)),
        frozenset(path.removesuffix(_EMPTIED) for path in gone if path.endswith(_EMPTIED)),
    )
