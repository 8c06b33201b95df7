"""The cache's place on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rootless_layer.errors import OutputError


def cache_directory() -> Path:
    """Give the place of what is kept between builds.

    :returns: ``ROOTLESS_LAYER_CACHE``, else the user's cache directory.
    :raises OutputError: where there is neither: no variable, no HOME that is an absolute path, and no such user.
    """
    given = os.environ.get("ROOTLESS_LAYER_CACHE")
    if given:
        return Path(given).absolute()
    import platformdirs  # noqa: PLC0415 - takes a while

    with contextlib.suppress(RuntimeError):
        place = platformdirs.user_cache_path("rootless-layer")
        if place.is_absolute():
            return place
    message = "there is no place for the cache: this user has no home directory with an absolute path"
    raise OutputError(message, hint="Set ROOTLESS_LAYER_CACHE or HOME to the path of a directory.")


def cache_to_leave_out() -> tuple[Path, ...]:
    """Give the cache's place where there is one, for a build that does not use it, and has it in no input."""
    try:
        return (cache_directory(),)
    except OutputError:
        return ()
