"""What a session needs of this machine, found out by doing it: in processes that end at once and leave nothing."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from rootless_layer.errors import OverlayError, UnavailableError
from rootless_layer.system import namespaces
from rootless_layer.system.fork import Child

from .inside import binfmt, seccomp
from .inside.messages import Emulator, OverlayPlan
from .inside.overlay import Overlay
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

_MAGIC = b"\x7fROOTLESS-LAYER"
"""The first bytes of no program."""


def isolated(work: str) -> Session:
    """Start a session without scripts, wait until it is isolated, and end it: what it says of that stays known.

    ``work`` is a directory for it alone, which goes with it. fakeroot is not needed.
    Raises :class:`UnavailableError` where no session can be started.
    """
    with Session.without_scripts(work) as session:
        session.ready()
        return session


def listens() -> None:
    """Have a process filtered as a script is; raises :class:`UnavailableError` where the kernel gives no listener."""
    _done(lambda: seccomp.install(seccomp.program()))


def shows_overlay(folder: str) -> str:
    """Show an overlay within a directory, where it makes others, and have a file copied up; give what is against it."""
    top = os.fsencode(folder)
    tree, upper, scratch, lowers, below = (top + name for name in (b"/tree", b"/upper", b"/scratch", b"/lowers", b"/below"))
    for made in (tree, upper, scratch, lowers, below):
        os.mkdir(made)
    os.symlink(below, lowers + b"/0")
    return _refused(lambda: Overlay(OverlayPlan(tree, upper, scratch, lowers, ())))


def registers_emulator(folder: str) -> str:
    """Register an emulator of nothing, in a namespace that ends with it; give what is against it."""
    program = os.fsencode(os.path.realpath(sys.executable))
    emulator = Emulator(b"rootless-layer-probe", program, _MAGIC, b"\xff" * len(_MAGIC), wanted=True)
    return _refused(partial(_register, emulator, os.fsencode(folder)))


def _register(emulator: Emulator, folder: bytes) -> None:
    if reason := binfmt.register(emulator, folder):
        raise UnavailableError(reason)


def _refused(work: Callable[[], object]) -> str:
    """Do it as root of a user namespace that ends with it; give what is against it."""

    def within() -> None:
        namespaces.become_root_of_own_namespace(namespaces.CLONE_NEWNS, {})
        namespaces.make_private()
        work()

    try:
        _done(within)
    except (OverlayError, UnavailableError) as error:
        return "; ".join(error.problems)
    except OSError as error:
        return namespaces.refusal(error)
    return ""


def _done(work: Callable[[], object]) -> None:
    Child(work).join()
