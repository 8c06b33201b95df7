"""Directories that go when the build ends, also when it is killed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import rootless_layer

from .lease import Lease
from .removal import remove

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import importlib as i; getattr(i.import_module(sys.argv[2]), sys.argv[3])()"
)
_RANDOM_BYTES = 8


def left_behind(folder: str, prefix: str) -> Iterator[str]:
    """Give this user's directories with names as :class:`Temporary` gives them, those in use included."""
    name = re.compile(re.escape(prefix) + f"[0-9a-f]{{{2 * _RANDOM_BYTES}}}")
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            with contextlib.suppress(FileNotFoundError):
                if name.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    yield entry.path


def _sweep(path: str) -> None:
    with contextlib.suppress(OSError):
        lease = Lease.exclusive(path)
        if lease is not None:
            remove(path)
            lease.release()


def start_python(module: str, function: str) -> subprocess.Popen[bytes]:
    """Start a process that calls a function of this package, in a session of its own: Ctrl-C is for its caller.

    It is a fresh interpreter, not a fork: the calling process may have threads. It has the standard
    library only, and so the ``module`` imports nothing else. The ``function`` takes nothing.
    """
    python = sys.executable or os.path.realpath("/proc/self/exe")  # a builder of Nix is started by its base name
    home = os.path.dirname(os.path.dirname(os.path.abspath(rootless_layer.__file__)))
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [python, "-I", "-S", "-c", _START, home, module, function],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


class Temporary:
    """Makes directories, and removes them in the end.

    A process of its own waits beside: when this one ends without a word, that one removes
    what is left.
    """

    def __init__(self) -> None:
        """Start the process that waits."""
        self._made: list[str] = []
        self._leases: list[Lease] = []
        self._waiting = start_python("rootless_layer.system.removal", "wait")

    def __enter__(self) -> Self:
        """Give the maker itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove every directory that is still there."""
        for path in self._made:
            remove(path)
        for lease in self._leases:
            lease.release()
        self._waiting.kill()  # it has nothing left to wait for
        with contextlib.suppress(OSError):
            self._waiting.stdin.close()  # type: ignore[union-attr]
        self._waiting.wait()
        self._waiting.stdout.close()  # type: ignore[union-attr]

    def make(self, folder: str, prefix: str) -> str:
        """Make a directory for this user only, with a name that nobody can guess.

        It is leased for as long as this process lives. What has such a name there and is not
        was left by a build that was killed with all its processes, and goes. Raises :class:`OSError`
        where it cannot be made.
        """
        for left in left_behind(folder, prefix):
            _sweep(left)
        path = os.path.join(os.path.abspath(folder), prefix + secrets.token_hex(_RANDOM_BYTES))
        with contextlib.suppress(BrokenPipeError):  # told before it is made: between the two it may be too late
            self._waiting.stdin.write(os.fsencode(path) + b"\0")  # type: ignore[union-attr]
            self._waiting.stdin.flush()  # type: ignore[union-attr]
        os.mkdir(path, 0o700)
        with contextlib.suppress(FileNotFoundError):  # see below
            os.chmod(path, 0o700)  # whatever the umask is
        self._made.append(path)
        lease = Lease.shared(path)
        if lease is not None:
            self._leases.append(lease)
        elif not os.path.lexists(path):  # somebody has tidied up in this instant
            return self.make(folder, prefix)
        return path
