"""Whatever is an image, or a layer, checked as what it is."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError, SourceError
from rootless_layer.image.files import clean, headers, in_archive, in_directory
from rootless_layer.oci.findings import Finder
from rootless_layer.oci.reference import path_and_name
from rootless_layer.registry.name import is_registry
from rootless_layer.tar.decompression import decompress, kind_of

from .directory import check_derived, check_layer
from .image import StoredImages

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.oci.findings import Findings

_NO_IMAGE = "Give an image layout, an OCI archive, a docker-archive, or a layer's directory."


def validate(path: str, spool: Callable[[], str]) -> Findings:
    """Check an image layout, an archive of one, a docker-archive, a derived image, or a layer's directory.

    PATH#NAME is one image of several.

    ``spool`` gives the path of a new file, where an archive has to be decompressed.
    Raises :class:`InputError` only for what is none of these, or no readable archive.
    """
    finder = Finder()
    path, name = path_and_name(path)
    if is_registry(path):
        from rootless_layer.image.remote import pulled  # noqa: PLC0415 - HTTP and TLS, which few need

        path = pulled(path, spool())
    if os.path.isdir(path):
        if name and any(os.path.lexists(f"{path}/{described}") for described in ("layer.json", "image.json")):
            message = f"{path}: is a single layer or image, which has no name in it"
            raise InputError(message, hint=f"Leave out #{name}.")
        if os.path.lexists(f"{path}/layer.json"):
            check_layer(path, finder)
        elif os.path.lexists(f"{path}/image.json"):
            check_derived(path, finder)
        else:
            StoredImages(in_directory(path), finder, name).check(_blobs_of(path), path)
        return finder.found()
    if not os.path.isfile(path):
        message = f"{path}: no such image"
        raise (InputError if os.path.lexists(path) else SourceError)(message, hint=_NO_IMAGE)
    archive = path if kind_of(path) == "none" else decompress(path, spool())
    find = in_archive(archive)
    names = Counter(clean(header.name) for header in headers(archive) if not header.isdir())
    for stored, count in names.items():
        if count > 1:
            finder.unusual(repr(stored)[1:-1], "is in the archive more than once, and the same: readers take one of them")
    StoredImages(find, finder, name).check(names, path)
    return finder.found()


def _blobs_of(path: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(here, name), path)
        for here, _, names in os.walk(f"{path}/blobs")
        for name in names
    )  # fmt: skip
