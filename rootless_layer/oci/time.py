"""A point in time as images write it."""

from __future__ import annotations

import datetime as dt
import os

from rootless_layer.errors import InputError
from rootless_layer.terminal import quoted

from .number import whole

_LAST = 253402300799
"""The last second of the year 9999."""


def parse_time(text: str) -> dt.datetime:
    """Read a time as RFC 3339 has it, as seconds since 1970, or ``now``; give it in UTC. Raises :class:`InputError`."""
    try:
        if text == "now":
            return dt.datetime.now(dt.UTC)
        if text.isdecimal():
            return dt.datetime.fromtimestamp(whole(text), dt.UTC)
        moment = dt.datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError, InputError) as error:
        message = f"{quoted(text)} is not a time: write it as 2026-01-31T12:00:00Z, as seconds since 1970, or `now`"
        raise InputError(message) from error


def rfc3339(moment: dt.datetime) -> str:
    """Write a time as RFC 3339 does, in whole seconds and UTC."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def environment_epoch() -> int:
    """Give the variable ``SOURCE_DATE_EPOCH``, in seconds since 1970, 1 where there is none; raises :class:`InputError`.

    It is a number and nothing else (reproducible-builds.org, SOURCE_DATE_EPOCH): a variable of ``now``
    would make of everything that is reproducible something that is not. RFC 3339 has years of four digits.
    """
    return whole(os.environ.get("SOURCE_DATE_EPOCH", "1"), highest=_LAST)


def created(given: str | None) -> str:
    """Give when an image was created, as RFC 3339 has it: the time that is given, else ``SOURCE_DATE_EPOCH``.

    Raises :class:`InputError`.
    """
    return rfc3339(parse_time(str(environment_epoch()) if given is None else given))
