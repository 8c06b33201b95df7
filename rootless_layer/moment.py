"""A point in time as images write it."""

from __future__ import annotations

import datetime as dt

from .errors import InputError


def rfc3339(text: str) -> str:
    """Write a time as RFC 3339 does, in whole seconds and UTC.

    ``text`` is such a time, seconds since 1970, or ``now``. Raises :class:`InputError`.
    """
    try:
        if text == "now":
            moment = dt.datetime.now(dt.UTC)
        elif text.isascii() and text.isdecimal():
            moment = dt.datetime.fromtimestamp(int(text), dt.UTC)
        else:
            moment = dt.datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        message = f"{text!r} is not a time: write it as 2026-01-31T12:00:00Z, as seconds since 1970, or `now`"
        raise InputError(message) from error
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
