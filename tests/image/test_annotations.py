"""Annotations of manifests and indexes, and those that name an image's base (image-spec ``annotations.md``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.image_commands import image, merge
from helpers.image_layouts import blob_of, manifest_of
from helpers.registries import docker_registry, run
from helpers.users import User, good

BASE = "org.opencontainers.image.base."


def index_of(layout: Path) -> dict[str, Any]:
    """Read the one index that a layout's index.json refers to."""
    [row] = json.loads((layout / "index.json").read_text())["manifests"]
    found: dict[str, Any] = json.loads(blob_of(layout, row["digest"]).read_bytes())
    return found


def test_a_manifest_says_what_is_given(user: User, small: list[str]) -> None:
    """An annotation stands in the manifest, the last of a name; whoever reads and writes the image again keeps it."""
    words = ("--annotation", "org.example.a=1", "--annotation", "org.example.b=x=y", "--annotation", "org.example.a=2")
    digest = good(image(user, "--layer", small[1], "-t", "app:1", *words)).out
    assert manifest_of(user.home / "image")["annotations"] == {"org.example.a": "2", "org.example.b": "x=y"}
    good(run(user, "validate", user.home / "image"))
    [said] = json.loads(good(run(user, "inspect", "--json", user.home / "image")).out)
    assert said["annotations"] == {"org.example.a": "2", "org.example.b": "x=y"}
    assert "x=y" in good(run(user, "inspect", user.home / "image")).out
    assert good(merge(user, user.home / "image", output="again.tar")).out == digest
    assert good(merge(user, user.home / "again.tar")).out == digest
    good(merge(user, user.home / "image", "--annotation", "org.example.b=3", output="more"))
    assert manifest_of(user.home / "more")["annotations"] == {"org.example.a": "2", "org.example.b": "3"}


def test_a_base_is_named(user: User, small: list[str]) -> None:
    """An image names its base, by the name that was asked for, and not what the base says of itself or of its own base."""
    base = good(image(user, "--layer", small[0], "-t", "base:1", "-t", "base:2", "--annotation", "org.example.a=1")).out.strip()
    assert BASE + "name" not in manifest_of(user.home / "image").get("annotations", {})
    above = good(image(user, "--base", f"{user.home}/image#base:2", "--layer", small[1], "-t", "app:1", output="app")).out.strip()
    said = manifest_of(user.home / "app")["annotations"]
    assert said == {BASE + "name": "docker.io/library/base:2", BASE + "digest": base}
    good(image(user, "--base", user.home / "app", "--annotation", f"{BASE}name=localhost/mine:1", output="top"))
    assert manifest_of(user.home / "top")["annotations"] == {BASE + "name": "localhost/mine:1", BASE + "digest": above}


def test_what_nobody_knows_is_not_said(user: User, small: list[str]) -> None:
    """A docker-archive has names and no manifest; a layer's directory has neither."""
    good(image(user, "--layer", small[0], "-t", "base:1", "-f", "docker-archive", output="base.tar"))
    good(image(user, "--base", user.home / "base.tar", "--layer", small[1]))
    assert manifest_of(user.home / "image")["annotations"] == {BASE + "name": "docker.io/library/base:1"}
    good(image(user, "--base", small[0], "--layer", small[1], output="app"))
    assert "annotations" not in manifest_of(user.home / "app")


def test_an_index_says_what_is_given(user: User, small: list[str]) -> None:
    """``merge --index`` annotates the index alone, and a push and a pull of all platforms keep that, to the digest."""
    for platform in ("amd64", "arm64"):
        good(image(user, "--layer", small[1], "--platform", f"linux/{platform}", output=platform))
    both = [user.home / "amd64", user.home / "arm64"]
    good(merge(user, *both, "--index", "app:1", "--annotation", "org.example.a=1"))
    said = index_of(user.home / "merged")
    assert said["annotations"] == {"org.example.a": "1"}
    assert [row["digest"] for row in said["manifests"]] == [
        row["digest"] for each in both for row in json.loads((each / "index.json").read_text())["manifests"]
    ]
    with docker_registry(user) as registry:
        good(run(user, "push", user.home / "merged", registry.name("app:1")))
        good(run(user, "pull", registry.name("app:1"), "--all-platforms", "-o", user.home / "pulled"))
        assert index_of(user.home / "pulled") == said
        good(run(user, "image", "--base", registry.name("app:1"), "--layer", small[0], "-o", user.home / "top"))
        assert manifest_of(user.home / "top")["annotations"][f"{BASE}name"] == registry.name("app:1").removeprefix("docker://")


def test_a_file_of_make(user: User, folder: Path) -> None:
    """A table of annotations, and an image upon another of the file, which names that."""
    (folder / "more").write_text("more")
    file = user.home / "images.toml"
    file.write_text(
        f'[layer.top]\ncopy-to-root = ["{folder}"]\n'
        '[image.base]\nlayers = ["top"]\ntag = "base:1"\noutput = "base"\nannotation = {"org.example.a" = "1"}\n'
        '[image.app]\nbase = "base"\nuser = "7"\noutput = "app"\n'
    )
    made = dict(line.split() for line in good(run(user, "make", file)).out.splitlines())
    assert manifest_of(user.home / "base")["annotations"] == {"org.example.a": "1"}
    said = manifest_of(user.home / "app")["annotations"]
    assert said == {BASE + "name": "docker.io/library/base:1", BASE + "digest": made["base"]}


@pytest.mark.parametrize(
    "words",
    [("--annotation", "alone"), ("--annotation", "=x"), ("--annotation", "a=1", "-f", "docker-archive")],
)
def test_what_cannot_be(user: User, small: list[str], words: tuple[str, ...]) -> None:
    """An annotation has a name and a value, and stands in a manifest, which a docker-archive has not."""
    done = image(user, "--layer", small[1], *words)
    assert done.status == 2, done.err
    assert not (user.home / "image").exists()
    done = merge(user, small[1], "--annotation", "a=1", "-f", "docker-archive")
    assert (done.status, (user.home / "merged").exists()) == (2, False), done.err
