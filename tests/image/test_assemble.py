"""An image put together, and its config, which is parsed once."""

from __future__ import annotations

import json

from rootless_layer.image.assemble import assemble
from rootless_layer.image.image import Image
from rootless_layer.layer.blob import LayerBlob
from rootless_layer.oci.descriptor import Descriptor, Platform, sha256

ARM = Platform("linux", "arm64")
BASE = Image.empty(Platform("linux", "amd64"))
WHEN = "2020-01-01T00:00:00Z"


def blob(data: bytes) -> LayerBlob:
    """Give a layer whose bytes nobody reads."""
    digest = sha256(data)
    return LayerBlob(Descriptor("application/vnd.oci.image.layer.v1.tar", digest, len(data)), digest)


LAYERS = [blob(b"one"), blob(b"two"), blob(b"three")]


def test_an_image_has_the_layers_of_its_closure_below_the_others() -> None:
    """The history names the maker of each; properties are merged in their order, and the config is the same in any run."""
    given = {"created": WHEN, "platform": ARM, "author": "somebody", "closure_by": "a closure"}
    made = assemble(BASE, LAYERS[:2], LAYERS[2:], ({"User": "a", "Env": ["A=1"]}, {"User": "b"}), **given)  # type: ignore[arg-type]
    assert made.layers == tuple(LAYERS)
    said = json.loads(made.config)
    assert [row["created_by"] for row in said["history"]] == ["a closure", "a closure", "rootless-layer build"]
    assert {row["created"] for row in said["history"]} == {said["created"]} == {WHEN}
    assert said["config"] == {"User": "b", "Env": ["A=1"]}
    assert (made.platform, said["author"]) == (ARM, "somebody")


def test_layers_that_are_appended_at_once_make_the_image_that_they_make_one_by_one() -> None:
    """Without any the image stays as it is, to the byte."""
    one_by_one = BASE
    for layer in LAYERS:
        one_by_one = one_by_one.append(layer)
    assert BASE.append(*LAYERS) == one_by_one
    assert BASE.append() is BASE


def test_no_change_of_an_image_changes_the_config_of_the_other() -> None:
    """The parsed config is kept, and equals the bytes after whatever was made of the image."""
    before = BASE.append(LAYERS[0]).configured({"Labels": {"a": "b"}})
    described = before.described
    assert before.described is described
    before.append(*LAYERS[1:]).configured({"Labels": {"c": "d"}}).with_created(WHEN).with_platform(ARM).with_author("x")
    assert described == json.loads(before.config)
