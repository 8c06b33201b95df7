"""The form of an image's documents: what the image-spec requires of each property.

Properties that it does not know are no fault (image-spec ``considerations.md``,
"Extensibility"); where a config has one, a note says so, as it may be a slip.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from rootless_layer.terminal import quoted

from .config import (
    form_problems,
    is_known,
    is_of,
    misspelt,
    misspelt_properties,
    problems,
    read_json,
    unknown_members,
)
from .descriptor import ALGORITHMS, CONFIG, DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, is_sha256
from .findings import Finder

if TYPE_CHECKING:
    from collections.abc import Collection

INDEXES = (INDEX, DOCKER_INDEX)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
CONFIGS = (CONFIG, "application/vnd.docker.container.image.v1+json")
_VERSION = 2

_NAMES = {str: "a string", dict: "an object", list: "a list", int: "a number", bool: "true or false"}
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}(;.*)?")
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
_WORD = re.compile(r"[!-~]+")
DESCRIPTOR_NAMES = ("mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform")
_OF_BOTH = ("schemaVersion", "mediaType", "artifactType", "subject", "annotations")
MANIFEST_NAMES = (*_OF_BOTH, "config", "layers")
INDEX_NAMES = (*_OF_BOTH, "manifests")
_OF_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")
_OF_DOCKER: dict[str, type] = {
    "id": str, "parent": str, "comment": str, "container": str, "container_config": dict, "docker_version": str, "Size": int,
}  # fmt: skip
"""What docker's configs say beyond the image-spec: podman and skopeo read it too (containers/image, ``Schema2V1Image``)."""
_OF_CONFIG = (*_OF_PLATFORM, "created", "author", "config", "rootfs", "history", *_OF_DOCKER)
_OF_HISTORY = ("created", "author", "created_by", "comment", "empty_layer")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def parse(data: bytes, where: str, finder: Finder) -> Any:  # noqa: ANN401 - JSON
    """Read JSON; ``None`` where it is none. A name that an object has twice is a problem: readers take one or the other."""
    try:
        return read_json(data, lambda name: finder.problem(where, f"an object has {quoted(name)} twice"))
    except ValueError as error:
        finder.problem(where, f"is not JSON: {error}")
        return None


class Document:
    """An object whose properties are read by name and type; what is not as it should be is a problem."""

    def __init__(self, given: Any, where: str, finder: Finder, part: str = "") -> None:  # noqa: ANN401 - JSON
        """Take an object. ``part`` says which one of the document at ``where`` it is."""
        self.where, self.finder, self.part = where, finder, part
        if not isinstance(given, dict):
            self.problem("" if part else "the document", f"is an object, and not {brief(given)}")
        self.given: dict[str, Any] = given if isinstance(given, dict) else {}

    def problem(self, name: str, what: str) -> None:
        """Report a property."""
        named = ".".join(part for part in (self.part, name) if part)
        self.finder.problem(self.where, f"{named}: {what}" if named else what)

    def unusual(self, name: str, what: str) -> None:
        """Report a property that is not as it should be, and that engines take so."""
        self.finder.unusual(self.where, f"{'.'.join(part for part in (self.part, name) if part)}: {what}")

    def get(self, name: str, kind: type, *, required: bool = False) -> Any:  # noqa: ANN401 - of that kind
        """Give a property, ``None`` where there is none of that type."""
        value = self.given.get(name)
        if value is None:
            if required:
                self.problem(name, "is required, and missing")
            return None
        if not is_of(value, kind):
            self.problem(name, f"is {_NAMES[kind]}, and not {brief(value)}")
            return None
        return value

    def strings(self, name: str, *, required: bool = False) -> list[str]:
        """Give a list of strings."""
        values = self.get(name, list, required=required) or []
        if not all(isinstance(value, str) for value in values):
            self.problem(name, "is a list of strings")
        return [value for value in values if isinstance(value, str)]

    def names(self, name: str) -> dict[str, str]:
        """Give an object whose values are strings, as annotations are."""
        values = self.get(name, dict) or {}
        if not all(isinstance(value, str) for value in values.values()):
            self.problem(name, "is an object of strings")
        return {key: value for key, value in values.items() if isinstance(value, str)}

    def documents(self, name: str, *, required: bool = False) -> list[Document]:
        """Give a list of objects."""
        values = self.get(name, list, required=required) or []
        return [Document(value, self.where, self.finder, self._named(f"{name}[{n}]")) for n, value in enumerate(values)]

    def document(self, name: str, *, required: bool = False) -> Document | None:
        """Give an object."""
        value = self.get(name, dict, required=required)
        return None if value is None else Document(value, self.where, self.finder, self._named(name))

    def _named(self, name: str) -> str:
        return f"{self.part}.{name}" if self.part else name

    def spelled(self, names: Collection[str]) -> None:
        """Check that no property has a name that engines take for one of these."""
        for wrong in misspelt(self.given, names):
            self.problem("", wrong)

    def time(self, name: str) -> None:
        """Check a time."""
        value = self.get(name, str)
        if value is not None and not is_time(value):
            self.problem(name, f"{quoted(value)} is not a time as RFC 3339 writes it")


def brief(value: object) -> str:
    """Show a value that is not what it should be."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"  # noqa: PLR2004 - a line


def is_time(text: str) -> bool:
    """Say whether a text is a time as RFC 3339 writes it."""
    if not _TIME.fullmatch(text):
        return False
    try:
        dt.datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


def is_digest(text: str) -> bool:
    """Say whether a text is a digest (image-spec ``descriptor.md``, "Digests")."""
    algorithm, _, encoded = text.partition(":")
    if not _DIGEST.fullmatch(text):
        return False
    length = ALGORITHMS.get(algorithm)
    return length is None or re.fullmatch(f"[0-9a-f]{{{length}}}", encoded) is not None


def check_descriptor(given: Document, *, typed: bool = True) -> tuple[str, str, int] | None:
    """Check a descriptor (image-spec ``descriptor.md``); give its media type, digest and size where they are usable.

    Of one that need not be ``typed`` engines guess the media type where there is none.
    """
    given.spelled(DESCRIPTOR_NAMES)
    digest, size = given.get("digest", str, required=True), given.get("size", int, required=True)
    media_type = given.get("mediaType", str, required=typed)
    if not typed and not media_type:
        given.unusual("mediaType", "is missing: podman and skopeo guess it")
    elif media_type is not None and not _MEDIA_TYPE.fullmatch(media_type):
        given.problem("mediaType", f"{quoted(media_type)} is not a media type")
    if digest is not None and not is_digest(digest):
        given.problem("digest", f"{quoted(digest)} is not a digest")
        digest = None
    elif digest is not None:
        digest = _known(given, digest)
    if size is not None and size < 0:
        given.problem("size", f"{size} is less than nothing")
    given.strings("urls")
    given.names("annotations")
    platform = given.document("platform")
    if platform is not None:
        check_platform(platform)
    data = given.get("data", str)
    if data is not None and digest is not None and digest.startswith("sha256:"):
        _check_data(given, data, digest, size)
    if digest is None or size is None:
        return None
    return media_type or "", digest, size


def _known(given: Document, digest: str) -> str | None:
    algorithm = digest.partition(":")[0]
    if algorithm not in ALGORITHMS:
        given.problem("digest", f"{quoted(digest)} is by {algorithm}: engines know {', '.join(ALGORITHMS)}")
        return None
    if algorithm == "sha384":
        given.unusual("digest", "is by sha384, which engines know, and image-spec does not register")
    return digest


def _check_data(given: Document, data: str, digest: str, size: int | None) -> None:
    try:
        embedded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        given.problem("data", f"is not base64: {error}")
        return
    if f"sha256:{hashlib.sha256(embedded).hexdigest()}" != digest or len(embedded) != size:
        given.problem("data", "is not what digest and size say")


def check_platform(given: Document) -> None:
    """Check a platform (image-spec ``image-index.md``)."""
    given.spelled(_OF_PLATFORM)
    for name in ("architecture", "os", "variant"):
        value = given.get(name, str)
        if value and not _WORD.fullmatch(value):
            given.problem(name, f"{value!a:.80} is not a word")
        elif not value and name != "variant":
            given.unusual(name, "is required, and missing: podman, docker and containerd take the config's")
    given.get("os.version", str)
    given.strings("os.features")


def check_top(given: Document, kinds: tuple[str, ...], media_type: str = "") -> None:
    """Check what manifests and indexes have in common; ``media_type`` is what their descriptor says."""
    given.spelled(INDEX_NAMES if kinds == INDEXES else MANIFEST_NAMES)
    version = given.get("schemaVersion", int)
    if version != _VERSION and (version is not None or given.given.get("schemaVersion") is None):
        given.unusual("schemaVersion", f"is {_VERSION}, and not {version}: no engine looks at it")
    for name in ("manifests",) if kinds == MANIFESTS else ("layers", "config"):
        if given.given.get(name) is not None:
            given.problem(name, "belongs to another kind of document: podman and containerd refuse what may be either")
    own = given.get("mediaType", str)
    if own is not None and own not in kinds:
        given.problem("mediaType", f"{quoted(own)} is not that of such a document")
    elif own is not None and media_type and own != media_type:
        given.unusual("mediaType", f"is {quoted(own)}, and the descriptor says {quoted(media_type)}: engines go by that")
    given.names("annotations")


def check_image_config(given: Document, layers: int | None) -> list[str]:
    """Check an image's config (image-spec ``config.md``) for that many layers; give its diff IDs."""
    for name in ("architecture", "os"):
        if given.given.get(name) in (None, ""):
            given.unusual(name, "is required, and missing: docker takes the machine's, and podman takes the image")
    rootfs = given.given.get("rootfs")
    if isinstance(rootfs, dict):
        for name in ("type", "diff_ids"):
            if rootfs.get(name) is None:
                given.unusual(f"rootfs.{name}", "is required, and missing: no engine looks for it")
    diff_ids = _check_form(given)
    if layers is None:
        layers = len(diff_ids)
    elif len(diff_ids) != layers:
        given.problem("rootfs.diff_ids", f"there are {len(diff_ids)} for {layers} layers")
    rows = given.given.get("history")
    if isinstance(rows, list) and rows:
        filled = sum(not (isinstance(row, dict) and row.get("empty_layer")) for row in rows)
        if filled != layers:
            taken = "podman and containerd take it, docker does not" if filled > layers else "engines take it"
            given.unusual("history", f"has {filled} rows that are no empty layers, for {layers} layers: {taken}")
    _check_properties(given)
    return diff_ids


def config_faults(config: bytes) -> list[str]:
    """Say what keeps the config of an image from being one to build upon: it is not of the form by which engines read it."""
    try:
        said = read_json(config)
    except ValueError as error:
        return [f"it is not JSON: {error}"]
    finder = Finder()
    _check_form(Document(said, "", finder))
    return [problem.what for problem in finder.problems]


def _check_form(given: Document) -> list[str]:
    """Check the types of what an engine reads of a config; give its diff IDs."""
    _check_about(given)
    for row in given.documents("history"):
        row.spelled(_OF_HISTORY)
        row.time("created")
        for name in ("author", "created_by", "comment"):
            row.get(name, str)
        row.get("empty_layer", bool)
    inner = given.document("config")
    for problem in misspelt_properties(inner.given) if inner is not None else ():
        given.problem("config", problem)
    for name, value in inner.given.items() if inner is not None else ():
        for problem in form_problems(name, value) if is_known(name) else ():
            given.problem("config", problem)
    rootfs = given.document("rootfs", required=True)
    if rootfs is None:
        return []
    rootfs.spelled(("type", "diff_ids"))
    if rootfs.get("type", str) not in {None, "layers"}:
        rootfs.problem("type", "is 'layers'")
    diff_ids = rootfs.strings("diff_ids")
    for diff_id in diff_ids:
        if not is_sha256(diff_id):
            rootfs.problem("diff_ids", f"{quoted(diff_id)} is not a digest by sha256")
    return diff_ids


def _check_about(given: Document) -> None:
    """Check what a config says of the image, and not of its use."""
    for name in ("architecture", "os", "variant"):
        value = given.get(name, str)
        if value and not _WORD.fullmatch(value):
            given.problem(name, f"{value!a:.80} is not a word")
    given.spelled(_OF_CONFIG)
    for name, kind in _OF_DOCKER.items():
        given.get(name, kind)
    for name in ("author", "os.version"):
        given.get(name, str)
    given.strings("os.features")
    given.time("created")


def _check_properties(given: Document) -> None:
    """Check that an engine can run what a config asks for, as far as its form is right."""
    inner = given.given.get("config")
    for name, value in inner.items() if isinstance(inner, dict) else ():
        for path in [name] if not is_known(name) else [f"{name}.{key}" for key in unknown_members(name, value)]:
            given.finder.note(given.where, f"config.{path}: the image-spec has no such property")
        if not is_known(name):
            continue
        if not form_problems(name, value):
            for problem in problems(name, value):
                given.problem("config", problem)
