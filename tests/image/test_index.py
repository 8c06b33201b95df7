"""The documents that name an image: index.json, by the image-spec, and docker's manifest.json."""

from __future__ import annotations

import json

import pytest

from rootless_layer.image.image import Image
from rootless_layer.image.index import docker_manifest, index
from rootless_layer.image.read import NamedImage
from rootless_layer.oci.descriptor import INDEX, MANIFEST, Platform, sha256
from rootless_layer.oci.reference import FULL_NAME, REF_NAME

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64", "v8")


def stored(platform: Platform, *names: str) -> NamedImage:
    """Make an image without layers."""
    return NamedImage(Image.empty(platform), names)


def test_a_row_for_each_name() -> None:
    """containerd's full name stands beside the name that was given."""
    image = stored(AMD, "redis:1", "quay.io/me/redis:2")
    data, more = index([image], several_platforms=False)
    said = json.loads(data)
    assert more == []
    assert (said["schemaVersion"], said["mediaType"]) == (2, INDEX)
    assert [row["annotations"] for row in said["manifests"]] == [
        {REF_NAME: "redis:1", FULL_NAME: "docker.io/library/redis:1"},
        {REF_NAME: "quay.io/me/redis:2", FULL_NAME: "quay.io/me/redis:2"},
    ]
    for row in said["manifests"]:
        assert (row["mediaType"], row["digest"]) == (MANIFEST, image.image.manifest_digest)
        assert row["size"] == len(image.image.manifest)
        assert row["platform"] == {"os": "linux", "architecture": "amd64"}


@pytest.mark.parametrize("names", [(), ("latest",)])
def test_less_than_a_name(names: tuple[str, ...]) -> None:
    """A mere tag is half a name, of which containerd has no full one; without a name there is one row as well."""
    [row] = json.loads(index([stored(AMD, *names)], several_platforms=False)[0])["manifests"]
    assert row.get("annotations") == ({REF_NAME: "latest"} if names else None)


def test_one_image_for_several_platforms() -> None:
    """The manifests stand under an index of their own, which has the first one's name."""
    data, [inner] = index([stored(AMD, "app:1"), stored(ARM)], several_platforms=True)
    [row] = json.loads(data)["manifests"]
    assert (row["mediaType"], row["digest"], row["size"]) == (INDEX, sha256(inner), len(inner))
    assert row["annotations"][REF_NAME] == "app:1"
    assert [each["platform"] for each in json.loads(inner)["manifests"]] == [AMD.to_json(), ARM.to_json()]


def test_dockers_manifest() -> None:
    """docker takes names with their tags only."""
    data = docker_manifest([stored(AMD, "app:1", "latest")], lambda _: "", sha256)
    assert json.loads(data) == [{"Config": sha256(Image.empty(AMD).config), "RepoTags": ["app:1"], "Layers": []}]
