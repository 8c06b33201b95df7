"""What an image or a layer is, told to a person: what each layer does, and what data stands in it twice."""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.image.files import in_archive, in_directory
from rootless_layer.image.read import is_named, read_images
from rootless_layer.layer.contents import Contents, Merged, read_contents
from rootless_layer.layer.made import IMAGE_JSON
from rootless_layer.oci.descriptor import sha256
from rootless_layer.tree.ls import facts, line
from rootless_layer.tree.tree import Entry, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rootless_layer.image.image import Image
    from rootless_layer.image.read import NamedImage
    from rootless_layer.tar.read import Member
    from rootless_layer.tree.changes import Changes

_MOST_COPIES = 10
_MOST_NESTED = 4
_Key = tuple[str, ...]


@attrs.frozen(slots=True)
class LayerReport:
    """A layer: its descriptor's properties, its size unpacked, and what it does to the layers below.

    ``changed`` paths were below and are otherwise now; ``same`` ones are there again as
    they were.
    """

    described: dict[str, Any]
    entries: int
    added: tuple[bytes, ...]
    changed: tuple[bytes, ...]
    same: tuple[bytes, ...]
    removed: tuple[bytes, ...]
    members: dict[bytes, Member]

    def rows(self) -> Iterator[tuple[str, bytes, Entry | None]]:
        """Give each path, with a sign for what is done to it: ``+``, ``~``, ``=`` or ``-``."""
        signed = {path: sign for sign, paths in self._signed() for path in paths}
        for path in sorted(signed):
            member = self.members.get(path)
            yield signed[path], path, None if member is None else member.entry

    def _signed(self) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
        return ("+", self.added), ("~", self.changed), ("=", self.same), ("-", self.removed)

    def to_json(self, *, listed: bool) -> dict[str, Any]:
        """Give the report; with ``listed`` the entries as well."""
        counts = {
            "entries": self.entries,
            "added": len(self.added),
            "changed": len(self.changed),
            "same": len(self.same),
            "removed": len(self.removed),
        }
        if not listed:
            return self.described | counts
        return self.described | counts | {"list": [_row(*row) for row in self.rows()]}


@attrs.frozen(slots=True)
class Copies:
    """Data that stands more than once: its digest and size, and the number of the layer and the path of each copy."""

    digest: str
    size: int
    places: tuple[tuple[int, bytes], ...]

    @property
    def wasted(self) -> int:
        """Give the bytes of all copies but one."""
        return self.size * (len(self.places) - 1)

    @property
    def wasted_within(self) -> int:
        """Give the bytes of those copies that stand beside another in the same layer."""
        return self.size * (len(self.places) - len({layer for layer, _ in self.places}))

    def to_json(self) -> dict[str, Any]:
        """Give them by name."""
        return {
            "digest": self.digest,
            "size": self.size,
            "wasted": self.wasted,
            "places": [{"layer": layer, "path": shown(path)} for layer, path in self.places],
        }


@attrs.frozen(slots=True)
class Inspection:
    """An image, or a layer's directory as an image of that layer alone, and what was found out about it.

    ``manifest_digest`` is that of the manifest it is stored with; a docker-archive has none.
    """

    image: Image
    names: tuple[str, ...]
    is_layer: bool
    manifest_digest: str | None
    layers: tuple[LayerReport, ...]
    copies: tuple[Copies, ...]

    @property
    def wasted(self) -> dict[str, int]:
        """Give the bytes of data that stands twice: in one layer, and across layers."""
        within = sum(one.wasted_within for one in self.copies)
        return {"within": within, "across": sum(one.wasted for one in self.copies) - within}

    def to_json(self, *, listed: bool = False) -> dict[str, Any]:
        """Give what ``rootless-layer inspect --json`` prints."""
        found = {
            "layers": [layer.to_json(listed=listed) for layer in self.layers],
            "copies": [one.to_json() for one in self.copies],
            "wasted": self.wasted,
        }
        if self.is_layer:
            return {"kind": "layer", **found}
        said = self.image.described
        return {
            "kind": "image",
            "names": list(self.names),
            "platform": str(self.image.platform),
            "manifestDigest": self.manifest_digest,
            "configDigest": sha256(self.image.config),
            "created": said.get("created"),
            "author": said.get("author"),
            "config": {name: value for name, value in (said.get("config") or {}).items() if value not in (None, "", [], {})},
            **found,
        }

    def lines(self, *, listed: bool = False) -> Iterator[str]:
        """Give what a person reads."""
        if not self.is_layer:
            yield from self._about()
        for number, layer in enumerate(self.layers):
            yield from _layer_lines(number, layer, listed=listed)
        yield from self._copy_lines()

    def _about(self) -> Iterator[str]:
        said = self.to_json()
        about = {"names": ", ".join(map(_printable, self.names)) or "none", "platform": said["platform"]}
        about |= {"manifest": said["manifestDigest"], "config": said["configDigest"]}
        about |= {"created": said["created"], "author": said["author"]}
        about = {name: value for name, value in (about | said["config"]).items() if value is not None}
        width = max(map(len, about))
        for name, value in about.items():
            plain = isinstance(value, str) and value.isprintable()
            yield f"{_printable(name):<{width}}  {value if plain else json.dumps(value)}"

    def _copy_lines(self) -> Iterator[str]:
        within, across = self.wasted["within"], self.wasted["across"]
        yield f"data twice   {within} bytes within a layer, {across} bytes across layers"
        for one in self.copies[:_MOST_COPIES]:
            yield f"  {one.wasted} bytes: {one.size} bytes stand {len(one.places)} times"
            for layer, path in one.places[:_MOST_COPIES]:
                yield f"    layer {layer}  {shown(path)}"
            if len(one.places) > _MOST_COPIES:
                yield f"    and {len(one.places) - _MOST_COPIES} more"
        if len(self.copies) > _MOST_COPIES:
            yield f"  and {len(self.copies) - _MOST_COPIES} more files"


def _layer_lines(number: int, layer: LayerReport, *, listed: bool) -> Iterator[str]:
    said = layer.described
    yield f"layer {number}      {said['digest']}"
    yield f"  diff ID    {said['diffId']}"
    yield f"  type       {said['mediaType']}"
    yield f"  size       {said['size']} bytes, {said['uncompressedSize']} unpacked"
    yield (
        f"  entries    {layer.entries}: {len(layer.added)} added, {len(layer.changed)} changed, {len(layer.same)} the same,"
        f" {len(layer.removed)} removed"
    )
    for sign, path, entry in layer.rows() if listed else ():
        yield f"  {sign} {shown(path) if entry is None else line(entry)}"


def _printable(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def _row(sign: str, path: bytes, entry: Entry | None) -> dict[str, Any]:
    row: dict[str, Any] = {"path": shown(path), "change": {"+": "added", "~": "changed", "=": "same", "-": "removed"}[sign]}
    if entry is not None:
        row |= facts(entry)
    return row


def inspect(path: str, spool: Callable[[], str], name: str = "") -> list[Inspection]:
    """Look into every image at ``path``, or those of a ``name``; or into a layer's directory.

    ``spool`` is :func:`rootless_layer.image.read.read_images`'s. Raises :class:`InputError` for
    what is damaged, and names it.
    """
    spooled: list[str] = []

    def remembered() -> str:
        spooled.append(spool())
        return spooled[-1]

    found = read_images(path, remembered)
    chosen = [stored for stored in found if not name or is_named(stored, name)]
    if not chosen:
        message = f"{path}: has no image of the name {name}" if name else f"{path}: has no image"
        raise InputError(message)
    is_layer = os.path.isfile(f"{path}/layer.json")
    if is_layer:
        digests: dict[_Key, str] = {}
    elif os.path.isfile(f"{path}/{IMAGE_JSON}"):
        digests = {_key(stored.image): stored.image.manifest_digest for stored in found}  # by which it was read
    else:
        digests = _manifest_digests(spooled[-1] if spooled else path)
    read: dict[str, Contents] = {}
    return [_inspected(stored, read, digests, is_layer=is_layer) for stored in chosen]


def _manifest_digests(path: str) -> dict[_Key, str]:
    """Give the digest of each manifest that is stored, by the digests of its config and layers."""
    find = in_directory(path) if os.path.isdir(path) else in_archive(path)
    found: dict[_Key, str] = {}
    seen: set[str] = set()  # a manifest is listed for each of its names

    def look(name: str, depth: int) -> None:
        piece = find(name)
        if piece is None or depth > _MOST_NESTED or name in seen:
            return
        seen.add(name)
        said = json.loads(piece.read())
        for row in said.get("manifests") or ():
            look("blobs/" + row["digest"].replace(":", "/", 1), depth + 1)
        if "layers" in said and "config" in said:
            key = (said["config"]["digest"], *(row["digest"] for row in said["layers"]))
            found[key] = "sha256:" + name.rpartition("/")[2]

    with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError, RecursionError):
        look("index.json", 0)  # what images need of it was read before, and is as it should be
    return found


def _inspected(stored: NamedImage, read: dict[str, Contents], digests: Mapping[_Key, str], *, is_layer: bool) -> Inspection:
    below: Merged = {}
    reports = []
    every: list[Contents] = []
    for layer in stored.image.layers:
        digest = layer.descriptor.digest
        if digest not in read:
            read[digest] = read_contents(layer)
        contents = read[digest]
        changes = contents.changes(below)
        described = layer.descriptor.to_json() | {"diffId": layer.diff_id, "uncompressedSize": contents.size}
        reports.append(_report(described, contents, below, changes))
        every.append(contents)
        changes.apply(below)
    return Inspection(stored.image, stored.names, is_layer, digests.get(_key(stored.image)), tuple(reports), _copies(every))


def _key(image: Image) -> _Key:
    return (sha256(image.config), *(layer.descriptor.digest for layer in image.layers))


def _report(described: dict[str, Any], contents: Contents, below: Merged, changes: Changes[Member]) -> LayerReport:
    members = {member.entry.path: member for member in contents.members if not member.is_whiteout}
    added = changes.added
    again = [path for path in members if path in below and path in added]
    same = {path for path in again if unchanged(below[path], added[path])}
    return LayerReport(
        described,
        len(contents.members),
        tuple(sorted(path for path in added if path not in below)),
        tuple(sorted(path for path in again if path not in same)),
        tuple(sorted(same)),
        tuple(sorted(changes.hides(below))),
        members,
    )


def unchanged(one: Member, other: Member) -> bool:
    """Say whether two files are alike in all that a layer says of them, times among it."""
    return one.entry.metadata == other.entry.metadata and one.digest == other.digest


def _copies(layers: Sequence[Contents]) -> tuple[Copies, ...]:
    places: dict[tuple[str, int], list[tuple[int, bytes]]] = defaultdict(list)
    for number, contents in enumerate(layers):
        last = {member.entry.path: member for member in contents.members}
        for path, member in last.items():
            if member.digest and member.entry.size and not member.is_whiteout:
                places[member.digest, member.entry.size].append((number, path))
    found = [Copies(digest, size, tuple(where)) for (digest, size), where in places.items() if len(where) > 1]
    return tuple(sorted(found, key=lambda one: (-one.wasted, one.places)))
