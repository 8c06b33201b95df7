"""How far a piece of work is, as its caller is told."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(slots=True)
class Progress:
    """How far a build is: its stage, bytes done and in all, entries in all (0 where unknown), and a note for a person.

    An image's layers are made in the stage *layers*. In the stage *run*, ``script`` names the script that
    begins; it is empty while the session is started.
    """

    stage: Literal["plan", "stage", "run", "scan", "layers", "check", "write", "publish", "done"]
    done: int = 0
    total: int = 0
    note: str = ""
    entries: int = 0
    script: str = ""
