"""The loops over rows that are there in C as well (``loops.c``), where they were compiled with this package.

Whoever has them calls them, and does in Python what they leave. So nothing depends on them but the time.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import c_char_p, c_int, c_long, c_void_p

LIBRARY = os.path.join(os.path.dirname(__file__), "libloops.so.1")


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load the loops; nothing where they are not there, or not for this machine."""
    try:
        loaded = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    loaded.look_at_names.restype = loaded.write_rows.restype = c_long
    loaded.look_at_names.argtypes = (c_int, c_char_p, c_long, *[c_void_p] * 6)
    loaded.write_rows.argtypes = (c_void_p, c_void_p, c_long, c_void_p)
    return loaded
