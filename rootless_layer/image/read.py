"""Images as they lie on disk: read in every form in which tools leave them.

- an image layout (image-spec ``image-layout.md``): a directory, or a tar of one (an OCI
  archive);
- a docker-archive: a tar with ``manifest.json``, whose layers stand at ``<id>/layer.tar``
  or in ``blobs/``;
- a directory with a layer of ours: an image of that one layer;
- a derived image of ours.

An archive may be compressed as a whole. Nothing is unpacked: a layer is a run of the
archive's bytes, and no name in an archive is ever a path on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError, SourceError, reason
from rootless_layer.given import function
from rootless_layer.given import path as given_path
from rootless_layer.layer.blob import LayerBlob, Piece, open_layer
from rootless_layer.layer.made import IMAGE_JSON
from rootless_layer.oci.config import misspelt, read_json
from rootless_layer.oci.descriptor import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    MEDIA_TYPES,
    Descriptor,
    Platform,
    check_digest,
    layer_type,
    sha256,
)
from rootless_layer.oci.documents import DESCRIPTOR_NAMES, INDEX_NAMES, MANIFEST_NAMES, config_faults
from rootless_layer.oci.reference import FULL_NAME, REF_NAME, fetching
from rootless_layer.system.machine import unreadable
from rootless_layer.tar.decompression import decompress, kind_of
from rootless_layer.terminal import quoted

from .derived import read_derived
from .files import DAMAGED, in_archive, in_directory
from .image import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_BY_DIGEST = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
"""How docker-archives name a config: by its digest, all but a few."""
_FORMS = "Give an image layout, an OCI archive, a docker-archive, or a layer's directory."
_MOST_NESTED = 4
_MOST_IMAGES = 10_000
MOST_READ = 1_000
"""docker runs 127 layers, overlayfs shows 500; each costs a look at what those below it have."""


@attrs.frozen(slots=True)
class NamedImage:
    """An image that was found, and the names it is stored under."""

    image: Image
    names: tuple[str, ...] = ()


def read_images(path: str | os.PathLike[str], spool: Callable[[], str]) -> list[NamedImage]:
    """Read every image at ``path``, in the order in which it lists them.

    ``spool`` gives the path of a new file in a directory that lasts as long as the images
    are used; it is called where an archive is compressed. Raises :class:`InputError`,
    naming what is wrong with it, for what is no image, :class:`SourceError` and
    :class:`MachineError` for what cannot be read.
    """
    path = given_path("path", path)
    function("spool", spool)
    try:
        return _read(path, spool)
    except OSError as error:
        raise unreadable(error, str(error.filename or path)) from error


def _read(path: str, spool: Callable[[], str]) -> list[NamedImage]:
    if os.path.isdir(path):
        if os.path.isfile(f"{path}/layer.json"):
            return [NamedImage(Image.empty(Platform.host()).append(open_layer(path)))]
        if os.path.isfile(f"{path}/{IMAGE_JSON}"):
            return [NamedImage(*read_derived(path))]
        return _Files(path, in_directory(path)).images()
    if not os.path.isfile(path):
        message = f"{path}: no such image"
        raise (InputError if os.path.lexists(path) else SourceError)(message, hint=fetching(path) or _FORMS)
    plain = path if kind_of(path) == "none" else decompress(path, spool())
    return _Files(path, in_archive(plain, path)).images()


def choose(found: list[NamedImage], where: str, platform: Platform, name: str = "") -> Image:
    """Give the one image of that name, where one is asked for, and for that platform.

    Raises :class:`InputError`, listing what there is, where there is none or several.
    """
    named = [stored for stored in found if not name or is_named(stored, name)]
    exact = [stored.image for stored in named if stored.image.platform == platform]
    fitting = exact or [stored.image for stored in named if platform.runs(stored.image.platform)]
    different = {image.manifest_digest: image for image in fitting}
    if len(different) != 1:
        there = ", ".join(f"{'|'.join(stored.names) or 'no name'} ({stored.image.platform})" for stored in found) or "nothing"
        what = f"{name or 'image'} for {platform}"
        message = f"{where}: {'several images are' if different else 'there is no'} {what}; there is: {there}"
        raise InputError(message, hint="Say which: NAME after the path and a #, and the platform with --platform.")
    return next(iter(different.values()))


def is_named(stored: NamedImage, name: str) -> bool:
    """Say whether an image has a name."""
    return is_among(name, stored.names)


def is_among(name: str, names: Iterable[str]) -> bool:
    """Say whether a name is among those of an image; the registry and the tag may be left out, or all but the tag."""
    full = {name, f"docker.io/library/{name}", f"docker.io/{name}"}
    full |= {f"{one}:latest" for one in full if ":" not in one.rpartition("/")[2]}
    return any(one in full or one.rpartition(":")[2] == name for one in names)


class _Files:
    """The files of an image, by their names, and what they say."""

    def __init__(self, where: str, find: Callable[[str], Piece | None]) -> None:
        self.where = where
        self.find = find
        self.listed = 0
        # Each is listed for each of its names, and an index may list one any number of times.
        self.known: dict[tuple[str, int], Image] = {}
        self.indexes: dict[tuple[str, int], Any] = {}
        self.configs: dict[str, tuple[bytes, list[str]]] = {}
        self.layers: dict[tuple[str, str], LayerBlob] = {}

    def images(self) -> list[NamedImage]:
        try:
            if self.find("index.json") is not None:
                return list(self._index(self._json("index.json"), ""))
            if self.find("manifest.json") is not None:
                return [self._docker(row) for row in self._json("manifest.json")]
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            message = f"{self.where}: a document in it is not of the form that it should have: {reason(error)}"
            raise InputError(message, hint=DAMAGED) from error
        except InputError as error:
            if all(self.where in problem for problem in error.problems):
                raise
            raise InputError(*(f"{self.where}: {problem}" for problem in error.problems), hint=error.hint or DAMAGED) from error
        message = f"{self.where}: holds neither index.json nor manifest.json"
        raise InputError(message, hint=f"{_FORMS} A root filesystem is for `build --rootfs`.")

    def _piece(self, name: str) -> Piece:
        piece = self.find(name)
        if piece is None:
            message = f"{self.where}: {name} is missing, or is no file"
            raise InputError(message, hint=DAMAGED)
        return piece

    def _json(self, name: str) -> Any:  # noqa: ANN401 - JSON
        data = self._piece(name).read()
        try:
            return read_json(data)
        except ValueError as error:
            message = f"{self.where}: {name} is not JSON: {error}"
            raise InputError(message, hint=DAMAGED) from error

    def _document(self, descriptor: Mapping[str, Any]) -> bytes:
        """Read a document that a descriptor names, and check it."""
        check_digest(None, attrs.fields(Descriptor).digest, descriptor["digest"])
        name = _blob_name(descriptor["digest"])
        data = self._piece(name).read()
        if sha256(data) != descriptor["digest"] or len(data) != descriptor["size"]:
            message = f"{self.where}: {name} is not what its descriptor says"
            raise InputError(message, hint=DAMAGED)
        return data

    def _index(self, index: Mapping[str, Any], name: str, depth: int = 0) -> Iterator[NamedImage]:
        self._spelled("an index", index, INDEX_NAMES)
        for descriptor in index["manifests"]:
            self._spelled("an index", descriptor, DESCRIPTOR_NAMES)
            self.listed += 1
            if depth > _MOST_NESTED or self.listed > _MOST_IMAGES:
                message = f"{self.where}: its indexes are nested too deep, or list too much"
                raise InputError(message)
            annotations = descriptor.get("annotations") or {}
            named = _text(annotations.get(FULL_NAME) or annotations.get(REF_NAME) or name)
            kind = descriptor.get("mediaType") or MANIFEST
            if kind in {INDEX, DOCKER_INDEX}:
                key = descriptor["digest"], descriptor["size"]
                if key not in self.indexes:
                    self.indexes[key] = read_json(self._document(descriptor))
                yield from self._index(self.indexes[key], named, depth + 1)
            elif kind in {MANIFEST, DOCKER_MANIFEST} and not descriptor.get("artifactType"):
                if (descriptor.get("platform") or {}).get("architecture") == "unknown":
                    continue  # an attestation, as buildkit adds
                yield NamedImage(self._image(descriptor), (named,) if named else ())

    def _image(self, listed: Mapping[str, Any]) -> Image:
        key = listed["digest"], listed["size"]
        if key not in self.known:  # it is listed for each of its names
            self.known[key] = self._of(read_json(self._document(listed)))
        return self.known[key]

    def _of(self, manifest: Mapping[str, Any]) -> Image:
        self._spelled("a manifest", manifest, MANIFEST_NAMES)
        for descriptor in (manifest["config"], *manifest["layers"]):
            self._spelled("a manifest", descriptor, DESCRIPTOR_NAMES)
        config = self._document(manifest["config"])
        diff_ids = self._diff_ids(config)
        if len(diff_ids) != len(manifest["layers"]):
            message = f"{self.where}: a manifest has {len(manifest['layers'])} layers, and its config {len(diff_ids)} diff IDs"
            raise InputError(message, hint=DAMAGED)
        self._check_count(len(diff_ids))
        layers = []
        for given, diff_id in zip(manifest["layers"], diff_ids, strict=True):
            descriptor = Descriptor(layer_type(given["mediaType"]), given["digest"], given["size"])
            if given.get("urls") and self.find(_blob_name(descriptor.digest)) is None:
                message = f"{self.where}: the layer {descriptor.digest} is a foreign one, and not in the image"
                raise InputError(message, hint="Foreign layers are not supported: have the image copied with all of its layers.")
            piece = self._piece(_blob_name(descriptor.digest))
            # What the bytes are counts, which is what engines look at: a blob that is its own tar is not compressed.
            kind = "none" if descriptor.digest == diff_id else kind_of(piece.path, piece.offset)
            if kind in MEDIA_TYPES and (kind != "none" or descriptor.digest == diff_id):
                descriptor = attrs.evolve(descriptor, media_type=MEDIA_TYPES[kind])
            if piece.size != descriptor.size:
                message = (
                    f"{self.where}: {_blob_name(descriptor.digest)} has {piece.size} bytes, and should have {descriptor.size}"
                )
                raise InputError(message, hint=DAMAGED)
            layers.append(LayerBlob(descriptor, diff_id, piece))
        return Image(config, tuple(layers))

    def _docker(self, row: Mapping[str, Any]) -> NamedImage:
        config, diff_ids = self._docker_config(row["Config"])
        if len(diff_ids) != len(row["Layers"]):
            message = f"{self.where}: manifest.json lists {len(row['Layers'])} layers, and the config {len(diff_ids)} diff IDs"
            raise InputError(message, hint=DAMAGED)
        self._check_count(len(diff_ids))
        layers = [self._docker_layer(name, diff_id) for name, diff_id in zip(row["Layers"], diff_ids, strict=True)]
        names: list[str] = row.get("RepoTags") or []
        return NamedImage(Image(config, tuple(layers)), tuple(map(_text, [*names] if isinstance(names, list) else [names])))

    def _docker_config(self, name: str) -> tuple[bytes, list[str]]:
        if name not in self.configs:
            config = self._piece(name).read()
            named = _BY_DIGEST.fullmatch(name)
            if named and sha256(config) != f"sha256:{named[1]}":
                message = f"{self.where}: {name} is not what its name says"
                raise InputError(message, hint=DAMAGED)
            self.configs[name] = config, self._diff_ids(config)
        return self.configs[name]

    def _docker_layer(self, name: str, diff_id: str) -> LayerBlob:
        if (name, diff_id) not in self.layers:
            piece = self._piece(name)
            kind = kind_of(piece.path, piece.offset)
            if kind not in MEDIA_TYPES:
                message = f"{self.where}: {name} is compressed by {kind}, of which OCI knows nothing"
                raise InputError(message, hint="Unpack the layer, or get the image again.")
            digest = diff_id if kind == "none" else _digest(piece)
            layer = LayerBlob(Descriptor(MEDIA_TYPES[kind], digest, piece.size), diff_id, piece)
            if kind != "none":  # nothing else here says what the blob should be
                layer.verify_plain()
            self.layers[name, diff_id] = layer
        return self.layers[name, diff_id]

    def _spelled(self, what: str, given: Iterable[str], names: tuple[str, ...]) -> None:
        problems = misspelt(given, names)
        if problems:
            raise InputError(*(f"{self.where}: in {what}: {problem}" for problem in problems), hint=DAMAGED)

    def _check_count(self, layers: int) -> None:
        if layers > MOST_READ:
            message = f"{self.where}: an image has {layers} layers, and {MOST_READ} are the most that are read"
            raise InputError(message, hint="No engine runs an image of so many: build it again with fewer.")

    def _diff_ids(self, config: bytes) -> list[str]:
        problems = config_faults(config)
        if problems:
            raise InputError(*(f"{self.where}: in the config of an image: {problem}" for problem in problems), hint=DAMAGED)
        diff_ids: list[str] = json.loads(config)["rootfs"].get("diff_ids") or []
        return diff_ids


def _digest(piece: Piece) -> str:
    digest = hashlib.sha256()
    piece.copy(digest.update)
    return f"sha256:{digest.hexdigest()}"


def _blob_name(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str) or not value.isprintable():
        message = f"{quoted(value)} is no name"
        raise TypeError(message)
    return value
