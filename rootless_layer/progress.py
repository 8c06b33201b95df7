"""How far a piece of work is, as its caller is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from .terminal import counted


@attrs.frozen(slots=True)
class Progress:
    """How far a build is: its stage, bytes done and in all, entries in all (0 where unknown), and a note for a person.

    Layers come from a registry in the stage *fetch*. A base is unpacked in the stage *unpack*. An image's layers are
    made in the stage *layers*. In the stage *run*, ``script`` names the script that begins; it is empty while the
    session is started. In the stages *plan* and *unpack*, ``entries`` counts those found so far, and ``done`` the bytes read.
    In the stage *write* ``known`` counts the bytes with which an earlier layer begins, and in the stage *done* those of a layer
    that was there; they are neither read nor hashed. At the end of the stage *layers* it counts both, and ``found`` the layers
    that were there.
    """

    stage: Literal["fetch", "unpack", "plan", "stage", "run", "scan", "layers", "check", "write", "publish", "done"]
    done: int = 0
    total: int = 0
    note: str = ""
    entries: int = 0
    script: str = ""
    known: int = 0
    found: int = 0


Report = Callable[[Progress], object]
"""What is called with how far a build is."""


def silent(_progress: Progress) -> None:
    """Tell nobody."""


def told(stage: str, *, done: int = 0, total: int = 0, entries: int = 0, script: str = "") -> str:
    """Write for a person how far a build is."""
    text = f"{stage} {script}" if script else stage
    if total >> 20:
        return f"{text} {min(done, total) >> 20} of {total >> 20} MiB"
    parts = [f"{done >> 20} MiB"] if done >> 20 else []
    parts += [counted(entries, "entry")] if entries else []
    return " ".join((text, ", ".join(parts))) if parts else text
