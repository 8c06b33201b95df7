"""How a script ended that did not end well, in words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from rootless_layer.errors import ScriptError

from .inside.script import NOT_FOUND

if TYPE_CHECKING:
    from rootless_layer.plan.spec import LayerSpec, Script

    from .environment import Environment


def failed(script: Script, end: list[Any], spec: LayerSpec, variables: Environment) -> ScriptError:
    """Say how a script ended that did not end well; ``end`` is a number, a kind and what it is about."""
    number, kind, about = end
    hint = ""
    match kind:
        case "exit":
            problem = f"the script failed with exit status {number}"
            if number == NOT_FOUND and variables.left_out:
                hint = f"Is it a program that was not found? {variables.without}"
        case "signal":
            name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
            problem = f"the script was killed by the signal {name}"
        case "timeout":
            problem = f"the script did not end within {spec.timeout:g} seconds, so it was killed"
        case "interpreter":
            problem = about
            hint = "Add the package that has it, or name another interpreter."
        case "carriage return":
            problem = about
            hint = "The first line ends with a carriage return: save the script with the line ends of Unix (LF, not CRLF)."
        case "too long":
            problem = f"its arguments and its environment are too long for Linux: {about}"
            hint = "Give what is long in a file."
        case "absent":
            named = "" if about == script.name else f"{about}: "
            problem = f"{named}not found in the view of the script ({variables.searched})"
            hint = "Give its absolute path, --env PATH=DIRECTORIES, or the package that has it with --copy-to-root."
            if any(map(str.isspace, about)):
                hint = "A command is given word by word; a line for the shell is one word of it: -- sh -c 'LINE'."
        case _:
            return ScriptError(about, status=number)
    status = 128 + number if kind == "signal" else number
    return ScriptError(f"{script.name or 'the script without a name'}: {problem}", status=status, hint=hint)
