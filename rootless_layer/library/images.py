"""Images: opened, built upon, and written."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO

from rootless_layer import given
from rootless_layer.cache.bases import open_base as unpack_base
from rootless_layer.cache.place import cache_directory
from rootless_layer.image.image import Image
from rootless_layer.image.open import open_image
from rootless_layer.image.read import NamedImage, read_images
from rootless_layer.image.spool import Spool
from rootless_layer.image.write import write_images as write
from rootless_layer.layer.blob import LayerBlob, open_layer
from rootless_layer.layer.layer import Layer
from rootless_layer.oci.descriptor import Platform
from rootless_layer.progress import Progress, silent
from rootless_layer.system.border import guarded
from rootless_layer.system.temporary import Temporary
from rootless_layer.tar.decompression import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rootless_layer.image.write import Format
    from rootless_layer.tree.base import Base

    Upon = Image | LayerBlob | Layer | str | os.PathLike[str]


@contextlib.contextmanager
def open_images(path: str | os.PathLike[str]) -> Iterator[tuple[NamedImage, ...]]:
    """Open every image at a path; they may be read until the context ends.

    :param path: an image layout's directory, an OCI archive, a docker-archive (compressed as a whole or not), or a
        directory of :func:`build_layer`, which is an image of that layer for this machine's platform.
    :returns: a context manager with the images in the order of the index, each with its names.
    :raises InputError: for what is no image, or is damaged. :class:`SourceError` is raised where nothing is there.
    """
    with Spool() as spool:
        yield tuple(guarded(read_images)(given.path("path", path), spool))


@contextlib.contextmanager
def open_base(
    *parts: Upon,
    cache: str | os.PathLike[str] | None = None,
    platform: Platform | None = None,
    most_bytes: int = MOST_BYTES,
    progress: Callable[[Progress], object] | None = None,
) -> Iterator[Base]:
    """Open what a layer is built upon: ``LayerSpec(base=base)``. Nothing of it is removed until the context ends.

    Each layer is unpacked into the cache once, and found there afterwards.

    :param parts: the lowest first: images, layers, or paths of them (``PATH#NAME`` for one image of several).
    :param cache: the directory where layers are unpacked; :func:`cache_directory` where it is not given.
    :param platform: for which platform an image of several is meant; this machine's where it is not given.
    :param most_bytes: what one layer may unpack to, in bytes.
    :param progress: is called on the calling thread with what is being done.
    :returns: a context manager with the base.
    :raises InputError: for what is no image or layer, is damaged, or is not what its digest says.
        :class:`OutputError` is raised where the cache cannot be written.
    """
    wanted = Platform.host() if platform is None else given.instance("platform", platform, Platform, "a Platform")
    tell = given.function("progress", silent if progress is None else progress)
    place = cache_directory() if cache is None else given.path("cache", cache)
    with Spool() as spool, Temporary() as temporary:
        image: Image | None = None
        for number, part in enumerate(parts):
            opened = _opened(f"parts[{number}]", part, wanted, spool)
            image = opened if image is None else image.append(*opened.layers)
        base = guarded(unpack_base)(image or Image.empty(wanted), place, temporary, most_bytes=most_bytes, progress=tell)
        yield base


def _opened(name: str, part: Upon, platform: Platform, spool: Callable[[], str]) -> Image:
    match part:
        case Image():
            return part
        case LayerBlob():
            return Image.empty(platform).append(part)
        case Layer():
            return Image.empty(platform).append(open_layer(part.directory))
        case _:
            return guarded(open_image)(given.path(name, part), platform, spool)


def write_images(
    images: Sequence[NamedImage],
    output: str | os.PathLike[str] | BinaryIO,
    format: Format = "layout",  # noqa: A002 - the option's name
    *,
    several_platforms: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> None:
    """Write images, whole or not at all.

    :param images: each with its names; the layers' blobs are linked or copied, those of *derived* layers made again.
    :param output: the path of a directory (a layout) or a file, or an open binary file to write to.
    :param format: ``layout``, ``archive`` (docker, podman and skopeo load it) or ``docker-archive``.
    :param several_platforms: writes one image for the platforms of all ``images``.
    :param progress: is called with what is being done, maybe by a thread of a codec.
    :raises InputError: for names that clash, a layer that is not what its digest says, or an image that no engine takes.
        :class:`OutputError` is raised where the output cannot be written.
    """
    tell = given.function("progress", silent if progress is None else progress)
    if isinstance(output, str | os.PathLike):
        write(images, output, format, several_platforms=several_platforms, progress=tell)
    else:
        write(images, "-", format, several_platforms=several_platforms, stream=output, progress=tell)
