"""Two layers or images compared: what a container would find different in one of them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.layer.contents import ROOT, Merged, apply_layers, files, read_contents
from rootless_layer.tree.tidy import varies
from rootless_layer.tree.tree import legible, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rootless_layer.image.image import Image
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.tar.read import Member

_MOST_SHOWN = 60


@attrs.frozen(slots=True)
class Change:
    """A path that both have, and each thing that differs: what it is on either side."""

    path: bytes
    differences: Mapping[str, tuple[Any, Any]]


@attrs.frozen(slots=True)
class Comparison:
    """What two trees have apart, by path; paths that are in neither list are equal in both."""

    only_left: tuple[bytes, ...]
    only_right: tuple[bytes, ...]
    changed: tuple[Change, ...]

    @property
    def equal(self) -> bool:
        """Say whether there is no difference."""
        return not (self.only_left or self.only_right or self.changed)

    @property
    def varies(self) -> bool:
        """Say whether all that differs is another in each build, so that tidy layers have none of it."""
        paths = {*self.only_left, *self.only_right, *(change.path for change in self.changed)}
        return not self.equal and all(map(varies, paths))

    def to_json(self) -> dict[str, object]:
        """Give what ``rootless-layer diff --json`` prints."""
        return {
            "equal": self.equal,
            "onlyInA": [shown(path) for path in self.only_left],
            "onlyInB": [shown(path) for path in self.only_right],
            "changed": [
                {"path": shown(change.path), "differences": {name: list(both) for name, both in change.differences.items()}}
                for change in self.changed
            ],
        }

    def lines(self) -> Iterator[str]:
        """Give what a person reads: a line for each path, ``-`` where only A has it and ``+`` where only B has."""
        rows = [(path, f"- {shown(path)}") for path in self.only_left]
        rows += [(path, f"+ {shown(path)}") for path in self.only_right]
        for change in self.changed:
            told = ", ".join(f"{name} {_brief(one)} → {_brief(other)}" for name, (one, other) in change.differences.items())
            rows.append((change.path, f"~ {shown(change.path)}  {told}"))
        for _, text in sorted(rows):
            yield text


def _brief(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def compare(left: Image, right: Image, *, times: bool = True) -> Comparison:
    """Compare the trees that two images' layers make, and, with ``times``, when each file was changed last.

    How files got there does not matter: not which layer has them, nor which name of a
    file is the link. Raises :class:`InputError` for a layer that is damaged.
    """
    return compare_layers(left.layers, right.layers, times=times)


def compare_layers(left: Iterable[LayerBlob], right: Iterable[LayerBlob], *, times: bool = True) -> Comparison:
    """Compare the trees that layers make, the lowest first, as :func:`compare` does those of images."""
    one, other = (apply_layers(map(read_contents, layers)) for layers in (left, right))
    first, second = _names(one), _names(other)
    changed = []
    for path in sorted(one.keys() & other.keys()):
        differences = dict(_differences(one[path], other[path], times=times and (path != b"" or _both_say(one, other))))
        if first.get(path) != second.get(path):
            differences["link"] = (_shown(first.get(path)), _shown(second.get(path)))
        if differences:
            changed.append(Change(path, differences))
    return Comparison(tuple(sorted(one.keys() - other.keys())), tuple(sorted(other.keys() - one.keys())), tuple(changed))


def _both_say(one: Merged, other: Merged) -> bool:
    """Say whether either tree has the root from a layer: without one it has no time."""
    return all(tree[b""] is not ROOT for tree in (one, other))


def _names(tree: Merged) -> dict[bytes, bytes]:
    """Give for each name of a file that has several, but the first, the first of them in order."""
    return {name: first for member, (first, *others) in files(tree) if member.entry.is_regular for name in others}


def _shown(path: bytes | None) -> str | None:
    return None if path is None else shown(path)


def _differences(one: Member, other: Member, *, times: bool) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if one is other or (one.entry.metadata, one.digest) == (other.entry.metadata, other.digest):
        return
    first, second = _properties(one, times=times), _properties(other, times=times)
    for name, value in first.items():
        if name in second and second[name] != value:
            yield name, (value, second[name])


def _properties(member: Member, *, times: bool) -> dict[str, object]:
    """Give what a container sees of a file, by the words for a person."""
    entry = member.entry
    kind = stat.S_IFMT(entry.mode)
    told: dict[str, object] = {
        "type": _TYPES.get(kind, "unknown"),
        "mode": f"{stat.S_IMODE(entry.mode):04o}",
        "owner": f"{entry.uid}:{entry.gid}",
        "xattrs": {legible(name): value.hex() for name, value in entry.xattrs},
    }
    if entry.is_regular:
        told |= {"size": entry.size, "data": member.digest}
    elif entry.target is not None:
        told["target"] = legible(entry.target)
        del told["mode"]  # it means nothing
    elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
        told["device"] = f"{os.major(entry.rdev)},{os.minor(entry.rdev)}"
    return told | ({"mtime": entry.mtime} if times else {})


_TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo",
}  # fmt: skip
