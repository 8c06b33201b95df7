"""A document of a registry's, by which images are found: a manifest or an index."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True)
class Manifest:
    """A manifest or an index as a registry has it: its bytes, its media type and its digest."""

    data: bytes = attrs.field(repr=False)
    media_type: str
    digest: str
