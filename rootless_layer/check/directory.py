"""A layer's directory, as ``rootless-layer build`` makes one, checked against itself."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError, RootlessLayerError
from rootless_layer.image.admission import image_problems
from rootless_layer.image.derived import read_derived
from rootless_layer.layer.blob import Piece, open_layer
from rootless_layer.layer.made import IMAGE_JSON
from rootless_layer.layer.soundness import Soundness
from rootless_layer.oci.descriptor import MEDIA_TYPES, is_sha256
from rootless_layer.oci.documents import Document, parse
from rootless_layer.system.machine import NOBODYS_FAULT, unreadable
from rootless_layer.terminal import quoted
from rootless_layer.tree import mtree
from rootless_layer.tree.tree import ROOT_MODE, Entry, legible, shown

from .blob import Reading, check_compression, check_diff_id, check_digest, read_blob, read_tar

if TYPE_CHECKING:
    from rootless_layer.oci.findings import Finder

_JSON = "layer.json"
_KINDS = {media_type: kind for kind, media_type in MEDIA_TYPES.items()}


def check_layer(folder: str, finder: Finder) -> None:
    """Check a layer's directory: the blob, or what it is made of again, and the listing, against ``layer.json``."""
    given = _described(folder, finder)
    digest, kind = _digest(given, "digest"), _kind(given)
    blob = given.get("blob", str, required=True)
    if blob not in {None, "stored", "derived"}:
        given.problem("blob", f"is 'stored' or 'derived', and not {quoted(blob)}")
    listed = _listed(folder, given, finder)
    where, reading = "the layer", None
    if blob == "derived":
        reading = None if listed is None else _derived(folder, kind, finder)
    elif digest is not None:
        where = "blobs/" + digest.replace(":", "/", 1)
        reading = _stored(folder, where, given, kind)
    made = given.document("madeFrom", required=True)
    if reading is None:
        return
    finder.layers += 1
    based = made is not None and bool(made.given.get("base"))
    Soundness(where, reading.contents, {}, finder, known=not based).check()
    if listed is not None and reading.whole:
        _compare(listed, reading, finder)


def _described(folder: str, finder: Finder) -> Document:
    try:
        with open(f"{folder}/{_JSON}", "rb") as file:
            said = parse(file.read(), _JSON, finder)
    except FileNotFoundError as error:
        finder.problem(_JSON, f"cannot be read: {error.strerror}")
        said = None
    except OSError as error:
        raise unreadable(error, f"{folder}/{_JSON}") from error
    return Document({} if said is None else said, _JSON, finder)


def _digest(given: Document, name: str) -> str | None:
    digest: str | None = given.get(name, str, required=True)
    if digest is not None and not is_sha256(digest):
        given.problem(name, f"{quoted(digest)} is not a sha256 digest")
        return None
    return digest


def _kind(given: Document) -> str | None:
    media_type = given.get("mediaType", str, required=True)
    if media_type is not None and media_type not in _KINDS:
        given.problem("mediaType", f"{quoted(media_type)} is not that of a layer")
    return _KINDS.get(media_type)


def _stored(folder: str, name: str, given: Document, kind: str | None) -> Reading | None:
    """Check the blob, which is a file."""
    finder, path = given.finder, f"{folder}/{name}"
    size, plain = given.get("size", int, required=True), given.get("uncompressedSize", int, required=True)
    diff_id = _digest(given, "diffId")
    if not os.path.isfile(path):
        finder.problem(name, "is missing")
        return None
    piece = Piece(path, os.path.getsize(path))
    if size is not None and piece.size != size:
        finder.problem(name, f"has {piece.size} bytes, and should have {size}, says {_JSON}")
    check_digest(piece, name.removeprefix("blobs/").replace("/", ":"), name, finder)
    if kind is not None:
        check_compression(piece, kind, name, finder, told=finder.problem)
    reading = read_blob(piece, name, finder)
    if diff_id is not None:
        check_diff_id(reading, diff_id, name, finder)
    if reading.whole and plain is not None and reading.size != plain:
        given.problem("uncompressedSize", f"is {plain}, and the tar has {reading.size} bytes")
    return reading


def _derived(folder: str, kind: str | None, finder: Finder) -> Reading | None:
    """Make the blob again, and have it compared on its way."""
    try:
        layer = open_layer(folder)
    except NOBODYS_FAULT:
        raise
    except (RootlessLayerError, OverflowError) as error:
        finder.problem(_JSON, str(error).splitlines()[0])
        return None
    reading = read_tar(layer.copy_plain, "the layer", finder)
    if reading.whole and kind != "none":
        try:
            layer.verify()
        except NOBODYS_FAULT:
            raise
        except RootlessLayerError as error:
            finder.problem("the layer", "; ".join(error.problems))
    return reading


def _listed(folder: str, given: Document, finder: Finder) -> list[Entry] | None:
    name = given.get("listing", str, required=True)
    if name is None:
        return None
    if os.path.basename(name) != name or not os.path.isfile(os.path.join(folder, name)):
        given.problem("listing", f"{quoted(name)} is no file beside it")
        return None
    try:
        with open(os.path.join(folder, name), "rb") as file:
            entries = mtree.read(file, os.fsencode(folder), name)
    except OSError as error:
        raise unreadable(error, os.path.join(folder, name)) from error
    except (InputError, OverflowError) as error:
        finder.problem(name, getattr(error, "problems", (str(error),))[0].removeprefix(f"{name}: "))
        return None
    count = given.get("entries", int, required=True)
    if count is not None and count != len(entries):
        given.problem("entries", f"is {count}, and the listing has {len(entries)}")
    return entries


def _compare(listed: list[Entry], reading: Reading, finder: Finder) -> None:
    """Compare the listing with the layer, entry by entry."""
    said = {entry.path: entry for entry in listed}
    for path, count in Counter(entry.path for entry in listed).items():
        if count > 1:
            finder.problem(_at(path), "occurs twice")
    there = {member.entry.path: member.entry for member in reading.contents.members}
    if b"" not in there and b"" in said:
        there[b""] = Entry(path=b"", mode=ROOT_MODE, mtime=said[b""].mtime)  # what it is without an entry
    for path in said.keys() - there.keys():
        finder.problem(_at(path), "is not in the layer")
    for path in there.keys() - said.keys():
        finder.problem(_at(path), "is in the layer, and not in the listing")
    for path in sorted(said.keys() & there.keys()):
        for name in _FIELDS:
            one, other = getattr(said[path], name), getattr(there[path], name)
            if name in {"size", "xattrs"} and said[path].link is not None:
                continue  # they are the file's
            if one != other:
                finder.problem(_at(path), f"{name} is {_value(name, one)}, and in the layer {_value(name, other)}")


_FIELDS = ("mode", "uid", "gid", "mtime", "size", "rdev", "target", "link", "xattrs")


def _value(name: str, value: object) -> str:
    if isinstance(value, bytes):
        return legible(value)
    return f"{value:o}" if name == "mode" else str(value)


def _at(path: bytes) -> str:
    return f"the listing: {shown(path)}"


def check_derived(folder: str, finder: Finder) -> None:
    """Check a derived image: what it says of itself, and that its layers' bytes are what it says."""
    finder.images += 1
    try:
        image, names, _ = read_derived(folder)
    except NOBODYS_FAULT:
        raise
    except InputError as error:
        for problem in error.problems:
            finder.problem(IMAGE_JSON, problem)
        return
    for problem in image_problems(image, names):
        finder.problem(IMAGE_JSON, problem)
    for layer in image.layers:
        finder.layers += 1
        try:
            layer.verify()
            layer.verify_plain()
        except NOBODYS_FAULT:
            raise
        except RootlessLayerError as error:
            for problem in error.problems:
                finder.problem(layer.descriptor.digest, problem)
