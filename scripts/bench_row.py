"""The lines of the table that ``scripts/bench`` prints, and how a command is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; without a peer ``theirs`` is 0, and without processor times ``cpu`` is."""

    name: str
    ours: float
    peer: str
    theirs: float
    goal: str
    met: bool
    unit: str = "s"
    cpu: float = 0
    their_cpu: float = 0

    def line(self) -> str:
        """Write the line."""
        theirs = f"{self._value(self.theirs, self.their_cpu)} | {self.ours / self.theirs:.2f}" if self.theirs else " | "
        ours = self._value(self.ours, self.cpu)
        return f"| {self.name} | {ours} | {self.peer} | {theirs} | {self.goal} | {'yes' if self.met else 'no'} |"

    def _value(self, value: float, cpu: float) -> str:
        return f"{value:.2f} {self.unit}" + (f" (CPU {cpu:.2f} s)" if self.cpu else "")


@dataclass(frozen=True)
class Run:
    """How a command ran: its seconds, those of all its processes on processors, and the peak of the largest one in KiB."""

    seconds: float
    cpu: float
    peak: int
    output: str


def say(text: str) -> None:
    """Tell a person."""
    print(f"bench: {text}", file=sys.stderr)


def measure(command: str, status: int = 0) -> Run:
    """Run a pipeline, which ends with this exit status."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(["bash", "-c", f"set -o pipefail; {command}"], stdout=output)
        _, ended, usage = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(ended)
        if process.returncode != status:
            sys.exit(f"bench: exit status {process.returncode}: {command}")
        output.seek(0)
        return Run(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, output.read().decode())


def run(command: str) -> tuple[float, int, str]:
    """Run a pipeline; give its seconds, the peak memory of its largest process in KiB, and its output."""
    found = measure(command)
    return found.seconds, found.peak, found.output
