"""Images and layers checked, looked into, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_layer import given
from rootless_layer.check.diff import compare as compare_images
from rootless_layer.check.inspect import inspect as inspect_images
from rootless_layer.check.validate import validate as validate_images
from rootless_layer.image.image import Image
from rootless_layer.image.open import open_image
from rootless_layer.image.spool import Spool
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import path_and_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from rootless_layer.check.diff import Comparison
    from rootless_layer.check.inspect import Inspection
    from rootless_layer.oci.findings import Findings


def validate(path: str | os.PathLike[str]) -> Findings:
    """Compute every claim of an image or a layer again: digests, sizes, documents and members.

    :param path: what :func:`open_images` opens; ``PATH#NAME`` is one image of several.
    :returns: the problems, what is ``unusual`` and engines take, and notes; ``valid`` is true where there is no problem.
    :raises InputError: for what is no image at all. :class:`SourceError` is raised where nothing is there.
    """
    with Spool() as spool:
        return validate_images(given.path("path", path), spool)


def inspect(path: str | os.PathLike[str]) -> tuple[Inspection, ...]:
    """Look into every image at a path: its layers, their paths, and data that is there more than once.

    :param path: what :func:`open_images` opens; ``PATH#NAME`` is one image of several.
    :returns: a report for each image, in the order of the index.
    :raises InputError: for what is no image, or is damaged. :class:`SourceError` is raised where nothing is there.
    """
    with Spool() as spool:
        where, name = path_and_name(given.path("path", path))
        return tuple(inspect_images(where, spool, name))


def compare(
    left: Image | str | os.PathLike[str],
    right: Image | str | os.PathLike[str],
    *,
    times: bool = True,
    platform: Platform | None = None,
) -> Comparison:
    """Compare the trees that two images or layers make, as a container would see them.

    :param left: an image, or the path of one or of a layer (``PATH#NAME`` for one image of several).
    :param right: the other one.
    :param times: whether times of change count.
    :param platform: for which platform an image of several is meant; this machine's where it is not given.
    :returns: the paths that one of them has alone, and those that differ.
    :raises InputError: for what is no image, or is damaged. :class:`SourceError` is raised where nothing is there.
    """
    wanted = Platform.host() if platform is None else given.instance("platform", platform, Platform, "a Platform")
    given.instance("times", times, bool, "True or False")
    with Spool() as spool:
        return compare_images(_image("left", left, wanted, spool), _image("right", right, wanted, spool), times=times)


def _image(name: str, image: Image | str | os.PathLike[str], platform: Platform, spool: Callable[[], str]) -> Image:
    return image if isinstance(image, Image) else open_image(given.path(name, image), platform, spool)
