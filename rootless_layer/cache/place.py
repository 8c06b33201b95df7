"""The cache's place on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """Give the place of what is kept between builds: ``ROOTLESS_LAYER_CACHE``, else the user's cache directory."""
    given = os.environ.get("ROOTLESS_LAYER_CACHE")
    return Path(given).absolute() if given else platformdirs.user_cache_path("rootless-layer")
