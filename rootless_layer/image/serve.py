"""Images as a registry's content: what is served of them, under which names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import sha256
from rootless_layer.oci.reference import has_tag, is_reference, path_and_name, tag_of
from rootless_layer.registry.manifest import Manifest
from rootless_layer.registry.offer import Offer, Repository, tag

from .admission import image_problems
from .blobs import OfBytes, OfLayer, of_digest
from .bring import Fetching
from .index import inner_index, is_index, listed_beside, referrers
from .read import NamedImage, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rootless_layer.progress import Report
    from rootless_layer.registry.blob import Blob


def read_served(given: Iterable[str], spool: Callable[[], str], progress: Report) -> Iterator[NamedImage]:
    """Read the images of ``[NAME[:TAG]=]IMAGE``, each with the names under which it is to be served.

    Raises :class:`InputError` where none is there, and as :func:`.read_all` does.
    """
    for text in given:
        name, where = _named(text)
        path, wanted = path_and_name(where)
        found = read_all(path, spool, Fetching(progress=progress)).named(wanted).whole().images
        if not found:
            message = f"{where}: holds no image"
            raise InputError(message, hint="`rootless-layer inspect` says what there is.")
        for stored in found:
            named = attrs.evolve(stored, names=(name,)) if name else stored
            if not any(map(is_reference, named.names)):
                message = f"{where}: has an image without a name"
                raise InputError(message, hint=f"Give one: NAME={where}.")
            yield named


def _named(text: str) -> tuple[str, str]:
    """Split ``NAME=IMAGE``; the name is ``""`` where the whole text is a path."""
    name, sign, image = text.partition("=")
    if not sign or os.path.lexists(path_and_name(text)[0]) or not is_reference(name if has_tag(name) else f"{name}:1"):
        return "", text
    return tag_of(name), image


def offer_images(images: Iterable[NamedImage]) -> Offer:
    """Give the registry of those images; several of one name are one image for several platforms.

    A name's own registry is left out. Raises :class:`InputError` for images that no engine takes, and where a name is
    that of two.
    """
    given = [attrs.evolve(stored, image=stored.fitted()) for stored in images]
    problems = list(dict.fromkeys(problem for stored in given for problem in image_problems(stored.image, ())))
    if problems:
        raise InputError(*problems, hint="`rootless-layer validate` says all that is wrong with the image.")
    if nameless := [stored for stored in given if not any(map(is_reference, stored.names))]:
        message = f"the image {nameless[0].image.manifest_digest} has no name that a registry takes"
        raise InputError(message, hint="Name it NAME:TAG.")
    by_name: dict[tuple[str, str], list[NamedImage]] = {}
    for stored in given:
        for place in dict.fromkeys(_place(name) for name in stored.names if is_reference(name)):
            by_name.setdefault(place, []).append(stored)
    repositories: dict[str, Repository] = {}
    for (name, wanted), group in by_name.items():
        repository = repositories.setdefault(name, Repository())
        tag(repository, name, wanted, _put(repository, f"{name}:{wanted}", group))
    return Offer(repositories)


def _place(name: str) -> tuple[str, str]:
    """Give the repository and the tag of a name in a registry of its own: ``docker.io/library/redis:1`` is ``redis`` there."""
    first, slash, rest = name.partition("/")
    if slash and (any(sign in first for sign in ".:") or first == "localhost"):
        name = rest.removeprefix("library/") if first == "docker.io" else rest
    repository, _, wanted = name.rpartition(":")
    return repository, wanted


def _put(repository: Repository, name: str, group: Sequence[NamedImage]) -> str:
    """Put the images of a name into a repository; give the digest of the image, or of their index."""
    different = list({stored.image.identity: stored for stored in group}.values())
    several = is_index(different, pushed=True)
    for image in (stored.image for stored in different):
        repository.manifests[image.pushed.digest] = image.pushed
        blobs: list[Blob] = [*map(OfLayer, image.layers), OfBytes(sha256(image.config), image.config)]
        repository.blobs.update((blob.digest, blob) for blob in blobs)
    attached = referrers(different, several_platforms=several, pushed=True)
    for each in (*attached, *(listed_beside(different, pushed=True) if several else ())):
        repository.manifests[each.digest] = Manifest(each.manifest, each.media_type, each.digest)
        repository.blobs.update((digest, of_digest(digest, blob)) for digest, blob in each.blobs.items())
    if not several:
        return different[0].image.pushed.digest
    platforms = {str(stored.platform) for stored in different}
    if len(platforms) < len(different):
        message = f"{name}: is the name of several images for one platform"
        raise InputError(message, hint="Name one as PATH#NAME, or give them different names: NAME=IMAGE.")
    listed = inner_index(different, pushed=True)
    repository.manifests[listed.digest] = listed
    return listed.digest
