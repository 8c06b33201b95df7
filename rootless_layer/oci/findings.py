"""The findings of a check, in three words.

- A *problem* makes an image invalid: no reader may take it, and this program does not build upon it.
- What is *unusual* is not as the specifications have it, and engines take it all the same, or some of them do.
- A *note* is worth knowing only.
"""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True)
class Finding:
    """One thing that was found: the file, blob or path that it is about, and what is wrong with it."""

    where: str
    what: str

    def __str__(self) -> str:
        """Write it as a line."""
        return f"{self.where}: {self.what}"

    def to_json(self) -> dict[str, str]:
        """Give both parts by name."""
        return {"where": self.where, "what": self.what}


@attrs.frozen(slots=True)
class Findings:
    """All that a check found, in the order in which it was found, each once; and how much was looked at."""

    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()
    images: int = 0
    layers: int = 0
    entries: int = 0
    unusual: tuple[Finding, ...] = ()

    @property
    def valid(self) -> bool:
        """Say whether every claim holds."""
        return not self.problems

    def to_json(self) -> dict[str, object]:
        """Give the findings as ``rootless-layer validate --json`` prints them."""
        return {
            "valid": self.valid,
            "problems": [one.to_json() for one in self.problems],
            "unusual": [one.to_json() for one in self.unusual],
            "notes": [one.to_json() for one in self.notes],
            "checked": {"images": self.images, "layers": self.layers, "entries": self.entries},
        }


@attrs.define(slots=True)
class Finder:
    """Gathers findings: what is found twice, as in a layer of two images, is kept once."""

    problems: dict[Finding, None] = attrs.field(factory=dict)
    odd: dict[Finding, None] = attrs.field(factory=dict)
    notes: dict[Finding, None] = attrs.field(factory=dict)
    images: int = 0
    layers: int = 0
    entries: int = 0

    def problem(self, where: str, what: str) -> None:
        """Keep a claim that does not hold."""
        self.problems[Finding(where, what)] = None

    def unusual(self, where: str, what: str) -> None:
        """Keep what engines take, although it is not as it should be."""
        self.odd[Finding(where, what)] = None

    def note(self, where: str, what: str) -> None:
        """Keep what is worth knowing."""
        self.notes[Finding(where, what)] = None

    def found(self) -> Findings:
        """Give all of it."""
        return Findings(tuple(self.problems), tuple(self.notes), self.images, self.layers, self.entries, tuple(self.odd))

    def take(self, other: Finder, *, give_way: bool = False) -> None:
        """Take the findings of another; where that part of an image gives way to another, its problems are unusual only."""
        (self.odd if give_way else self.problems).update(other.problems)
        self.odd.update(other.odd)
        self.notes.update(other.notes)

    def count(self, other: Finder) -> None:
        """Count what was looked at for another."""
        self.images += other.images
        self.layers += other.layers
        self.entries += other.entries
