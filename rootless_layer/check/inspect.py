"""What an image or a layer is, told to a person: what each layer does, and what data stands in it twice."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.errors import InputError
from rootless_layer.image.bring import Fetching
from rootless_layer.image.read import Found, Other, read_all
from rootless_layer.layer.contents import Contents, Merged, read_contents
from rootless_layer.oci.descriptor import sha256
from rootless_layer.system.machine import NOBODYS_FAULT
from rootless_layer.tree.ls import facts, line
from rootless_layer.tree.tree import Entry, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rootless_layer.image.image import Image
    from rootless_layer.image.read import NamedImage
    from rootless_layer.tar.read import Keep, Member
    from rootless_layer.tree.changes import Changes

_MOST_COPIES = 10


@attrs.frozen(slots=True)
class LayerReport:
    """A layer: its descriptor's properties, its size unpacked, the command that made it, and what it does to the layers below.

    ``changed`` paths were below and are otherwise now; ``same`` ones are there again as
    they were.
    """

    described: dict[str, object]
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

    def lines(self) -> Iterator[str]:
        """Give each path, as a person reads it."""
        for sign, path, entry in self.rows():
            yield f"  {sign} {shown(path) if entry is None else line(entry)}"

    def _signed(self) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
        return ("+", self.added), ("~", self.changed), ("=", self.same), ("-", self.removed)

    def to_json(self, *, listed: bool) -> dict[str, object]:
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

    def to_json(self) -> dict[str, object]:
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
        """Give what ``rootless-layer inspect --json`` prints, with ``listed`` each path, too."""
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
            "annotations": dict(self.image.annotations),
            **found,
        }

    def lines(self, *, listed: bool = False, waste: bool = False) -> Iterator[str]:
        """Give what a person reads, with ``listed`` each path, too, and with ``waste`` all data that stands twice."""
        yield from self.about()
        for number, layer in enumerate(self.layers):
            yield from _layer_lines(number, layer)
            yield from layer.lines() if listed else ()
        within, across = self.wasted["within"], self.wasted["across"]
        yield f"data twice   {within} bytes within a layer, {across} bytes across layers"
        yield from self.copy_lines(None if waste else _MOST_COPIES)

    def about(self) -> Iterator[str]:
        """Give what an image says of itself, a line each; a layer says nothing."""
        if self.is_layer:
            return
        said = self.to_json()
        about = {"names": ", ".join(map(_printable, self.names)) or "none", "platform": said["platform"]}
        about |= {"manifest": said["manifestDigest"], "config": said["configDigest"]}
        about |= {"created": said["created"], "author": said["author"]}
        about = {name: value for name, value in (about | said["config"] | said["annotations"]).items() if value is not None}
        width = max(map(len, about))
        for name, value in about.items():
            plain = isinstance(value, str) and value.isprintable()
            yield f"{_printable(name):<{width}}  {value if plain else json.dumps(value)}"

    def copy_lines(self, most: int | None = None) -> Iterator[str]:
        """Give the data that stands twice, what wastes most first; with ``most`` no more than so many, and places of each."""
        for one in self.copies[:most]:
            yield f"  {one.wasted} bytes: {one.size} bytes stand {len(one.places)} times"
            for layer, path in one.places[:most]:
                yield f"    layer {layer}  {shown(path)}"
            if most is not None and len(one.places) > most:
                yield f"    and {len(one.places) - most} more"
        if most is not None and len(self.copies) > most:
            yield f"  and {len(self.copies) - most} more files"


def _layer_lines(number: int, layer: LayerReport) -> Iterator[str]:
    said = layer.described
    yield f"layer {number}      {said['digest']}"
    yield f"  diff ID    {said['diffId']}"
    yield f"  type       {said['mediaType']}"
    yield f"  size       {said['size']} bytes, {said['uncompressedSize']} unpacked"
    if said["createdBy"]:
        yield f"  made by    {_printable(str(said['createdBy']))}"
    yield (
        f"  entries    {layer.entries}: {len(layer.added)} added, {len(layer.changed)} changed, {len(layer.same)} the same,"
        f" {len(layer.removed)} removed"
    )


def _printable(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def _row(sign: str, path: bytes, entry: Entry | None) -> dict[str, object]:
    row: dict[str, object] = {"path": shown(path), "change": {"+": "added", "~": "changed", "=": "same", "-": "removed"}[sign]}
    if entry is not None:
        row |= facts(entry)
    return row


def inspect(path: str, spool: Callable[[], str], name: str = "", keep: Keep | None = None) -> list[Inspection]:
    """Look into every image at ``path``, or those of a ``name``; or into a layer's directory.

    ``spool`` is :func:`rootless_layer.image.read.read_images`'s; ``keep`` may have the data of files, as
    :func:`rootless_layer.tar.read.read_members` has it. Raises :class:`InputError` for what is damaged, and names it.
    """
    found, others = inspect_all(path, spool, name, keep)
    Found((), others).whole()
    return found


def inspect_all(
    path: str, spool: Callable[[], str], name: str = "", keep: Keep | None = None
) -> tuple[list[Inspection], tuple[Other, ...]]:
    """Look into every image as :func:`inspect` does, and give what is listed beside them; what is damaged is among that.

    Raises :class:`InputError` where no image can be read.
    """
    found = read_all(path, spool, Fetching(referrers=True)).named(name)
    if not found.images:
        found.whole()
        message = f"{path}: has no image of the name {name}" if name else f"{path}: has no image"
        raise InputError(message)
    is_layer = os.path.isfile(f"{path}/layer.json")
    read: dict[str, Contents] = {}
    made_by: dict[bytes, tuple[str, ...]] = {}
    whole: list[Inspection] = []
    damaged: list[Other] = []
    for stored in found.images:
        try:
            whole.append(_inspected(stored, read, made_by, keep, is_layer=is_layer))
        except NOBODYS_FAULT:
            raise
        except InputError as error:
            if len(found.images) == 1:
                raise
            what = error.problems[0].removeprefix(f"{path}: ")
            damaged.append(Other("damaged", stored.digest, stored.names, stored.listed, what, error))
    if not whole:
        Found((), tuple(damaged)).whole()
    return whole, (*damaged, *found.others)


def _inspected(
    stored: NamedImage, read: dict[str, Contents], made_by: dict[bytes, tuple[str, ...]], keep: Keep | None, *, is_layer: bool
) -> Inspection:
    """Look at an image; what was ``read`` of a layer by its digest, and of a history by the config, is for all images."""
    config = stored.image.config
    if config not in made_by:  # an index may list an image any number of times
        made_by[config] = stored.image.made_by
    below: Merged = {}
    reports = []
    every: list[Contents] = []
    for layer, words in zip(stored.image.layers, made_by[config], strict=True):
        digest = layer.descriptor.digest
        if digest not in read:
            read[digest] = read_contents(layer, keep)
        contents = read[digest]
        contents, changes = contents.placed(below)
        described: dict[str, object] = {**layer.descriptor.to_json(), "diffId": layer.diff_id, "uncompressedSize": contents.size}
        described["createdBy"] = words
        reports.append(_report(described, contents, below, changes))
        every.append(contents)
        changes.apply(below)
    return Inspection(stored.image, stored.names, is_layer, stored.digest or None, tuple(reports), _copies(every))


def _report(described: dict[str, object], contents: Contents, below: Merged, changes: Changes[Member]) -> LayerReport:
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
