"""Base images in the cache: each layer is unpacked there once, and stays for as long as a build uses it."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from rootless_layer import given
from rootless_layer.errors import OutputError
from rootless_layer.image.bring import bring
from rootless_layer.image.derived import base_of
from rootless_layer.image.image import Image
from rootless_layer.image.snapshot import Snapshots, is_whole, unpack
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.run_config import NONE, RunConfig
from rootless_layer.plan.base import LazyBase
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.lease import Lease
from rootless_layer.system.removal import remove
from rootless_layer.system.replace import make_folder
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar.decompression import MOST_BYTES
from rootless_layer.tree.places import SNAPSHOTS
from rootless_layer.tree.tree import overlay_note

from .place import cache_directory
from .room import alone_in, keeping, making_room, using

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rootless_layer.given import StrPath
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.tree.base import Base


def open_base(
    image: Image,
    cache: str | os.PathLike[str],
    temporary: Temporary,
    *,
    most_bytes: int = MOST_BYTES,
    progress: Report = silent,
) -> Base:
    """Give the tree that an image's layers make, unpacking those that ``cache`` does not have.

    ``temporary`` makes the directories for what is half done; a layer may unpack to
    ``most_bytes`` at the most; ``progress`` is called with a note before each that takes a
    while, and with the bytes that are unpacked. The snapshots stay in the cache for as long as
    the :class:`Base` is used: it holds their leases. One process at a time unpacks. Raises
    :class:`InputError` for a layer that is damaged, is not what its digest says or names paths outside of the root,
    :class:`OutputError` where the cache cannot be written.
    """
    given.instance("image", image, Image, "an Image")
    given.instance("temporary", temporary, Temporary, "a Temporary")
    given.whole("most_bytes", most_bytes, 1, sys.maxsize)
    given.function("progress", progress)
    place = Path(os.path.abspath(given.path("cache", cache))) / SNAPSHOTS  # overlayfs is given it from elsewhere
    folders = [place / chain_id.removeprefix("sha256:") for chain_id in image.chain_ids]
    merged = Snapshots()
    leases = _held(folders)
    if leases is not None:
        for folder in folders:
            merged.add(folder)
    else:
        with making_room(place.parent):
            with _alone(place):
                bring((layer for layer, at in zip(image.layers, folders, strict=True) if not is_whole(at)), progress)
                for number, (layer, folder) in enumerate(zip(image.layers, folders, strict=True), 1):
                    if not is_whole(folder):
                        remove(str(folder))  # of an earlier form, or damaged
                        progress(Progress("unpack", note=f"unpacking layer {number} of {len(folders)}, once"))
                        with keeping(place):
                            unpack(layer, folder, merged.base(""), temporary, most_bytes=most_bytes, progress=progress)
                    merged.add(folder)
                leases = _held(folders)
            if leases is None:
                message = f"{place}: a base was removed as soon as it was unpacked"
                raise OutputError(message, hint="Name another place in ROOTLESS_LAYER_CACHE.")
    if merged.cleaned:
        progress(Progress("unpack", note=overlay_note(merged.cleaned)))
    for folder in reversed(folders):  # one is of less use without those below it, so it is to go before them
        with contextlib.suppress(OSError):
            os.utime(folder)
    return merged.base(image.chain_ids[-1] if folders else "", leases)


def base_upon(
    layers: Iterable[LayerBlob],
    cache: StrPath | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    in_place: bool = False,
    run_config: RunConfig = NONE,
) -> LazyBase:
    """Chain layers, the lowest first, as what another is built upon; they are unpacked when a build needs their tree.

    The ``cache`` is :func:`.place.cache_directory` where none is given; ``most_bytes`` is as of
    :func:`open_base`. With ``in_place`` nothing is unpacked where all layers are derived: their files are shown where they lie.
    ``run_config`` is what scripts take of the images' config.
    """
    image = Image.empty(Platform.host()).append(*layers)

    def opened(progress: Report) -> Base:
        known = base_of(image) if in_place else None
        if known is not None:
            return known
        with Temporary() as temporary:
            place = cache_directory() if cache is None else cache
            base = open_base(image, place, temporary, most_bytes=most_bytes, progress=progress)
            return attrs.evolve(base, run_config=run_config)

    return LazyBase(image.chain_id, opened, run_config)


def _held(folders: Sequence[Path]) -> tuple[Lease, ...] | None:
    """Keep snapshots from being removed, if all of them are there."""
    leases = []
    for folder in folders:
        with using(folder):
            if (lease := Lease.shared(folder)) is None or not is_whole(folder):
                return None  # those that were taken go with their values
        leases.append(lease)
    return tuple(leases)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Be the one process that unpacks, and keep others from removing snapshots."""
    with keeping(place):
        make_folder(place)
        lease = alone_in(place)
    try:
        yield
    finally:
        if lease is not None:
            lease.release()
