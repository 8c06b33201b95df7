"""What is to be made: layers and images by name, and which of them need which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs

from rootless_layer.options.image import ImageOptions
from rootless_layer.options.layer import LayerOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


Options = LayerOptions | ImageOptions


@attrs.frozen(slots=True)
class Node:
    """A layer or an image: its name, its options, the nodes that it needs, in order, and the keys whose values were wrong."""

    name: str
    options: Options = attrs.field(factory=LayerOptions)
    needs: tuple[str, ...] = ()
    wrong: frozenset[str] = frozenset()

    @property
    def kind(self) -> Literal["layer", "image"]:
        """Say which of both it is."""
        return "layer" if isinstance(self.options, LayerOptions) else "image"


@attrs.frozen(slots=True)
class Graph:
    """Nodes by name, in the order of the file; those that are needed are there."""

    nodes: Mapping[str, Node]

    def unknown(self, targets: Iterable[str]) -> list[str]:
        """Say of each target that is no node, what may have been meant."""
        return [unknown_name("target", name, self.nodes) for name in targets if name not in self.nodes]

    def select(self, targets: Iterable[str]) -> list[Node]:
        """Give the targets with all that they need, what is needed first; of no targets, everything.

        Unknown targets are left out. Of nodes in a cycle the order is none.
        """
        wanted = list(targets)
        ordered: dict[str, Node] = {}
        entered: set[str] = set()
        stack = [name for name in reversed(wanted or list(self.nodes)) if name in self.nodes]
        while stack:
            name = stack[-1]
            needs = [] if name in entered else [need for need in self.nodes[name].needs if need not in entered]
            entered.add(name)
            if needs:
                stack += reversed(needs)
            else:
                ordered.setdefault(name, self.nodes[stack.pop()])
        return list(ordered.values())

    def above(self, names: Iterable[str]) -> frozenset[str]:
        """Give these nodes and all that need them, directly or not."""
        found = set(names)
        while more := {node.name for node in self.nodes.values() if found.intersection(node.needs)} - found:
            found |= more
        return frozenset(found)


def cycles(needs: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Find cycles, at least one through each knot of them; each begins and ends with the same name."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        on_path: set[str] = set()
        stack = [(start, False)]
        while stack:
            name, left = stack.pop()
            if left:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                found.append([*path[path.index(name) :], name])
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append((name, True))
                stack += [(needed, False) for needed in needs.get(name, ())]
    return found


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, and which one was probably meant."""
    import difflib  # noqa: PLC0415 - for errors only

    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"there is no {what} {name!r}; did you mean {close[0]!r}?"
    return f"there is no {what} {name!r}; there are: {', '.join(sorted(known)) or 'none'}"
