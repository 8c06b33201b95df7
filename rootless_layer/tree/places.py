"""Where builds put what they make: no part of any input, although it may lie in one.

``build --copy-to-root . -o out`` gives one digest for ever: before ``out`` is there, and
when the layer of the build before lies in it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OF_A_BUILD = re.compile(rb"\.?rootless-layer-[0-9a-f]{16}")
"""How directories are named that last as long as a build, beside outputs and in TMPDIR, and those that a killed build left."""

CACHE_FOLDERS = ("layers", "snapshots", "outputs")
"""What the cache's directory holds, which may hold other people's files as well."""


@attrs.frozen(slots=True)
class Places:
    """Outputs, which are files or directories, and directories of caches: real paths, of what may not be there yet."""

    outputs: frozenset[str] = frozenset()
    caches: frozenset[str] = frozenset()

    def and_(self, outputs: Iterable[str | os.PathLike[str]], caches: Iterable[str | os.PathLike[str]]) -> Places:
        """Give these places and more."""
        return Places(
            self.outputs.union(os.path.realpath(path) for path in outputs),
            self.caches.union(os.path.realpath(path) for path in caches),
        )

    def check(self, inputs: Iterable[str]) -> None:
        """Raise :class:`OutputError` for each input that an output would take the place of."""
        problems = []
        for given in inputs:
            for output in sorted(self.outputs):
                if (within := _relative(os.path.realpath(given), output)) is not None:
                    how = "lies in the output" if within else "is the output as well:"
                    problems.append(f"{given}: is an input, and {how} {output}, which is replaced as a whole")
        if problems:
            raise OutputError(*problems, hint="Name another output.")

    def holds(self, path: str) -> bool:
        """Say whether a path is one of the places, or lies in one."""
        real = os.path.realpath(path)
        kept = {f"{cache}/{name}" for cache in self.caches for name in CACHE_FOLDERS}
        return any(_relative(real, place) is not None for place in self.outputs | kept)

    def notes(self, inputs: Iterable[str]) -> Iterator[str]:
        """Say what is there and is left out, naming the input as well."""
        for given in inputs:
            for kind, places in (("output", self.outputs), ("cache", self.caches)):
                for place in sorted(places):
                    if _relative(place, os.path.realpath(given)) and os.path.lexists(place):
                        yield f"{place}: lies in the input {given}, and is left out of it: it is the {kind}"

    def hidden(self, top: bytes) -> dict[bytes, set[bytes]]:
        """Give the names that are left out below a directory, by the directory that each is in.

        The directories of a cache's path are made with the cache. So one that holds nothing else
        is left out as well, and one that is empty.
        """
        found: dict[bytes, set[bytes]] = {}
        for output in self.outputs:
            _hide(found, top, os.fsencode(output))
        for cache in self.caches:
            path = os.fsencode(cache)
            for name in CACHE_FOLDERS:
                _hide(found, top, path + b"/" + os.fsencode(name))
            while _hide(found, top, path) and not _holds_more(os.path.dirname(path), found):
                path = os.path.dirname(path)
        return found


def _hide(found: dict[bytes, set[bytes]], top: bytes, path: bytes) -> bool:
    """Leave out a path, if it lies below a directory."""
    if not _relative(os.fsdecode(path), os.fsdecode(top)):
        return False
    above, name = os.path.split(path)
    found.setdefault(above, set()).add(name)
    return True


def _holds_more(folder: bytes, hidden: dict[bytes, set[bytes]]) -> bool:
    """Say whether a directory, which need not be there, holds anything that is not left out."""
    try:
        return not hidden[folder].issuperset(os.listdir(folder))
    except OSError:
        return os.path.lexists(folder)


def meets(read: str, output: str) -> str | None:
    """Say how what is read as a whole stands to an output: it ``is`` it, ``holds`` or ``lies in`` it; nothing where it does not.

    Any of these would lose what is read, or change it: an image, a layer, a file.
    """
    one, other = os.path.realpath(read), os.path.realpath(output)
    if one == other or (os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)):
        return "is"
    if _relative(other, one) is not None:
        return "holds"
    return None if _relative(one, other) is None else "lies in"


def _relative(path: str, folder: str) -> str | None:
    """Give a path below a directory, ``""`` for the directory itself; nothing for what lies elsewhere."""
    if path == folder:
        return ""
    above = folder.rstrip("/") + "/"
    return path.removeprefix(above) if path.startswith(above) else None
