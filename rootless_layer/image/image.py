"""An image: a config and the layers it is for. A change of one is another image."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError, reason
from rootless_layer.frozen import Frozen
from rootless_layer.layer.blob import LayerBlob
from rootless_layer.oci.config import check_config, merged
from rootless_layer.oci.descriptor import CONFIG, MANIFEST, Descriptor, Platform, canonical, chain_ids, sha256
from rootless_layer.oci.reference import BASE_DIGEST, BASE_NAME, full_name, is_reference
from rootless_layer.oci.run_config import NONE, RunConfig
from rootless_layer.registry.manifest import Manifest
from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EPOCH = "1970-01-01T00:00:01Z"
"""When an image was created of which nobody says when: as SOURCE_DATE_EPOCH=1 has it."""
_OF_LAYERS = ("created", "architecture", "os", "os.version", "os.features", "variant", "rootfs", "history")
BY_CLOSURE = "rootless-layer image --closure"
"""What made a layer of an image's own closure, as its history says."""


def _layers(value: Iterable[LayerBlob]) -> tuple[LayerBlob, ...]:
    return given.items("layers", value, LayerBlob, "a LayerBlob")


@attrs.frozen(slots=True)
class Origin:
    """By what others know an image as it is stored: its full name, and the digest of its manifest; ``""`` where nobody does."""

    name: str = ""
    digest: str = ""

    @classmethod
    def of(cls, names: Iterable[str], digest: str) -> Self:
        """Take the first of the ``names`` that is one for all registries, and the digest of a manifest."""
        return cls(next((full_name(name) for name in names if is_reference(name)), ""), digest)

    @property
    def annotations(self) -> dict[str, str]:
        """Give what an image says of this one that is its base (image-spec ``annotations.md``)."""
        return {key: value for key, value in ((BASE_NAME, self.name), (BASE_DIGEST, self.digest)) if value}


def _annotations(given_: Mapping[str, str]) -> Frozen[str, str]:
    given.instance("annotations", given_, Mapping, "a mapping")
    for key, value in given_.items():
        for each in (key, value):
            given.text("annotations", each)
        if not key:
            given.refuse("annotations", key, "names, and none is empty")
    return Frozen({key: given_[key] for key in sorted(given_)})


@attrs.frozen(slots=True)
class Image:
    """The bytes of an image's config, kept as they are for as long as nothing changes, and its layers, the lowest first.

    ``below`` is how many of the layers were there before any was appended: those of the base. ``annotations`` are of the
    manifest. ``origin`` is by what the image is known where it was read. ``kept`` is the manifest by which it is stored there,
    which counts for as long as nothing changes: with it goes the image's digest.
    """

    config: bytes = attrs.field(
        validator=lambda _image, _field, value: given.instance("config", value, bytes, "a config's bytes")
    )
    layers: tuple[LayerBlob, ...] = attrs.field(default=(), converter=_layers)
    below: int = attrs.field(default=attrs.Factory(lambda image: len(image.layers), takes_self=True), eq=False)
    annotations: Mapping[str, str] = attrs.field(factory=dict, converter=_annotations, hash=False)
    origin: Origin = attrs.field(factory=Origin, eq=False)
    kept: Manifest | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def empty(cls, platform: Platform, created: str = EPOCH) -> Self:
        """Begin an image without layers for a ``platform``; ``created`` is as RFC 3339 writes a time.

        Raises :class:`InputError` for what is no platform or no text.
        """
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

    @property
    def run_config(self) -> RunConfig:
        """Give what scripts take of the config, which run upon the image."""
        return RunConfig.of(self.described)

    @functools.cached_property
    def chain_ids(self) -> list[str]:
        """Give each layer's chain ID, the lowest first."""
        return chain_ids(layer.diff_id for layer in self.layers)

    @property
    def chain_id(self) -> str:
        """Give the chain ID of all layers, ``""`` where there is none."""
        return self.chain_ids[-1] if self.layers else ""

    @property
    def made_by(self) -> tuple[str, ...]:
        """Give the command that made each layer, the lowest first, as the history says; ``""`` where it does not."""
        rows = _fitting(self.described.get("history") or [], len(self.layers))
        return tuple(str(row.get("created_by") or "") for row in rows if not row.get("empty_layer"))

    def append(self, *layers: LayerBlob, created: str = EPOCH, created_by: str = "rootless-layer build") -> Image:
        """Put ``layers`` on top, the lowest first; without any the image stays as it is.

        Each has a row of the history, with ``created`` as RFC 3339 writes a time and ``created_by``, the command, for
        layers that do not say themselves who made them. An image that was read becomes the base of another, as
        :meth:`upon` has it. Raises :class:`InputError` for what is no layer or no text.
        """
        layers = _layers(layers)
        given.text("created", created)
        given.text("created_by", created_by)
        if not layers:
            return self
        rootfs = self.described.get("rootfs", {"type": "layers"})
        diff_ids = [*(rootfs.get("diff_ids") or ()), *(layer.diff_id for layer in layers)]
        rows = (_row(created, layer.created_by or created_by, layer.comment) for layer in layers)
        history = [*_fitting(self.described.get("history") or [], len(self.layers)), *rows]
        said = {**self.described, "rootfs": {**rootfs, "diff_ids": diff_ids}, "history": history}
        begun = self if self.origin == Origin() else self.upon()
        return attrs.evolve(begun, config=canonical(said), layers=(*self.layers, *layers))

    def upon(self) -> Image:
        """Begin another image with this one as its base: it says by what that is known, and what that says of itself is gone."""
        return attrs.evolve(self, annotations=self.origin.annotations, origin=Origin())

    def with_annotations(self, annotations: Mapping[str, str]) -> Image:
        """Add ``annotations`` to those of the manifest, by their names; raises :class:`InputError` for what is no text."""
        return attrs.evolve(self, annotations={**self.annotations, **_annotations(annotations)})

    def settled(self, made: Mapping[str, LayerBlob]) -> Image:
        """Give the image with the layers that were ``made`` in the place of pending ones, by the diff IDs of these."""
        if not any(layer.pending for layer in self.layers):
            return self
        layers = tuple(made.get(layer.diff_id, layer) for layer in self.layers)
        rootfs = {**self.described["rootfs"], "diff_ids": [layer.diff_id for layer in layers]}
        return attrs.evolve(self, config=canonical({**self.described, "rootfs": rootfs}), layers=layers, kept=None)

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

    def extended(self, properties: Mapping[str, Any]) -> Image:
        """Set ``properties`` of the config that image-spec does not know, and allows (``considerations.md``, "Extensibility")."""
        return self._saying(config={**(self.described.get("config") or {}), **properties})

    def with_variables_only(self) -> Image:
        """Give the layers with their history and platform; of what the config says of their use, only the variables."""
        said = self.described
        kept = {name: said[name] for name in _OF_LAYERS if said.get(name)}
        variables = (said.get("config") or {}).get("Env")
        return attrs.evolve(self, config=canonical({**kept, "config": {"Env": variables} if variables else {}}))

    def with_created(self, created: str) -> Image:
        """Say when the image was ``created``, as RFC 3339 writes a time; raises :class:`InputError` for what is no text."""
        return self._saying(created=given.text("created", created))

    def with_step(self, created: str, created_by: str, comment: str) -> Image:
        """Add a row to the history that is for no layer, but for the properties.

        ``created`` is as RFC 3339 writes a time, ``created_by`` the command, and ``comment`` what is said besides, ``""`` for
        nothing. Raises :class:`InputError` for what is no text.
        """
        given.text("created", created)
        given.text("created_by", created_by)
        given.text("comment", comment)
        history = _fitting(self.described.get("history") or [], len(self.layers))
        return self._saying(history=[*history, _row(created, created_by, comment) | {"empty_layer": True}])

    def with_platform(self, platform: Platform) -> Image:
        """Say for which ``platform`` the image is; raises :class:`InputError` for what is none."""
        return self._saying(**given.instance("platform", platform, Platform, "a Platform").to_json())

    def fitted(self, platform: Platform | None = None) -> Image:
        """Give the image as every engine takes it: with a system and an architecture, and rows of history for its layers.

        What it does not say of its platform is taken from ``platform``, this machine's where there is none.
        """
        said, whole = self.described, self.platform.filled(platform or Platform.host())
        rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]}
        changes: dict[str, object] = {
            "os": whole.os,
            "architecture": whole.architecture,
            "rootfs": {**(said.get("rootfs") or {}), **rootfs},
        }
        if rows := said.get("history"):
            changes["history"] = _fitting(rows, len(self.layers))
        return self if all(said.get(name) == value for name, value in changes.items()) else self._saying(**changes)

    def with_author(self, author: str) -> Image:
        """Say who answers for the image; raises :class:`InputError` where ``author`` is not UTF-8."""
        try:
            given.text("author", author).encode()
        except UnicodeEncodeError as error:
            message = f"author: {author!a} is not UTF-8"
            raise InputError(message) from error
        return self._saying(author=author)

    def _saying(self, **changes: object) -> Image:
        return attrs.evolve(self, config=canonical({**self.described, **changes}), kept=None)

    @property
    def manifest(self) -> bytes:
        """Give the manifest: the one that the image is stored with, where that is of image-spec's kind (``manifest.md``)."""
        return self.pushed.data if self.pushed.media_type == MANIFEST else self._made(self.annotations)

    @functools.cached_property
    def pushed(self) -> Manifest:
        """Give the manifest as a registry gets it, which takes docker's own kind as well."""
        if self.kept is not None and (json.loads(self.kept.data).get("annotations") or {}) == self.annotations:
            return self.kept
        made = self._made(self.annotations)
        return Manifest(made, MANIFEST, sha256(made))

    @functools.cached_property
    def content(self) -> str:
        """Give what two images have in common that differ in their manifests only."""
        return sha256(self._made({}))

    @property
    def identity(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Give what tells the image from others of one name: its content, and its annotations."""
        return self.content, tuple(self.annotations.items())

    def _made(self, annotations: Mapping[str, str]) -> bytes:
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": Descriptor(CONFIG, sha256(self.config), len(self.config)).to_json(),
                "layers": [layer.descriptor.to_json() for layer in self.layers],
            }
            | ({"annotations": dict(annotations)} if annotations else {})
        )

    @functools.cached_property
    def manifest_digest(self) -> str:
        """Give the digest by which a registry knows the image."""
        return sha256(self.manifest)


def _row(created: str, created_by: str, comment: str) -> dict[str, Any]:
    """Give a row of the history (image-spec ``config.md``, "Properties")."""
    return {"created": created, "created_by": created_by} | ({"comment": comment} if comment else {})


def run_config_of(images: Sequence[Image]) -> RunConfig:
    """Give what scripts take of the config of images that are put one upon the other: of the uppermost that says anything.

    A layer's directory, taken as an image, says nothing.
    """
    return next((found for image in reversed(images) if (found := image.run_config)), NONE)


def _fitting(history: list[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """Give a history with as many rows for layers as there are: readers count, and there is an error where they differ.

    Which of too many rows are for a layer nobody can tell: the last ones, which have none, become rows of empty layers.
    """
    recorded = [number for number, row in enumerate(history) if not row.get("empty_layer")]
    empty = set(recorded[layers:])
    kept = [row | {"empty_layer": True} if number in empty else row for number, row in enumerate(history)]
    return kept + [{"comment": "not recorded"}] * (layers - len(recorded))
