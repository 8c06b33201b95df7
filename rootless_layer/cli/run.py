"""``rootless-layer run``."""

from __future__ import annotations

import click

from rootless_layer.options.image import ImageOptions
from rootless_layer.options.layer import LayerOptions

from .command import Strict
from .options import of_table
from .registries import of_registries


@click.command(cls=Strict)
@click.argument("image", metavar="IMAGE")
@of_table(
    LayerOptions,
    "base",
    "platform",
    "emulator",
    "env",
    "user",
    "workdir",
    "network",
    "timeout",
    "most-bytes",
    "cache-size",
    "quiet",
    "command",
)
@of_table(ImageOptions, "entrypoint")
@of_registries
def run(image: str, entrypoint: tuple[str, ...] | None, **given: object) -> None:
    """Run a command in an image, or in a layer's directory, and keep nothing of what it changes.

    The command is the image's: its Entrypoint, and behind that what stands behind --, else its Cmd.
    It runs as the image's User, with its Env and in its WorkingDir, in the session that scripts run
    in. It has this command's stdin, stdout and stderr; where these are a terminal, one of its own.
    The exit status is the command's.

    A layer that was built upon others is shown upon what --base names.
    """
    from .trial import try_image  # noqa: PLC0415 - not for --help

    try_image(image, entrypoint, given)
