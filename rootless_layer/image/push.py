"""Images pushed to a registry: what it has is not sent, the manifest comes last, and an index after its manifests."""

from __future__ import annotations

from functools import partial
from itertools import compress, starmap
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError, OutputError
from rootless_layer.oci.descriptor import Descriptor, sha256
from rootless_layer.progress import Progress, Report, silent
from rootless_layer.registry.client import Client, connect
from rootless_layer.registry.manifest import Manifest
from rootless_layer.registry.name import RegistryName
from rootless_layer.registry.referrers import put_referrer
from rootless_layer.registry.upload import mount, upload
from rootless_layer.system.fork import Tally, for_each_forked

from .blobs import OfBytes, OfFile, OfLayer, of_digest
from .bring import batches, bring_pieces
from .index import inner_index, listed_beside, referrers
from .remote import RemoteBlob, RemoteImage, media_type_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .blobs import ImageBlob
    from .image import Image
    from .read import NamedImage
    from .referrers import Attachment, Referrer

_AT_A_TIME = 8


@attrs.frozen(slots=True)
class _Document:
    """A manifest or an index, and the blobs that it refers to; a ``row`` lists what is attached to the ``subject``, a digest."""

    manifest: Manifest
    blobs: tuple[ImageBlob, ...] = ()
    row: Mapping[str, Any] = attrs.field(factory=dict)
    subject: str = ""


def push_images(images: Sequence[NamedImage], output: str, *, several_platforms: bool = False, progress: Report = silent) -> None:
    """Push one image, or one for several platforms, under the name ``docker://…``; names of their own do not count.

    A blob that the registry has costs one request, and is neither read nor made. Raises :class:`InputError` for several
    images that are not one, :class:`OutputError` where the registry does not take it.
    """
    different = list({stored.image.identity: stored for stored in images}.values())
    if len(different) != 1 and not several_platforms:
        message = f"{output}: names one image, and {len(different)} are to be pushed there"
        raise InputError(message, hint="Say which one as PATH#NAME, or make them one for several platforms by `merge --index`.")
    documents = [_of_image(stored.image) for stored in different]
    if several_platforms:
        documents += map(_of_referrer, listed_beside(different, pushed=True))
        documents.append(_Document(inner_index(different, pushed=True)))
    attached = referrers(different, several_platforms=several_platforms, pushed=True)
    _push(RegistryName.parse(output), documents, [_of_referrer(each) for each in attached], progress)


def _of_image(image: Image) -> _Document:
    return _Document(image.pushed, (*map(OfLayer, image.layers), OfBytes(sha256(image.config), image.config)))


def _of_referrer(each: Referrer) -> _Document:
    manifest = Manifest(each.manifest, each.media_type, each.digest)
    return _Document(manifest, tuple(starmap(of_digest, each.blobs.items())), each.row, each.subject)


def push_remote(source: RemoteImage, output: str, files: Sequence[Attachment] = (), progress: Report = silent) -> None:
    """Copy what a registry has under a name to another name, every byte as it is, and attach ``files`` to it.

    Raises as :func:`push_images` does.
    """
    blobs: dict[str, ImageBlob] = {digest: OfBytes(digest, data) for digest, data in source.configs.items()}
    blobs |= {blob.digest: OfFile(blob.digest, source.piece(blob)) for blob in source.blobs.values()}

    def of(manifest: Manifest, row: Mapping[str, Any], subject: str = "") -> _Document:
        own = tuple(blobs[digest] for digest in source.parts[manifest.digest])
        return _Document(attrs.evolve(manifest, media_type=media_type_of(manifest)), own, row, subject)

    documents = [of(each, {}) for each in source.manifests]
    attached = [of(each.manifest, each.row, each.subject) for each in source.referrers]
    top = Descriptor(documents[-1].manifest.media_type, source.top.digest, len(source.top.data))
    attached += [_of_referrer(file.to(top)) for file in files]
    _push(RegistryName.parse(output), documents, attached, progress)


def _push(target: RegistryName, documents: Sequence[_Document], attached: Sequence[_Document], progress: Report) -> None:
    top = documents[-1]
    if target.digest and target.digest != top.manifest.digest:
        message = f"{target}: the image to push is {top.manifest.digest}"
        raise InputError(message, hint="Leave the digest out: it follows from the image.")
    client = connect(target)
    there = _known(client, [each.manifest.digest for each in (*documents, *attached)], manifests=True)
    try:
        _bring(client, target, documents, attached, there, progress=progress)
    except OutputError:
        if not there:
            raise
        # The registry has a manifest, and not all that this refers to: each blob is asked for.
        _bring(client, target, documents, attached, set(), progress=progress)


def _bring(  # noqa: PLR0913 - what, where to, and what is there
    client: Client,
    target: RegistryName,
    documents: Sequence[_Document],
    attached: Sequence[_Document],
    there: Collection[str],
    *,
    progress: Report,
) -> None:
    """Bring the registry blobs first, then manifests, then the name; a manifest that is ``there`` has its blobs there."""
    *below, top = documents
    new = [each for each in (*documents, *attached) if each.manifest.digest not in there]
    _send(client, list({blob.digest: blob for each in new for blob in each.blobs}.values()), progress)
    for each in (one.manifest for one in below if one.manifest.digest not in there):
        client.put_manifest(each.digest, each.media_type, each.data)
    client.put_manifest(target.tag or top.manifest.digest, top.manifest.media_type, top.manifest.data)
    for one in attached:
        put_referrer(client, one.row, one.manifest.data, one.subject)


def _send(client: Client, blobs: Sequence[ImageBlob], progress: Report) -> None:
    """Bring the registry those of the blobs that it lacks."""
    there, mounts = _known(client, [blob.digest for blob in blobs]), _Mounts(client)
    lacking = (blob for blob in blobs if blob.digest not in there)
    missing = [(blob, begun) for blob in lacking if (begun := mounts.mounted(blob)) is not None]
    missing.sort(key=lambda pair: -pair[0].size)
    bring_pieces((blob.piece for blob, _ in missing if blob.piece is not None), progress)
    done, total = Tally(len(missing)), sum(blob.size for blob, _ in missing)

    def send(numbers: range) -> None:
        for number in numbers:
            blob, begun = missing[number]
            upload(client, blob, partial(done.add, number), begun)

    for_each_forked(batches([blob.size for blob, _ in missing]), send, lambda: progress(Progress("write", done.total, total)))


def _known(client: Client, digests: Sequence[str], *, manifests: bool = False) -> set[str]:
    """Give the digests of which the registry has the blob, or the manifest: one HEAD each, several at a time."""
    if not digests:
        return set()
    has = partial(client.has, manifest=manifests)
    there = [has(digests[0])]  # alone: it finds out how the registry wants to be asked
    if len(digests) > 1:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - takes a while

        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            there += pool.map(has, digests[1:])
    return set(compress(digests, there))


@attrs.frozen(slots=True)
class _Mounts:
    """Has a registry take blobs from other repositories of its own; each of these has a client, as a token is for both."""

    client: Client
    _clients: dict[str, Client] = attrs.field(factory=dict)

    def mounted(self, blob: ImageBlob) -> str | None:
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
