"""Images are built upon bases of every form and by every program."""

from __future__ import annotations

import json

import attrs
import pytest
from helpers.aftermath import assert_nothing_left
from helpers.image_commands import image, skopeo
from helpers.image_layers import diff_ids_of
from helpers.image_layouts import assert_layout_true, config_of, old_docker_archive, tar_of
from helpers.images import sha256
from helpers.podman import Podman
from helpers.users import User, good

pytestmark = pytest.mark.slow


@attrs.frozen
class Base:
    """An image to build upon: its path, with a name behind a # where there is one, and its layers' diff IDs."""

    path: str
    diff_ids: list[str]


def make_base(user: User, kind: str, small: list[str]) -> Base:
    """Make a base in one of the forms in which images come."""
    home = user.home
    options = [word for folder in small for word in ("--layer", folder)] + ["-t", "base:1", "--platform", "linux/amd64"]
    mine = diff_ids_of(small)
    if kind == "old docker-archive":
        layers = [tar_of(a=b"a"), tar_of(b=b"b"), tar_of(a=b"a")]
        return Base(f"{old_docker_archive(home / 'old.tar', layers, 'base:1')}#base:1", [sha256(layer) for layer in layers])
    if kind == "layer":
        return Base(small[1], mine[1:])
    if kind == "umoci":
        good(user.run(["umoci", "init", "--layout", home / "umoci"]))
        good(user.run(["umoci", "new", "--image", f"{home}/umoci:1"]))
        for number in range(3):
            (home / f"file{number}").write_text(str(number))
            good(user.run(["umoci", "insert", "--image", f"{home}/umoci:1", home / f"file{number}", f"/file{number}"]))
        return Base(f"{home}/umoci#1", config_of(home / "umoci")["rootfs"]["diff_ids"])
    form = "layout" if kind == "skopeo" else kind.removesuffix(" in gzip").removesuffix(" in zstd")
    good(image(user, *options, "-f", form, output="base"))
    if kind == "skopeo":
        good(skopeo(user, "copy", f"oci:{home}/base:base:1", f"oci:{home}/copied:tag"))
        return Base(f"{home}/copied#tag", mine)
    for suffix, program in (("gzip", ["gzip"]), ("zstd", ["zstd", "-q", "--rm"])):
        if kind.endswith(f"in {suffix}"):
            good(user.run([*program, home / "base"]))
            return Base(str(next(home.glob("base.*"))), mine)
    return Base(f"{home}/base#base:1", mine)


@pytest.mark.parametrize(
    "kind",
    ["layout", "archive", "archive in gzip", "archive in zstd", "docker-archive", "docker-archive in gzip", "old docker-archive",
     "skopeo", "umoci", "layer"],
)  # fmt: skip
def test_a_base_of_every_form(user: User, small: list[str], kind: str) -> None:
    """A base may be of any form and by any program; its layers are below the new one, with the same bytes."""
    base = make_base(user, kind, small)
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "new").write_text("new")
    assert user.build("--copy-to-root", tree, output="new").status == 0
    good(image(user, "--base", base.path, "--platform", "linux/amd64", "--layer", user.home / "new", "-t", "new"))
    assert_layout_true(user.home / "image")
    assert config_of(user.home / "image")["rootfs"]["diff_ids"] == [*base.diff_ids, *diff_ids_of([str(user.home / "new")])]
    config = config_of(user.home / "image")
    assert sum(not row.get("empty_layer") for row in config["history"]) == len(base.diff_ids) + 1
    for form in ("archive", "docker-archive"):
        good(image(user, "--base", base.path, "--platform", "linux/amd64", "--layer", user.home / "new", "-f", form, output=form))
        again = good(skopeo(user, "inspect", "--config", "--raw", f"docker-archive:{user.home}/{form}")).out
        assert json.loads(again) == config
    assert_nothing_left(user)


def test_a_base_by_buildah(podman: Podman, small: list[str]) -> None:
    """An image that buildah added a layer to is a base, with buildah's variables and labels."""
    user = podman.user
    storage = [word.replace(podman.storage, f"{podman.storage}/buildah") for word in podman.command()[1:]]
    buildah = ["buildah", *storage]
    good(image(user, "--layer", small[0], "-t", "base:1", output="base.tar"))
    good(user.run([*buildah, "pull", "--policy", "never", f"oci-archive:{user.home}/base.tar"]))
    container = good(user.run([*buildah, "from", "--pull-never", "base:1"])).out.strip()
    (user.home / "file").write_text("file")
    good(user.run([*buildah, "add", container, user.home / "file", "/file"]))
    good(user.run([*buildah, "config", "--env", "A=buildah", "--label", "b=buildah", container]))
    good(user.run([*buildah, "commit", "--rm", container, f"oci-archive:{user.home}/committed.tar:base:2"]))
    good(image(user, "--base", user.home / "committed.tar", "--layer", small[1], "--env", "B=1"))
    assert_layout_true(user.home / "image")
    config = config_of(user.home / "image")
    assert len(config["rootfs"]["diff_ids"]) == 3
    assert (config["config"]["Env"], config["config"]["Labels"]["b"]) == (["A=buildah", "B=1"], "buildah")
