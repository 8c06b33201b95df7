"""An output that appears whole or not at all, and that takes the place of an earlier one only."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rootless_layer.errors import OutputError

from .files import WritebackFile
from .fork import uninterrupted
from .machine import unwritable
from .namespaces import begin_writeback, exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .temporary import Temporary

ASIDE = ".rootless-layer-"
"""How the name begins of a directory beside an output, in which the output is made."""

ARCHIVE = "an archive"
_HINT = "Name another directory with -o, or remove it."
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV})
"""What file systems say that have no exchange (rename(2)): NFS, some of FUSE; an old kernel; and see :func:`_move`."""
_FILLED = frozenset({errno.ENOTEMPTY, errno.EEXIST})
PLACED: list[Path] = []
"""The output that this process has put in its place last; a signal's handler asks for it."""


class Recognised(Protocol):
    """A kind of output that this program knows again."""

    @property
    def noun(self) -> str:
        """Give what messages call it."""

    def foreign(self, folder: Path) -> str | None:
        """Give the path, below a directory, of the first file that is none of such an output's; nothing if there is none."""


def check_replaceable(target: Path, made: Recognised) -> None:
    """Refuse to replace anything but an empty directory and one that holds such an output and nothing else.

    Raises :class:`OutputError`, which names the first file that is none of the output's. The
    directory in which this program runs stays as well, and those that it lies in: a shell stands there.
    """
    if _holds_current(target):
        message = f"{target}: is the current directory, or holds it, and an output takes the place of a directory as a whole"
        raise OutputError(message, hint="Name another directory with -o, or run this from outside.")
    if os.path.lexists(target):
        _check(target, target, made)


def _holds_current(target: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(target.resolve()) and target.is_dir()
    except OSError:  # somebody has removed it
        return False


def _check(found: Path, target: Path, made: Recognised) -> None:
    """Check what stands, or stood, at the target, and was ``found`` where it is now."""
    if not found.is_dir():
        message = f"{target}: is there already, and is not {made.noun}"
        raise OutputError(message, hint=_HINT)
    try:
        foreign = made.foreign(found)
    except OSError as error:
        message = f"{error.filename or target}: cannot be read, to see whether it may be replaced: {error.strerror}"
        raise OutputError(message, hint=_HINT) from error
    if foreign is not None:
        message = (
            f"{target}: is there already, and is not {made.noun} that this program made: {target / foreign} is foreign to it"
        )
        raise OutputError(message, hint="Name another directory with -o, or move what is yours out of it.")


def check_file_replaceable(target: Path, noun: str = ARCHIVE) -> None:
    """Refuse to replace anything but a file by the output, which messages call ``noun``. Raises :class:`OutputError`.

    A file goes, whatever it holds, as tar(1) has it. What /dev/stdout leads to may have no path (a pipe): so it is asked
    for before it is resolved.
    """
    if target.is_dir():
        message = f"{target}: is a directory, and {noun} is a file"
        if noun == ARCHIVE:
            raise OutputError(message, hint="Name another file with -o, or write an image layout.")
        raise OutputError(message, hint="Name another file with -o.")
    if os.path.lexists(target) and not target.is_file():
        message = f"{target}: is no file, whose place {noun} could take"
        raise OutputError(message, hint="Name another file with -o, or write to stdout with -o -.")


@contextlib.contextmanager
def aside(target: Path, temporary: Temporary, made: Recognised) -> Iterator[Path]:
    """Give a directory beside the target, which takes its place in the end, or goes.

    Raises :class:`OutputError` where it cannot be written, and as :func:`check_replaceable`
    where something else has come to the target meanwhile, which then stays.
    """
    with writing(target):
        folder = Path(temporary.make(str(target.parent), ASIDE))
    yield folder
    with writing(target):
        settle(folder, target.stat() if target.is_dir() else None)
        with placing(target):
            if os.path.lexists(target):
                _check(target, target, made)
                _replace(folder, target, temporary, made)
            else:
                folder.rename(target)
        _keep_name(target)


@contextlib.contextmanager
def file_aside(target: Path, temporary: Temporary, noun: str = ARCHIVE) -> Iterator[WritebackFile]:
    """Give a file beside the target, which takes its place in the end, or goes; messages call it ``noun``.

    Raises as :func:`aside`.
    """
    with writing(target):
        made = Path(temporary.make(str(target.parent), ASIDE)) / "made"
        with WritebackFile(made) as file:
            yield file
            file.sync()
        check_file_replaceable(target, noun)
        with placing(target):
            made.replace(target)
        _keep_name(target)


@contextlib.contextmanager
def placing(target: Path) -> Iterator[None]:
    """Hold back what would end this process while an output takes its place, so that it can say whether it has."""
    with uninterrupted():
        yield
        PLACED[:] = [target]


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Raise what :func:`.machine.unwritable` gives for what keeps the output from being written."""
    try:
        yield
    except OSError as error:
        hint = "Name another place with -o."
        if error.errno == errno.EBUSY:
            hint = "Is it a mount point? Name a directory in it with -o."
        elif error.errno == errno.ENOENT and not target.parent.exists():
            hint = "Its directory does not exist: make it first, or name another place with -o."
        told = unwritable(error, str(target), hint=hint)
        raise type(told)(*told.problems, hint=f"Nothing was kept. {told.hint}") from error


def make_folder(path: Path) -> None:
    """Make a directory and its parents, which their owner may use whatever the umask is."""
    for part in (*reversed(path.parents), path):
        if not part.exists():
            with contextlib.suppress(FileExistsError):  # another build was quicker
                part.mkdir()
            part.chmod(part.stat().st_mode | 0o700)


def settle(folder: Path, standing: os.stat_result | None = None) -> None:
    """Have a whole tree on the disk, and give its top and the files right in that the modes that they are to have.

    Where a directory is ``standing`` whose place the tree takes, the top gets its mode, its owner and
    its group, as far as this user may give them.
    """
    if standing is None:
        folder.chmod(0o777 & ~umask() | 0o700)
    else:
        _dress(folder, standing)
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(file.stat().st_mode | 0o600)  # whatever the umask is
    paths = [os.path.join(here, name) for here, _folders, files in os.walk(folder, topdown=False) for name in (*files, "")]
    for path in paths:  # begun for all of them, so that the disk is waited for about once
        with _opened(path) as descriptor:
            begin_writeback(descriptor, 0, 0)
    for path in paths:
        with _opened(path) as descriptor:
            os.fsync(descriptor)


def _dress(folder: str | Path, standing: os.stat_result) -> None:
    mode = stat.S_IMODE(standing.st_mode)
    with contextlib.suppress(OSError):
        os.chown(folder, -1, standing.st_gid)
    if os.stat(folder).st_gid != standing.st_gid:
        mode &= ~stat.S_ISGID  # which would be for another group
    with contextlib.suppress(OSError):
        os.chown(folder, standing.st_uid, -1)
    os.chmod(folder, mode)


def _keep_name(target: Path) -> None:
    """Have an output's name on the disk, where its directory may be read; it is in its place already, so nothing failed."""
    with contextlib.suppress(OSError), _opened(target.parent) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _replace(folder: Path, target: Path, temporary: Temporary, made: Recognised) -> None:
    """Put a directory in the place of another, which goes with the temporary directories unless it is somebody else's."""
    if _took_empty(folder, target):
        return
    try:
        exchange(os.fsencode(folder), os.fsencode(target))
    except OSError as error:
        if error.errno not in _NO_EXCHANGE:
            raise
    else:
        try:
            _check(folder, target, made)  # for what came between the look and the exchange
        except OutputError:
            exchange(os.fsencode(folder), os.fsencode(target))
            raise
        return
    before = Path(temporary.make(str(target.parent), ASIDE)) / "before"
    try:
        _move(str(target), str(before))
        _check(before, target, made)
        folder.rename(target)
    except BaseException:
        if before.exists():
            _move(str(before), str(target))
        raise


def _took_empty(folder: Path, target: Path) -> bool:
    if os.listdir(target):
        return False
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in _FILLED:  # by somebody, meanwhile
            raise
        return False
    return True


def _move(path: str, to: str) -> None:
    """Rename a file or a directory, also back to where a part of it still is.

    overlayfs (of a container, say) renames no directory of its lower layers (EXDEV, unless it has redirect_dir): that is
    made anew, and what is in it is moved.
    """
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno not in _FILLED | {errno.EXDEV} or not os.path.isdir(path):
            raise
    else:
        return
    os.makedirs(to, exist_ok=True)
    for name in os.listdir(path):
        _move(os.path.join(path, name), os.path.join(to, name))
    _dress(to, os.stat(path))
    os.rmdir(path)


def umask() -> int:
    """Read the umask without setting it, which other threads would see."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
