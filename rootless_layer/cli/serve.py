"""``rootless-layer serve``."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from .command import Strict
from .progress import Shower
from .registries import of_registries
from .say import give, give_json, say
from .values import as_written
from .versioned import versioned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@click.command(cls=Strict)
@click.argument("images", nargs=-1, required=True, metavar="[NAME[:TAG]=]IMAGE...")
@click.option(
    "--listen", metavar="HOST:PORT", default="127.0.0.1:0", show_default=True,
    help="Where to listen; the port 0 is one that is free. Whoever reaches the address can read the images.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once the registry answers.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but problems.")
@of_registries
def serve(images: Sequence[str], *, listen: str, as_json: bool, quiet: bool) -> None:
    """Serve images as a registry that can only be read, until the command or its caller ends.

    IMAGE is an image layout, an archive, a derived image, or PATH#NAME for one of several. It has the name that it is
    stored under, or NAME. Layers are read, or made of their sources, when somebody pulls them. The names, each
    with the registry's address, are on stdout as soon as they can be pulled.
    """
    from rootless_layer.image.serve import offer_images, read_served  # noqa: PLC0415 - not for --help
    from rootless_layer.image.spool import Spool  # noqa: PLC0415 - as above
    from rootless_layer.registry.server import listening  # noqa: PLC0415 - as above

    show = Shower(quiet=quiet)
    with Spool() as spool:
        offer = offer_images(read_served(images, spool, show))
        show.end()
        with as_written("--listen"):
            server = listening(listen, offer, say)
        if not server.is_loopback:
            say(f"warning: {server.host} is open to whoever reaches it: they can read the images, without a password")
        server.meanwhile = _ending_with(os.getppid())
        served = [(f"docker://{server.host}/{name}", digest) for name, digest in offer.images()]
        if as_json:
            images_served = [{"name": name, "digest": digest} for name, digest in served]
            give_json(versioned({"address": server.host, "images": images_served}))
        else:
            give(name for name, _ in served)
        server.serve_forever(0.25)


def _ending_with(caller: int) -> Callable[[], object]:
    """Give what ends this process in order when the process that started it has gone."""

    def look() -> None:
        if os.getppid() != caller:
            signal.raise_signal(signal.SIGTERM)

    return look
