"""What a derivation may ask for beside the options of all faces: rows that Nix alone has."""

from __future__ import annotations

from pathlib import Path

import attrs

from rootless_layer.errors import reason
from rootless_layer.options.image import ImageOptions
from rootless_layer.options.kinds import FLAG, TEXT, WHOLE, Kind, refuse
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.lists import TEXTS, of_json
from rootless_layer.options.option import Face, option
from rootless_layer.system.machine import of_reading

Steps = list[object]


def read_text(path: str) -> str:
    """Read a file that an attribute names; raises :class:`SourceError` where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read: {reason(error)}"
        raise of_reading(error)(message) from error


class Pipeline(Kind[Steps | None]):
    """A ``layeringPipeline`` of nixpkgs, whose steps are looked at when a closure is split."""

    def of_attribute(self, value: object, *, structured: bool) -> Steps | None:
        """Take a list, or the path of a file that has the JSON of one; without structured attributes, the JSON itself."""
        if isinstance(value, str) and value.startswith("/"):
            said = of_json(read_text(value), structured=False)
        else:
            said = of_json(value, structured=structured)
        if said is not None and not isinstance(said, list):
            refuse(f"{said!r:.80} is not a list of steps")
        return said


@attrs.frozen(kw_only=True, slots=True)
class LayerAttributes(LayerOptions):
    """What a derivation asks for of a layer."""

    without: tuple[str, ...] = option(TEXTS, default=(), faces=Face.NIX, help="Leave these store paths out of the closure.")
    below: tuple[str, ...] = option(TEXTS, default=(), faces=Face.NIX, help="Leave out the store paths of these images, too.")


@attrs.frozen(kw_only=True, slots=True)
class ImageAttributes(ImageOptions):
    """What a derivation asks for of an image."""

    without: tuple[str, ...] = option(TEXTS, default=(), faces=Face.NIX, help="Leave these store paths out of the closure.")
    name: str = option(TEXT, default="", faces=Face.NIX, help="The image's name, in small letters then; none where it is empty.")
    own_tag: str = option(TEXT, default="", attribute="Tag", faces=Face.NIX, help="The one tag; by default the output's digest.")
    base_name: str = option(TEXT, default="", faces=Face.NIX, help="Which of several images the base is.")
    base_tag: str = option(TEXT, default="", faces=Face.NIX, help="Its tag.")
    inherit_config: bool = option(FLAG, default=True, faces=Face.NIX, help="Have the base's config, and not only its variables.")
    reserved_layers: int = option(WHOLE, default=0, faces=Face.NIX, help="How many more layers are put on top later.")
    one_layer: bool = option(FLAG, default=False, faces=Face.NIX, help="Have what is left of the closure in one layer.")
    sbom_closure: tuple[str, ...] = option(TEXTS, default=(), faces=Face.NIX, help="Which store paths of it refer to which.")
    layering_pipeline: Steps | None = option(Pipeline(), faces=Face.NIX, help="How the closure is split.")
    architecture: str = option(TEXT, default="", faces=Face.NIX, help="What the image is for, as OCI names it.")
