"""The last line that a person reads: what was made, its size, and the command that uses it next."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from rootless_layer.registry.name import SCHEME, is_registry
from rootless_layer.terminal import counted, sized

from .say import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless_layer.image.format import Format
    from rootless_layer.image.image import Image
    from rootless_layer.layer.layer import Layer


def say_made(text: str, *, quiet: bool, verbose: bool) -> None:
    """Say it on stderr, where that is a terminal or more is wanted: what a program reads stays as it is."""
    if not quiet and (verbose or sys.stderr.isatty()):
        say(text)


def of_layer(layer: Layer, output: str, below: Sequence[str]) -> str:
    """Tell of a layer in the directory ``output``, built upon the images ``below``: an image of all of them is the next step."""
    size = sized(layer.descriptor.size)
    plain = f" ({sized(layer.uncompressed_size)} unpacked)" if layer.descriptor.digest != layer.diff_id else ""
    based = [word for base in below[:1] for word in ("--base", base)]
    words = [*based, *(word for path in (*below[1:], output) for word in ("--layer", path))]
    following = f"rootless-layer image {shlex.join(words)} -t NAME:TAG -o image.tar"
    return f"{output}: {size}{plain}, {counted(layer.entries, 'entry')}; next: {following}"


def of_images(images: Sequence[Image], output: str, kind: Format, told: str = "") -> str:
    """Tell of images that were written to ``output``, a path or a name in a registry: the next step is to load or pull them.

    ``told`` is the path as it is told, where that is another one.
    """
    layers = {layer.descriptor.digest: layer.descriptor.size for image in images for layer in image.layers}
    whole = not is_registry(output) and kind != "layout"
    size = sum(layers.values())
    with contextlib.suppress(OSError):  # somebody was quick to take it away
        size = os.path.getsize(output) if whole else size
    several = f"{counted(len(images), 'image')}, " if len(images) > 1 else ""
    return f"{told or output}: {several}{sized(size)}, {counted(len(layers), 'layer')}; next: {_next(told or output, kind)}"


def _next(output: str, kind: Format) -> str:
    engine = "docker" if shutil.which("docker") and not shutil.which("podman") else "podman"
    if is_registry(output):
        return shlex.join([engine, "pull", output.removeprefix(SCHEME)])
    if kind == "layout":
        return shlex.join(["podman", "pull", f"oci:{output}"])
    return shlex.join([engine, "load", "-i", output])
