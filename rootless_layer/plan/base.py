"""A base that is opened late: a layer of the cache is found by the base's chain ID alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rootless_layer import given
from rootless_layer.oci.run_config import NONE, RunConfig
from rootless_layer.progress import Report, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.tree.base import Base


@attrs.define(slots=True, eq=False)
class LazyBase:
    """Stands for a base of which the chain ID is known; the tree is opened when a build needs it, once.

    ``open`` is called with the :data:`~rootless_layer.progress.Report` of that build, and gives the base.
    ``run_config`` is what scripts take of the config of the image that the base is from.
    """

    chain_id: str = attrs.field(on_setattr=attrs.setters.frozen)
    _open: Callable[[Report], Base] = attrs.field(repr=False)
    run_config: RunConfig = attrs.field(default=NONE, on_setattr=attrs.setters.frozen)
    _base: Base | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse values of other types."""
        given.text("chain_id", self.chain_id)
        given.function("open", self._open)
        given.instance("run_config", self.run_config, RunConfig, "a RunConfig")

    def open(self, progress: Report = silent) -> Base:
        """Give the base with its tree; raises what opening it raises."""
        if self._base is None:
            self._base = self._open(progress)
        return self._base


def opened(base: Base | LazyBase, progress: Report = silent) -> Base:
    """Give a base with its tree, whether it is open or not; raises what opening it raises."""
    return base.open(progress) if isinstance(base, LazyBase) else base
