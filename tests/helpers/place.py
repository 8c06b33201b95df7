"""Where a run of the tests puts what it makes: on the disk, and in memory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parents[1]
PLACE = "ROOTLESS_LAYER_TEST_DIR"
"""The variable with the directory that all of a run's processes share; ``scripts/test`` removes it, however the run ends."""
MEMORY = "ROOTLESS_LAYER_TEST_MEMORY"
"""The variable with a run's directory in memory, below the other; it is the other where no tmpfs will do."""


def mount_memory(place: Path) -> Path:
    """Mount a tmpfs below a run's directory; give that directory itself to whoever may not, or where it keeps no attributes."""
    folder = place / "memory"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], capture_output=True, check=False).returncode:
        return place
    try:
        os.setxattr(folder, "user.tested", b"")  # Linux 6.6 and later
        os.removexattr(folder, "user.tested")
    except OSError:
        unmount(folder)
        return place
    return folder


def unmount(folder: Path) -> None:
    """Unmount a file system, whoever still uses it."""
    subprocess.run(["umount", "-l", folder], check=True)


def in_memory(folder: Path) -> Path:
    """Give the directory in memory of a directory in the run's own: it is made when it is first asked for."""
    found = Path(os.environ[MEMORY], folder.name)
    found.mkdir(exist_ok=True)
    found.chmod(0o755)
    return found


def make_folder(above: Path, prefix: str) -> Path:
    """Make a directory of a test's own that everybody may read."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=above))
    folder.chmod(0o755)
    return folder


def once(name: str, make: Callable[[Path], object], where: str = PLACE) -> Path:
    """Give a directory or file of that name which the first of pytest's processes makes, and no test changes.

    ``make`` is called with the path, which is on the disk or, for ``where=MEMORY``, in memory. No build with
    ``--stage hardlink`` may use it: that gives the sources another time of change, which the builds beside it
    would take for what their scripts did.
    """
    path = Path(os.environ[where], name)
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{path}.done"):
            if os.path.lexists(path):  # of one that was killed, or failed
                remove(path) if path.is_dir() else path.unlink()
            make(path)
            Path(f"{path}.done").touch()
    return path


def remove(folder: Path) -> None:
    """Remove a tree, read-only directories and all, and however many files it has."""
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
    subprocess.run(["rm", "-rf", folder], check=True)
