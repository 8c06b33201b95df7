"""The rows of ``scripts/bench`` about an update: a layer of which an earlier one has all but a store path."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING

from bench_row import Row, Run, measure, say

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"derived": ("--blob derived", 0.15), "stored": ("", 0.15), "zstd": ("--compression zstd", 0.10)}
"""The options of each, and the most of the full build's processor time."""
ORDER = """
import json, sys
from rootless_layer import load_closure
from rootless_layer.store.order import needed_first
print(json.dumps([path.path for path in needed_first(load_closure(sys.argv[1]))]))
"""


class Updates:
    """A closure without one of its store paths, and what the layer of the whole one takes after that of the other."""

    def __init__(self, cache: Path, command: str, times: int, store: Path) -> None:
        """Find the order in which the store paths stand in a layer."""
        self.cache, self.command, self.times, self.store = cache, command, times, store
        python = os.path.join(os.path.dirname(command.split(maxsplit=1)[0]), "python")
        said = subprocess.run([python, "-c", ORDER, store / "graph"], capture_output=True, text=True, check=True).stdout
        self.order: list[str] = json.loads(said)

    def rows(self) -> list[Row]:
        """Leave out the last path, and one in the middle, which nobody needs."""
        records = self._records()
        needed = {other for path, others in records.items() for other in others if other != path}
        free = [path for path in self.order if path not in needed]
        middle = min(free, key=lambda path: abs(self.order.index(path) - len(self.order) // 2))
        found = []
        for path, name in ({middle: "a middle"} | {free[-1]: "the last"}).items():
            before = self.cache / "graph-before"
            before.write_text("".join(self._record(each, others) for each, others in records.items() if each != path))
            share = (self.order.index(path) + 1) / len(self.order)
            for kind, (options, most) in KINDS.items():
                full, update = zip(*(self._turn(before, options) for _ in range(self.times)), strict=True)
                ours, theirs = (statistics.median(run.cpu for run in runs) for runs in (update, full))
                took, their_took = (statistics.median(run.seconds for run in runs) for runs in (update, full))
                say(f"{kind}: {took:.2f} s after {their_took:.2f} s, CPU {ours:.2f} s after {theirs:.2f} s")
                goal = f"≤ {most:.2f}" if path == free[-1] else f"path {share:.0%}"
                met = path != free[-1] or ours <= most * theirs
                found.append(Row(f"{name} path is new, {kind}, CPU", ours, "all is new", theirs, goal, met))
        return found

    def _turn(self, before: Path, options: str) -> tuple[Run, Run]:
        """Build all of it with an empty cache, and again with one that has the layer without the path."""
        full = self._build(self.store / "graph", options)
        self._clean()
        self._build(before, options)
        update = self._build(self.store / "graph", options)
        self._clean()
        return full, update

    def _build(self, graph: Path, options: str) -> Run:
        where = f"ROOTLESS_LAYER_CACHE={self.cache}/kept"
        return measure(
            f"{where} {self.command} build -q --cache -o {self.cache}/out --closure {graph} --store-root {self.store} {options}"
        )

    def _clean(self) -> None:
        for name in ("kept", "out"):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def _records(self) -> dict[str, list[str]]:
        lines = (self.store / "graph").read_text().splitlines()
        records: dict[str, list[str]] = {}
        while lines:
            path, _, count = lines[:3]
            records[path] = lines[3 : 3 + int(count)]
            del lines[: 3 + int(count)]
        return records

    @staticmethod
    def _record(path: str, others: list[str]) -> str:
        return "".join(f"{line}\n" for line in (path, "", str(len(others)), *others))
