"""Images written: an image layout, an archive of one that docker and podman load as well, or a docker-archive.

An archive (``archive``) is an image layout in a tar with a ``manifest.json`` beside
``index.json``, so that every reader finds what it looks for. The documents come last:
of a stream that broke off nothing can be loaded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from .blob import ahead
from .child import each
from .copying import Flowing
from .errors import InputError, OutputError
from .image import canonical
from .layout import FULL_NAME, REF_NAME
from .oci import INDEX, MANIFEST, Descriptor, sha256
from .output import aside, check_replaceable, make_folder, umask, writing
from .temporary import Temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .blob import LayerBlob, Piece
    from .layout import Stored

Format = Literal["layout", "archive", "docker-archive"]

_LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})
_BLOBS = "blobs/sha256"
_BLOCK = 512
_PIPE_BYTES = 1 << 20
_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}")
"""distribution's ``reference`` package, by which docker and podman read a name."""


def tag_of(name: str) -> str:
    """Give an image's name with its tag, ``latest`` by default; raises :class:`InputError` for what is no name."""
    full = name if _has_tag(name) else f"{name}:latest"
    if not _NAME.fullmatch(full):
        message = f"{name!r} is not the name of an image: write it as NAME:TAG, in lower case"
        raise InputError(message)
    return full


def _has_tag(name: str) -> bool:
    return ":" in name.rpartition("/")[2]


def index(images: Sequence[Stored], *, several_platforms: bool) -> tuple[bytes, list[bytes]]:
    """Give ``index.json``, and the documents that it refers to beside configs and manifests.

    With ``several_platforms`` all images stand under one index of their own, named as the
    first of them is.
    """
    rows = [
        {**Descriptor(MANIFEST, stored.image.manifest_digest, len(stored.image.manifest)).to_json(),
         "platform": stored.image.platform.to_json()}
        for stored in images
    ]  # fmt: skip
    if several_platforms:
        inner = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})
        row = Descriptor(INDEX, sha256(inner), len(inner)).to_json()
        return _index(_named(row, images[0].names)), [inner]
    named = [each for row, stored in zip(rows, images, strict=True) for each in _named(row, stored.names)]
    return _index(named), []


def _index(rows: list[dict[str, Any]]) -> bytes:
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows})


def _named(row: dict[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Repeat a row for each name; other tools' layouts may have mere tags, which are half a name."""
    return [row | {"annotations": {REF_NAME: name} | ({FULL_NAME: _full(name)} if _has_tag(name) else {})} for name in names] or [
        row
    ]


def _full(name: str) -> str:
    """Write a name as containerd does, with its registry."""
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def docker_manifest(
    images: Sequence[Stored], layer_name: Callable[[LayerBlob], str], config_name: Callable[[bytes], str]
) -> bytes:
    """Give ``manifest.json``, by which docker finds configs and layers in an archive."""
    return canonical(
        [
            {
                "Config": config_name(stored.image.config),
                "RepoTags": [name for name in stored.names if _has_tag(name)],
                "Layers": [layer_name(layer) for layer in stored.image.layers],
            }
            for stored in images
        ]
    )


def write_layout(images: Sequence[Stored], folder: Path, *, several_platforms: bool = False) -> None:
    """Write an image layout into an empty directory; blobs are hard-linked where that is possible.

    Raises :class:`SourceError` for a layer whose bytes are not what its digest says.
    """
    blobs = folder / _BLOBS
    make_folder(blobs)
    (folder / "oci-layout").write_bytes(_LAYOUT)
    largest_first = sorted(_layers(images), key=lambda layer: -layer.descriptor.size)
    each(largest_first, lambda layer: _place(layer, blobs / layer.descriptor.digest.removeprefix("sha256:")))
    listed, documents = index(images, several_platforms=several_platforms)
    for document in [*documents, *_documents(images)]:
        target = blobs / sha256(document).removeprefix("sha256:")
        target.write_bytes(document)
        _make_readable(target)
    (folder / "index.json").write_bytes(listed)


def _place(layer: LayerBlob, target: Path) -> None:
    piece = layer.piece
    target.unlink(missing_ok=True)  # what is left of a child that failed
    if piece is not None and piece.offset == 0 and _may_be_linked(layer, piece):
        try:
            os.link(piece.path, target)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
                raise
        else:
            if not layer.trusted:
                layer.copy(len)  # somebody may have changed it
            return
    with Flowing(target) as file, ahead([layer], processes=0) as stream:
        layer.copy(file.write, stream)
        file.settle()
    _make_readable(target)


def _may_be_linked(layer: LayerBlob, piece: Piece) -> bool:
    """Say whether a blob is a whole file, which a link may stand for: one of the cache's may be of another umask's time."""
    status = os.stat(piece.path)
    return status.st_size == piece.size and (not layer.trusted or status.st_mode & 0o777 == 0o666 & ~umask() | 0o600)


def _make_readable(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o600)  # whatever the umask is


def _write_all(file: Any, part: memoryview) -> None:  # noqa: ANN401 - a raw file
    while part:
        part = part[file.write(part) :]


def _layers(images: Sequence[Stored]) -> list[LayerBlob]:
    """Give each layer once, whatever images it is in."""
    return list({layer.descriptor.digest: layer for stored in images for layer in stored.image.layers}.values())


def _documents(images: Sequence[Stored]) -> list[bytes]:
    return list(dict.fromkeys(document for stored in images for document in (stored.image.config, stored.image.manifest)))


class _Archive:
    """A tar that is written to something that cannot seek."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.made: set[str] = set()

    def folder(self, name: str) -> None:
        if name not in self.made:
            self.made.add(name)
            self._header(f"{name}/", 0, tarfile.DIRTYPE, 0o755)

    def data(self, name: str, data: bytes) -> None:
        self.stream(name, len(data), lambda consume: consume(memoryview(data)))

    def stream(self, name: str, size: int, give: Callable[[Callable[[memoryview], object]], object]) -> None:
        """Write a file of that many bytes, which ``give`` gives to what it is called with."""
        self._header(name, size, tarfile.REGTYPE, 0o644)
        give(lambda part: _write_all(self.file, part))
        self.file.write(bytes(-size % _BLOCK))

    def _header(self, name: str, size: int, kind: bytes, mode: int) -> None:
        header = tarfile.TarInfo(name)
        header.size, header.type, header.mode = size, kind, mode
        self.file.write(header.tobuf(tarfile.PAX_FORMAT))

    def end(self) -> None:
        self.file.write(bytes(2 * _BLOCK))
        self.file.flush()


def write_archive(images: Sequence[Stored], file: BinaryIO, *, several_platforms: bool = False) -> None:
    """Write an archive that docker, podman and skopeo load, to a file or a pipe.

    Raises :class:`SourceError` as :func:`write_layout`; what was written then has no end.
    """
    archive = _Archive(file)
    archive.data("oci-layout", _LAYOUT)
    archive.folder("blobs")
    archive.folder(_BLOBS)
    layers = _layers(images)
    with ahead(layers) as streams:
        for layer in layers:
            archive.stream(_blob_name(layer.descriptor.digest), layer.descriptor.size, partial(layer.copy, streams=streams))
    listed, documents = index(images, several_platforms=several_platforms)
    for document in [*documents, *_documents(images)]:
        archive.data(_blob_name(sha256(document)), document)
    archive.data("index.json", listed)
    archive.data(
        "manifest.json",
        docker_manifest(images, lambda layer: _blob_name(layer.descriptor.digest), lambda config: _blob_name(sha256(config))),
    )
    archive.end()


def _blob_name(digest: str) -> str:
    return f"{_BLOBS}/{digest.removeprefix('sha256:')}"


def write_docker_archive(images: Sequence[Stored], file: BinaryIO) -> None:
    """Write a docker-archive of the old shape: each layer at ``<id>/layer.tar``, not compressed.

    Raises :class:`SourceError` as :func:`write_archive`.
    """
    archive = _Archive(file)
    layers = list({layer.diff_id: layer for layer in _layers(images)}.values())
    with ahead(layers) as streams:
        for layer in layers:
            name = layer.diff_id.removeprefix("sha256:")
            archive.folder(name)
            archive.data(f"{name}/VERSION", b"1.0")
            archive.stream(f"{name}/layer.tar", layer.plain_size(), partial(layer.copy_plain, streams=streams))
    for stored in images:
        archive.data(f"{sha256(stored.image.config).removeprefix('sha256:')}.json", stored.image.config)
    archive.data(
        "manifest.json",
        docker_manifest(
            images,
            lambda layer: f"{layer.diff_id.removeprefix('sha256:')}/layer.tar",
            lambda config: f"{sha256(config).removeprefix('sha256:')}.json",
        ),
    )
    archive.end()


def export_images(
    images: Sequence[Stored], output: str, kind: Format, *, several_platforms: bool = False, stream: BinaryIO | None = None
) -> None:
    """Write images to ``output``, whole or not at all; where there is a ``stream``, to that instead.

    An image layout takes the place of an earlier one only, a file that of a file. Raises
    :class:`InputError` for names that clash or platforms that an output cannot hold,
    :class:`SourceError` for a layer that is not what its digest says, :class:`OutputError`
    where it cannot be written.
    """
    _check_names(images, several_platforms=several_platforms, kind=kind)
    if stream is not None:
        with contextlib.suppress(OSError):  # no pipe, or a user's share of them is used up
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        _write_file(images, stream, kind, several_platforms=several_platforms)
        return
    target = Path(os.path.realpath(output))
    if kind == "layout":
        check_replaceable(target, "oci-layout", "an image layout")
    elif target.is_dir():
        message = f"{output}: is a directory, and an archive is a file"
        raise OutputError(message, hint="Name another file with -o, or write an image layout.")
    elif os.path.lexists(target) and not target.is_file():
        message = f"{output}: is no file, whose place an archive could take"
        raise OutputError(message, hint="Name another file with -o, or write to stdout with -o -.")
    with Temporary() as temporary:
        if kind == "layout":
            with aside(target, temporary) as folder, writing(target):
                write_layout(images, folder, several_platforms=several_platforms)
            return
        with writing(target):
            made = Path(temporary.make(str(target.parent), ".rootless-layer-")) / "image"
            with Flowing(made) as file:
                _write_file(images, file, kind, several_platforms=several_platforms)
                file.settle()
            _make_readable(made)
            made.replace(target)


def _write_file(images: Sequence[Stored], file: BinaryIO, kind: Format, *, several_platforms: bool) -> None:
    if kind == "docker-archive":
        write_docker_archive(images, file)
    else:
        write_archive(images, file, several_platforms=several_platforms)


def _check_names(images: Sequence[Stored], *, several_platforms: bool, kind: Format) -> None:
    if several_platforms:
        count = Counter(str(stored.image.platform) for stored in images)
        twice = [f"{platform}: several images are for this platform" for platform, number in count.items() if number > 1]
        if kind == "docker-archive":
            twice.append("a docker-archive holds no index: it cannot hold an image for several platforms")
    else:
        count = Counter(name for stored in images for name in set(stored.names))
        twice = [f"{name}: several images have this name" for name, number in count.items() if number > 1]
    if twice:
        raise InputError(*twice)
