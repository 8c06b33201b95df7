"""One image read from where it is, by ``PATH`` or ``PATH#NAME``; for a graph, each once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import open_layer
from rootless_layer.oci.reference import path_and_name
from rootless_layer.registry.name import is_registry

from .bring import Fetching
from .choose import choose, named, opened
from .image import Image
from .read import read_all, read_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.oci.descriptor import Platform

    from .spool import Spool


def open_image(given: str, platform: Platform, spool: Callable[[], str]) -> Image:
    """Open the one image that is meant by ``PATH`` or ``PATH#NAME`` for a platform.

    Of a layer's directory that is an image of that layer. ``spool`` names new files for what has
    to be decompressed. Raises :class:`InputError`, as :func:`read_images` and :func:`choose` do.
    """
    path, name = path_and_name(given)
    if not path:
        message = f"{given}: names no path before the #"
        raise InputError(message, hint="Write it as PATH#NAME.")
    if not os.path.isfile(f"{path}/layer.json"):
        found = read_all(path, spool, Fetching(platform, later=True))
        return choose(found.images, path, platform, name, found.others)
    if name:
        message = f"{path}: is a layer, which has no names: there is no {name} in it"
        raise InputError(message, hint="Name the layer's directory alone.")
    return Image.empty(platform).append(open_layer(path))  # it is for any platform


def open_fitting(path: str, platform: Platform, spool: Callable[[], str], name: str = "") -> Image:
    """Open the first image at a path, of the name that is asked for, if any, and for the platform, if one is for it.

    As dockerTools does it: a name that is not asked for does not count, and a platform only where there are several.
    Raises :class:`InputError` where there is none, and as :func:`read_images` does.
    """
    found = read_images(path, spool)
    meant = named(found, name)
    fitting = [stored for stored in meant if platform.runs(stored.platform)] or meant
    if not fitting:
        there = ", ".join(each for stored in found for each in stored.names) or "no image with a name"
        message = f"{path}: there is no image {name}; there is: {there}"
        raise InputError(message, hint="Give fromImageName and fromImageTag as the image has them.")
    return opened(fitting[0], platform, name)


@attrs.define(slots=True)
class Foreign:
    """The images that were read so far; what had to be decompressed for them is in the ``spool``."""

    spool: Spool
    _images: dict[tuple[str, Platform], Image] = attrs.field(factory=dict)

    def look(self, given: str) -> None:
        """See whether there are images, where nobody knows for which platform; raises as :meth:`read` does."""
        path, _ = path_and_name(given)
        if not is_registry(path) and not os.path.isfile(f"{path}/layer.json"):
            read_all(path, self.spool)

    def read(self, given: str, platform: Platform) -> Image:
        """Read ``PATH`` or ``PATH#NAME`` for a platform; raises :class:`InputError`, as :func:`read_images` does."""
        if (given, platform) not in self._images:
            self._images[given, platform] = open_image(given, platform, self.spool)
        return self._images[given, platform]
