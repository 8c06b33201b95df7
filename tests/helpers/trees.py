"""Trees on disk, written as their paths and texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def plant(top: Path, files: Mapping[str, str | None]) -> str:
    """Write a tree and give its path: each path has a text, ``-> TARGET`` for a symbolic link, or nothing for a directory."""
    top.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
            path.chmod(0o644)
    return str(top)
