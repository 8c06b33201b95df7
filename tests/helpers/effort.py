"""How much is tried."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EVERY = bool(os.environ.get("ROOTLESS_LAYER_TEST_EVERY"))
"""Set to try every combination of views, users and ways to stage, where one after the other is tried otherwise."""
PATIENT = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
"""For tests whose fixtures do not change, on a machine that is busy."""
patient = settings(deadline=None)
"""For tests that draw their examples: a busy machine proves nothing."""
