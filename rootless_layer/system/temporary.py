"""Directories that go when the build ends, also when it is killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Self

import rootless_layer

from .lease import Lease
from .removal import remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import TracebackType

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); import importlib as i; getattr(i.import_module(sys.argv[2]), sys.argv[3])()"
)
_RANDOM_BYTES = 8
PREFIX = "rootless-layer-"
"""How the name begins of a directory in :func:`temporary_folder`."""


def temporary_folder() -> str:
    """Give the directory for what goes with a build: ``TMPDIR``, else /tmp; tempfile would write a file there first."""
    return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - what is made there has a name that nobody can guess


_NEEDED = re.compile("HOME|LANG|LC_[A-Z]+|LD_LIBRARY_PATH|LOCALE_ARCHIVE|LOCPATH|PATH|TMPDIR")
"""Variables by which a process is found, finds its libraries, and reads text."""


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


def start_python(module: str, function: str, *, stderr: int | None = None, kept: Collection[int] = ()) -> subprocess.Popen[bytes]:
    """Start a process that calls a function of this package, in a session of its own: Ctrl-C is for its caller.

    It is a fresh interpreter, not a fork: the calling process may have threads. It has the standard
    library only, and so the ``module`` imports nothing else. The ``function`` takes nothing.
    ``stderr`` is as :class:`subprocess.Popen` takes it: by default the caller's own. It has the descriptors that
    are ``kept``, and of the environment no more than it needs: a variable may be a secret.
    """
    python = sys.executable or os.path.realpath("/proc/self/exe")  # a builder of Nix is started by its base name
    home = os.path.dirname(os.path.dirname(os.path.abspath(rootless_layer.__file__)))
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [python, "-I", "-S", "-c", _START, home, module, function],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
        pass_fds=kept, env={name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name)},
    )  # fmt: skip


class _Janitor:
    """The process that waits beside this one, and removes what is left of it.

    It is started at the first directory that is made, and ends when no :class:`Temporary` of this
    process is entered any more, and none has left a directory.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._entered = 0
        self._paths: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def enter(self) -> None:
        """Count one more that may make directories."""
        with self._lock:
            self._entered += 1

    def leave(self, paths: Iterable[str]) -> None:
        """Count one less, whose directories are gone."""
        with self._lock:
            self._entered -= 1
            self._paths.difference_update(paths)
            if not (self._entered or self._paths) and self._process is not None:
                self._process.kill()  # it has nothing left to wait for
                self._close(self._process)
                self._process.wait()
                self._process = None

    def tell(self, path: str) -> None:
        """Name a directory that is to go with this process; raises :class:`OSError` where nobody can be told."""
        with self._lock:
            if self._process is None:
                self._process = start_python("rootless_layer.system.removal", "remove_when_caller_is_gone")
            self._paths.add(path)
            word = os.fsencode(path) + b"\0"
            with contextlib.suppress(BrokenPipeError):  # somebody has ended it
                while word:
                    word = word[os.write(self._process.stdin.fileno(), word) :]  # type: ignore[union-attr]

    def leave_to_parent(self) -> None:
        """Forget, in a process just forked, the one that waits for its parent: each process has its own."""
        if self._process is not None:
            self._close(self._process)
            self._process.returncode = 0  # it is the parent's to wait for
        self.__init__()  # type: ignore[misc]

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]


_janitor = _Janitor()
os.register_at_fork(after_in_child=_janitor.leave_to_parent)


class Temporary:
    """Makes directories, and removes them in the end.

    A process of its own, one for all values of this class, waits beside this process: when this
    one ends without a word, that one removes what is left. A forked child leaves alone what its
    parent has made; what it makes itself goes with the child.
    """

    def __init__(self) -> None:
        """Make nothing yet."""
        self._owner = os.getpid()
        self._made: list[str] = []
        self._leases: list[Lease] = []

    def __enter__(self) -> Self:
        """Give the maker itself."""
        _janitor.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove every directory that is still there."""
        if os.getpid() != self._owner:
            return
        for path in self._made:
            remove(path)
        for lease in self._leases:
            lease.release()
        _janitor.leave(self._made)

    def make(self, folder: str, prefix: str) -> str:
        """Make a directory for this user only, with a name that nobody can guess.

        It is leased for as long as this process lives. What has such a name there and is not
        was left by a build that was killed with all its processes, and goes. Raises :class:`OSError`
        where it cannot be made.
        """
        for left in left_behind(folder, prefix):
            _sweep(left)
        path = os.path.join(os.path.abspath(folder), prefix + os.urandom(_RANDOM_BYTES).hex())
        _janitor.tell(path)  # first: a process that is killed in between leaves nothing
        os.mkdir(path, 0o700)
        with contextlib.suppress(FileNotFoundError):  # where somebody removed it, it is made again below
            os.chmod(path, 0o700)  # whatever the umask is
        self._made.append(path)
        lease = Lease.shared(path)
        if lease is not None:
            self._leases.append(lease)
        elif not os.path.lexists(path):  # somebody has tidied up in this instant
            return self.make(folder, prefix)
        return path
