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
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs

from rootless_layer import given
from rootless_layer.errors import InputError
from rootless_layer.layer.blob import ahead
from rootless_layer.layer.made import BLOBS, IMAGE_LAYOUT, INDEX_JSON, OCI_LAYOUT
from rootless_layer.oci.descriptor import MEDIA_TYPES, Platform, canonical, sha256
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.registry.name import RegistryName, is_registry
from rootless_layer.system.files import Sink, WritebackFile
from rootless_layer.system.fork import Tally, for_each_forked
from rootless_layer.system.replace import (
    aside,
    check_file_replaceable,
    check_replaceable,
    file_aside,
    make_folder,
    umask,
    writing,
)
from rootless_layer.system.temporary import Temporary

from .admission import admit
from .archive import Archive, layers_of, write_docker_archive
from .bring import bring
from .format import Format
from .index import docker_manifest, index
from .read import NamedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.layer.blob import LayerBlob, Piece


_LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})
_PIPE_BYTES = 1 << 20


def write_layout(
    images: Sequence[NamedImage],
    folder: Path,
    *,
    several_platforms: bool = False,
    progress: Report = silent,
) -> None:
    """Write an image layout into an empty directory; blobs are hard-linked where that is possible.

    Raises :class:`InputError` for a layer whose bytes are not what its digest says.
    """
    blobs = folder / BLOBS
    make_folder(blobs)
    (folder / OCI_LAYOUT).write_bytes(_LAYOUT)
    places = {layer: blobs / layer.descriptor.digest.removeprefix("sha256:") for layer in layers_of(images)}
    others = [layer for layer, target in places.items() if not (layer.trusted and _link(layer, target))]
    others.sort(key=lambda layer: -layer.descriptor.size)
    whole = sum(layer.descriptor.size for layer in places)
    linked = whole - sum(layer.descriptor.size for layer in others)
    done = Tally(len(others))

    def place(number: int) -> None:
        layer = others[number]
        _place(layer, places[layer], partial(done.add, number))

    def tell() -> None:
        progress(Progress("write", linked + done.total, whole))

    if linked:
        tell()
    for_each_forked(range(len(others)), place, tell)
    listed, documents = index(images, several_platforms=several_platforms)
    for document in [*documents, *_documents(images)]:
        target = blobs / sha256(document).removeprefix("sha256:")
        target.write_bytes(document)
        _make_readable(target)
    (folder / INDEX_JSON).write_bytes(listed)


def _place(layer: LayerBlob, target: Path, count: Callable[[int], object]) -> None:
    if not layer.trusted and _link(layer, target):
        layer.copy(lambda part: count(len(part)))  # somebody may have changed it
        return
    with WritebackFile(target) as file, ahead([layer], processes=0) as stream:

        def write(part: memoryview) -> None:
            file.write(part)
            count(len(part))

        layer.copy(write, stream)
        file.sync()


def _link(layer: LayerBlob, target: Path) -> bool:
    """Link a blob that is a whole file; say whether that is possible."""
    piece = layer.piece
    if piece is None or piece.offset or not _may_be_linked(layer, piece):
        return False
    try:
        os.link(piece.path, target)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOENT}:
            raise
        return False
    return True


def _may_be_linked(layer: LayerBlob, piece: Piece) -> bool:
    """Say whether a blob is a whole file, which a link may stand for: a blob of the cache may have another umask's mode."""
    try:
        status = os.stat(piece.path)
    except OSError:
        return False  # whoever reads it says what is wrong
    return status.st_size == piece.size and (not layer.trusted or status.st_mode & 0o777 == 0o666 & ~umask() | 0o600)


def _make_readable(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o600)  # whatever the umask is


def _documents(images: Sequence[NamedImage]) -> list[bytes]:
    return list(dict.fromkeys(document for stored in images for document in (stored.image.config, stored.image.manifest)))


def write_archive(
    images: Sequence[NamedImage],
    file: Sink,
    *,
    several_platforms: bool = False,
    progress: Report = silent,
) -> None:
    """Write an archive that docker, podman and skopeo load, to a file or a pipe.

    Docker before 23 knows no zstd: a layer that is compressed by it stands there once more, as
    the tar that it is of, for docker's ``manifest.json``; ``progress`` is told so.
    Raises :class:`SourceError` as :func:`write_layout`; what was written then has no end.
    """
    layers = layers_of(images)
    for_docker = _for_docker(images, several_platforms=several_platforms)
    there = {layer.descriptor.digest for layer in layers}
    twins = {layer.diff_id: layer for layer in layers_of(for_docker) if _has_twin(layer) and layer.diff_id not in there}
    sizes = {diff_id: layer.plain_size() for diff_id, layer in twins.items()}
    if twins:
        note = (
            "docker before 23 does not read layers that are compressed by zstd, so that they stand in the archive again, not"
            f" compressed ({sum(sizes.values())} bytes); --compression gzip and -f layout do without"
        )
        progress(Progress("check", note=f"warning: {note}"))
    archive = Archive(file, sum(layer.descriptor.size for layer in layers) + sum(sizes.values()), progress)
    with ahead([*layers, *twins.values()]) as streams:  # first: into a codec, whose threads are a reason not to fork
        archive.data(OCI_LAYOUT, _LAYOUT)
        archive.folder("blobs")
        archive.folder(BLOBS)
        for layer in layers:
            archive.stream(_blob_name(layer.descriptor.digest), layer.descriptor.size, partial(layer.copy, streams=streams))
        for diff_id, layer in twins.items():
            archive.stream(_blob_name(diff_id), sizes[diff_id], partial(layer.copy_plain, streams=streams))
    listed, documents = index(images, several_platforms=several_platforms)
    for document in [*documents, *_documents(images)]:
        archive.data(_blob_name(sha256(document)), document)
    archive.data(INDEX_JSON, listed)
    archive.data(
        "manifest.json",
        docker_manifest(
            for_docker,
            lambda layer: _blob_name(layer.diff_id if _has_twin(layer) else layer.descriptor.digest),
            lambda config: _blob_name(sha256(config)),
        ),
    )
    archive.end()


def _has_twin(layer: LayerBlob) -> bool:
    """Say whether docker before 23 cannot read a layer's blob, so that its tar stands beside it, not compressed."""
    return layer.descriptor.media_type == MEDIA_TYPES["zstd"]


def _for_docker(images: Sequence[NamedImage], *, several_platforms: bool) -> Sequence[NamedImage]:
    """Give the images that docker is to find: it knows no platforms here, so of one for several it gets this machine's."""
    host = Platform.host()
    if not several_platforms:
        return images
    fitting = [stored for stored in images if host.runs(stored.image.platform)]
    return [stored for stored in fitting if stored.image.platform == host] or fitting[:1] or images


def _blob_name(digest: str) -> str:
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def check_target(output: str, kind: Format) -> None:
    """Raise :class:`OutputError` where an image may not take the place of what is there; of a registry its name is read."""
    if is_registry(output):
        RegistryName.parse(output)
        return
    target = Path(os.path.realpath(output))
    if kind == "layout":
        check_replaceable(target, IMAGE_LAYOUT)
    else:
        check_file_replaceable(Path(output) if os.path.exists(output) else target)


def write_images(  # noqa: PLR0913 - what, where to, and how
    images: Sequence[NamedImage],
    output: str | os.PathLike[str],
    kind: Format,
    *,
    several_platforms: bool = False,
    stream: BinaryIO | None = None,
    progress: Report = silent,
) -> Sequence[NamedImage]:
    """Write images to ``output``, whole or not at all; where there is a ``stream``, to that instead. Give them as written.

    An image layout takes the place of an earlier one only, a file that of a file; ``docker://NAME`` is a registry's. Raises
    :class:`InputError` for names that clash or platforms that an output cannot hold,
    :class:`InputError` also for a layer that is not what its digest says, :class:`OutputError`
    where it cannot be written. ``progress`` may be called by a thread of a codec.
    """
    images = tuple(attrs.evolve(one, image=one.fitted()) for one in given.items("images", images, NamedImage, "a NamedImage"))
    given.one_of("kind", kind, Format)
    given.instance("several_platforms", several_platforms, bool, "True or False")
    given.function("progress", progress)
    if stream is not None and not callable(getattr(stream, "write", None)):
        given.refuse("stream", stream, "a file to write bytes to")
    output = output if stream is not None else given.path("output", output)
    if pushed := stream is None and is_registry(str(output)):
        check_target(str(output), kind)
    else:
        _check_names(images, several_platforms=several_platforms, kind=kind)
        bring(layers_of(images), progress)
    admit(images, lambda note: progress(Progress("check", note=note)))
    if stream is not None:
        with contextlib.suppress(OSError):  # no pipe, or a user's share of them is used up
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        images = _write_file(images, stream, kind, several_platforms=several_platforms, progress=progress)
        stream.flush()
        return images
    output = str(output)
    if pushed:
        from .push import push_images  # noqa: PLC0415 - HTTP and TLS, which few need

        push_images(images, output, several_platforms=several_platforms, progress=progress)
        return images
    check_target(output, kind)
    target = Path(os.path.realpath(output))
    with Temporary() as temporary:
        if kind == "layout":
            with aside(target, temporary, IMAGE_LAYOUT) as folder, writing(target):
                write_layout(images, folder, several_platforms=several_platforms, progress=progress)
            return images
        with file_aside(target, temporary) as file:
            return _write_file(images, file, kind, several_platforms=several_platforms, progress=progress)


def _write_file(
    images: Sequence[NamedImage], file: Sink, kind: Format, *, several_platforms: bool, progress: Callable[[Progress], object]
) -> Sequence[NamedImage]:
    if kind == "docker-archive":
        return write_docker_archive(images, file, progress=progress)
    write_archive(images, file, several_platforms=several_platforms, progress=progress)
    return images


def _check_names(images: Sequence[NamedImage], *, several_platforms: bool, kind: Format) -> None:
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
