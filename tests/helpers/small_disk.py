"""File systems so small that a test fills them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.users import SOMEBODY, User


@contextlib.contextmanager
def small_disk(user: User, size: str) -> Iterator[Path]:
    """Mount a file system of a size, as ``mount`` takes it, that is the user's; nothing may be left in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = user.home / "tiny"
    folder.mkdir()
    owner = 0 if user.is_root else SOMEBODY
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},uid={owner},gid={owner},mode=0755", "tmpfs", folder], check=True)
    yield folder
    left = os.listdir(folder)
    subprocess.run(["umount", folder], check=True)
    assert left == []
