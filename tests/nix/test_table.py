"""The rows that Nix alone has: each is told from those of the other faces, and read in both forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.place import HERE

from rootless_layer.errors import InputError
from rootless_layer.nix.attributes import Attributes
from rootless_layer.nix.request import image_request, layer_request
from rootless_layer.nix.table import ImageAttributes, LayerAttributes
from rootless_layer.options.image import ImageOptions
from rootless_layer.options.layer import LayerOptions
from rootless_layer.options.option import Face, rows

TABLES = {"layer": (LayerAttributes, LayerOptions), "image": (ImageAttributes, ImageOptions)}
STEPS = [["popularity_contest"]]


def attributes(folder: Path, *, structured: bool, **values: Any) -> Attributes:
    """Give attributes in one of the two forms."""
    return Attributes(values, str(folder), "/nix/store/hash-name", {}, structured=structured)


@pytest.mark.parametrize("prefix", TABLES)
def test_an_attribute_has_one_row(prefix: str) -> None:
    """No two have one name; what Nix adds is of no other face."""
    whole, common = TABLES[prefix]
    names = [row.attribute for row in rows(whole) if Face.NIX in row.faces]
    assert len(set(names)) == len(names)
    assert {row.faces for row in rows(whole)[len(rows(common)) :]} == {Face.NIX}


def test_the_page_tells_every_attribute_of_a_layer() -> None:
    """docs/nix.md names each."""
    page = (HERE.parent / "docs/nix.md").read_text()
    names = [f"`layer{row.attribute}`" for row in rows(LayerAttributes) if Face.NIX in row.faces]
    assert [name for name in names if name not in page] == []


@pytest.mark.parametrize(
    ("structured", "steps", "without"), [(True, STEPS, ["/nix/store/x"]), (False, '[["popularity_contest"]]', "/nix/store/x")]
)
def test_an_image_of_both_forms(tmp_path: Path, structured: bool, steps: object, without: object) -> None:  # noqa: FBT001 - a case
    """Names are in small letters; the tag is the output's digest where none is given."""
    values = {"imageName": "Redis", "imageBaseTag": "1", "imageReservedLayers": 3 if structured else "3", "imageWithout": without}
    read = attributes(tmp_path, structured=structured, **values, imageLayeringPipeline=steps, imageArchitecture="arm64")
    request = image_request(read)
    assert (request.name, request.tag, request.base_name, request.reserved) == ("redis", "hash", "1", 3)
    assert (request.steps, request.architecture) == (STEPS, "arm64")
    assert image_request(attributes(tmp_path, structured=structured, imageTag="7")).tag == "7"


@pytest.mark.parametrize(
    ("steps", "problem"),
    [("{}", "{} is not a list of steps"), ("[", "is not JSON"), ("/nowhere.json", "/nowhere.json: cannot be read")],
)
def test_a_pipeline_that_is_none(tmp_path: Path, steps: str, problem: str) -> None:
    """The attribute is named."""
    with pytest.raises(InputError, match=f"imageLayeringPipeline: {problem}"):
        image_request(attributes(tmp_path, structured=False, imageLayeringPipeline=steps))


def test_a_layer_below_images(tmp_path: Path) -> None:
    """One path alone is a list of one."""
    request = layer_request(attributes(tmp_path, structured=True, layerBelow="/nix/store/x", layerWithout=["/nix/store/y"]))
    assert request.below == ("/nix/store/x",)
