"""What of an image is looked at once, however often it is referred to: files, documents, layers, and images of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from rootless_layer.errors import InputError
from rootless_layer.image.admission import MOST_FOR_DOCKER, Accidents
from rootless_layer.image.stored import BY_ITSELF
from rootless_layer.layer.blob import Piece
from rootless_layer.layer.soundness import Soundness
from rootless_layer.oci.descriptor import MEDIA_TYPES
from rootless_layer.oci.documents import Document, check_image_config, parse
from rootless_layer.oci.findings import Finder
from rootless_layer.system.machine import NOBODYS_FAULT
from rootless_layer.tar.decompression import kind_of
from rootless_layer.tree.hiding import few

from .blob import Reading, check_diff_id, check_digest, read_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless_layer.layer.contents import Merged

T = TypeVar("T")
StoredLayer = tuple[str, Piece]
"""A layer's file: its name, and where it is."""
NO_MEMBER: StoredLayer = "", Piece("", 0)
"""Stands for a layer without a member, which some tools leave out."""


class Looked:
    """The files of an image, which ``find`` finds by their names, and the findings about each: ``finder`` keeps them."""

    def __init__(self, find: Callable[[str], Piece | None], finder: Finder) -> None:
        """Begin with nothing that was looked at."""
        self.find, self.finder = find, finder
        self.hashed: set[str] = set()
        self._kept: dict[object, tuple[object, Finder]] = {}

    def apart(self, work: Callable[[], object]) -> Finder:
        """Do a part of the work with findings of its own, which are given; what was counted is counted for all."""
        outer, self.finder = self.finder, Finder()
        try:
            work()
        finally:
            inner, self.finder = self.finder, outer
        outer.count(inner)
        return inner

    def once(self, key: object, work: Callable[[], T]) -> T:
        """Do a part of the work the first time that it is asked for; its findings are found each time."""
        if key not in self._kept:
            values: list[T] = []
            inner = self.apart(lambda: values.append(work()))
            self._kept[key] = values, inner
        self.finder.take(self._kept[key][1])
        return cast("list[T]", self._kept[key][0])[0]

    def json(self, piece: Piece, name: str) -> object:
        """Read a document; ``None`` where it is none."""

        def work() -> object:
            try:
                return parse(piece.read(), name, self.finder)
            except NOBODYS_FAULT:
                raise
            except InputError as error:
                self.finder.problem(name, "; ".join(error.problems))
                return None

        return self.once(("json", piece, name), work)

    def document(self, piece: Piece, name: str) -> Document:
        """Read a document; an object without properties, where it is none."""
        given = self.json(piece, name)
        return Document({} if given is None else given, name, self.finder)

    def hash(self, name: str, piece: Piece, digest: str) -> None:
        """Compute the digest of a blob."""
        self.hashed.add(name)
        self.once(("hash", name, digest), lambda: check_digest(piece, digest, name, self.finder))

    def image(self, config: StoredLayer, layers: Sequence[StoredLayer | None]) -> Document:
        """Check an image by its config and its layers, of which some may not be here."""
        where, piece = config
        key = ("image", piece, *(None if layer is None else layer[1] for layer in layers))

        def work() -> None:
            self.finder.images += 1
            given = self.document(piece, where)
            diff_ids = check_image_config(given, len(layers))
            for layer, diff_id in zip(layers, diff_ids, strict=False):
                if layer is not None and layer is not NO_MEMBER:
                    check_diff_id(self.read(*layer), diff_id, layer[0], self.finder)
            self.once(("chain", *key[2:]), lambda: self._check_tree(layers, given))

        self.once(key, work)
        return Document(self.json(piece, where) or {}, where, self.finder)

    def _check_tree(self, layers: Sequence[StoredLayer | None], config: Document) -> None:
        """Check layers one upon the other, and what they hide of each other."""
        below: Merged = {}
        known = True
        seen = Accidents.of(config.given.get("config"))
        for number, layer in enumerate(layers):
            known = known and layer is not None
            if layer is None or layer is NO_MEMBER:
                continue
            reading = self.read(*layer)
            placed, changes = Soundness(layer[0], reading.contents, below, self.finder, known=known).check()
            seen.see(layer[0], placed, below, changes, own=number > 0 and known)
            changes.apply(below)
            known = known and reading.whole
        for note in (*few(seen.notes), *seen.lost):
            self.finder.note(*note.split(": ", 1))
        if len(layers) > MOST_FOR_DOCKER:
            self.finder.unusual(config.where, f"has {len(layers)} layers, and docker takes {MOST_FOR_DOCKER} at most")

    def read(self, name: str, piece: Piece) -> Reading:
        """Read a layer."""

        def work() -> Reading:
            self.finder.layers += 1
            kind = kind_of(piece.path, piece.offset, piece.size) if piece.size else "none"
            if kind in BY_ITSELF:
                self.finder.unusual(name, f"is compressed by {kind}: podman and docker read that")
            elif kind not in MEDIA_TYPES:
                self.finder.problem(name, f"is compressed by {kind}, which engines do not read")
            return read_blob(piece, name, self.finder)

        return self.once(("layer", piece), work)
