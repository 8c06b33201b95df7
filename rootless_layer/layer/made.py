"""What this program puts into an output's directory: by its description, the name of every file there.

A directory is recognised when its description parses and names every file in it. So what
takes the place of a directory can lose nothing that is somebody else's. The bytes of blobs
are not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.oci.descriptor import DOCKER_INDEX, INDEX, canonical, is_sha256
from rootless_layer.system.lease import Lease
from rootless_layer.system.replace import ASIDE
from rootless_layer.system.temporary import left_behind

from .description import LAYER_JSON, LISTING, Description

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

BLOBS, FILES = "blobs/sha256", "files"
LAYERS_JSON, LAYERS = "layers.json", "layers"
IMAGE_JSON, LISTINGS = "image.json", "listings"
INDEX_JSON, OCI_LAYOUT = "index.json", "oci-layout"
_OWN_FILE = re.compile(rb" contents=(files/[0-9a-f]{64})$", re.MULTILINE)
_UNREADABLE = (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, InputError)


@attrs.frozen(slots=True)
class Made:
    """A kind of output: what messages call it, the name of its description, and what reads the names of its files from that."""

    noun: str
    description: str
    names: Callable[[Path], Iterable[str]]

    def foreign(self, folder: Path) -> str | None:
        """Give the path, below a directory, of the first file that is none of such an output's; nothing if there is none.

        The files come in the order of their paths. A description that cannot be read as one is
        foreign itself. What killed builds left there is not: it goes. Raises :class:`OSError`
        for a directory that cannot be read.
        """
        while True:
            before = os.stat(folder)
            found = self._foreign(folder)
            if found is None or os.path.samestat(before, os.stat(folder)):
                return found  # else another build has just put its own there

    def _foreign(self, folder: Path) -> str | None:
        try:
            named = frozenset(self.names(folder))
        except _UNREADABLE:
            if os.path.lexists(folder / self.description):
                return self.description
            named = frozenset()
        within = {above for name in named for above in _above(name)}
        return _first_foreign(str(folder), "", named, within)


def _above(name: str) -> Iterable[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _first_foreign(top: str, folder: str, named: frozenset[str], within: set[str]) -> str | None:
    here = os.path.join(top, folder)
    with os.scandir(here) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    left = {path for path in left_behind(here, ASIDE) if _is_left(path)} if entries else set()
    for entry in entries:
        name = os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            if entry.path in left:
                continue
            found = _first_foreign(top, name, named, within) if name in within else _first_file(top, name)
            if found is not None:
                return found
        elif name not in named or not entry.is_file(follow_symlinks=False):
            return name
    return None


def _first_file(top: str, folder: str) -> str:
    """Name a file in a directory, which may be deep; where there is none, the directory."""
    for here, folders, files in os.walk(os.path.join(top, folder)):
        folders.sort()
        if files:
            return os.path.relpath(os.path.join(here, min(files)), top)
    return folder


def _is_left(path: str) -> bool:
    """Say whether a directory of a build is no build's any more."""
    lease = Lease.exclusive(path)
    if lease is not None:
        lease.release()
    return lease is not None


def _read(path: Path) -> bytes:
    """Read a description; raises :class:`ValueError` for what is no file: a FIFO would be waited for."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ValueError(path)
    return path.read_bytes()


def _blob(digest: object) -> str:
    if not is_sha256(digest):
        raise ValueError(digest)
    return f"{BLOBS}/{str(digest).removeprefix('sha256:')}"


def _layer(folder: Path) -> set[str]:
    said = Description.parse(_read(folder / LAYER_JSON), LAYER_JSON)
    if said.listing != LISTING:
        raise ValueError(said.listing)
    names = {LAYER_JSON, LISTING}
    if said.blob == "stored":
        return names | {_blob(said.descriptor.digest)}
    files = folder / FILES
    if files.is_dir() and (folder / LISTING).is_file():
        names |= {name.decode() for name in _OWN_FILE.findall(_read(folder / LISTING))}
    elif files.is_dir():  # what a layer is that lost its listing, and is made again
        names |= {f"{FILES}/{name}" for name in os.listdir(files) if hashlib.sha256(_read(files / name)).hexdigest() == name}
    return names


def _layers(folder: Path) -> set[str]:
    names = {LAYERS_JSON}
    for number, name in enumerate(json.loads(_read(folder / LAYERS_JSON))["layers"]):
        if name != f"{number:02}":
            raise ValueError(name)
        names |= {f"{name}/{below}" for below in _layer(folder / name)}
    return names


def _derived_image(folder: Path) -> set[str]:
    said = json.loads(_read(folder / IMAGE_JSON))
    _blob(said["manifestDigest"])
    names = {IMAGE_JSON}
    for layer in said["layers"]:
        place = str(layer["listing"] if "listing" in layer else layer["file"])
        if place.startswith(f"{LAYERS}/"):
            names |= {f"{LAYERS}/{below}" for below in _layers(folder / LAYERS)}
        names.add(place)
    return names


def _image_layout(folder: Path) -> set[str]:
    index = _read(folder / INDEX_JSON)
    said = json.loads(index)
    if canonical(said) != index:
        raise ValueError(INDEX_JSON)  # another tool has written it, so some of its images are not ours
    names = {OCI_LAYOUT, INDEX_JSON}
    rows: list[Any] = [*said["manifests"]]
    while rows:
        row = rows.pop()
        name = _blob(row["digest"])
        if name in names or not (folder / name).is_file():
            continue
        names.add(name)
        document = json.loads(_read(folder / name))
        if row["mediaType"] in {INDEX, DOCKER_INDEX}:
            rows += document["manifests"]
        else:
            names |= {_blob(each["digest"]) for each in (document["config"], *document["layers"])}
    return names


LAYER = Made("a layer", LAYER_JSON, _layer)
CLOSURE_LAYERS = Made("the layers of a closure", LAYERS_JSON, _layers)
DERIVED_IMAGE = Made("a derived image", IMAGE_JSON, _derived_image)
IMAGE_LAYOUT = Made("an image layout", INDEX_JSON, _image_layout)
