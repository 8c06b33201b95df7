"""Where the command begins: a signal that comes while Python is still importing ends it without a word.

Nothing has been made by then. This module is imported by the command only, never by the library.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as nohup has it
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from typing import NoReturn


def run() -> NoReturn:
    """Be the command."""
    from .main import run as be_command  # noqa: PLC0415 - the rest is imported when signals are seen to

    be_command()
