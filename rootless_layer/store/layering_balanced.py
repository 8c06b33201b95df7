"""Layers of which few bytes change when a store path does: the strategy ``balanced``."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import attrs

from rootless_layer.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .closure import StorePath
    from .layering import ReferenceGraph

_SHARE = 4
"""One layer of so many is for several paths."""
_VERSION = re.compile("-[0-9]")  # where a version begins, as Nix takes it (parseDrvName)


@attrs.frozen
class Balanced:
    """The biggest paths get layers of their own, three quarters of all; the others share the last quarter.

    Which of these a small path is in, its name says, without the version. So a path that is built again or updated stays
    where it was, and the layers that an update changes hold little else. A path that is added, or goes, changes one layer
    more: that of the path which is no longer among the biggest, or is now. The layers are in the order of how many
    paths can change each, the fewest first: what stands above a layer that changed is unpacked again.

    ``sizes`` has each path's size in bytes, such as its ``narSize``.
    """

    sizes: Mapping[StorePath, int]

    def parts(self, graph: ReferenceGraph, most: int) -> Iterable[ReferenceGraph]:
        """Give at most ``most`` parts of the ``graph``; raises one :class:`InputError` for all paths without a size."""
        names = graph.names
        if missing := [path.path for path in graph.group if path not in self.sizes]:
            raise InputError(*(f"{path}: its size is not given" for path in missing))
        ordered = sorted(graph.nodes, key=lambda number: (-self.sizes[names[number]], names[number].name, names[number].path))
        shared = 0 if len(ordered) <= most else max(most // _SHARE, 1)
        alone = most - shared if shared else len(ordered)
        groups = [[number] for number in ordered[:alone]]
        together = defaultdict(list)
        for number in ordered[alone:]:
            together[_place(names[number].name, shared)].append(number)
        needed: dict[int, int] = {}  # a bit for each path that can change this one: itself, and all that it needs
        for number, references in graph.nodes.items():
            needed[number] = 1 << number
            for other in references:
                needed[number] |= needed[other]

        def changes(group: list[int]) -> tuple[int, str]:
            mask = 0
            for number in group:
                mask |= needed[number]
            return mask.bit_count(), min(f"{names[number].name} {names[number].path}" for number in group)

        return [graph.only(group) for group in sorted([*groups, *together.values()], key=changes)]


def _place(name: str, count: int) -> int:
    """Give which of so many layers a path is in by its name without the version."""
    stem = _VERSION.split(name, maxsplit=1)[0]
    return int.from_bytes(hashlib.sha256(stem.encode()).digest(), "big") % count
