"""How a script without ``#!`` is run: by the words of a shell, which take its text or its path."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from rootless_layer.errors import InputError

if TYPE_CHECKING:
    from rootless_layer.plan.spec import LayerSpec, Script

_DEFAULT = ("sh", "-e")
_TAKES_TEXT = re.compile(r"-[A-Za-z]*c|-command", re.IGNORECASE)
"""The last word of a shell that takes a script's text, as a Dockerfile's SHELL has it: ``-c``, ``-euc``, ``-Command``."""


def by_shell(spec: LayerSpec, script: Script, path: bytes) -> list[bytes]:
    """Give the words that run a script: the spec's shell, or the base's; ``path`` is where the script sees its own file.

    Raises :class:`InputError` for a text with a NUL, where the shell is to be given the text.
    """
    shell = spec.shell or spec.run_config.shell or _DEFAULT
    words = list(map(os.fsencode, shell))
    if not _TAKES_TEXT.fullmatch(shell[-1]):
        return [*words, path]
    text = script.data or b""
    if b"\0" in text:
        message = f"{script.name}: holds a NUL, so that {' '.join(shell)} cannot be given its text"
        raise InputError(message, hint="Begin the script with #! and its interpreter, or name a shell that reads a file.")
    return [*words, text, *([path] if script.arguments else [])]  # what follows the text is $0
