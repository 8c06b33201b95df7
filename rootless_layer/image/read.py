"""Images as they lie on disk: read in every form in which tools leave them.

- an image layout (image-spec ``image-layout.md``): a directory, or a tar of one (an OCI
  archive);
- a docker-archive: a tar with ``manifest.json``, whose layers stand at ``<id>/layer.tar``
  or in ``blobs/``; where both documents are there, and ``index.json`` gives no whole image, it counts;
- a directory with a layer of ours: an image of that one layer;
- a derived image of ours.

An archive may be compressed as a whole. Nothing is unpacked: a layer is a run of the
archive's bytes, and no name in an archive is ever a path on this machine.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError, SourceError
from rootless_layer.given import function
from rootless_layer.given import path as given_path
from rootless_layer.layer.blob import open_layer
from rootless_layer.layer.made import IMAGE_JSON
from rootless_layer.oci.descriptor import Platform, sha256
from rootless_layer.oci.documents import INDEXES, MANIFESTS, Document, check_descriptor, check_top
from rootless_layer.oci.findings import Finder
from rootless_layer.oci.kinds import UNKNOWN, kind_of_document, listed_names, listed_platform, other_than_image
from rootless_layer.oci.reference import is_among, with_registry
from rootless_layer.registry.name import is_registry
from rootless_layer.system.machine import NOBODYS_FAULT, unreadable
from rootless_layer.tar.decompression import decompress, kind_of
from rootless_layer.terminal import printable, quoted

from .bring import EVERYTHING, Fetching
from .choose import fault_of, named
from .derived import read_derived
from .files import DAMAGED, in_archive, in_directory
from .image import Image, Origin
from .index import NO_INDEX, IndexRows, OfIndex
from .referrers import Attachment, Referrer, attachments, read_referrer
from .stored import AbsentError, StoredFiles, blob_name, kept_document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORMS = "Give an image layout, an OCI archive, a docker-archive, or a layer's directory."
MOST_NESTED = 4
MOST_IMAGES = 10_000
"""An index may list so much; no tool writes more than a few hundred rows, and a small file may list one image without end."""


@attrs.frozen(slots=True)
class NamedImage:
    """An image that was found, and the names it is stored under.

    ``listed`` is the platform by which an index lists it, if that says one, and ``digest`` that of the manifest that it is
    stored with, ``""`` where there is none. ``of_index`` is the index that is one image for several platforms, this one
    among them. ``referrers`` are attached to it or to that index where it is stored, and stay where the digest does;
    ``attached`` is to be attached to it, or to that index, when it is written.
    """

    image: Image
    names: tuple[str, ...] = ()
    listed: Platform | None = attrs.field(default=None, eq=False)
    digest: str = attrs.field(default="", eq=False)
    of_index: OfIndex = attrs.field(factory=OfIndex, eq=False)
    referrers: tuple[Referrer, ...] = attrs.field(default=(), eq=False)
    attached: tuple[Attachment, ...] = attrs.field(default=(), eq=False, converter=attachments)

    @property
    def platform(self) -> Platform:
        """Give the platform by which engines choose the image: the index's word, else the config's."""
        return self.listed or self.image.platform

    def fitted(self, platform: Platform | None = None) -> Image:
        """Give the image for the platform by which it is listed, else for ``platform``, as :meth:`.Image.fitted` does."""
        other = self.listed is not None and not self.listed.runs(self.image.platform.filled(self.listed))
        image = self.image.with_platform(self.listed) if other and self.listed is not None else self.image
        return image.fitted(self.listed or platform)


@attrs.frozen(slots=True)
class Other:
    """Something that is listed, and that is no image to choose; ``kind`` and ``what`` say what it is.

    Attestations, signatures and charts are an ``artifact``. An image that is ``absent`` is listed and not there, or not
    whole, and one that is ``damaged`` cannot be read; of both the error is the ``fault``. A ``referrer`` is an artifact that is
    attached to something.
    """

    kind: str
    digest: str
    names: tuple[str, ...]
    listed: Platform | None
    what: str
    fault: InputError | None = attrs.field(default=None, eq=False, repr=False)
    referrer: Referrer | None = attrs.field(default=None, eq=False, repr=False)

    def to_json(self, *, listed: bool = False) -> dict[str, object]:  # noqa: ARG002 - as of an image's report
        """Give it as ``rootless-layer inspect --json`` prints it."""
        platform = None if self.listed is None else str(self.listed)
        own = self.referrer
        said: dict[str, object] = {"kind": self.kind, "names": list(self.names), "platform": platform}
        said |= {"digest": self.digest, "what": self.what}
        return said | ({"artifactType": own.artifact_type, "subject": own.subject} if own is not None else {})

    def lines(self) -> Iterator[str]:
        """Give what a person reads."""
        about = {"no image": self.kind, "names": ", ".join(self.names) or "none", "platform": self.listed or "none"}
        about |= {"digest": self.digest or "none", "because": printable(self.what)}
        if self.referrer is not None:
            about |= {"type": printable(self.referrer.artifact_type), "subject": self.referrer.subject}
        yield from (f"{name:<8}  {value}" for name, value in about.items())

    def may_be(self, platform: Platform, name: str) -> bool:
        """Say whether it has a name, where one is asked for, and may be for a platform."""
        return (not name or is_among(name, self.names)) and (self.listed is None or platform.runs(self.listed))


@attrs.frozen(slots=True)
class Found:
    """All that is at a path, in the order in which it is listed there: images, and what is none."""

    images: tuple[NamedImage, ...]
    others: tuple[Other, ...] = ()

    def named(self, name: str) -> Found:
        """Give what has a name; all, where none is asked for."""
        if not name:
            return self
        images = tuple(named(self.images, name))
        attached = {each.digest for stored in images for each in stored.referrers}
        return Found(images, tuple(one for one in self.others if is_among(name, one.names) or one.digest in attached))

    def whole(self) -> Found:
        """Give it all, where nothing of it is damaged; raises :class:`InputError`."""
        for other in self.others:
            if other.kind == "damaged" and (fault := fault_of(other)) is not None:
                raise fault
        return self


def read_images(path: str | os.PathLike[str], spool: Callable[[], str]) -> list[NamedImage]:
    """Read every image at ``path``, in the order in which it lists them; raises as :func:`read_all` does."""
    return list(read_all(path, spool).whole().images)


def read_all(path: str | os.PathLike[str], spool: Callable[[], str], fetching: Fetching = EVERYTHING) -> Found:
    """Read every image at ``path``, and tell what is listed there beside them.

    Of a registry's image (``docker://NAME``) that is brought here which ``fetching`` says.
    ``spool`` gives the path of a new file in a directory that lasts as long as the images
    are used; it is called where an archive is compressed. Raises :class:`InputError`,
    naming what is wrong with it, where there is no whole image, :class:`SourceError` and
    :class:`MachineError` for what cannot be read.
    """
    path = given_path("path", path)
    function("spool", spool)
    try:
        if is_registry(path):
            from .remote import remote_files  # noqa: PLC0415 - HTTP and TLS, which few need

            return _Reader(remote_files(path, spool, fetching)).found()
        return _read(path, spool)
    except OSError as error:
        raise unreadable(error, str(error.filename or path)) from error


def _read(path: str, spool: Callable[[], str]) -> Found:
    if os.path.isdir(path):
        if os.path.isfile(f"{path}/layer.json"):
            return Found((NamedImage(Image.empty(Platform.host()).append(open_layer(path))),))
        if os.path.isfile(f"{path}/{IMAGE_JSON}"):
            image, names, attached = read_derived(path)
            return Found((attrs.evolve(_known(image, names, digest=image.manifest_digest), attached=attached),))
        return _Reader(StoredFiles(path, in_directory(path), spool)).found()
    if not os.path.isfile(path):
        message = f"{path}: no such image"
        raise (InputError if os.path.lexists(path) else SourceError)(message, hint=with_registry(path) or _FORMS)
    plain = path if kind_of(path) == "none" else decompress(path, spool())
    return _Reader(StoredFiles(path, in_archive(plain, path), spool)).found()


def _known(
    image: Image,
    names: tuple[str, ...],
    listed: Platform | None = None,
    digest: str = "",
    of_index: OfIndex = NO_INDEX,
) -> NamedImage:
    return NamedImage(attrs.evolve(image, origin=Origin.of(names, digest)), names, listed, digest, of_index)


class _Reader:
    """Reads what the documents of an image list."""

    def __init__(self, files: StoredFiles) -> None:
        self.files, self.where = files, files.where
        self.listed = 0
        self.others: list[Other] = []
        # Each is listed for each of its names, and an index may list one any number of times.
        self.manifests: dict[str, Image | str] = {}
        self.indexes: dict[str, IndexRows] = {}

    def found(self) -> Found:
        """Read it all; where ``index.json`` does not give whole images, ``manifest.json`` does, if it is there."""
        has_index, has_docker = (self.files.find(name) is not None for name in ("index.json", "manifest.json"))
        images: list[NamedImage] = []
        if not has_index and not has_docker:
            message = f"{self.where}: holds neither index.json nor manifest.json"
            raise InputError(message, hint=f"{_FORMS} A root filesystem is for `build --rootfs`.")
        if has_index:
            try:
                images = list(self._index(self._rows(self.files.json("index.json"), "index.json"), (), 0))
            except NOBODYS_FAULT:
                raise
            except InputError as error:
                self.others = [Other("damaged", "", (), None, "index.json cannot be read", error)]
        if has_docker:
            images = self._with_docker(images, alone=not has_index)
        faults = [other.fault for other in self.others if other.fault is not None]
        if faults and not images:
            raise faults[0]
        return Found(tuple(map(self._with_referrers, images)), tuple(self.others))

    def _with_referrers(self, stored: NamedImage) -> NamedImage:
        subjects = {stored.digest, stored.of_index.digest} - {""}
        found = [other.referrer for other in self.others if other.referrer is not None and other.referrer.subject in subjects]
        return attrs.evolve(stored, referrers=tuple(found)) if found else stored

    def _with_docker(self, images: list[NamedImage], *, alone: bool) -> list[NamedImage]:
        """Add what ``manifest.json`` has: the images that the index has not, and names by which docker knows them."""
        listed, self.others = self.others, []
        try:
            found = list(self._docker())
        except NOBODYS_FAULT:
            raise
        except InputError:
            if alone:
                raise
            found = []
        of_docker, self.others = self.others, listed
        if alone:
            self.others = of_docker
            return found
        known = {sha256(stored.image.config) for stored in images}
        for stored in found:
            digest = sha256(stored.image.config)
            there = [number for number, one in enumerate(images) if sha256(one.image.config) == digest]
            names = [name for name in stored.names if not any(is_among(name, images[number].names) for number in there)]
            if there and names:
                first = images[there[0]]
                images[there[0]] = attrs.evolve(first, names=(*first.names, *names))
        if images and not any(other.kind == "damaged" for other in listed):
            return images
        if found:
            self.others = [other for other in listed if other.kind != "damaged"]
        return images + [stored for stored in found if sha256(stored.image.config) not in known]

    def _rows(self, said: object, what: str, media_type: str = "", digest: str = "") -> IndexRows:
        """Give what an index says; raises :class:`InputError` for what is none."""
        finder = Finder()
        index = Document(said, "", finder)
        check_top(index, INDEXES, media_type)
        rows: list[object] = index.get("manifests", list) or []
        self.files.refuse(what, finder)
        kept = kept_document(self.files.piece(blob_name(digest)).read(), media_type) if digest else None
        return IndexRows(rows, OfIndex(index.given.get("annotations") or {}, digest, kept, self.files.blob))

    def _index(self, said: IndexRows, names: tuple[str, ...], depth: int) -> Iterator[NamedImage]:
        self.listed += len(said.rows)
        if depth > MOST_NESTED or self.listed > MOST_IMAGES:
            message = f"{self.where}: its indexes are nested too deep, or list too much: {MOST_IMAGES} rows at most are read"
            raise InputError(message, hint="Have the image copied alone.")
        for number, value in enumerate(said.rows):
            row = Document(value, "", Finder(), f"manifests[{number}]")
            described = check_descriptor(row, typed=False)
            own, platform = tuple(filter(str.isprintable, listed_names(row))), listed_platform(row)
            other = partial(Other, digest=described[1] if described else "", names=names or own, listed=platform)
            found: Image | IndexRows | Other
            try:
                self.files.refuse("an index", row.finder)
                assert described is not None  # noqa: S101 - else there was a problem
                found = self._listed(*described, platform, other)
            except NOBODYS_FAULT:
                raise
            except AbsentError as error:
                here = described is not None and self.files.find(blob_name(described[1])) is not None
                found = other("damaged" if here and platform is None else "absent", what=self._what(error), fault=error)
            except InputError as error:
                found = other("damaged", what=self._what(error), fault=error)
            if isinstance(found, Image):
                yield _known(found, names or own, platform, described[1] if described else "", said.of_index)
            elif isinstance(found, Other):
                self.others.append(found)
            else:
                yield from self._index(found, names or own, depth + 1)

    def _what(self, error: InputError) -> str:
        return error.problems[0].removeprefix(f"{self.where}: ")

    def _listed(
        self, media_type: str, digest: str, size: int, platform: Platform | None, other: Callable[..., Other]
    ) -> Image | IndexRows | Other:
        """Give the image that a row of an index refers to, what another index says, or what else it is."""
        if platform is not None and UNKNOWN in {platform.os, platform.architecture}:
            return other("artifact", what="it is for no platform")
        if media_type and media_type not in {*INDEXES, *MANIFESTS}:
            return other("artifact", what=f"its media type is {quoted(media_type)}")
        if digest in self.indexes:
            return self.indexes[digest]
        if digest not in self.manifests:
            said = self.files.document(digest, size)
            media_type = kind_of_document(said, media_type)
            if media_type in INDEXES:
                return self.indexes.setdefault(digest, self._rows(said, "an index", media_type, digest))
            self.manifests[digest] = self._manifest(said, media_type, digest)
        found = self.manifests[digest]
        return other("artifact", what=found, referrer=self._referrer(digest, media_type)) if isinstance(found, str) else found

    def _referrer(self, digest: str, media_type: str) -> Referrer | None:
        """Give what is attached to something by a manifest that is no image's."""
        data = self.files.piece(blob_name(digest)).read()
        return read_referrer(data, self.files.json(blob_name(digest)), media_type, self.files.blob)

    def _manifest(self, said: object, media_type: str, digest: str) -> Image | str:
        manifest = Document(said, "", Finder())
        config = manifest.given.get("config")
        kind = config.get("mediaType") if isinstance(config, dict) else ""
        return other_than_image(manifest, kind if isinstance(kind, str) else "") or self.files.image(said, media_type, digest)

    def _docker(self) -> Iterator[NamedImage]:
        said = self.files.json("manifest.json")
        if not isinstance(said, list) or len(said) > MOST_IMAGES:
            message = f"{self.where}: manifest.json is a list of {MOST_IMAGES} rows at most"
            raise InputError(message, hint=DAMAGED)
        for number, value in enumerate(said):
            row = Document(value, "", Finder(), f"[{number}]")
            try:
                image, names = self.files.docker_image(row)
            except NOBODYS_FAULT:
                raise
            except InputError as error:
                names = [name for name in row.strings("RepoTags") if name.isprintable()]
                self.others.append(Other("damaged", "", tuple(names), None, self._what(error), error))
            else:
                yield _known(image, tuple(names))
