"""The values of the OCI image specification that a layer needs."""

from __future__ import annotations

import re

import attrs

from .errors import InputError

MEDIA_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""image-spec ``media-types.md``: how a layer's blob is compressed, by kind."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def _digest(_value: object, attribute: attrs.Attribute[str], text: str) -> None:
    if not _DIGEST.fullmatch(text):
        message = f"{attribute.name}: {text!r} is not a sha256 digest"
        raise InputError(message)


@attrs.frozen(slots=True)
class Descriptor:
    """What names a blob (image-spec ``descriptor.md``): its media type, digest and size in bytes."""

    media_type: str
    digest: str = attrs.field(validator=_digest)
    size: int

    def to_json(self) -> dict[str, str | int]:
        """Give the descriptor's properties by their names in JSON."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
