"""A user's cache: builds through it, its entries, and the verb that tidies it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.users import COMMAND, Result, User

SCRIPT = "echo RAN >&2\nmkdir data\necho 1 > data/file\nchown 33:44 data/file\nchmod 4750 data/file\n"


def place(user: User) -> Path:
    """Where the user's cache is."""
    return user.home / ".cache/rootless-layer"


def entries(user: User, kind: str = "layers") -> list[Path]:
    """What is in the user's cache, rubbish included."""
    folder = place(user) / kind
    return sorted(folder.iterdir()) if folder.is_dir() else []


def cached(user: User, *words: str | Path, output: str = "layer", **more: Any) -> Result:
    """Build through the cache, in the directory view, which takes least."""
    return user.build("--cache", "--view", "directory", *words, output=output, **more)


def tidy(user: User, *words: str) -> Result:
    """Run ``rootless-layer cache``."""
    return user.run([*COMMAND, "cache", *words])
