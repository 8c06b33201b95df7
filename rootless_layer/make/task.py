"""What is left to do for a layer or an image of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .why import NO_REASON, Why

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless_layer.cache.targets import Target

    from .chain import Made
    from .events import Action
    from .graph import Node
    from .worker import Teller


@attrs.define(slots=True)
class Task:
    """What is left to do for a node: how that is called, and the work itself."""

    node: Node
    action: Action
    work: Callable[[Teller], object]
    made: Made | None = None
    keys: tuple[str, ...] = ()
    """Of the layers that a build puts into the cache."""
    anew: frozenset[str] = frozenset()
    """Those keys of which a layer may be there, and is built all the same."""
    why: Why = NO_REASON
    record: Target | None = None
    """Where what scripts say is logged, for what runs some."""
