"""``rootless-layer completion``: what a shell asks this program when the Tab key is pressed."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .command import Strict
from .completed import VARIABLE
from .say import give

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Strict)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    r"""Print a shell's completion of this command: verbs, options, their values, and files.

    \b
    bash: rootless-layer completion bash > ~/.local/share/bash-completion/completions/rootless-layer
    zsh:  rootless-layer completion zsh > ~/.zfunc/_rootless-layer, with fpath+=~/.zfunc before compinit
    fish: rootless-layer completion fish > ~/.config/fish/completions/rootless-layer.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    # Of bash click would start one, to ask its version: the text is the same.
    asked = kind(click.get_current_context().find_root().command, {}, "rootless-layer", VARIABLE)
    give([(kind.source_template % asked.source_vars()).strip()])
