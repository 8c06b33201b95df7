"""A tar of an image's files, to where nobody can seek; and the docker-archive, which takes all digests last."""

from __future__ import annotations

import tarfile
from functools import partial
from typing import TYPE_CHECKING

import attrs

from rootless_layer.layer.blob import ahead
from rootless_layer.oci.descriptor import sha256
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.system.files import Sink, write_all

from .index import docker_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.layer.blob import LayerBlob

    from .read import NamedImage

_BLOCK = 512


def layers_of(images: Sequence[NamedImage]) -> list[LayerBlob]:
    """Give each layer once, whatever images it is in."""
    return list({layer.descriptor.digest: layer for stored in images for layer in stored.image.layers}.values())


class Archive:
    """A tar that is written to something that cannot seek."""

    def __init__(self, file: Sink, total: int, progress: Callable[[Progress], object]) -> None:
        """Begin it; ``total`` is how many bytes will go through :meth:`stream`, for ``progress``."""
        self.file = file
        self.made: set[str] = set()
        self.done, self.total, self.progress = 0, total, progress

    def folder(self, name: str) -> None:
        """Write a directory, once."""
        if name not in self.made:
            self.made.add(name)
            self._header(f"{name}/", 0, tarfile.DIRTYPE, 0o755)

    def data(self, name: str, data: bytes) -> None:
        """Write a file of these bytes."""
        self._header(name, len(data), tarfile.REGTYPE, 0o644)
        self.file.write(data + bytes(-len(data) % _BLOCK))

    def stream(self, name: str, size: int, give: Callable[[Callable[[memoryview], object]], object]) -> None:
        """Write a file of that many bytes, which ``give`` gives to what it is called with."""

        def write(part: memoryview) -> None:
            write_all(self.file, part)
            self.done += len(part)
            self.progress(Progress("write", self.done, self.total))

        self._header(name, size, tarfile.REGTYPE, 0o644)
        give(write)
        self.file.write(bytes(-size % _BLOCK))

    def _header(self, name: str, size: int, kind: bytes, mode: int) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.type, header.mode = size, kind, mode
        self.file.write(header.tobuf(tarfile.PAX_FORMAT))

    def end(self) -> None:
        """End the tar."""
        self.file.write(bytes(2 * _BLOCK))


def write_docker_archive(images: Sequence[NamedImage], file: Sink, *, progress: Report = silent) -> Sequence[NamedImage]:
    """Write a docker-archive of the old shape: each layer at ``<number>/layer.tar``, not compressed.

    No name but a config's depends on bytes, and configs come last: so each source of a pending layer is read once. The images
    are given with such layers as they were made. Raises :class:`SourceError` as :func:`write_archive`.
    """
    layers = list({layer.diff_id: layer for layer in layers_of(images)}.values())
    sizes = [layer.plain_size() for layer in layers]
    archive = Archive(file, sum(sizes), progress)
    names: dict[str, str] = {}
    made: dict[str, LayerBlob] = {}

    def give(layer: LayerBlob, consume: Callable[[memoryview], object]) -> None:
        if layer.pending:
            made[layer.diff_id] = layer.make_plain(consume, streams)
        else:
            layer.copy_plain(consume, streams)

    with ahead(layers) as streams:
        for number, (layer, size) in enumerate(zip(layers, sizes, strict=True), 1):
            folder = f"{number:03}"
            archive.folder(folder)
            archive.data(f"{folder}/VERSION", b"1.0")
            archive.stream(f"{folder}/layer.tar", size, partial(give, layer))
            names[made.get(layer.diff_id, layer).diff_id] = f"{folder}/layer.tar"
    images = [attrs.evolve(stored, image=stored.image.settled(made)) for stored in images]
    for stored in images:
        archive.data(f"{sha256(stored.image.config).removeprefix('sha256:')}.json", stored.image.config)
    archive.data(
        "manifest.json",
        docker_manifest(
            images,
            lambda layer: names[layer.diff_id],
            lambda config: f"{sha256(config).removeprefix('sha256:')}.json",
        ),
    )
    archive.end()
    return images
