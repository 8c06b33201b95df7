"""A derived image: a small directory that says what an image is and where its layers' bytes are.

``image.json`` holds the config, the names and, of each layer, the descriptor, the diff ID and
either the listing by whose files a *derived* layer is made again, or the file that holds a
*stored* blob, with the offset there. Nothing that lies elsewhere is copied: so in a Nix store
the directory refers to the layers, and these to the store paths that they are made of.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError, reason
from rootless_layer.layer.blob import LayerBlob, Piece
from rootless_layer.layer.contents import Contents, apply_layers, files
from rootless_layer.layer.made import BLOBS, IMAGE_JSON, LISTINGS
from rootless_layer.oci.descriptor import MANIFEST, Descriptor, layer_type
from rootless_layer.oci.documents import config_faults
from rootless_layer.system.machine import of_reading
from rootless_layer.system.replace import make_folder
from rootless_layer.tar.read import Member
from rootless_layer.terminal import quoted
from rootless_layer.tree.base import Base
from rootless_layer.tree.tree import Tree, stamp

from .image import Image
from .referrers import Attachment
from .stored import kept_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootless_layer.tree.tree import Entry

_VERSION = 1
_UNKNOWN = -1  # of a size that nobody said
_HINT = "Build the image again."


def write_derived(
    image: Image, names: Sequence[str], folder: Path, *, passing: str = "", attached: Sequence[Attachment] = ()
) -> None:
    """Write a derived image into an empty directory.

    What lies in the directory already is referred to by its path there, and what lies below
    the directory ``passing``, which is to go, is copied; all else is referred to by its
    absolute path, and has to stay. What is ``attached`` are files in it, by their titles.
    """
    own = os.path.realpath(passing) + "/" if passing else "\0"
    folder = Path(os.path.realpath(folder))
    said = {
        "version": _VERSION,
        "manifestDigest": image.manifest_digest,
        "names": list(names),
        "config": image.config.decode(),
        "layers": [_described(layer, folder, own) for layer in image.layers],
    } | ({"annotations": dict(image.annotations)} if image.annotations else {})
    if image.kept is not None and image.manifest == image.kept.data:
        said["manifest"] = image.manifest.decode()
    if attached:
        said["attached"] = [{"mediaType": each.media_type, "file": each.title} for each in attached]
        for each in attached:
            (folder / each.title).write_bytes(each.data)
    (folder / IMAGE_JSON).write_text(json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _described(layer: LayerBlob, folder: Path, own: str) -> dict[str, Any]:
    size = _UNKNOWN if layer.uncompressed_size is None else layer.uncompressed_size
    said = layer.descriptor.to_json() | {"diffId": layer.diff_id, "uncompressedSize": size}
    name = layer.descriptor.digest.removeprefix("sha256:")
    if layer.piece is None:
        listing = os.path.realpath(layer.listing).removeprefix(f"{folder}/")
        if listing.startswith(own):
            listing = _kept(folder, f"{LISTINGS}/{name}.mtree")
            shutil.copyfile(layer.listing, folder / listing)
        return said | {"listing": listing, "level": layer.level}
    path, offset = os.path.realpath(layer.piece.path), layer.piece.offset
    if path.startswith(own):
        path, offset = _kept(folder, f"{BLOBS}/{name}"), 0
        with open(folder / path, "wb") as file:
            layer.copy(file.write)
    return said | {"file": path, "offset": offset}


def _kept(folder: Path, name: str) -> str:
    make_folder((folder / name).parent)
    return name


def read_derived(folder: str) -> tuple[Image, tuple[str, ...], tuple[Attachment, ...]]:
    """Read a derived image, its names and what is attached to it; raises :class:`InputError` for what is none."""
    path = os.path.join(folder, IMAGE_JSON)
    try:
        said = json.loads(Path(path).read_bytes())
        if said["version"] != _VERSION:
            message = f"{path}: is of version {quoted(said['version'])}, and this program reads version {_VERSION}"
            raise InputError(message, hint=_HINT)
        config = said["config"].encode()
        problems = config_faults(config)
        if problems:
            raise InputError(*(f"{path}: in the config: {problem}" for problem in problems), hint=_HINT)
        layers = tuple(_layer(layer, folder) for layer in said["layers"])
        kept = kept_document(said["manifest"].encode(), MANIFEST) if "manifest" in said else None
        image = Image(config, layers, annotations=said.get("annotations", {}), kept=kept)
        names = tuple(map(str, said["names"]))
        wanted = said["manifestDigest"]
        attached = tuple(_attached(each, folder) for each in said.get("attached", ()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        message = f"{path}: does not describe an image: {reason(error)}"
        raise of_reading(error)(message, hint=_HINT) from error
    if image.manifest_digest != wanted:
        message = f"{path}: describes the image {image.manifest_digest}, and should describe {wanted}"
        raise InputError(message, hint=_HINT)
    return image, names, attached


def _attached(said: dict[str, str], folder: str) -> Attachment:
    title = os.path.basename(said["file"])
    return Attachment(said["mediaType"], Path(folder, title).read_bytes(), title)


def _layer(said: dict[str, Any], folder: str) -> LayerBlob:
    descriptor = Descriptor(layer_type(said["mediaType"]), said["digest"], said["size"])
    place = os.path.join(folder, said["listing"] if "listing" in said else said["file"])
    if b"\0" in os.fsencode(place):
        raise ValueError(said)
    size = said["uncompressedSize"] if said["uncompressedSize"] > _UNKNOWN else None
    if "listing" in said:
        return LayerBlob(descriptor, said["diffId"], None, size, place, said["level"])
    return LayerBlob(descriptor, said["diffId"], Piece(place, descriptor.size, said["offset"]), size)


def base_of(image: Image, store_dir: str = "/nix/store") -> Base | None:
    """Give the tree of an image all of whose layers are derived; ``None`` for any other.

    Nothing is unpacked: the files are those that the listings name, which have to be what
    they were when the layers were made, as what lies in a Nix store is. Raises
    :class:`InputError` and :class:`SourceError` for a listing that is damaged or not there.
    """
    if any(layer.piece is not None for layer in image.layers):
        return None
    merged = apply_layers(map(_archived, image.layers))
    entries: dict[bytes, Entry] = {}
    for member, names in files(merged):
        carrier = member.entry.path if member.entry.path in names else names[0]
        for path in names:
            entries[path] = attrs.evolve(member.entry, path=path, link=None if carrier == path else carrier)
    below = os.fsencode(store_dir).lstrip(b"/") + b"/"
    mounted = _mounted(entries, below)
    for path in [path for path in entries if path.startswith(below)]:
        if below + path[len(below) :].split(b"/", 1)[0] in mounted:
            entries[path] = attrs.evolve(entries[path], stamp=stamp(os.lstat(b"/" + path)))
    tree = Tree.of(entries.values())
    return Base.of(tree, image.chain_ids[-1] if image.layers else "", tuple((path, b"/" + path) for path in sorted(mounted)))


def _archived(layer: LayerBlob) -> Contents:
    """Give what the layer's tar has: of its listing's root nothing, where the tar has none."""
    return Contents.of(Member(name=entry.path, entry=entry) for entry in layer.read_tree().archived())


def _mounted(entries: Mapping[bytes, Entry], below: bytes) -> set[bytes]:
    """Name the store paths of which every file is the one that lies under its own name on this machine."""
    there: set[bytes] = set()
    changed: set[bytes] = set()
    for path, entry in entries.items():
        if not path.startswith(below):
            continue
        top = below + path[len(below) :].split(b"/", 1)[0]
        there.add(top)
        source = entry.source if entry.link is None else entries[entry.link].source
        own = entry.is_dir or entry.target is not None or (stat.S_ISREG(entry.mode) and source == b"/" + path)
        if not own or not os.path.lexists(b"/" + path):
            changed.add(top)
    return there - changed
