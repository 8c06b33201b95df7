"""The key of a layer with its parts, in a form that is kept beside the layer: why two keys differ, down to the path.

The parts of a key say all that decides the layer's bytes. A tree is a digest in them; so with the parts goes a
*listing* of each tree, a short digest for each path. Where a tree has too many paths for that, those that lie deepest
are put together as the directories that they are in, level by level, until the listing fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING, Any

import attrs

from rootless_layer.terminal import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

KEY_JSON = "key.json"
"""The file of an entry of the cache that has the parts of its key."""
MOST_BYTES = 1 << 18
"""What the listings of a key take together at the most."""
_DEEPEST = 64
_SHORT = 12
_NAMES = {
    "versions": "this program or a library of its",
    "contents": "copy-to-root",
    "copies": "copy",
    "scripts": "script",
    "environment": "env",
}  # fmt: skip
"""How messages call a part; the others by their own names."""


def short(data: bytes) -> str:
    """Give a digest that is long enough to tell what stands at one place from what stood there before."""
    return hashlib.sha256(data).hexdigest()[:_SHORT]


@attrs.frozen(slots=True)
class Listing:
    """A tree's paths, each with a short digest; ``depth`` is how many names a path has at the most.

    What lies deeper is put together as its directory, whose path ends with a slash then.
    """

    depth: int
    paths: Mapping[str, str]

    @classmethod
    def of(cls, paths: Mapping[str, str]) -> Listing:
        """Take the paths of a tree; those that lie deeper than any sensible tree's are put together at once."""
        return cls(_DEEPEST, _folded(paths, _DEEPEST))

    def at(self, depth: int) -> Listing:
        """Give the listing with no path deeper than that. The same tree gives the same, however often it was folded."""
        paths = self.paths
        for level in range(min(self.depth - 1, max((path.count("/") for path in paths), default=0)), depth - 1, -1):
            paths = _folded(paths, level)
        return Listing(min(depth, self.depth), paths)

    def fitting(self, most: int) -> Listing:
        """Give the listing as deep as so many bytes allow; where nothing fits, that of the root alone."""
        found = self
        while found.depth > 1 and sum(len(path) + _SHORT for path in found.paths) > most:
            found = found.at(min(found.depth, max(path.count("/") for path in found.paths) + 1) - 1)
        return found if sum(len(path) + _SHORT for path in found.paths) <= most else found.at(0)

    def first_difference(self, other: Listing) -> str:
        """Say which path is the first that another tree has not, or not so; nothing where both are the same."""
        depth = min(self.depth, other.depth)
        old, new = self.at(depth).paths, other.at(depth).paths
        path = min((path for path in {*old, *new} if old.get(path) != new.get(path)), default=None)
        if path is None:
            return ""
        where = f"something in {path}" if path.endswith("/") else path or "/"
        return f"{where} is {'new' if path not in old else 'gone' if path not in new else 'another'}"


def _folded(paths: Mapping[str, str], depth: int) -> dict[str, str]:
    """Put paths of more names than ``depth`` together."""
    kept: dict[str, str] = {}
    together: dict[str, list[str]] = {}
    for path in sorted(paths):
        names = path.split("/", depth)
        if len(names) <= depth:
            kept[path] = paths[path]
        else:
            together.setdefault("".join(f"{name}/" for name in names[:depth]) or "/", []).append(f"{path}\0{paths[path]}\n")
    return kept | {folder: short("".join(rows).encode("utf-8", "surrogateescape")) for folder, rows in together.items()}


@attrs.frozen(slots=True)
class Key:
    """The key of a layer: the digest of its parts, 64 hexadecimal digits, the parts, and the listings of trees by digest.

    The values of variables are digests in the parts: they may be nobody's business.
    """

    digest: str
    parts: Mapping[str, Any]
    trees: Mapping[str, Listing]

    @classmethod
    def of(cls, parts: Mapping[str, Any], trees: Mapping[str, Mapping[str, str]]) -> Key:
        """Make a key of all that decides a layer's bytes, and of the paths of the trees that are in it by digest."""
        said = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        told = json.loads(json.dumps(parts))
        if isinstance(told.get("environment"), list):
            told["environment"] = [[name, short(value.encode("utf-8", "surrogateescape"))] for name, value in told["environment"]]
        most = MOST_BYTES // max(len(trees), 1)
        listings = {digest: Listing.of(paths).fitting(most) for digest, paths in trees.items()}
        return cls(hashlib.sha256(said.encode()).hexdigest(), told, listings)

    def to_json(self) -> dict[str, Any]:
        """Give it as :meth:`of_json` takes it."""
        trees = {digest: [listing.depth, dict(listing.paths)] for digest, listing in self.trees.items()}
        return {"key": self.digest, "parts": dict(self.parts), "trees": trees}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Key:
        """Take what :meth:`to_json` gives; raises what a document raises that is another one."""
        trees = {str(digest): Listing(int(depth), dict(paths)) for digest, (depth, paths) in said["trees"].items()}
        return cls(str(said["key"]), dict(said["parts"]), trees)

    def write(self, folder: Path) -> None:
        """Keep it in an entry of the cache."""
        (folder / KEY_JSON).write_text(json.dumps(self.to_json()))

    @classmethod
    def read(cls, folder: Path) -> Key | None:
        """Give the key that was kept in an entry; nothing where none was, or it cannot be read."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            found = cls.of_json(json.loads((folder / KEY_JSON).read_bytes()))
            return found if found.digest == folder.name else None
        return None


@attrs.frozen(slots=True)
class Difference:
    """A part in which two keys differ: its name as options have it, and what differs first there."""

    part: str
    text: str

    def __str__(self) -> str:
        """Give both."""
        return f"{self.part}: {self.text}"


def differences(old: Key, new: Key) -> list[Difference]:
    """Say in what two keys differ, part by part, in the order of the parts; of each the first thing."""
    found = []
    for name in dict.fromkeys((*old.parts, *new.parts)):
        one, other = old.parts.get(name), new.parts.get(name)
        if one != other:
            compare = _COMPARED.get(name, _values)
            told = _NAMES.get(name, name.replace("_", "-"))
            found.append(Difference(told, next(compare(one, other, (old.trees, new.trees)), "is another")))
    return found


Trees = tuple["Mapping[str, Listing]", "Mapping[str, Listing]"]


def _values(old: Any, new: Any, _trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(old, list) and isinstance(new, list):
        for number, (one, other) in enumerate(zip(old, new, strict=False), 1):
            if one != other:
                yield f"{quoted(other)} instead of {quoted(one)}, the {number}. of {len(new)}"
        yield from _more(old, new, quoted)
    else:
        yield f"{_said(new)} instead of {_said(old)}"


def _said(value: Any) -> str:  # noqa: ANN401 - JSON
    return "none" if value is None else quoted(value)


def _names(old: Any, new: Any, trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Compare lists of store paths, which may have stamps: in them the order counts last."""
    if not isinstance(old, list) or not isinstance(new, list):
        yield from _values(old, new, trees)
        return
    paths = [[each[0] if isinstance(each, list) else each for each in several] for several in (old, new)]
    yield from (f"{path} is new" for path in paths[1] if path not in set(paths[0]))
    yield from (f"{path} is gone" for path in paths[0] if path not in set(paths[1]))
    yield from (f"{path} was built again, or lies elsewhere" for path, one, other in zip(paths[1], old, new, strict=False)
                if one != other and path == one[0])  # fmt: skip
    yield "the order is another"


def _base(old: Any, new: Any, trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    if old is None or new is None:
        yield from _values(old and old[0], new and new[0], trees)
    elif old[0] != new[0]:
        yield f"{_said(new[0])} instead of {_said(old[0])}"
    yield "what its config says of variables, the working directory or the shell is another"


def _copies(old: Any, new: Any, trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    for number, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if one != other:
            yield f"the {number}. of {len(new)}, to {other[0]}: {_copy(one, other, trees)}"
    yield from _more(old, new, lambda copy: f"a copy to {copy[0]}")


def _copy(old: list[Any], new: list[Any], trees: Trees) -> str:
    """Compare copies: where to, the owner and the mode; then an image, or files each with its name and the tree's digest."""
    if old[:4] != new[:4] or "image" in {old[3], new[3]}:
        return "it is put there in another way, or from another place"
    for one, other in zip(old[4:], new[4:], strict=False):
        if one != other:
            if one[:2] != other[:2]:
                return f"{other[0]} instead of {one[0]}"
            before, after = trees[0].get(one[2]), trees[1].get(other[2])
            difference = before.first_difference(after) if before and after else ""
            return f"{other[0]}: {difference or 'is another'}"
    return "there are more files, or less"


def _contents(old: Any, new: Any, trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    for number, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if one != other:
            yield f"the {number}. of {len(new)}: {_tree(one, other, trees)}"
    yield from _more(old, new, lambda tree: f"a {tree[0]}")


def _rootfs(old: Any, new: Any, trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    yield _tree(old, new, trees) if old and new else f"{'is new' if new else 'is gone'}"


def _tree(old: list[Any], new: list[Any], trees: Trees) -> str:
    if old[0] != new[0]:
        return f"a {new[0]} instead of a {old[0]}"
    if old[0] != "tree":
        return f"{_said(new[1])} instead of {_said(old[1])}" if old[1] != new[1] else "it was built again"
    one, other = trees[0].get(old[1]), trees[1].get(new[1])
    if old[1] == new[1]:
        return "what belongs to it lies elsewhere, or is another"
    return (one.first_difference(other) if one and other else "") or "what is in it is another"


def _scripts(old: Any, new: Any, _trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    for number, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if one[1:] != other[1:]:
            yield f"the {number}. of {len(new)}: {quoted(other[1])} instead of {quoted(one[1])}"
        elif one != other:
            yield f"the {number}. of {len(new)}: its text is another"
    yield from _more(old, new, lambda _script: "a script")


def _variables(old: Any, new: Any, _trees: Trees) -> Iterator[str]:  # noqa: ANN401 - JSON
    one, other = dict(old), dict(new)
    for name in (*other, *one):
        if one.get(name) != other.get(name):
            yield f"{name} is {'new' if name not in one else 'gone' if name not in other else 'another'}"
    yield "the order is another"


def _more(old: list[Any], new: list[Any], said: Callable[[Any], str]) -> Iterator[str]:
    if len(old) != len(new):
        longer = max(old, new, key=len)
        number = min(len(old), len(new))
        yield f"{said(longer[number])}, the {number + 1}. of {len(longer)}, is {'new' if longer is new else 'gone'}"


_COMPARED: Mapping[str, Callable[[Any, Any, Trees], Iterator[str]]] = {
    "closure": _names,
    "tools": _names,
    "base": _base,
    "contents": _contents,
    "copies": _copies,
    "rootfs": _rootfs,
    "scripts": _scripts,
    "environment": _variables,
}
