"""``layer.json``: what a layer's directory says of the layer. Here it is written, and read by whoever opens a layer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self, cast

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.oci.descriptor import Descriptor, check_sha256, check_size, layer_type
from rootless_layer.tar.compression import Compression
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from rootless_layer.plan.spec import Blob
    from rootless_layer.tar.compression import CompressionKind

LAYER_JSON, LISTING = "layer.json", "layer.mtree"
VERSION = 1
"""The version of the form: another number where a property goes or means something else."""


def _is_name(_said: object, _field: object, value: object) -> None:
    if not isinstance(value, str) or value in {"", ".", ".."} or "/" in value or b"\0" in os.fsencode(value):
        message = f"its listing, {quoted(value)}, is not the name of a file"
        raise ValueError(message)


def _is_mapping(_said: object, _field: object, value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(value)


def kind_of(descriptor: Descriptor) -> CompressionKind:
    """Give how the blob that a layer's descriptor names is compressed."""
    return cast("CompressionKind", descriptor.media_type.partition("+")[2] or "none")


@attrs.frozen(kw_only=True, slots=True)
class Description:
    """A layer's descriptor, diff ID and sizes in bytes, and how it is stored.

    ``listing`` is the name of its mtree file, in the directory; ``made_from`` is what it was made of.
    """

    descriptor: Descriptor
    diff_id: str = attrs.field(validator=check_sha256)
    uncompressed_size: int = attrs.field(validator=check_size)
    entries: int = attrs.field(validator=check_size)
    blob: Blob = attrs.field(validator=attrs.validators.in_(("stored", "derived")))
    listing: str = attrs.field(default=LISTING, validator=_is_name)
    made_from: Mapping[str, object] = attrs.field(validator=_is_mapping)
    level: int | None = attrs.field(init=False)
    """The level at which the blob is compressed again; none of a *stored* one."""

    @level.default
    def _level(self) -> int | None:
        if self.blob == "stored" or not isinstance(self.made_from, Mapping):
            return None
        return Compression(kind_of(self.descriptor), cast("int", self.made_from["level"])).level

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Read it; raises :class:`InputError`, which names ``where`` it stands."""
        try:
            said = json.loads(data)
            return cls(
                descriptor=Descriptor(layer_type(said["mediaType"]), said["digest"], said["size"]),
                diff_id=said["diffId"],
                uncompressed_size=said["uncompressedSize"],
                entries=said["entries"],
                blob=said["blob"],
                listing=said["listing"],
                made_from=said["madeFrom"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InputError) as error:
            message = f"{where}: does not describe a layer: {reason(error)}"
            raise InputError(message, hint="Build the layer again.") from error

    def text(self, name: str) -> str:
        """Give a text of what it was made from, such as ``base``, the chain ID below; ``""`` where there is none."""
        return str(self.made_from.get(name, ""))

    def to_json(self) -> dict[str, object]:
        """Give its properties by their names in JSON, and the version of this form."""
        return {
            "version": VERSION, **self.descriptor.to_json(), "diffId": self.diff_id, "uncompressedSize": self.uncompressed_size,
            "entries": self.entries, "blob": self.blob, "listing": self.listing, "madeFrom": dict(self.made_from),
        }  # fmt: skip

    def write(self, folder: Path) -> None:
        """Write it into a layer's directory; raises :class:`OSError`."""
        (folder / LAYER_JSON).write_text(json.dumps(self.to_json(), indent=2, sort_keys=True) + "\n")
