"""How much is tried."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import HealthCheck, settings

EVERY = bool(os.environ.get("ROOTLESS_LAYER_TEST_EVERY"))
"""Set to try every combination of views, users and ways to stage, where one after the other is tried otherwise."""
DAY = int(os.environ.setdefault("ROOTLESS_LAYER_TEST_DAY", str(int(time.time()) // 86400)))
"""The day whose choice is tried: pytest's processes have it of the first one, also where a run goes on after midnight."""
PATIENT = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
"""For tests whose fixtures do not change, on a machine that is busy."""
patient = settings(deadline=None)
"""For tests that draw their examples: a busy machine proves nothing."""
_Case = TypeVar("_Case")


def todays(cases: Sequence[_Case], count: int = 1) -> list[_Case]:
    """Choose as many of some cases that prove much the same, others on each day; all of them where every one is asked for."""
    return list(cases) if EVERY else [cases[(DAY * count + turn) % len(cases)] for turn in range(min(count, len(cases)))]


def examples(many: int) -> int:
    """Say how many examples are drawn of each test: others in each run, and all where every one is asked for."""
    return many if EVERY else max(many // 3, 5)
