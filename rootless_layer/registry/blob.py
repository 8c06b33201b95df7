"""A blob on its way to or from a registry, wherever its bytes are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

Consume = Callable[[memoryview], object]
"""Takes the bytes of a blob, a part at a time; each part is valid until the next one is given."""


class Blob(Protocol):
    """A blob that is pushed or served: it gives its bytes as often as it is asked for them."""

    @property
    def digest(self) -> str:
        """Give its digest."""

    @property
    def size(self) -> int:
        """Give its size in bytes."""

    @property
    def file(self) -> tuple[str, int] | None:
        """Give the file that holds it, and the offset there; ``None`` where its bytes are made as they are asked for."""

    def checked(self) -> Self:
        """Give it, once its sources are seen to be there, before anybody is promised its bytes.

        Raises :class:`RootlessLayerError`.
        """

    def copy(self, consume: Consume) -> None:
        """Give its bytes to ``consume``, and raise an error where they are not those of the digest."""
