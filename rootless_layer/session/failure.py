"""How a script ended that did not end well, in words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from rootless_layer.errors import ScriptError, UnavailableError

from .emulator import INSTALL, REGISTER
from .inside.messages import Exited, Killed, NotStarted, TimedOut
from .inside.script import NOT_FOUND

if TYPE_CHECKING:
    from rootless_layer.plan.spec import LayerSpec, Script

    from .environment import Environment
    from .inside.messages import ScriptEnd

_TIMED_OUT = 124
"""As timeout(1) has it."""


def failed(script: Script, end: ScriptEnd, spec: LayerSpec, variables: Environment) -> ScriptError | UnavailableError:
    """Say how a script ended that did not end well."""
    hint = ""
    match end:
        case Exited(status):
            problem = f"the script failed with exit status {status}"
            if status == NOT_FOUND and variables.left_out:
                hint = f"Is it a program that was not found? {variables.without}"
        case Killed(number):
            status = status_of(end)
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            problem = f"the script was killed by the signal {name}"
        case TimedOut():
            status = _TIMED_OUT
            problem = f"the script did not end within {spec.timeout:g} seconds, so it was killed"
        case NotStarted(status, "refused", about):
            return ScriptError(about, status=status)
        case NotStarted(_, "foreign" | "unregistered" as why, about):
            return UnavailableError(about, hint=_emulation(spec, about, registered=why == "foreign"))
        case NotStarted(status, _, _):
            problem, hint = _not_started(script, end, variables)
    return ScriptError(f"{script.name or 'the script without a name'}: {problem}", status=status, hint=hint)


def status_of(end: Exited | Killed) -> int:
    """Give the exit status that a shell would give."""
    return end.status if isinstance(end, Exited) else 128 + end.signal


def _emulation(spec: LayerSpec, about: str, *, registered: bool) -> str:
    """Say what to do about a program of another architecture."""
    if spec.view == "directory":
        return "Scripts in the directory view are run by this machine's programs; the root view can have an emulator."
    if spec.platform is None or f" for {spec.platform.architecture}," not in about:
        return "Say by --platform, as linux/arm64, what the programs are for."
    return INSTALL if registered else REGISTER


def _not_started(script: Script, end: NotStarted, variables: Environment) -> tuple[str, str]:
    """Say why a script could not be executed, and what to do."""
    about = end.about
    match end.why:
        case "interpreter":
            return about, "Add the package that has it, or name another interpreter."
        case "carriage return":
            return (
                about,
                "The first line ends with a carriage return: save the script with the line ends of Unix (LF, not CRLF).",
            )
        case "too long":
            return f"its arguments and its environment are too long for Linux: {about}", "Give what is long in a file."
    named = "" if about == script.name else f"{about}: "
    hint = "Give its absolute path, --env PATH=DIRECTORIES, or what has it: a package with --copy-to-root, an image with --base."
    if any(map(str.isspace, about)):
        hint = "A command is given word by word; a line for the shell is one word of it: -- sh -c 'LINE'."
    return f"{named}not found in the view of the script ({variables.searched})", hint
