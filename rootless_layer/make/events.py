"""Events of a graph that is made, as values; ``rootless-layer make --json`` prints each as a line of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import attrs

from rootless_layer.errors import RootlessLayerError, ScriptError

from .why import NO_REASON, Why

if TYPE_CHECKING:
    from rootless_layer.progress import Progress

    from .graph import Node

Action = Literal["build", "place", "write", "read"]
Status = Literal["built", "placed", "written", "unchanged"]


@attrs.frozen(slots=True)
class Event:
    """An event of a node; ``event`` is its name in JSON."""

    event: ClassVar[str]
    node: Node

    @property
    def name(self) -> str:
        """Give the node's name."""
        return self.node.name

    def to_json(self) -> dict[str, object]:
        """Give the object that is printed."""
        return {"event": self.event, "kind": self.node.kind, "name": self.node.name, **self.members()}

    def members(self) -> dict[str, object]:
        """Give the members that this kind of event has, beside those of all."""
        raise NotImplementedError


@attrs.frozen(slots=True)
class Start(Event):
    """Work on the node begins."""

    event = "start"
    action: Action
    why: Why = NO_REASON

    def members(self) -> dict[str, object]:
        """Give the action, and why it is done."""
        return {"action": self.action, "why": self.why.text, "details": [*self.why.details]}


@attrs.frozen(slots=True)
class Planned(Start):
    """Work on the node would begin, were it not a dry run."""

    event = "planned"


@attrs.frozen(slots=True)
class Working(Event):
    """The work on the node has come so far."""

    event = "progress"
    progress: Progress

    def members(self) -> dict[str, object]:
        """Give the progress: a note and a script only where there is one."""
        return of_progress(self.progress)


@attrs.frozen(slots=True)
class Output(Event):
    """A script of the node has written a line to stdout or stderr."""

    event = "output"
    text: str
    seconds: float = 0.0

    def members(self) -> dict[str, object]:
        """Give the line, without its end, and for how long the node was worked on by then."""
        return {"text": self.text, "seconds": round(self.seconds, 3)}


@attrs.frozen(slots=True)
class Done(Event):
    """The node is made; ``digest`` is that of its blob or its manifest."""

    event = "done"
    status: Status
    digest: str
    why: Why = NO_REASON
    log: str = ""

    def members(self) -> dict[str, object]:
        """Give the status, the digest, why it was made, and the path of the log; of what was not made these are empty."""
        return {"status": self.status, "digest": self.digest, "why": self.why.text, "log": self.log}


@attrs.frozen(slots=True)
class Failed(Event):
    """The node cannot be made."""

    event = "failed"
    error: RootlessLayerError
    log: str = ""

    @property
    def exit_status(self) -> int:
        """Give the status with which the command ends: a script's own, or that of the error's class."""
        return self.error.status if isinstance(self.error, ScriptError) else self.error.exit_code

    def members(self) -> dict[str, object]:
        """Give the error's class, its problems and hint, the exit status, and the path of the log, or nothing."""
        error = self.error
        return {
            "error": type(error).__name__, "problems": [*error.problems], "hint": error.hint, "exitStatus": self.exit_status,
            "log": self.log,
        }  # fmt: skip


@attrs.frozen(slots=True)
class Skipped(Event):
    """The node is not made, because another one failed."""

    event = "skipped"
    because: str

    def members(self) -> dict[str, object]:
        """Give the name of the node that failed."""
        return {"because": self.because}


class Display(Protocol):
    """Shows events to a person or a program."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def tick(self) -> None:
        """Show the time that has passed; called several times a second while nothing happens."""

    def make_way(self) -> None:
        """Take away what would be changed later: another one uses the terminal next."""


def of_progress(progress: Progress) -> dict[str, object]:
    """Give the progress as JSON, from which ``Progress`` is made again; notes, scripts and what was known where there are any."""
    said: dict[str, object] = {
        "stage": progress.stage, "done": progress.done, "total": progress.total, "entries": progress.entries,
    }  # fmt: skip
    more = {"note": progress.note, "script": progress.script, "known": progress.known, "found": progress.found}
    return said | {name: value for name, value in more.items() if value}
