"""What a shell is told of a value that is not whole yet."""

from __future__ import annotations

import re

import click
from click.shell_completion import CompletionItem

VARIABLE = "_ROOTLESS_LAYER_COMPLETE"
"""click's: a shell sets it where it asks."""
_FILES = {"A", "B", "DIR", "FILE", "IMAGE", "MTREE", "OUT", "SRC"}
"""The words by which help says that a value, or the beginning of one, is the name of a file."""


def completed(param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have a shell complete the name of a file or a directory, where a value is one."""
    named = set(re.findall(r"[A-Z]+", (param.metavar or "").partition(":")[0]))
    if not named & _FILES:
        return []
    return [CompletionItem(incomplete, type="dir" if named == {"DIR"} else "file")]


class Word(click.types.StringParamType):
    """A word as it is, which a shell completes."""

    def shell_complete(self, _ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Give what may stand for an incomplete one."""
        return completed(param, incomplete)
