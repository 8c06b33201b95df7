"""A page about images: their layers as bars, each file by its size as a map, what stands twice, and what a pull costs.

The page is one file, which needs no network: the data of it is JSON, compressed, and drawn by a script that is in it, too.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections import defaultdict
from importlib.resources import files
from typing import TYPE_CHECKING

import attrs

from rootless_layer.oci.descriptor import sha256
from rootless_layer.tree.placing import Placing
from rootless_layer.tree.tree import legible, shown

from .inspect import unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless_layer.sbom.files import FileLists
    from rootless_layer.tar.read import Member
    from rootless_layer.tree.tree import Entry

    from .inspect import Inspection

HIDDEN, TWICE, CAPABLE = 1, 2, 4
"""Of a file: a later layer has another or none in its place; its data stands elsewhere, too; it has capabilities."""
_MOST_COPIES = 500
_MOST_CHANGES = 2000
_CAPABILITY = b"security.capability"


@attrs.define(slots=True)
class _Names:
    """The paths of all images, each once: its last part, and the number of the directory that it is in."""

    names: list[str] = attrs.field(factory=lambda: [""])
    parents: list[int] = attrs.field(factory=lambda: [0])
    _numbers: dict[bytes, int] = attrs.field(factory=lambda: {b"": 0})

    def number(self, path: bytes) -> int:
        """Give the number of a path."""
        found = self._numbers.get(path)
        if found is not None:
            return found
        folder, _, name = path.rpartition(b"/")
        parent = self.number(folder)
        self.names.append(legible(name))
        self.parents.append(parent)
        self._numbers[path] = len(self.names) - 1
        return len(self.names) - 1


@attrs.define(slots=True)
class _Rows:
    """The files of an image's layers, a column for each property; the lowest layer has the number 0."""

    path: list[int] = attrs.field(factory=list)
    layer: list[int] = attrs.field(factory=list)
    size: list[int] = attrs.field(factory=list)
    mode: list[int] = attrs.field(factory=list)
    owner: list[str] = attrs.field(factory=list)
    flags: list[int] = attrs.field(factory=list)
    package: list[str] = attrs.field(factory=list)

    def add(self, path: int, layer: int, member: Member, flags: int, package: str) -> None:
        """Add a file."""
        entry = member.entry
        self.path.append(path)
        self.layer.append(layer)
        self.size.append(0 if entry.link is not None else entry.size)
        self.mode.append(entry.mode)
        self.owner.append(f"{entry.uid}:{entry.gid}")
        self.flags.append(flags | (CAPABLE if any(name == _CAPABILITY for name, _ in entry.xattrs) else 0))
        self.package.append(package)

    def to_json(self) -> dict[str, object]:
        """Give the columns; owners and packages are few, and stand by number."""
        owners, owner = _numbered(self.owner)
        packages, package = _numbered(self.package)
        return {
            "path": self.path,
            "layer": self.layer,
            "size": self.size,
            "mode": self.mode,
            "owner": owner,
            "owners": owners,
            "flags": self.flags,
            "package": package,
            "packages": packages,
        }


def _numbered(texts: list[str]) -> tuple[list[str], list[int]]:
    """Give the different texts in order, and the number of each among them."""
    different = sorted(set(texts))
    numbers = {text: number for number, text in enumerate(different)}
    return different, [numbers[text] for text in texts]


def page(images: Sequence[tuple[str, Inspection]], lists: FileLists) -> str:
    """Write the page about one image, or about two of which the second is pulled where the first is.

    :param images: what each is called, and what was found in it by :func:`.inspect.inspect`.
    :param lists: what was kept of it: which package has which file.
    :returns: the HTML.
    """
    names = _Names()
    said: dict[str, object] = {"images": [_image(title, found, names, lists) for title, found in images]}
    if len(images) > 1:
        said["changes"] = _changes(_tree(images[0][1]), _tree(images[1][1]), names)
    said |= {"names": names.names, "parents": names.parents}
    data = base64.b64encode(gzip.compress(json.dumps(said, separators=(",", ":")).encode(), mtime=0)).decode()
    title = html.escape(" and ".join(title for title, _ in images))
    return _asset("report.html").format(title=title, style=_asset("report.css"), script=_asset("report.js"), data=data)


def _asset(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _image(title: str, found: Inspection, names: _Names, lists: FileLists) -> dict[str, object]:
    hides, hidden = _hidden(found)
    packages = _packages(found, lists)
    twice = {(layer, path) for one in found.copies for layer, path in one.places}
    rows = _Rows()
    for number, layer in enumerate(found.layers):
        for path in sorted(layer.members):
            flags = (HIDDEN if (number, path) in hidden else 0) | (TWICE if (number, path) in twice else 0)
            member = layer.members[path]
            rows.add(names.number(path), number, member, flags, "" if member.is_dir else packages.get(path, ""))
    made_by = found.image.made_by
    layers = [
        {**layer.described, "entries": layer.entries, "createdBy": made_by[number], "hides": hides[number]}
        for number, layer in enumerate(found.layers)
    ]
    return {
        "title": title,
        "names": list(found.names),
        "platform": str(found.image.platform),
        "config": sha256(found.image.config),
        "manifest": found.manifest_digest,
        "created": found.image.described.get("created"),
        "layers": layers,
        "rows": rows.to_json(),
        "wasted": found.wasted,
        "copies": [
            {"size": one.size, "places": [[layer, names.number(path)] for layer, path in one.places]}
            for one in found.copies[:_MOST_COPIES]
        ],
        "moreCopies": max(0, len(found.copies) - _MOST_COPIES),
    }


def _hidden(found: Inspection) -> tuple[list[dict[str, int]], set[tuple[int, bytes]]]:
    """Give what each layer takes away from those below, in files and bytes; and each file that is not seen in the image."""
    holder: dict[bytes, int] = {}
    hides: list[dict[str, int]] = []
    hidden: set[tuple[int, bytes]] = set()
    for number, layer in enumerate(found.layers):
        paths = {*layer.changed, *layer.same, *layer.removed}
        gone = [(holder[path], path) for path in paths if path in holder]
        sizes = [found.layers[below].members[path].entry.size for below, path in gone]
        hides.append({"files": len(gone), "bytes": sum(sizes)})
        hidden.update(gone)
        for path in layer.removed:
            holder.pop(path, None)
        holder.update(dict.fromkeys(layer.members, number))
    return hides, hidden


def _packages(found: Inspection, lists: FileLists) -> dict[bytes, str]:
    """Give the package of each path, as the directories of the whole image lead."""
    tree = _tree(found)

    def look(path: bytes) -> Entry | None:
        member = tree.get(path)
        return None if member is None else member.entry

    return lists.owners((layer.members for layer in found.layers), Placing(look, lambda _: None).folder)


def _tree(found: Inspection) -> dict[bytes, Member]:
    """Give what is seen in an image, by path."""
    tree: dict[bytes, Member] = {}
    for layer in found.layers:
        for path in layer.removed:
            tree.pop(path, None)
        tree.update(layer.members)
    return tree


def _changes(old: dict[bytes, Member], new: dict[bytes, Member], names: _Names) -> dict[str, object]:
    """Give what is otherwise in the second image: the number of paths of each kind, and the largest of them."""
    found: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for path in old.keys() | new.keys():
        if path not in new:
            found["-"].append((old[path].entry.size, path))
        elif path not in old:
            found["+"].append((new[path].entry.size, path))
        elif not unchanged(old[path], new[path]):
            found["~"].append((new[path].entry.size, path))
    every = ((size, path, sign) for sign, rows in found.items() for size, path in rows)
    largest = sorted(every, key=lambda row: (-row[0], row[1]))
    return {
        "count": {sign: len(rows) for sign, rows in sorted(found.items())},
        "bytes": {sign: sum(size for size, _ in rows) for sign, rows in sorted(found.items())},
        "largest": [[sign, names.number(path), size] for size, path, sign in largest[:_MOST_CHANGES]],
    }


def titles(images: Iterable[tuple[str, Inspection]]) -> list[str]:
    """Name each of several images: by the name that was given, and where that has several images, by its own."""
    return [f"{given} ({found.names[0]})" if found.names else shown(given.encode()) for given, found in images]
