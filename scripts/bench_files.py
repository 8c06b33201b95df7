"""The rows of ``scripts/bench`` where the number of files counts, not their size."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench_row import Row, Run, measure, say

if TYPE_CHECKING:
    from pathlib import Path

SMALL, MILLION = 100_000, 1_000_000
IN_FOLDER = 1000
MOST_CPU, MOST_MEMORY, MOST_GROWTH = 1.5, 250, 11
TAR = "tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1 -cf - -C {} . | openssl dgst -sha256"


class Files:
    """Directories of many small files, and what a layer of each takes."""

    def __init__(self, cache: Path, command: str, times: int) -> None:
        """Make nothing yet."""
        self.cache, self.times = cache, times
        self.build = f"{command} build -q -o {cache}/out --blob derived --copy-to-root"

    def small(self) -> list[Row]:
        """Compare with GNU tar and OpenSSL, in seconds and in processor time."""
        top = self.cache / "small"
        if not (top / "099/0999").exists():
            for number in range(SMALL):
                path = top / f"{number // IN_FOLDER:03}/{number % IN_FOLDER:04}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"%-1024d" % number)
        commands = (f"{self.build} {top}", TAR.format(top))
        runs = [[measure(command) for command in commands] for _ in range(self.times + 1)][1:]  # the first warms the cache
        (ours, our_cpu), (theirs, their_cpu) = map(_median, zip(*runs, strict=True))
        name, peer = f"{SMALL:,} files of 1 KiB", "tar, openssl"
        return [
            Row(name, ours, peer, theirs, "≤ 1.00", ours <= theirs),
            Row(f"{name}, CPU", our_cpu, peer, their_cpu, f"≤ {MOST_CPU:.2f}", our_cpu <= MOST_CPU * their_cpu),
        ]

    def million(self) -> list[Row]:
        """Find the peak memory of a million names, and how the processor time grows; what they name is one file a directory."""
        found = {}
        for count in (SMALL, MILLION):
            top = self.cache / f"names-{count}"
            for folder in (top / f"{number:04}" for number in range(count // IN_FOLDER)):
                if (folder / f"{IN_FOLDER - 1:04}").exists():
                    continue
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "0000").write_bytes(b"%-1024d" % count)
                for number in range(1, IN_FOLDER):
                    (folder / f"{number:04}").hardlink_to(folder / "0000")
            measure(f"{self.build} {top}")
            found[count] = [measure(f"{self.build} {top}") for _ in range(self.times)]
        peak = max(run.peak for run in found[MILLION]) / 1024
        (_, less), (_, more) = (_median(runs) for runs in found.values())
        name = f"{MILLION:,} files of 1 KiB"
        return [
            Row(f"{name}, memory", peak, "", 0, f"≤ {MOST_MEMORY} MiB", peak <= MOST_MEMORY, "MiB"),
            Row(f"{name}, CPU", more, f"{SMALL:,}", less, f"≤ {MOST_GROWTH}", more <= MOST_GROWTH * less),
        ]


def _median(runs: list[Run] | tuple[Run, ...]) -> tuple[float, float]:
    for run in runs:
        say(f"{run.seconds:.2f} s, CPU {run.cpu:.2f} s, {run.peak >> 10} MiB")
    return statistics.median(run.seconds for run in runs), statistics.median(run.cpu for run in runs)
