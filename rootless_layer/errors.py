"""Every error that this package raises on purpose.

::

    RootlessLayerError
    ├── InputError                what was given cannot be used
    │   ├── ClosureError          store paths, references graphs
    │   ├── SourceError           an input is missing, cannot be read, or changed meanwhile
    │   │   └── UnreadableError   this user may not read it
    │   ├── MissingClosureError   both of these
    │   ├── ConflictError         two inputs give the same path
    │   └── UnrepresentableError  a tree that no OCI layer can hold
    ├── UnavailableError          this machine lacks a program or a kernel feature
    ├── MachineError              this machine ran out of something, or a disk fails
    ├── OutputError               the output cannot be written
    ├── CancelledError            the caller ended the build
    ├── ArchiveError              libarchive refused
    └── SessionError              the script's session
        ├── ScriptError           a script failed, was killed or timed out
        ├── StoreChangedError     a script wished to change a store path
        ├── RecordError           the ownership record contradicts the tree
        ├── OverlayError          overlayfs cannot show a base here
        └── DaemonError           faked died or misbehaved

Each message names the path or the value at fault, and the hint says what to do
next. ``exit_code`` is what the command ends with: :data:`FAULTS` has a sentence for each.
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

FAULTS = {
    65: "an input's content cannot be used",
    66: "an input is missing, cannot be read, or changed while it was read",
    69: "this machine lacks a program, a library or a kernel feature",
    70: "libarchive or this program failed",
    71: "the fakeroot daemon failed",
    73: "the output, the cache or TMPDIR cannot be written",
    74: "anything else of this machine failed: a file, a disk, a limit",
    76: "owners would be wrong: the record contradicts the files",
    77: "a script changed, or wished to change, an immutable store path or a file of this machine",
}
"""What each ``exit_code`` means, whatever the verb; :mod:`rootless_layer.cli.statuses` adds what the command ends with else."""


class RootlessLayerError(Exception):
    """The root of the tree; never raised itself.

    ``problems`` lists every fault found, a line each; ``hint`` says what to do next.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, *problems: str, hint: str = "") -> None:
        """Keep every problem found, in the order in which it was found."""
        super().__init__(*problems)
        self.problems = problems
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what was kept, whatever else a kind of error takes."""
        return copyreg.__newobj__, (type(self), *self.problems), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        """Give the problems a line each, then the hint."""
        return "\n".join((*self.problems, *((self.hint,) if self.hint else ())))


class InputError(RootlessLayerError):
    """What was given cannot be used."""

    exit_code = 65


class ClosureError(InputError):
    """A closure is malformed or incomplete."""


class SourceError(InputError):
    """An input is missing, cannot be read, or changed while it was read."""

    exit_code = 66


class UnreadableError(SourceError):
    """The user who builds may not read a source, so that nothing is known of its bytes."""


class MissingClosureError(ClosureError, SourceError):
    """A closure's file, or some of its store paths, are not on this machine."""


class ConflictError(InputError):
    """Two inputs give the same path with different data or type."""


class UnrepresentableError(InputError):
    """The tree holds something that no OCI layer can represent."""


class UnavailableError(RootlessLayerError):
    """The machine lacks a program or a kernel feature that is needed."""

    exit_code = 69


class MachineError(RootlessLayerError):
    """The machine ran out of memory, threads or open files, or a disk fails: no input is at fault."""

    exit_code = 74


class OutputError(RootlessLayerError):
    """The output cannot be written; nothing of it was kept."""

    exit_code = 73


class CancelledError(RootlessLayerError):
    """The caller has cancelled the build; nothing of it was kept."""


class ArchiveError(RootlessLayerError):
    """libarchive refused an operation, or warned about it."""


class SessionError(RootlessLayerError):
    """The session in which the scripts run went wrong."""


class ScriptError(SessionError):
    """A script failed, was killed or timed out.

    ``status`` is what the command exits with: the script's own exit status,
    128 + the signal that ended it, or 124 after a timeout.
    """

    def __init__(self, *problems: str, status: int, hint: str = "") -> None:
        """Keep the status beside the problems."""
        super().__init__(*problems, hint=hint)
        self.status = status


class StoreChangedError(SessionError):
    """A script changed, or wished to change, an immutable store path or a file of this machine."""

    exit_code = 77


class RecordError(SessionError):
    """The ownership record and the tree on disk contradict each other."""

    exit_code = 76


class OverlayError(SessionError):
    """The base of a layer cannot be shown by overlayfs, or not to these scripts; a copy of it can."""


class DaemonError(SessionError):
    """The fakeroot daemon died or could not be started."""

    exit_code = 71


def to_report(error: RootlessLayerError) -> list[object]:
    """Give what another process makes the error of again, by :func:`from_report`: JSON has it as it is."""
    status = [error.status] if isinstance(error, ScriptError) else []
    return [type(error).__name__, [*error.problems], error.hint, *status]


def from_report(name: str, problems: Iterable[str], hint: str, *status: int) -> RootlessLayerError:
    """Make an error of its class's name, its problems and its hint, and a script's of its status."""
    kind = globals()[name]
    error: RootlessLayerError = kind(*problems, hint=hint, **({"status": status[0]} if status else {}))
    return error


def reason(error: BaseException) -> str:
    """Say in a few words what one of Python's own errors means for a document that was read."""
    match error:
        case OSError():
            return error.strerror or str(error)
        case KeyError():
            return f"it has no {error.args[0]}"
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case RecursionError():
            return "it is nested too deeply"
        case TypeError() | AttributeError() | IndexError():
            return "a value in it is not of the kind that it should be"
    return str(error)
