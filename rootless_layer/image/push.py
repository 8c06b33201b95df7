"""Images pushed to a registry: what it has is not sent, the manifest comes last, and an index after its manifests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.layer.blob import LayerBlob, Piece, ahead
from rootless_layer.oci.descriptor import Descriptor, sha256
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.registry.client import Client, connect
from rootless_layer.registry.name import RegistryName
from rootless_layer.registry.referrers import put_referrer
from rootless_layer.registry.upload import mount, upload
from rootless_layer.system.fork import Tally, for_each_forked

from .bring import bring_pieces
from .index import inner_index, referrers
from .remote import RemoteBlob, RemoteImage, media_type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.registry.manifest import Manifest

    from .read import NamedImage
    from .referrers import Attachment

_AT_A_TIME = 8


@attrs.frozen(slots=True)
class _Layer:
    """A layer to push: its bytes are read, made or pulled when the registry lacks them."""

    layer: LayerBlob

    @property
    def digest(self) -> str:
        return self.layer.descriptor.digest

    @property
    def size(self) -> int:
        return self.layer.descriptor.size

    @property
    def piece(self) -> Piece | None:
        return self.layer.piece

    @property
    def file(self) -> tuple[str, int] | None:
        return None if self.layer.piece is None else (self.layer.piece.path, self.layer.piece.offset)

    def copy(self, consume: Callable[[memoryview], object]) -> None:
        with ahead([self.layer], processes=0) as stream:
            self.layer.copy(consume, stream)


@attrs.frozen(slots=True)
class _Stored:
    """A blob to push that is no layer of ours: a config's bytes, or what another registry has."""

    digest: str
    size: int
    data: bytes = attrs.field(default=b"", repr=False)
    piece: Piece | None = None

    @property
    def file(self) -> tuple[str, int] | None:
        return None if self.piece is None else (self.piece.path, 0)

    def copy(self, consume: Callable[[memoryview], object]) -> None:
        if self.piece is None:
            consume(memoryview(self.data))
        else:
            self.piece.copy(consume)


_Blob = _Layer | _Stored
_Attached = tuple[Mapping[str, Any], bytes, str]
"""A manifest's descriptor, its bytes, and the digest of what it is attached to."""


def push_images(images: Sequence[NamedImage], output: str, *, several_platforms: bool = False, progress: Report = silent) -> None:
    """Push one image, or one for several platforms, under the name ``docker://…``; names of their own do not count.

    A blob that the registry has costs one request, and is neither read nor made. Raises :class:`InputError` for several
    images that are not one, :class:`OutputError` where the registry does not take it.
    """
    target = RegistryName.parse(output)
    different = list({stored.image.content: stored for stored in images}.values())
    if len(different) != 1 and not several_platforms:
        message = f"{output}: names one image, and {len(different)} are to be pushed there"
        raise InputError(message, hint="Say which one as PATH#NAME, or make them one for several platforms by `merge --index`.")
    documents = [stored.image.pushed for stored in different]
    if several_platforms:
        documents.append(inner_index(different, pushed=True))
    attached = referrers(different, several_platforms=several_platforms, pushed=True)
    layers = {layer.descriptor.digest: _Layer(layer) for stored in different for layer in stored.image.layers}
    configs = {sha256(stored.image.config): stored.image.config for stored in different}
    for each in attached:
        configs |= {digest: blob.read() if isinstance(blob, Piece) else blob for digest, blob in each.blobs.items()}
    stored = (_Stored(digest, len(data), data) for digest, data in configs.items())
    _push(
        target, [*layers.values(), *stored], documents, [(each.row, each.manifest, each.subject) for each in attached], progress
    )


def push_remote(source: RemoteImage, output: str, files: Sequence[Attachment] = (), progress: Report = silent) -> None:
    """Copy what a registry has under a name to another name, every byte as it is, and attach ``files`` to it.

    Raises as :func:`push_images` does.
    """
    configs = [_Stored(digest, len(data), data) for digest, data in source.configs.items()]
    blobs = [_Stored(blob.digest, blob.size, b"", source.find(name)) for name, blob in source.blobs.items()]
    documents = [attrs.evolve(each, media_type=media_type_of(each)) for each in source.manifests]
    attached: list[_Attached] = [(each.row, each.manifest.data, each.subject) for each in source.referrers]
    for made in (file.to(Descriptor(documents[-1].media_type, source.top.digest, len(source.top.data))) for file in files):
        configs += [_Stored(sha256(data), len(data), data) for data in made.documents()[:-1]]
        attached.append((made.row, made.manifest, made.subject))
    _push(RegistryName.parse(output), [*blobs, *configs], documents, attached, progress)


def _push(
    target: RegistryName,
    blobs: Sequence[_Blob],
    documents: Sequence[Manifest],
    attached: Sequence[_Attached],
    progress: Report,
) -> None:
    top = documents[-1]
    if target.digest and target.digest != top.digest:
        message = f"{target}: the image to push is {top.digest}"
        raise InputError(message, hint="Leave the digest out: it follows from the image.")
    blobs = list({blob.digest: blob for blob in blobs}.values())
    client = connect(target)
    mounts = _Mounts(client)
    missing = [(blob, begun) for blob in _missing(client, blobs) if (begun := mounts.mounted(blob)) is not None]
    missing.sort(key=lambda pair: -pair[0].size)
    bring_pieces((blob.piece for blob, _ in missing if blob.piece is not None), progress)
    done, total = Tally(len(missing)), sum(blob.size for blob, _ in missing)

    def send(number: int) -> None:
        blob, begun = missing[number]
        upload(client, blob, partial(done.add, number), begun)

    for_each_forked(range(len(missing)), send, lambda: progress(Progress("write", done.total, total)))
    for each in documents[:-1]:
        client.put_manifest(each.digest, each.media_type, each.data)
    client.put_manifest(target.tag or top.digest, top.media_type, top.data)
    for row, manifest, subject in attached:
        put_referrer(client, row, manifest, subject)


def _missing(client: Client, blobs: Sequence[_Blob]) -> list[_Blob]:
    """Give those that the registry does not have: one HEAD each, several at a time."""
    if not blobs:
        return []
    there = [client.has(blobs[0].digest)]  # alone: it finds out how the registry wants to be asked
    if len(blobs) > 1:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - takes a while

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            there += pool.map(client.has, (blob.digest for blob in blobs[1:]))
    return [blob for blob, known in zip(blobs, there, strict=True) if not known]


@attrs.frozen(slots=True)
class _Mounts:
    """Has a registry take blobs from other repositories of its own; each of these has a client, as a token is for both."""

    client: Client
    _clients: dict[str, Client] = attrs.field(factory=dict)

    def mounted(self, blob: _Blob) -> str | None:
        """Have it take a blob that is from there: ``None`` where it did, else the upload that begins, ``""`` where none does."""
        remote, own = blob.piece.remote if blob.piece is not None else None, self.client.name
        if not isinstance(remote, RemoteBlob) or remote.is_here or remote.client.name.host != own.host:
            return ""
        other = remote.client.name.repository
        if other == own.repository:
            return ""
        if other not in self._clients:
            self._clients[other] = connect(own, also=other)
        return mount(self._clients[other], blob.digest)
