"""What a check found: problems, which are claims that do not hold, and notes, which are worth knowing only."""

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

    @property
    def valid(self) -> bool:
        """Say whether every claim holds."""
        return not self.problems

    def to_json(self) -> dict[str, object]:
        """Give the findings as ``rootless-layer validate --json`` prints them."""
        return {
            "valid": self.valid,
            "problems": [one.to_json() for one in self.problems],
            "notes": [one.to_json() for one in self.notes],
            "checked": {"images": self.images, "layers": self.layers, "entries": self.entries},
        }


@attrs.define(slots=True)
class Finder:
    """Gathers findings: what is found twice, as in a layer of two images, is kept once."""

    problems: dict[Finding, None] = attrs.field(factory=dict)
    notes: dict[Finding, None] = attrs.field(factory=dict)
    images: int = 0
    layers: int = 0
    entries: int = 0

    def problem(self, where: str, what: str) -> None:
        """Keep a claim that does not hold."""
        self.problems[Finding(where, what)] = None

    def note(self, where: str, what: str) -> None:
        """Keep what is worth knowing."""
        self.notes[Finding(where, what)] = None

    def found(self) -> Findings:
        """Give all of it."""
        return Findings(tuple(self.problems), tuple(self.notes), self.images, self.layers, self.entries)
