"""The work of ``rootless-layer run``, loaded when there is some."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from rootless_layer.cache.bases import base_upon
from rootless_layer.cache.place import cache_directory
from rootless_layer.image.image import run_config_of
from rootless_layer.image.open import open_image
from rootless_layer.image.spool import Spool
from rootless_layer.layer.build import try_command
from rootless_layer.oci.descriptor import Platform
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.option import of_command
from rootless_layer.plan.spec import LayerSpec, Script
from rootless_layer.progress import silent
from rootless_layer.session.attached import Streams, Terminal
from rootless_layer.system.temporary import Temporary

from .command import check_different
from .say import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless_layer.image.image import Image
    from rootless_layer.progress import Progress


def try_image(image: str, entrypoint: tuple[str, ...] | None, given: Mapping[str, object]) -> None:
    """Run the command of an image, or the one that is given, and end with its status."""
    options = of_command(LayerOptions, given)
    check_different((*options.base, image), "--base")
    wanted = options.platform or Platform.host()
    with Temporary(), Spool() as spool, contextlib.ExitStack() as stack:
        images = [open_image(each, wanted, spool) for each in (*options.base, image)]
        config = _config(images)
        words = _words(image, config, entrypoint, options.command)
        layers = (layer for each in images for layer in each.layers)
        spec = LayerSpec(
            base=base_upon(layers, cache_directory(), most_bytes=options.most_bytes, run_config=run_config_of(images)),
            scripts=(Script.command(words),),
            platform=options.platform,
            emulator=options.emulator,
            environment=options.env,
            user=options.user or str(config.get("User") or ""),
            workdir=options.workdir,
            network=options.network,
            timeout=options.timeout,
        )
        attached: Terminal | Streams = Terminal.open("run", trial=True) if os.isatty(0) and os.isatty(1) else Streams.open()
        stack.enter_context(attached)
        status = try_command(spec, attached, silent if options.quiet else _tell)
    if status:
        raise click.exceptions.Exit(status)


def _config(images: list[Image]) -> Mapping[str, list[str]]:
    """Give the config of the uppermost image that has one: of a layer's directory there is none."""
    said = (each.described.get("config") for each in reversed(images))
    return next((config for config in said if config), {})


def _words(image: str, config: Mapping[str, list[str]], entrypoint: tuple[str, ...] | None, given: tuple[str, ...]) -> list[str]:
    """Give the words of the command, as an engine puts them together."""
    first = list(config.get("Entrypoint") or ()) if entrypoint is None else [word for word in entrypoint if word]
    last = list(given) or (list(config.get("Cmd") or ()) if entrypoint is None else [])
    if not first + last:
        message = f"{image}: has no command of its own; give one behind --, as `-- sh`"
        raise click.UsageError(message)
    return first + last


def _tell(progress: Progress) -> None:
    if progress.note:
        say(progress.note)
