"""Layers that are built although they may be in the cache: ``make --refresh``, and ``--no-cache``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs

from rootless_layer.check.diff import compare_layers
from rootless_layer.errors import InputError
from rootless_layer.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rootless_layer.cache.build import Holder
    from rootless_layer.layer.blob import LayerBlob
    from rootless_layer.progress import Report

    from .graph import Node


@attrs.frozen(slots=True)
class Anew:
    """Which layers are to be built anew, each once: those of the nodes of these ``names``.

    The ``holder`` has the layers in use here, ``fresh`` the keys of those that were built here.
    """

    names: Collection[str]
    holder: Holder
    fresh: set[str] = attrs.field(factory=set)

    def layer(self, node: Node, key: str) -> frozenset[str]:
        """Give the key of a layer where it is to be built anew.

        Raises :class:`InputError` where another node has taken it from the cache already.
        """
        if node.name not in self.names or key in self.fresh:
            return frozenset()
        if key in self.holder:
            message = f"{node.name}: is the same layer as another target, which takes it from the cache"
            raise InputError(message, hint="Name each of them with --refresh, or use --no-cache.")
        return frozenset({key})

    def closure(self, node: Node, keys: Sequence[str]) -> frozenset[str]:
        """Give the keys of those layers of a closure that are to be built anew; those that others use stay."""
        if node.name not in self.names:
            return frozenset()
        return frozenset(key for key in keys if key not in self.fresh and key not in self.holder)


def point_to_tidy(tell: Report, earlier: LayerBlob, built: LayerBlob) -> None:
    """Say of a layer that was built anew whether the earlier one differs only in parts that each build has others of.

    Nothing is read where both are the same.
    """
    if earlier.diff_id == built.diff_id:
        return
    with contextlib.suppress(InputError):  # one that is damaged is replaced
        if not compare_layers([earlier], [built]).varies:
            return
        note = "differs from the earlier build only in parts that each build has others of: `tidy = true` leaves them out"
        tell(Progress("write", note=note))
