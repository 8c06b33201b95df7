"""In which form an image is written, as its output's name says where nobody else does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError
from rootless_layer.registry.name import is_registry

if TYPE_CHECKING:
    from rootless_layer.image.format import Format

_ARCHIVE = re.compile(r".*\.(?:tar|tar\.[a-z0-9]+|t[gx]z|tbz2?|tzst|gz|bz2|xz|zst|lz4|zip|7z)/*", re.IGNORECASE | re.DOTALL)


def image_format(output: str, given: Format | None) -> Format:
    """Give the form that is asked for, or follows from the output's name: an archive for ``-`` and ``*.tar``, else a layout.

    Raises :class:`InputError` for a name that only an archive of another kind has: a directory of that name
    would be nobody's wish.
    """
    if is_registry(output):
        if given is not None:
            message = f"{output}: is pushed to a registry, which has no other form: {given} is one of files"
            raise InputError(message, hint="Leave -f (`format` in a file of make) out.")
        return "layout"
    if given is not None:
        return given
    if output == "-" or output.endswith(".tar"):
        return "archive"
    if _ARCHIVE.fullmatch(output):
        message = f"{output}: is the name of an archive that is not written here, as none is compressed as a whole"
        raise InputError(message, hint="Name it *.tar, or say which form is meant by -f (`format` in a file of make).")
    return "layout"
