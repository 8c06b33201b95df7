"""Store paths of which all is known before they are read: of these a tree has the tops alone, and nothing below is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable


@attrs.frozen(slots=True)
class Sealed:
    """What is known of a store path: the digest of all that decides its bytes in an archive, and its part of a listing.

    ``entries`` counts its paths, the top among them; ``size`` is that of all data in bytes; ``lines`` are of an mtree file.
    """

    key: bytes
    entries: int
    size: int
    lines: bytes


class UnsealedError(Exception):
    """Somebody asks for what is below the tops of sealed ``paths``, or they are not known after all: these are to be read.

    It is no fault of anybody's, and no caller of the package's sees it.
    """

    def __init__(self, paths: Iterable[bytes]) -> None:
        """Name them, one at least."""
        super().__init__(paths)
        self.paths = frozenset(paths)
