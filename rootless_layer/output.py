"""A directory that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .child import uninterrupted
from .errors import OutputError
from .namespace import exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .temporary import Temporary

_ASIDE = ".rootless-layer-"
PLACED: list[Path] = []
"""The output that this process has put in its place last; a signal's handler asks for it."""


def check_replaceable(target: Path, mark: str, what: str = "a layer") -> None:
    """Refuse to replace anything but an empty directory and one that holds the file ``mark``, as ``what`` does.

    Raises :class:`OutputError`.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / mark).is_file()):
        message = f"{target}: is there already, and is not {what}"
        raise OutputError(message, hint="Name another directory with -o, or remove it.")


@contextlib.contextmanager
def aside(target: Path, temporary: Temporary) -> Iterator[Path]:
    """Give a directory beside the target, which takes its place in the end, or goes.

    Raises :class:`OutputError` where it cannot be written.
    """
    with writing(target):
        folder = Path(temporary.make(str(target.parent), _ASIDE))
    yield folder
    with writing(target):
        settle(folder)
        with placing(target):
            _publish(folder, target)


@contextlib.contextmanager
def placing(target: Path) -> Iterator[None]:
    """Hold back what would end this process while an output takes its place, so that it can say whether it has."""
    with uninterrupted():
        yield
        PLACED[:] = [target]


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Raise :class:`OutputError` for what keeps the output from being written."""
    try:
        yield
    except OSError as error:
        message = f"{target}: cannot be written: {error.strerror or error}"
        raise OutputError(message, hint="Nothing was kept. Make room there, or name another place with -o.") from error


def make_folder(path: Path) -> None:
    """Make a directory and its parents, which their owner may use whatever the umask is."""
    for part in (*reversed(path.parents), path):
        if not part.exists():
            with contextlib.suppress(FileExistsError):  # another build was quicker
                part.mkdir()
            part.chmod(part.stat().st_mode | 0o700)


def settle(folder: Path) -> None:
    """Give a directory and the files that are right in it the modes that they are to have, and have them on the disk."""
    folder.chmod(0o777 & ~umask() | 0o700)
    for path in (*(path for path in folder.iterdir() if path.is_file()), folder):
        path.chmod(path.stat().st_mode | (0o700 if path == folder else 0o600))  # whatever the umask is
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _publish(folder: Path, target: Path) -> None:
    if os.path.lexists(target):
        exchange(os.fsencode(folder), os.fsencode(target))  # what was there before goes with the temporary directory
    else:
        folder.rename(target)


def umask() -> int:
    """Read the umask without setting it, which other threads would see."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
