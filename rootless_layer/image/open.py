"""One image read from where it is, by ``PATH`` or ``PATH#NAME``; for a graph, each once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import open_layer
from rootless_layer.oci.reference import path_and_name
from rootless_layer.system.machine import unwritable
from rootless_layer.system.temporary import Temporary

from .image import Image
from .read import choose, read_images

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from rootless_layer.oci.descriptor import Platform


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
        return choose(read_images(path, spool), path, platform, name)
    if name:
        message = f"{path}: is a layer, which has no names: there is no {name} in it"
        raise InputError(message, hint="Name the layer's directory alone.")
    return Image.empty(platform).append(open_layer(path))  # it is for any platform


@attrs.define(slots=True)
class Foreign:
    """The images that were read so far; what had to be decompressed for it goes when ``stack`` unwinds."""

    stack: contextlib.ExitStack
    _images: dict[tuple[str, Platform], Image] = attrs.field(factory=dict)
    _folder: str = ""

    def look(self, given: str) -> None:
        """See whether there are images, where nobody knows for which platform; raises as :meth:`read` does."""
        path, _ = path_and_name(given)
        if not os.path.isfile(f"{path}/layer.json"):
            read_images(path, self._new)

    def read(self, given: str, platform: Platform) -> Image:
        """Read ``PATH`` or ``PATH#NAME`` for a platform; raises :class:`InputError`, as :func:`read_images` does."""
        if (given, platform) not in self._images:
            self._images[given, platform] = open_image(given, platform, self._new)
        return self._images[given, platform]

    def _new(self) -> str:
        """Name a file for what has to be decompressed."""
        if not self._folder:
            place = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as build does
            try:
                self._folder = self.stack.enter_context(Temporary()).make(place, "rootless-layer-")
            except OSError as error:
                hint = "Set TMPDIR to a directory that is there."
                raise unwritable(error, place, "nothing can be unpacked there", hint=hint) from error
        return f"{self._folder}/{len(os.listdir(self._folder))}"
