"""The command ``rootless-layer``: the group of its verbs, each of which is loaded when it is asked for."""

from __future__ import annotations

from typing import NoReturn

import click

from rootless_layer.version import __version__

from . import end
from .help import LazyVerbs

VERBS = {
    "build": ("build", "Build a layer from a closure, trees or a root filesystem, and scripts."),
    "cache": ("cache", "List what is kept between builds, remove some of it, or check it."),
    "diff": ("reports", "Compare the files of two images or layers: each an image, PATH#NAME, or a layer's directory."),
    "image": ("image", "Put an image together from a base and layers that were built apart."),
    "inspect": ("reports", "Tell what an image or a layer is: its layers, what each does, and what data is in it twice."),
    "make": ("make", "Make the layers and images of a file, or of those the targets and what they need."),
    "merge": ("merge", "Put several images with their names into one layout or archive."),
    "nix-archive": ("nix", "Make one archive of images, for `docker load` and `podman load`."),
    "nix-build": ("nix", "Be the builder of a derivation that is a layer."),
    "nix-export": ("nix", "Write the files that an image's layers come to, as one tar."),
    "nix-image": ("nix", "Be the builder of a derivation that is a derived image."),
    "validate": ("reports", "Check every claim of an image layout, an archive, a docker-archive, or a layer's directory."),
}
"""By name, the module of each verb, which has a function of that name, and the first sentence of its help."""


@click.group(cls=LazyVerbs, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rootless-layer")
def main() -> None:
    """Make OCI layers from trees and scripts: no root, no VM, no daemon."""


def run() -> NoReturn:
    """Be the command."""
    end.run(main)
