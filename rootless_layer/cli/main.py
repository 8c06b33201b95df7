"""The command ``rootless-layer``: it turns its arguments into a spec and calls the core."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import click

from rootless_layer.version import __version__

from . import end
from .cache import cache
from .command import Strict, check_different
from .help import Verbs
from .image import base_image, find_base, image, merge
from .make import make
from .nix import nix_archive, nix_build, nix_export, nix_image
from .progress import Shower
from .reports import diff, inspect, validate
from .say import give
from .values import COMPRESSION, ID, SECONDS, SIZE, WHOLE, as_written, cache_size, epoch, platform_of

if TYPE_CHECKING:
    from rootless_layer.cache.build import Delivered
    from rootless_layer.layer.layer import Layer
    from rootless_layer.plan.spec import LayerSpec
    from rootless_layer.tree.base import Base


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rootless-layer")
def main() -> None:
    """Make OCI layers from trees and scripts: no root, no VM, no daemon."""


main.add_command(image)
main.add_command(merge)
for _command in (make, cache, validate, inspect, diff, nix_build, nix_image, nix_archive, nix_export):
    main.add_command(_command)


@main.command(cls=Strict)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option(
    "--closure",
    "closures",
    multiple=True,
    metavar="FILE|DIR",
    help="Store paths with their references: an exportReferencesGraph file, JSON of structured attributes or"
    " `nix path-info --json -r`, closureInfo's directory, or a list of store paths.",
)
@click.option(
    "--tools",
    "tools",
    multiple=True,
    metavar="FILE|DIR",
    help="Store paths, in any of these forms, that scripts in the root view see and that are not in the layer; repeatable.",
)
@click.option("--store-path", "store_paths", multiple=True, metavar="PATH", help="One more store path; repeatable.")
@click.option("--store-root", default="/", metavar="DIR", help="Where the store lies, as in `nix --store DIR`.")
@click.option("--copy-to-root", "contents", multiple=True, metavar="PATH", help="Merge this tree into the root; repeatable.")
@click.option(
    "--link",
    type=click.Choice(["hard", "symbolic", "copy"]),
    default="hard",
    show_default=True,
    help="How a root file stands for a store file.",
)
@click.option("--follow-dirlinks", is_flag=True, help="A tree's link to a directory becomes a directory of what is in that one.")
@click.option(
    "--conflict", type=click.Choice(["error", "first", "last"]), default="error", help="Which of two trees' files counts."
)
@click.option("--keep-dirlinks", is_flag=True, help="A directory goes where another tree has a link to a directory.")
@click.option(
    "--base",
    "bases",
    multiple=True,
    metavar="IMAGE",
    help="Build upon this image (PATH#NAME for one of several) or layer's directory; repeatable, lowest first.",
)
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Which of the base's.  [default: this machine's]")
@click.option("--most-bytes", type=SIZE, metavar="SIZE", help="What a base's layer may unpack to, as 20G.  [default: 16G]")
@click.option("--rootfs", metavar="DIR|TAR", help="Start from this root filesystem.")
@click.option("--rootfs-listing", metavar="MTREE", help="Owners, modes and devices of a --rootfs DIR, as an mtree file.")
@click.option("--script", "scripts", multiple=True, metavar="FILE", help="Run this script; repeatable, in order.")
@click.option(
    "--view",
    type=click.Choice(["root", "directory"]),
    default="root",
    show_default=True,
    help="What a script sees: the tree as /, or this machine with the tree as working directory.",
)
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Add to the scripts' environment; repeatable.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="Kill a script that takes longer.")
@click.option("--allow-sparse", is_flag=True, help="Write files with more than 1 GiB of holes, every byte of them.")
@click.option("--closure-writable", is_flag=True, help="Give the scripts copies of the store paths, to change.")
@click.option(
    "--stage",
    type=click.Choice(["auto", "bind", "hardlink", "copy"]),
    default="auto",
    show_default=True,
    help="How store paths get in front of a script; hardlink is for trusted scripts only.",
)
@click.option(
    "--compression",
    type=COMPRESSION,
    default="none",
    show_default=True,
    metavar="KIND[:LEVEL]",
    help="none, gzip (0 to 3) or zstd (1 to 19).",
)
@click.option(
    "--blob",
    type=click.Choice(["stored", "derived"]),
    default="stored",
    show_default=True,
    help="Write the blob, or only what makes it again.",
)
@click.option(
    "--source-date-epoch", type=WHOLE, metavar="SECONDS", help="Later times become this one.  [default: the variable, else 1]"
)
@click.option("--uid", type=ID, default=0, show_default=True, help="Who owns what no script made.")
@click.option("--gid", type=ID, default=0, show_default=True, help="Which group owns it.")
@click.option(
    "--cache/--no-cache",
    "cached",
    default=False,
    show_default=True,
    help="Take the layer from the cache where nothing changed, else keep it there.",
)
@cache_size
@click.option("-o", "--output", required=True, metavar="DIR", help="Put the layer here, in the place of an earlier one.")
@click.option("--json", "as_json", is_flag=True, help="Print layer.json.")
@click.option("--list", "as_list", is_flag=True, help="Print the layer's listing, with owners.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def build(output: str, **options: Any) -> None:  # noqa: ANN401 - click's own values
    """Build a layer from a closure, trees or a root filesystem, and scripts.

    The scripts run as root, as far as they can tell. The layer is the same, byte for byte,
    whoever builds it: DIR gets layer.json, the listing layer.mtree, and blobs/sha256/.
    """
    from rootless_layer.cache.build import build_cached  # noqa: PLC0415
    from rootless_layer.cache.place import cache_directory, cache_to_leave_out  # noqa: PLC0415
    from rootless_layer.layer.build import build_layer  # noqa: PLC0415 - for a quick --help
    from rootless_layer.system.temporary import Temporary  # noqa: PLC0415

    _check(output, options)
    cache = cache_directory() if options["cached"] else None  # a plain build needs none
    show, spec = Shower(quiet=options["quiet"]), _spec(options)  # what is wrong is said before a base is unpacked
    with Temporary(), contextlib.ExitStack() as stack:  # one janitor for all that is made below
        below = base_image(options["bases"], options["platform"], stack) if options["bases"] else None

        def base() -> Base | None:
            most = options["most_bytes"]
            return None if below is None else find_base(below, stack, show, most_bytes=most)

        if cache is not None:
            chain_id = None if below is None else below.chain_id
            layer: Delivered | Layer = build_cached(
                spec, output, cache, chain_id=chain_id, open_base=base,
                stage=options["stage"], blob=options["blob"], progress=show,
            )  # fmt: skip
        else:
            whole = attrs.evolve(spec.apart_from(output, caches=cache_to_leave_out()), base=base())
            layer = build_layer(whole, output, stage=options["stage"], blob=options["blob"], progress=show)
    show.end()
    if options["as_json"]:
        said = layer.to_json()
        if options["as_list"]:
            from rootless_layer.tree.ls import facts  # noqa: PLC0415

            said |= {"list": [facts(entry) for entry in layer.tree]}
        give([json.dumps(said, indent=2, sort_keys=True)])
    elif options["as_list"]:
        from rootless_layer.tree.ls import listing  # noqa: PLC0415

        give(listing(layer.tree))
    elif not options["quiet"]:
        give([layer.descriptor.digest])


def _check(output: str, options: dict[str, Any]) -> None:
    """Refuse what cannot be meant, before any work."""
    if output == "-":
        message = "a layer is a directory, so it cannot go to stdout; `image --layer DIR -o -` writes an archive to a pipe"
        raise click.BadParameter(message, param_hint="--output")
    check_different(options["bases"], "--base")
    platform_of(options["platform"])


def _spec(options: dict[str, Any]) -> LayerSpec:
    from rootless_layer.plan.spec import LayerSpec, Script  # noqa: PLC0415
    from rootless_layer.store.read import closure_of_paths, load_closure  # noqa: PLC0415

    root = options["store_root"]
    root = os.path.abspath(root)
    closures = [load_closure(source, store_root=root) for source in options["closures"]]
    if options["store_paths"]:
        with as_written("--store-path"):
            closures.append(closure_of_paths(options["store_paths"], root))
    tools = [load_closure(source, store_root=root) for source in options["tools"]]
    scripts = [Script.file(path) for path in options["scripts"]]
    if options["command"]:
        with as_written():
            scripts.append(Script.command(options["command"]))
    environment = {}
    for pair in options["environment"]:
        name, separator, value = pair.partition("=")
        if not (separator and name):
            raise click.BadParameter(f"{pair}: write it as NAME=VALUE", param_hint="--env")
        environment[name] = value
    with as_written():
        spec = LayerSpec(
            closure=closures[0].merge(*closures[1:]) if closures else None,
            tools=tools[0].merge(*tools[1:]) if tools else None,
            contents=options["contents"],
            rootfs=options["rootfs"],
            rootfs_listing=options["rootfs_listing"],
            scripts=tuple(scripts),
            view=options["view"],
            environment=environment,
            timeout=options["timeout"],
            writable_closure=options["closure_writable"],
            link=options["link"],
            keep_dirlinks=options["keep_dirlinks"],
            follow_dirlinks=options["follow_dirlinks"],
            conflict=options["conflict"],
            allow_sparse=options["allow_sparse"],
            uid=options["uid"],
            gid=options["gid"],
            epoch=epoch(options["source_date_epoch"]),
            compression=options["compression"],
        )
    if not (spec.closure or spec.inputs() or spec.rootfs_listing or spec.scripts or options["bases"]):
        message = "there is nothing to make a layer of: name a closure, a tree, a root filesystem, a base or a script"
        raise click.UsageError(message)
    return spec


def run() -> NoReturn:
    """Be the command."""
    end.run(main)
