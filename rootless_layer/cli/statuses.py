"""Every exit status of the command, each for one kind of fault: the table that helps show, and docs/troubleshooting.md."""

from __future__ import annotations

import signal

from rootless_layer.errors import FAULTS

DIFFERENT = LACKING = 1
USAGE = 2
INVALID = 65
READER_GONE = 128 + signal.SIGPIPE

STATUSES: dict[str, str] = {
    "0": "all is done and right",
    "1": "`diff`: the two differ; `doctor`: this machine lacks something that builds need",
    "2": "the command line, or an environment variable, is wrong as it is written",
    **{str(status): fault for status, fault in FAULTS.items()},
    "124": "a script took longer than its timeout",
    "129": "ended by SIGHUP, as when a terminal is closed",
    "130": "ended by SIGINT, as by Ctrl-C",
    "141": "the reader of stdout has gone away",
    "143": "ended by SIGTERM",
    "N": "a script failed with the exit status N, or was killed by the signal N - 128: the message says so",
}
"""By status, what it means. ``N`` is a script's own, which may be any of the others."""


def table() -> str:
    """Give the table as helps show it, a line each."""
    return "\n".join(f"  {status:<4} {meaning}" for status, meaning in STATUSES.items())
