"""The caller's terminal while a program of a session has it: in raw mode, and put back however this process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import termios
import threading
import tty
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_WINDOW = bytes(8)
"""Room for a window's size (struct winsize, ioctl_tty(2))."""
_saved: dict[int, list[Any]] = {}


def open_own() -> int:
    """Open the terminal that this process is controlled from (tty(4)); raises :class:`OSError` where there is none."""
    return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


@contextlib.contextmanager
def kept(descriptor: int) -> Iterator[None]:
    """Put a terminal back to its settings of now, in the end or when :func:`put_back` is called before."""
    _saved[descriptor] = termios.tcgetattr(descriptor)
    try:
        yield
    finally:
        _put_back(descriptor)


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Have a terminal hand on each key as it is, Ctrl-C as well."""
    with kept(descriptor):
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield


def put_back() -> None:
    """Put all terminals back that are kept, as this process ends now."""
    for descriptor in list(_saved):
        _put_back(descriptor)


def _put_back(descriptor: int) -> None:
    with contextlib.suppress(OSError, termios.error, KeyError):  # who has hung up has no settings
        termios.tcsetattr(descriptor, termios.TCSADRAIN, _saved.pop(descriptor))


@contextlib.contextmanager
def same_size(source: int, target: int) -> Iterator[None]:
    """Keep a terminal as large as another is, which may change meanwhile."""
    _copy_size(source, target)
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread hears of signals
        return
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: _copy_size(source, target))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _copy_size(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, fcntl.ioctl(source, termios.TIOCGWINSZ, _WINDOW))
