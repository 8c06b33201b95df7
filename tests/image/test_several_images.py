"""Several images in one place: each is found by its name or its platform."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from helpers.aftermath import assert_nothing_left, assert_said
from helpers.image_commands import config_by, image, merge, skopeo
from helpers.podman import Podman
from helpers.users import User, good

pytestmark = pytest.mark.slow

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7")


def many_platforms(user: User, small: list[str]) -> Path:
    """Merge images for several platforms into one."""
    for platform in PLATFORMS:
        made = platform.replace("/", "-")
        good(image(user, "--layer", small[1], "--env", f"FOR={platform}", "--platform", platform, "-t", f"{made}:1", output=made))
    good(merge(user, *(user.home / platform.replace("/", "-") for platform in PLATFORMS), "--index", "many:1"))
    return user.home / "merged"


def test_a_base_for_several_platforms(users: list[User], small: list[str]) -> None:
    """Of an image for several platforms --platform chooses, else the machine does; what is not there is told with what is."""
    user = users[-1]
    many = many_platforms(user, small)
    for platform in PLATFORMS:
        assert config_by(user, "--base", many, "--platform", platform)["config"]["Env"] == [f"FOR={platform}"]
    assert config_by(user, "--base", many, "--platform", "arm64")["config"]["Env"] == ["FOR=linux/arm64"]
    assert config_by(user, "--base", many, "--platform", "linux/arm64/v8")["config"]["Env"] == ["FOR=linux/arm64"]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert config_by(user, "--base", many)["config"]["Env"] == [f"FOR=linux/{machine}"]
    there = [rf"\({platform}\)" for platform in PLATFORMS]
    assert_said(
        image(user, "--base", many, "--platform", "linux/s390x"), 65, str(many), "there is no image for linux/s390x", *there
    )
    assert_said(image(user, "--base", many, "--platform", "linux/arm"), 65, str(many), "several images are", *there)
    assert_said(image(user, "--base", f"{many}#other", "--platform", "arm64"), 65, "no other for linux/arm64", "many:1")


def test_one_of_several_names(users: list[User], small: list[str]) -> None:
    """The name behind a # chooses, with or without its registry, and whatever the archive is."""
    user = users[-1]
    for name in ("one", "two"):
        good(
            image(
                user,
                "--layer",
                small[1],
                "--env",
                f"A={name}",
                "-t",
                f"{name}:1",
                "-t",
                f"localhost:5000/x/{name}:2",
                output=name,
            )
        )
    for kind in ("layout", "archive", "docker-archive"):
        good(merge(user, user.home / "one", user.home / "two", "-f", kind, output=kind))
        for wanted in ("two:1", "docker.io/library/two:1", "localhost:5000/x/two:2"):
            assert config_by(user, "--base", f"{user.home}/{kind}#{wanted}")["config"]["Env"] == ["A=two"]
        for wanted in ("", "#1", "#three", "#localhost:5000/x/two"):
            assert_said(image(user, "--base", f"{user.home}/{kind}{wanted}"), 65, kind, "one:1", "localhost:5000/x/two:2")


def test_half_a_name_is_kept_as_it_is(users: list[User], small: list[str]) -> None:
    """A tag without a name, as skopeo writes it, stays in a layout, and is nothing that docker reads."""
    user = users[-1]
    good(image(user, "--layer", small[1], "-t", "one:1"))
    good(skopeo(user, "copy", f"oci:{user.home}/image:one:1", f"oci:{user.home}/copied:latest"))
    good(merge(user, f"{user.home}/copied#latest", output="merged.tar"))
    copied = good(skopeo(user, "copy", f"oci-archive:{user.home}/merged.tar:latest", f"dir:{user.home}/one"))
    assert copied.err == ""
    with tarfile.open(user.home / "merged.tar") as archive:
        assert json.load(archive.extractfile("manifest.json") or io.BytesIO())[0]["RepoTags"] == []


def test_podman_loads_several_images(podman: Podman, small: list[str]) -> None:
    """One archive of several images, of which one has two names: podman loads each by its names."""
    user = podman.user
    for name in ("one", "two"):
        options = ["--layer", small[0], "--layer", small[1], "--label", f"is={name}", "-t", f"{name}:1"]
        good(image(user, *options, *(["-t", "localhost/x/two:2"] if name == "two" else []), output=name))
    for kind in ("archive", "docker-archive"):
        good(merge(user, user.home / "one", user.home / "two", "-f", kind, output="all.tar"))
        good(podman("load", "-i", user.home / "all.tar"))
        for name, is_ in (("one:1", "one"), ("two:1", "two"), ("localhost/x/two:2", "two")):
            labels = json.loads(good(podman("inspect", name)).out)[0]["Labels"]
            assert labels == {"is": is_}
        podman.forget()


def test_an_index_for_several_platforms(user: User, small: list[str]) -> None:
    """Each platform's image is found in the index by skopeo, in a layout and in an archive, which are the same."""
    many = many_platforms(user, small)
    good(merge(user, f"{many}#many:1", "--index", "again", output="again.tar"))
    for where in (f"oci:{many}:many:1", f"oci-archive:{user.home}/again.tar:again:latest"):
        for platform in PLATFORMS:
            system, architecture, *variant = platform.split("/")
            override = ["--override-os", system, "--override-arch", architecture]
            override += ["--override-variant", variant[0]] if variant else []
            config = json.loads(good(skopeo(user, *override, "inspect", "--config", where)).out)
            assert config["config"]["Env"] == [f"FOR={platform}"]


def test_what_cannot_be_merged(users: list[User], small: list[str]) -> None:
    """Two images of one name, two for one platform, and an index in a docker-archive are errors that name them."""
    user = users[-1]
    for name in ("one", "two"):
        good(image(user, "--layer", small[1], "-t", "same:1", "--label", name, "-t", f"{name}:1", output=name))
    good(image(user, "--layer", small[1], "--platform", "linux/s390x", output="other"))
    both = [user.home / "one", user.home / "two"]
    for words, said, *status in (
        (both, ["same:1: several images have this name"]),
        ([*both, "--index", "a"], [f"{both[1]} and {both[0]}: both are for linux/"]),
        ([both[0], user.home / "other", "--index", "a", "-f", "docker-archive"], ["docker-archive"]),
        ([f"{both[0]}#absent"], ["one", "absent", "same:1"]),
        ([user.home / "absent"], ["absent"], 66),
        ([both[0], "--index", "A"], ["'A' is not the name"], 2),
    ):
        assert_said(merge(user, *words), *(status or [65]), *said)
        assert not (user.home / "merged").exists()
    assert_nothing_left(user)
