"""An image of a file written: with a bill of materials attached to it, and signed, where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rootless_layer.image.signing import check_signer, sign
from rootless_layer.image.write import write_images
from rootless_layer.oci.reference import full_name
from rootless_layer.store.closure import Closure
from rootless_layer.version import __version__

if TYPE_CHECKING:
    from rootless_layer.image.format import Format
    from rootless_layer.image.read import NamedImage
    from rootless_layer.layer.of_closure import Splitting
    from rootless_layer.options.image import ImageOptions
    from rootless_layer.progress import Report


def beside(options: ImageOptions) -> bytes:
    """Say what an output has beside the image, by which one that was written is known; nothing of nothing."""
    said = [] if options.sbom is None else [options.sbom, __version__]
    return " ".join((*said, *(options.sign_by or ()))).encode()


def write_output(options: ImageOptions, stored: NamedImage, kind: Format, splitting: Splitting | None, tell: Report) -> None:
    """Write the image of a node to its output; raises as :func:`write_images`, :func:`take_stock` and :func:`sign` do."""
    output = options.output or ""
    if options.sign_by is not None:
        check_signer(options.sign_by)
    if options.sbom is not None:
        from rootless_layer.sbom.documents import attachment  # noqa: PLC0415 - few want one
        from rootless_layer.sbom.inventory import take_stock  # noqa: PLC0415 - as above

        name = full_name(stored.names[0]) if stored.names else ""
        bill = take_stock(stored.image, name, Closure() if splitting is None else splitting.closure)
        stored = attrs.evolve(stored, attached=(attachment(bill, options.sbom),))
    write_images([stored], output, kind, progress=tell)
    if options.sign_by is not None:
        sign(options.sign_by, output, stored.image.manifest_digest)
