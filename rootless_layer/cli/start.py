"""Where the command begins: a signal that comes while Python is still importing ends it without a word.

Nothing has been made by then. This module is imported by the command only, never by the library.
"""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as nohup has it
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from typing import NoReturn


def run() -> NoReturn:
    """Be the command."""
    try:
        from .main import run as be_command  # noqa: PLC0415 - the rest is imported when signals are seen to
    except (MemoryError, ImportError, OSError) as error:
        if _is_missing(error):
            raise
        os.write(2, _NOT_STARTED % ((isinstance(error, OSError) and error.strerror) or "Cannot allocate memory").encode())
        os._exit(74)
    be_command()


_NOT_STARTED = b"""\
rootless-layer: this machine: %s
rootless-layer: Free memory, or raise the limits of memory and of files (ulimit -v and -n, a container's limits).
"""


def _is_missing(error: Exception) -> bool:
    """Say whether a module is not there, or not as it should be: that is a fault of how this program was installed."""
    return isinstance(error, ImportError) and "memory" not in str(error) and "failed to map segment" not in str(error)
