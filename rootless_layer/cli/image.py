"""``rootless-layer image``."""

from __future__ import annotations

import click

from rootless_layer.options.image import ImageOptions
from rootless_layer.options.option import of_command

from .command import Strict
from .options import of_table
from .registries import of_registries


@click.command(cls=Strict)
@of_table(ImageOptions)
@of_registries
def image(**given: object) -> None:
    """Put an image together from a base and layers that were built apart."""
    from .put_together import put_together  # noqa: PLC0415 - not for --help

    put_together(of_command(ImageOptions, given))
