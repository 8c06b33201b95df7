"""What is wrong with a file: gathered while it is read, and said at once, before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import attrs

from rootless_layer.errors import InputError, OutputError, RootlessLayerError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@attrs.define(slots=True)
class Faults:
    """The faults of a file so far, each a line with the file, the place in it and the key there."""

    file: str
    problems: list[str] = attrs.field(factory=list)
    hints: list[str] = attrs.field(factory=list)
    _kinds: set[type[RootlessLayerError]] = attrs.field(factory=set)

    def add(
        self, place: str, problem: str, *, key: str = "", hint: str = "", kind: type[RootlessLayerError] = InputError
    ) -> None:
        """Add one; ``key`` is not said twice."""
        self._kinds.add(next((each for each in (SourceError, OutputError) if issubclass(kind, each)), InputError))
        key = "" if problem.startswith(f"{key}: ") else key
        self.problems.append(": ".join(part for part in (self.file, place, key, problem) if part))
        self.hints += [hint] if hint and hint not in self.hints else []

    def attempt(self, place: str, key: str, make: Callable[..., T], *given: object) -> T | None:
        """Give what is made; or add what is wrong with it, and give nothing."""
        try:
            return make(*given)
        except RootlessLayerError as error:
            for problem in error.problems:
                self.add(place, problem, key=key, hint=error.hint, kind=type(error))
        except OSError as error:
            self.add(place, f"{error.filename or key}: {error.strerror}", key=key, kind=SourceError)
        return None

    def check(self) -> None:
        """Raise one error with all of them, where there are some.

        It is a :class:`SourceError` or an :class:`OutputError` where all of them are, else an :class:`InputError`.
        """
        if self.problems:
            kind = self._kinds.pop() if len(self._kinds) == 1 else InputError
            raise kind(*dict.fromkeys(self.problems), hint="\n".join(self.hints))
