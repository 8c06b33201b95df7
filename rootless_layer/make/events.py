"""Events of a graph that is made, as values; ``rootless-layer make --json`` prints each as a line of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import attrs

from rootless_layer.errors import RootlessLayerError, ScriptError

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

    def to_json(self) -> dict[str, Any]:
        """Give the object that is printed."""
        return {"event": self.event, "kind": self.node.kind, "name": self.node.name, **self.members()}

    def members(self) -> dict[str, Any]:
        """Give the members that this kind of event has, beside those of all."""
        raise NotImplementedError


@attrs.frozen(slots=True)
class Start(Event):
    """Work on the node begins."""

    event = "start"
    action: Action

    def members(self) -> dict[str, Any]:
        """Give the action."""
        return {"action": self.action}


@attrs.frozen(slots=True)
class Working(Event):
    """The work on the node has come so far."""

    event = "progress"
    progress: Progress

    def members(self) -> dict[str, Any]:
        """Give the progress: a note and a script only where there is one."""
        return of_progress(self.progress)


@attrs.frozen(slots=True)
class Output(Event):
    """A script of the node has written a line to stdout or stderr."""

    event = "output"
    text: str

    def members(self) -> dict[str, Any]:
        """Give the line, without its end."""
        return {"text": self.text}


@attrs.frozen(slots=True)
class Done(Event):
    """The node is made; ``digest`` is that of its blob or its manifest."""

    event = "done"
    status: Status
    digest: str

    def members(self) -> dict[str, Any]:
        """Give the status and the digest."""
        return {"status": self.status, "digest": self.digest}


@attrs.frozen(slots=True)
class Failed(Event):
    """The node cannot be made."""

    event = "failed"
    error: RootlessLayerError

    @property
    def exit_status(self) -> int:
        """Give the status with which the command ends: a script's own, or that of the error's class."""
        return self.error.status if isinstance(self.error, ScriptError) else self.error.exit_code

    def members(self) -> dict[str, Any]:
        """Give the error's class, its problems and hint, and the exit status."""
        error = self.error
        return {
            "error": type(error).__name__, "problems": [*error.problems], "hint": error.hint, "exitStatus": self.exit_status,
        }  # fmt: skip


@attrs.frozen(slots=True)
class Skipped(Event):
    """The node is not made, because another one failed."""

    event = "skipped"
    because: str

    def members(self) -> dict[str, Any]:
        """Give the name of the node that failed."""
        return {"because": self.because}


class Display(Protocol):
    """Shows events to a person or a program."""

    def __call__(self, event: Event) -> None:
        """Show one event."""

    def tick(self) -> None:
        """Show the time that has passed; called several times a second while nothing happens."""


def of_progress(progress: Progress) -> dict[str, Any]:
    """Give the progress as JSON, from which ``Progress`` is made again: a note and a script only where there is one."""
    said: dict[str, Any] = {
        "stage": progress.stage, "done": progress.done, "total": progress.total, "entries": progress.entries,
    }  # fmt: skip
    return said | {name: text for name, text in (("note", progress.note), ("script", progress.script)) if text}
