"""The command ``rootless-layer``: the group of its verbs, each of which is loaded when it is asked for."""

from __future__ import annotations

from typing import NoReturn

import click

from rootless_layer.version import __version__

from . import end
from .help import LazyVerbs
from .say import give

VERBS = {
    "build": ("build", "Build a layer from a closure, trees or a root filesystem, and scripts."),
    "cache": ("cache", "List what is kept between builds, remove some of it, or check it."),
    "completion": ("completion", "Print a shell's completion of this command: verbs, options, their values, and files."),
    "copy": ("transfer", "Copy an image of a registry to another name or registry: all platforms, every byte as it is."),
    "diff": ("reports", "Compare the files of two images or layers: each an image, PATH#NAME, or a layer's directory."),
    "doctor": ("doctor", "Tell what this machine has of all that builds need, what each lack costs, and the next step."),
    "image": ("image", "Put an image together from a base and layers that were built apart."),
    "inspect": ("reports", "Tell what an image or a layer is: its layers, what each does, and what data is in it twice."),
    "make": ("make", "Make the layers and images of a file, or of those the targets and what they need."),
    "merge": ("merge", "Put several images with their names into one layout or archive."),
    "nix-archive": ("nix", "Make one archive of images, for `docker load` and `podman load`."),
    "nix-build": ("nix", "Be the builder of a derivation that is a layer: Nix calls it."),
    "nix-export": ("nix", "Write the files that an image's layers come to, as one tar."),
    "nix-image": ("nix", "Be the builder of a derivation that is a derived image: Nix calls it."),
    "pull": ("transfer", "Pull an image from a registry into a layout or archive."),
    "push": ("transfer", "Push an image to a registry, without what is there already."),
    "report": ("report", "Write a page about an image or a layer: its layers, its files by size, and data that stands twice."),
    "run": ("run", "Run a command in an image, or in a layer's directory, and keep nothing of what it changes."),
    "sbom": ("sbom", "Write a bill of materials: the packages and store paths of an image or a layer."),
    "schema": ("schema", "Print the JSON schema of what a verb prints with --json."),
    "serve": ("serve", "Serve images as a registry that can only be read, until the command or its caller ends."),
    "validate": ("reports", "Check every claim of an image layout, an archive, a docker-archive, or a layer's directory."),
}
"""By name, the module of each verb, which has a function of that name, and the first sentence of its help."""
GROUPS = {
    "Layers and images": ("build", "image", "make", "merge"),
    "A look at them": ("inspect", "validate", "diff", "report", "sbom", "run"),
    "Registries": ("pull", "push", "copy", "serve"),
    "This machine": ("doctor", "cache", "completion", "schema"),
    "Nix": ("nix-build", "nix-image", "nix-archive", "nix-export"),
}
"""The verbs' names by the headings of help, as one comes to need them."""

_VERBOSE = f"{__name__}.verbose"


def _noted(context: click.Context, _param: click.Parameter, given: bool) -> None:  # noqa: FBT001 - as click calls it
    context.meta[_VERBOSE] = given


def _versions(context: click.Context, _param: click.Parameter, given: bool) -> None:  # noqa: FBT001 - as click calls it
    if context.resilient_parsing:
        return
    verbose = context.meta[_VERBOSE]
    if not given:
        if verbose:
            message = "-v stands behind a verb that has it, as in `rootless-layer build -v`, or beside --version"
            raise click.UsageError(message, context)
        return
    give([f"rootless-layer, version {__version__}"])
    if verbose:
        from rootless_layer.check.versions import versions  # noqa: PLC0415 - it loads all that builds use

        give(f"{name:<10}  {text}" for name, text in versions())
    context.exit()


@click.group(
    cls=LazyVerbs, verbs=VERBS, groups=GROUPS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("-v", "--verbose", is_flag=True, is_eager=True, expose_value=False, callback=_noted, help="With --version.")
@click.option(
    "--version", is_flag=True, expose_value=False, callback=_versions,
    help="Print the version; with -v what a report of a fault needs: the versions and places of all that builds use.",
)  # fmt: skip
def main() -> None:
    """Make OCI layers from trees and scripts: no root, no VM, no daemon."""


def run() -> NoReturn:
    """Be the command."""
    end.run(main)
