#!/usr/bin/env python3
"""Draw where the time of a run goes, as an SVG: stacks that py-spy has sampled come in, one a line, and a flame graph goes out.

    py-spy record --format raw --function --subprocesses -o stacks -- rootless-layer build …
    scripts/flame_graph.py TITLE <stacks >graph.svg

A box is a function, as wide as its share of the samples of all processes; what it calls stands upon it. Boxes of one package have
one colour. How Python begins and imports is one box, and a box of less than a thousandth is left out.
"""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WIDTH, HEIGHT, MARGIN, LETTER = 1200, 17, 10, 6.7
LEAST = 0.001
_FRAME = re.compile(r"(?P<name>.+) \((?P<file>[^()]*)\)$")
_IMPORTS = ("<frozen", "importlib")
_WAITING = {"remove_when_caller_is_gone", "_attend", "_wait"}
"""Functions that wait for others where nothing stands upon them; py-spy cannot tell in a PID namespace."""
_COLOURS = ("#f2b179", "#f6d186", "#b5d99c", "#9fd3c7", "#a8c8ec", "#c9b6e4", "#f0b6c8", "#d9c3a5")


@dataclass
class Box:
    """A function where it is called, and how many samples it has, those of what it calls among them."""

    name: str
    package: str = ""
    samples: int = 0
    above: dict[tuple[str, str], Box] = field(default_factory=dict)

    def add(self, frames: Iterable[tuple[str, str]], samples: int) -> None:
        """Count a stack, whose first frame is called by this one."""
        box = self
        box.samples += samples
        for name, package in frames:
            box = box.above.setdefault((name, package), Box(name, package))
            box.samples += samples

    def depth(self, least: float) -> int:
        """Give how many boxes of so many samples stand upon each other."""
        return 1 + max((box.depth(least) for box in self.above.values() if box.samples >= least), default=0)


def read(lines: Iterable[str]) -> Box:
    """Read stacks: frames with semicolons between them, and a number."""
    whole = Box("all")
    for line in lines:
        stack, _, samples = line.rpartition(" ")
        frames = list(_frames(stack.split(";")))
        if frames and frames[-1][0].rpartition(".")[2] not in _WAITING:
            whole.add(frames, int(samples))
    return whole


def _frames(stack: list[str]) -> Iterator[tuple[str, str]]:
    for text in stack:
        found = _FRAME.match(text)
        if found is None:  # a process: what it runs says enough
            continue
        if found["file"].startswith(_IMPORTS):
            if found["name"] in {"_find_and_load", "_handle_fromlist"}:
                yield "imports", ""
                return
            continue
        parts = Path(found["file"]).parts
        yield found["name"], "/".join(parts[:2]) if parts[0] == "rootless_layer" else parts[0]


def draw(whole: Box, title: str) -> str:
    """Draw the boxes, the first at the bottom."""
    least = max(1.0, LEAST * whole.samples)
    height = (whole.depth(least) + 2) * HEIGHT + MARGIN
    colours: dict[str, str] = {"": "#d0d0d0"}
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fdfdfb"/>',
        f'<text x="{MARGIN}" y="{HEIGHT}" font-size="13">{html.escape(title)}</text>',
    ]
    scale = (WIDTH - 2 * MARGIN) / whole.samples
    waiting: list[tuple[Box, float, int]] = [(whole, MARGIN, height - HEIGHT - MARGIN)]
    while waiting:
        box, left, top = waiting.pop()
        wide = box.samples * scale
        colour = colours.setdefault(box.package, _COLOURS[(len(colours) - 1) % len(_COLOURS)])
        said = f"{box.name} ({box.package})" if box.package else box.name
        shown = box.name[: int((wide - 4) / LETTER)]
        shapes.append(
            f'<g><title>{html.escape(said)}: {100 * box.samples / whole.samples:.1f} %</title><rect x="{left:.1f}" y="{top}"'
            f' width="{wide:.1f}" height="{HEIGHT - 1}" fill="{colour}"/><text x="{left + 2:.1f}" y="{top + 12}">'
            f"{html.escape(shown)}</text></g>"
        )
        for above in sorted(box.above.values(), key=lambda above: (above.package, above.name)):
            if above.samples >= least:
                waiting.append((above, left, top - HEIGHT))
            left += above.samples * scale
    return "\n".join((*shapes, "</svg>")) + "\n"


if __name__ == "__main__":
    sys.stdout.write(draw(read(sys.stdin), " ".join(sys.argv[1:])))
