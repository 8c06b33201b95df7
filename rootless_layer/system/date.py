"""Points in time as GNU date reads them."""

from __future__ import annotations

import os
import subprocess

from rootless_layer.errors import InputError


def date_seconds(text: str) -> int:
    """Give the seconds since 1970 of a text that ``date -d`` takes, in UTC where it names no zone; raises :class:`InputError`."""
    command = ["date", "--utc", f"--date={text}", "+%s"]
    try:
        done = subprocess.run(  # noqa: S603 - a program of everybody's, and one argument that is no option
            command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
        )
    except (OSError, ValueError) as error:
        message = f"{text!a:.80}: date(1) cannot be asked which time that is: {error}"
        raise InputError(message) from error
    if done.returncode or not text.strip():
        message = f"{text!a:.80} is not a time"
        raise InputError(message, hint="Write it as 2026-01-31T12:00:00Z, as 20260131 or as date(1) takes it; or write `now`.")
    return int(done.stdout)
