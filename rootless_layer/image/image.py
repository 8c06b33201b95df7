"""An image: a config and the layers it is for. A change of one is another image."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, reason
from rootless_layer.layer.blob import LayerBlob
from rootless_layer.oci.config import check_config, merged
from rootless_layer.oci.descriptor import CONFIG, MANIFEST, Descriptor, Platform, canonical, chain_ids, sha256
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

EPOCH = "1970-01-01T00:00:01Z"
"""When an image was created of which nobody says when: as SOURCE_DATE_EPOCH=1 has it."""
BY_CLOSURE = "rootless-layer image --closure"
"""What made a layer of an image's own closure, as its history says."""


def _layers(value: Iterable[LayerBlob]) -> tuple[LayerBlob, ...]:
    return given.items("layers", value, LayerBlob, "a LayerBlob")


@attrs.frozen(slots=True)
class Image:
    """The bytes of an image's config, kept as they are for as long as nothing changes, and its layers, the lowest first.

    ``below`` is how many of the layers were there before any was appended: those of the base.
    """

    config: bytes = attrs.field(
        validator=lambda _image, _field, value: given.instance("config", value, bytes, "a config's bytes")
    )
    layers: tuple[LayerBlob, ...] = attrs.field(default=(), converter=_layers)
    below: int = attrs.field(default=attrs.Factory(lambda image: len(image.layers), takes_self=True), eq=False)

    @classmethod
    def empty(cls, platform: Platform, created: str = EPOCH) -> Self:
        """Begin an image without layers; ``created`` is as RFC 3339 writes a time."""
        given.instance("platform", platform, Platform, "a Platform")
        given.text("created", created)
        config = {"created": created, **platform.to_json(), "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}
        return cls(canonical(config | {"history": []}))

    @functools.cached_property
    def platform(self) -> Platform:
        """Give the platform that the config names; what is missing is ``""``."""
        said = self.described
        return Platform(*(str(said.get(name) or "") for name in ("os", "architecture", "variant")))

    @functools.cached_property
    def described(self) -> Mapping[str, Any]:
        """Give what the config says, which nobody changes; raises :class:`InputError` where it is no object."""
        try:
            said = json.loads(self.config)
        except (ValueError, RecursionError) as error:
            message = f"the config of an image is JSON: {reason(error)}"
            raise InputError(message) from error
        if not isinstance(said, dict):
            message = f"the config of an image is a JSON object, and not {quoted(said)}"
            raise InputError(message)
        return said

    @functools.cached_property
    def chain_ids(self) -> list[str]:
        """Give each layer's chain ID, the lowest first."""
        return chain_ids(layer.diff_id for layer in self.layers)

    @property
    def chain_id(self) -> str:
        """Give the chain ID of all layers, ``""`` where there is none."""
        return self.chain_ids[-1] if self.layers else ""

    def append(self, *layers: LayerBlob, created: str = EPOCH, created_by: str = "rootless-layer build") -> Image:
        """Put layers on top, the lowest first, with a row of the history for each; without any the image stays as it is."""
        layers = _layers(layers)
        given.text("created", created)
        given.text("created_by", created_by)
        if not layers:
            return self
        rootfs = self.described.get("rootfs", {"type": "layers"})
        diff_ids = [*(rootfs.get("diff_ids") or ()), *(layer.diff_id for layer in layers)]
        rows = ({"created": created, "created_by": created_by} for _ in layers)
        history = [*_fitting(self.described.get("history") or [], len(self.layers)), *rows]
        said = {**self.described, "rootfs": {**rootfs, "diff_ids": diff_ids}, "history": history}
        return Image(canonical(said), (*self.layers, *layers), self.below)

    def configured(self, changes: Mapping[str, Any]) -> Image:
        """Merge properties over those of the config.

        ``changes`` are by the names of image-spec ``config.md`` ("Properties"), and merged as
        :func:`rootless_layer.oci.config.merged` says. Raises :class:`InputError`, with all that is
        wrong, for what :func:`rootless_layer.oci.config.problems` names.
        """
        given.instance("changes", changes, Mapping, "a mapping")
        check_config(changes)
        said = self.described
        config = merged(said.get("config") or {}, changes)
        rootfs = {**(said.get("rootfs") or {}), "type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]}
        history = {"history": _fitting(rows, len(self.layers))} if (rows := said.get("history")) else {}
        return self._saying(config=config, rootfs=rootfs, **history)

    def with_created(self, created: str) -> Image:
        """Say when the image was created, as RFC 3339 writes a time."""
        return self._saying(created=given.text("created", created))

    def with_platform(self, platform: Platform) -> Image:
        """Say for which platform the image is."""
        return self._saying(**given.instance("platform", platform, Platform, "a Platform").to_json())

    def with_author(self, author: str) -> Image:
        """Say who answers for the image; raises :class:`InputError` for a name that is not UTF-8."""
        try:
            given.text("author", author).encode()
        except UnicodeEncodeError as error:
            message = f"author: {author!a} is not UTF-8"
            raise InputError(message) from error
        return self._saying(author=author)

    def _saying(self, **changes: object) -> Image:
        return attrs.evolve(self, config=canonical({**self.described, **changes}))

    @functools.cached_property
    def manifest(self) -> bytes:
        """Give the manifest (image-spec ``manifest.md``)."""
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": Descriptor(CONFIG, sha256(self.config), len(self.config)).to_json(),
                "layers": [layer.descriptor.to_json() for layer in self.layers],
            }
        )

    @functools.cached_property
    def manifest_digest(self) -> str:
        """Give the digest by which a registry knows the image."""
        return sha256(self.manifest)


def _fitting(history: list[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """Give a history with as many rows for layers as there are: readers count, and there is an error where they differ.

    Which of too many rows are for a layer nobody can tell: the last ones, which have none, become rows of empty layers.
    """
    recorded = [number for number, row in enumerate(history) if not row.get("empty_layer")]
    empty = set(recorded[layers:])
    kept = [row | {"empty_layer": True} if number in empty else row for number, row in enumerate(history)]
    return kept + [{"comment": "not recorded"}] * (layers - len(recorded))
