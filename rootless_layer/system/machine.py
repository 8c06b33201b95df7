"""What this machine could not do, told apart from what is wrong with an input.

The kernel says by an error number what it could not do. A codec or libarchive that finds an
input damaged gives no number, or one of the few that the kernel does not give for a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError, MachineError, OutputError, RootlessLayerError, SourceError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

# libarchive's own: for a format (EILSEQ), for a call that it does not expect (EINVAL), for anything else (-1).
_OF_INPUT = frozenset({0, -1, errno.EILSEQ, errno.EINVAL, errno.ERANGE})
_EXHAUSTED = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or let fewer builds run at the same time.",
    errno.ENFILE: "All programs of this machine together have too many files open: end some, or raise fs.file-max.",
    errno.ENOMEM: "Free memory, or raise the limits of memory and of threads (ulimit -v and -u, a container's limits).",
    errno.EAGAIN: "Raise the limit of processes and threads (ulimit -u, a container's limit).",
    errno.EIO: "A disk or a network file system fails: see the kernel's log.",
}
_FULL = {
    errno.ENOSPC: "Make room there.",
    errno.EDQUOT: "The disk quota is used up: make room there.",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f).",
}
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_PERMIT = "Give the user who builds the permission to write there."
_ELSEWHERE = "Name another place, by -o, TMPDIR or ROOTLESS_LAYER_CACHE."

_NO_THREAD = "can't start new thread"
"""What Python says in a mere :class:`RuntimeError`."""
NO_MEMORY = "not enough memory"
"""What zstd says in an exception of its own, also where its threads cannot be started."""
_NOT_LOADED = ("Cannot allocate memory", "failed to map segment from shared object")
"""What the dynamic linker says of a library for which there is no memory."""
NOBODYS_FAULT = (MachineError, UnreadableError)
"""What says nothing of an input: it may be right."""


def is_of_machine(number: int | None) -> bool:
    """Say whether an error number tells what this machine could not do, and not that an input is damaged."""
    return number is not None and number not in _OF_INPUT


def unreadable(error: OSError, path: str, doing: str = "cannot be read", *, hint: str = "") -> RootlessLayerError:
    """Give the error for a file at ``path`` that the kernel would not open or read.

    It is a :class:`MachineError` where the machine ran out of something, an :class:`UnreadableError` where
    this user has no permission, else a :class:`SourceError`, for which ``hint`` says what to do: the file is not
    there, or is no file.
    """
    exhausted = _exhausted(error, path, doing)
    if exhausted is not None:
        return exhausted
    if error.errno in _FORBIDDEN:
        return UnreadableError(_message(error, path, doing), hint="Make it readable for the user who builds, or leave it out.")
    return SourceError(_message(error, path, doing), hint=hint)


def of_reading(error: BaseException) -> type[RootlessLayerError]:
    """Give the error for a document by what was raised while it was read: of this machine, of the file, or of its content."""
    if not isinstance(error, OSError):
        return InputError
    return MachineError if error.errno in _EXHAUSTED else SourceError


def unwritable(error: OSError, path: str, doing: str = "cannot be written", *, hint: str = "") -> RootlessLayerError:
    """Give the error for what the kernel would not write at ``path``.

    It is a :class:`MachineError` where the machine ran out of something else than room, else an
    :class:`OutputError`; ``hint`` then says what to do where there is room and permission.
    """
    exhausted = _exhausted(error, path, doing)
    if exhausted is not None:
        return exhausted
    mend = _FULL.get(error.errno or 0, _PERMIT if error.errno in _FORBIDDEN else "")
    if mend:
        hint = f"{mend} Or: {hint or _ELSEWHERE}"
    return OutputError(_message(error, path, doing), hint=hint)


def failed(number: int, path: str, doing: str) -> RootlessLayerError:
    """Give the error for a library that reads one file and writes another, of which one ended with this error number."""
    error = OSError(number, os.strerror(number))
    writing = number in _FULL or number == errno.EROFS
    return unwritable(error, path, doing) if writing else unreadable(error, path, doing)


def shortage(error: BaseException) -> int:
    """Give the kernel's number for what there was not enough of, 0 where an error says nothing of the kind.

    Memory and threads run out without a number: in exceptions of Python's, of codecs', of the dynamic linker's.
    """
    if isinstance(error, RootlessLayerError):
        return 0
    if isinstance(error, OSError) and error.errno is not None:  # the dynamic linker's has none
        return error.errno if error.errno in _EXHAUSTED else 0
    text = str(error)
    if isinstance(error, RuntimeError) and _NO_THREAD in text:
        return errno.EAGAIN
    told = NO_MEMORY in text or (isinstance(error, OSError | ImportError) and any(words in text for words in _NOT_LOADED))
    return errno.ENOMEM if told or isinstance(error, MemoryError) else 0


def advice(number: int | None) -> str:
    """Say what to do about an error number that is not of the file at hand, ``""`` where nobody knows."""
    return _EXHAUSTED.get(number or 0) or _FULL.get(number or 0, "")


@contextlib.contextmanager
def enough(doing: str) -> Iterator[None]:
    """Raise :class:`MachineError` where there is not enough for what is done: memory, or a thread that can be started.

    ``doing`` is what cannot be done then, with the path. Neither comes with an error number.
    """
    try:
        yield
    except RootlessLayerError:
        raise
    except Exception as error:
        number = 0 if isinstance(error, OSError) else shortage(error)
        if not number:
            raise
        message = f"{doing}: {str(error) or os.strerror(number)}"
        raise MachineError(message, hint=_EXHAUSTED[number]) from error


def _exhausted(error: OSError, path: str, doing: str) -> MachineError | None:
    hint = _EXHAUSTED.get(error.errno or 0)
    return None if hint is None else MachineError(_message(error, path, doing), hint=hint)


def _message(error: OSError, path: str, doing: str) -> str:
    return f"{path}: {doing}: {error.strerror or error}"
