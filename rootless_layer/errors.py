"""Every error that this package raises on purpose.

::

    RootlessLayerError
    ├── InputError                what was given cannot be used
    │   ├── ClosureError          store paths, references graphs
    │   ├── ConflictError         two inputs give the same path
    │   ├── SourceError           a source changed meanwhile, or is not what it should be
    │   │   └── UnreadableError   this user may not read a source
    │   └── UnrepresentableError  a tree that no OCI layer can hold
    ├── UnavailableError          this machine lacks a program or a kernel feature
    ├── OutputError               the output cannot be written
    ├── MachineError              this machine ran out of something, or a disk fails
    ├── ArchiveError              libarchive refused
    └── SessionError              the script's session
        ├── ScriptError           a script failed, was killed or timed out
        ├── BypassError           a program went around libfakeroot
        ├── StoreChangedError     a script wished to change a store path
        ├── RecordError           the ownership record contradicts the tree
        ├── OverlayError          overlayfs cannot show a base here
        └── DaemonError           faked died or misbehaved

Each message names the path or the value at fault, and the hint says what to do
next. ``exit_code`` is what the command ends with; see ``rootless-layer --help``.
"""

from __future__ import annotations

from typing import ClassVar


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

    def __str__(self) -> str:
        """Give the problems a line each, then the hint."""
        return "\n".join((*self.problems, *((self.hint,) if self.hint else ())))


class InputError(RootlessLayerError):
    """What was given cannot be used."""

    exit_code = 65


class ClosureError(InputError):
    """A closure is malformed, incomplete or not on this machine."""


class ConflictError(InputError):
    """Two inputs give the same path with different data or type."""


class SourceError(InputError):
    """A source cannot be read, or changed while it was read."""

    exit_code = 66


class UnreadableError(SourceError):
    """The user who builds may not read a source, so that nothing is known of its bytes."""


class UnrepresentableError(InputError):
    """The tree holds something that no OCI layer can represent."""


class UnavailableError(RootlessLayerError):
    """The machine lacks a program or a kernel feature that is needed."""

    exit_code = 69


class OutputError(RootlessLayerError):
    """The output cannot be written; nothing of it was kept."""

    exit_code = 73


class MachineError(RootlessLayerError):
    """The machine ran out of memory, threads or open files, or a disk fails: no input is at fault."""

    exit_code = 74


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


class BypassError(SessionError):
    """A program changed ownership without libfakeroot, so it is not recorded."""

    exit_code = 76


class StoreChangedError(SessionError):
    """A script changed, or wished to change, an immutable store path."""

    exit_code = 77


class RecordError(SessionError):
    """The ownership record and the tree on disk contradict each other."""

    exit_code = 76


class OverlayError(SessionError):
    """The base of a layer cannot be shown by overlayfs, or not to these scripts; a copy of it can."""


class DaemonError(SessionError):
    """The fakeroot daemon died or could not be started."""

    exit_code = 71
