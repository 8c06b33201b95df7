"""What a program of a session has for stdin, stdout and stderr where it talks to the caller: a terminal, or the caller's own."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from rootless_layer.errors import UnavailableError
from rootless_layer.system import tty

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

_PART = 1 << 14
_END_OF_INPUT = b"\x04"


class Attached(Protocol):
    """What programs are attached to: scripts on ``trial``, of which nothing is kept, or a shell where a script fails."""

    @property
    def trial(self) -> bool:
        """Say which of both."""

    @property
    def streams(self) -> tuple[int, int, int]:
        """Give the descriptors that are the program's stdin, stdout and stderr."""

    @property
    def watched(self) -> Collection[int]:
        """Give the descriptors that are to be listened to meanwhile."""

    def shown(self) -> AbstractContextManager[None]:
        """Have the program talk to the caller."""

    def hand_on(self, ready: Collection[int]) -> None:
        """Hand on what there is to read from those of the watched descriptors that are ready."""


@attrs.define(slots=True)
class Terminal:
    """A terminal of a session's own, shown on the caller's: what is typed and what is written is handed on between both.

    ``claim`` is entered while it is shown, for whoever uses the caller's terminal else.
    """

    own: int
    ours: int
    theirs: int
    trial: bool = False
    claim: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    _watched: set[int] = attrs.field(factory=set)

    @classmethod
    def open(
        cls, purpose: str, claim: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext, *, trial: bool = False
    ) -> Self:
        """Make one; raises :class:`UnavailableError` where the caller has no terminal for this ``purpose``."""
        try:
            own = tty.open_own()
        except OSError as error:
            message = f"{purpose} needs a terminal, and there is none: {error.strerror}"
            raise UnavailableError(message, hint="Start the command on a terminal, as by `ssh -t` or `script -c`.") from error
        ours, theirs = os.openpty()
        return cls(own, ours, theirs, trial, claim, {own, ours})

    def __enter__(self) -> Self:
        """Give the terminal itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        for descriptor in (self.own, self.ours, self.theirs):
            os.close(descriptor)

    @property
    def streams(self) -> tuple[int, int, int]:
        """Give one descriptor for all three."""
        return self.theirs, self.theirs, self.theirs

    @property
    def watched(self) -> Collection[int]:
        """Give both sides."""
        return self._watched

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show it: the caller's terminal hands each key on as it is, and is put back in the end."""
        with self.claim(), tty.raw(self.own), tty.same_size(self.own, self.ours):
            yield
            os.set_blocking(self.ours, False)
            with contextlib.suppress(BlockingIOError):
                while self._hand(self.ours, self.own):
                    pass
            os.set_blocking(self.ours, True)

    def hand_on(self, ready: Collection[int]) -> None:
        """Hand on what there is; where the caller's terminal is gone, the program is told of the end of its input."""
        if self.ours in ready:
            self._hand(self.ours, self.own)
        if self.own in ready and not self._hand(self.own, self.ours):
            self._watched.discard(self.own)
            os.write(self.ours, _END_OF_INPUT)

    @staticmethod
    def _hand(source: int, target: int) -> bool:
        """Hand one part on; say whether there may be more."""
        try:
            part = os.read(source, _PART)
        except BlockingIOError:
            raise
        except OSError:
            return False
        whole = bool(part)
        with contextlib.suppress(OSError):  # a terminal that is gone takes no more
            while part:
                part = part[os.write(target, part) :]
        return whole


@attrs.define(slots=True)
class Streams:
    """The caller's own stdin, stdout and stderr, for scripts on trial."""

    streams: tuple[int, int, int]
    trial: bool = True
    watched: Collection[int] = ()

    @classmethod
    def open(cls) -> Self:
        """Hold them by other numbers: those of the session's first process are its own."""
        return cls((os.dup(0), os.dup(1), os.dup(2)))

    def __enter__(self) -> Self:
        """Give the streams themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of them."""
        for descriptor in self.streams:
            os.close(descriptor)

    def shown(self) -> AbstractContextManager[None]:
        """Do nothing: they are the program's."""
        return contextlib.nullcontext()

    def hand_on(self, ready: Collection[int]) -> None:
        """Do nothing: there is nobody between."""
