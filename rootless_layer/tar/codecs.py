"""The libraries of the codecs, each imported when it is first used: they are slow to import."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    import zstandard
    from isal import isal_zlib

__all__ = ["isal_zlib", "versions", "zstandard"]

_LIBRARIES = {"zstandard": "zstandard", "isal": "isal", "isal_zlib": "isal.isal_zlib"}


def __getattr__(name: str) -> ModuleType:
    """Import a library, which then stands here."""
    if name not in _LIBRARIES:
        raise AttributeError(name)
    library = globals()[name] = importlib.import_module(_LIBRARIES[name])
    return library


def versions(kind: str) -> tuple[object, ...]:
    """Give the versions of the libraries by which a kind of compression writes its bytes."""
    if kind == "gzip":
        isal = __getattr__("isal")
        return isal.ISAL_VERSION, isal.__version__
    if kind == "zstd":
        zstandard = __getattr__("zstandard")
        return zstandard.ZSTD_VERSION, zstandard.__version__
    return ()
