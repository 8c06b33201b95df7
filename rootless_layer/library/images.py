"""Images: opened, built upon, and written."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO

import attrs

from rootless_layer import given
from rootless_layer.cache.bases import base_upon
from rootless_layer.cache.place import cache_directory
from rootless_layer.image.admission import check_base
from rootless_layer.image.image import Image, run_config_of
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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rootless_layer.image.format import Format
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

    Each layer is unpacked into the cache once, and found there afterwards. Scripts upon the base take the variables, the
    working directory and the shell of the uppermost image that has any.

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
    with Spool() as spool, Temporary():  # one janitor for all that is made
        opened = [_opened(f"parts[{number}]", part, wanted, spool) for number, part in enumerate(parts)]
        for number, (part, image) in enumerate(zip(parts, opened, strict=True)):
            check_base(image, os.fspath(part) if isinstance(part, str | os.PathLike) else f"parts[{number}]")
        layers = (layer for image in opened for layer in image.layers)
        base = base_upon(layers, place, most_bytes=most_bytes, run_config=run_config_of(opened))
        yield guarded(base.open)(tell)


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


@attrs.frozen(slots=True)
class Served:
    """A registry that serves images.

    ``address`` is its ``HOST:PORT``; ``images`` has the digest of each image by its name, ``docker://HOST:PORT/NAME:TAG``.
    """

    address: str
    images: Mapping[str, str]


@contextlib.contextmanager
def serve_images(
    images: Sequence[NamedImage], listen: str = "127.0.0.1:0", *, on_problem: Callable[[str], object] | None = None
) -> Iterator[Served]:
    """Serve images as a registry that can only be read, by threads of this process, until the context ends.

    Layers are read, or made of their sources, when somebody pulls them. While it serves, builds in the same process fork
    no process, which makes them slower.

    :param images: each with the names under which it is served, less their registries; several of one name are one image
        for several platforms. They have to stay open, as of :func:`open_images`.
    :param listen: the address, ``HOST:PORT``; the port 0 is one that is free. Whoever reaches it can read the images.
    :param on_problem: is called with a line for each layer that could not be read, by any thread.
    :returns: a context manager with the address and the names.
    :raises InputError: for an image that no engine takes or that has no name, and for a name of two images.
        :class:`MachineError` is raised where nobody can listen at the address.
    """
    from rootless_layer.image.serve import offer_images  # noqa: PLC0415 - HTTP, which few need
    from rootless_layer.registry.server import serving  # noqa: PLC0415 - as above

    listen = given.text("listen", listen)
    tell = given.function("on_problem", _unheard if on_problem is None else on_problem)
    offer = offer_images(given.items("images", images, NamedImage, "a NamedImage"))
    with serving(listen, offer, tell) as server:
        yield Served(server.host, {f"docker://{server.host}/{name}": digest for name, digest in offer.images()})


def _unheard(_problem: str) -> None:
    """Hear nothing."""
