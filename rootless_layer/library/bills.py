"""Bills of materials, made to be attached to an image or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rootless_layer import given
from rootless_layer.image.format import BillForm
from rootless_layer.image.image import Image
from rootless_layer.image.open import open_image
from rootless_layer.image.spool import Spool
from rootless_layer.oci.descriptor import Platform
from rootless_layer.sbom.documents import attachment
from rootless_layer.sbom.inventory import take_stock
from rootless_layer.store.closure import Closure

if TYPE_CHECKING:
    import os

    from rootless_layer.image.referrers import Attachment


def bill_of_materials(
    image: Image | str | os.PathLike[str],
    form: BillForm = "spdx",
    *,
    name: str = "",
    closure: Closure | None = None,
    platform: Platform | None = None,
) -> Attachment:
    """Say which packages and store paths are in an image or a layer, and which layer each came with.

    :param image: an image, or the path of one or of a layer (``PATH#NAME`` for one image of several).
    :param form: ``spdx`` (2.3) or ``cyclonedx`` (1.6), in JSON.
    :param name: what the bill calls the image; by default its own name.
    :param closure: knows which store paths refer to which, and the hashes of their NARs.
    :param platform: for which platform an image of several is meant; this machine's where it is not given.
    :returns: the bill: its ``data`` in bytes and its ``media_type``, as ``NamedImage(attached=[...])`` takes it.
    :raises InputError: for what is no image, or is damaged. :class:`SourceError` is raised where nothing is there.
    """
    wanted = Platform.host() if platform is None else given.instance("platform", platform, Platform, "a Platform")
    given.one_of("form", form, BillForm)
    given.text("name", name)
    known = Closure() if closure is None else given.instance("closure", closure, Closure, "a Closure")
    with Spool() as spool:
        opened = image if isinstance(image, Image) else open_image(given.path("image", image), wanted, spool)
        return attachment(take_stock(opened, name or opened.origin.name, known), form)
