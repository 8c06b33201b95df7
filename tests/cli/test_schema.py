"""``rootless-layer schema``: all that is printed with --json fits the form that is published."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema
import pytest
from helpers.image_commands import skopeo
from helpers.registries import docker_registry, run
from helpers.roots import busybox_root
from helpers.users import COMMAND, Result, User, good

SCRIPT = """
mkdir /srv/a && echo x > /srv/a/file && ln /srv/a/file /srv/a/link && ln -s file /srv/a/symbolic
cp /srv/a/file /srv/copy && chown 5:6 /srv/copy && mknod /srv/device c 1 3
"""
MAKE = """
[layer.good]
rootfs = "{root}"
run = "echo words; touch /made"
[layer.bad]
rootfs = "{root}"
run = "exit 3"
[image.whole]
layers = ["good"]
output = "{home}/whole.tar"
[image.never]
layers = ["bad"]
output = "{home}/never.tar"
"""


@functools.cache
def schema(user: User, form: str) -> dict[str, Any]:
    """Give a schema, which is one."""
    document: dict[str, Any] = json.loads(good(user.run([*COMMAND, "schema", form])).out)
    jsonschema.Draft202012Validator.check_schema(document)
    return document


def closed(part: Any) -> Any:
    """Give a schema that takes no property which it does not name: what is printed is in the schema, all of it."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    more = {"additionalProperties": False} if "required" in part and "additionalProperties" not in part else {}
    return {name: closed(each) for name, each in part.items()} | more


def fits(user: User, form: str, result: Result) -> Any:
    """Check JSON that a command has printed, and give it."""
    said = json.loads(result.out)
    jsonschema.Draft202012Validator(closed(schema(user, form))).validate(said)
    return said


def test_layers_and_images(user: User) -> None:
    """A layer with entries of all kinds, images written, looked into and compared."""
    home, root = user.home, busybox_root()
    layer = fits(user, "layer", good(user.build("--rootfs", root, "--list", "--", "sh", "-ec", SCRIPT)))
    assert {"device", "link", "target"} <= {name for entry in layer["list"] for name in entry}
    fits(user, "layer", good(user.build("--rootfs", root, "--blob", "derived", output="derived")))
    written = good(user.run([*COMMAND, "image", "--layer", home / "layer", "-t", "a:1", "-o", home / "a.tar", "--json"]))
    fits(user, "image", written)
    fits(user, "image", good(user.run([*COMMAND, "merge", home / "a.tar", "-o", home / "layout", "--json"])))
    [said] = fits(user, "inspect", good(user.run([*COMMAND, "inspect", home / "a.tar", "--json", "--list"])))
    assert said["copies"]
    fits(user, "inspect", good(user.run([*COMMAND, "inspect", home / "layer", "--json"])))
    differs = user.run([*COMMAND, "diff", home / "layer", home / "derived", "--json"])
    assert (differs.status, fits(user, "diff", differs)["equal"]) == (1, False)
    good(skopeo(user, "copy", f"oci-archive:{home}/a.tar", f"docker-archive:{home}/docker.tar:a:1"))
    fits(user, "inspect", good(user.run([*COMMAND, "inspect", home / "docker.tar", "--json"])))
    fits(user, "diff", good(user.run([*COMMAND, "diff", home / "a.tar", home / "docker.tar", "--json"])))


def test_what_is_no_image(user: User) -> None:
    """A platform that is not there, and a bill of materials that is attached to an image in a registry."""
    home = user.home
    good(user.build("--rootfs", busybox_root()))
    good(user.run([*COMMAND, "image", "--layer", home / "layer", "-t", "a:1", "-o", home / "layout"]))
    index = json.loads((home / "layout/index.json").read_text())
    absent = {**index["manifests"][0], "digest": f"sha256:{'0' * 64}", "platform": {"os": "linux", "architecture": "s390x"}}
    index["manifests"].append(absent)
    with docker_registry(user) as registry:
        name = registry.name("billed:1")
        good(run(user, "image", "--layer", home / "layer", "--sbom", "spdx", "-o", name))
        kinds = {one["kind"] for one in fits(user, "inspect", good(run(user, "inspect", name, "--json")))}
        fits(user, "image", good(run(user, "pull", name, "-o", home / "pulled.tar", "--json")))
        fits(user, "image", good(run(user, "push", home / "pulled.tar", registry.name("again:1"), "--json")))
    (home / "layout/index.json").write_text(json.dumps(index))
    kinds |= {one["kind"] for one in fits(user, "inspect", good(user.run([*COMMAND, "inspect", home / "layout", "--json"])))}
    assert kinds == {"image", "absent", "artifact"}


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["made", "planned"])
def test_events(user: User, words: list[str]) -> None:
    """Each line that make prints is an event: what is made, what fails, and what is left out."""
    (user.home / "make.toml").write_text(MAKE.format(root=busybox_root(), home=user.home))
    environment = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    done = user.run([*COMMAND, "make", user.home / "make.toml", "--json", *words], env=environment)
    assert done.status == (0 if words else 3), done.err
    kinds = {fits(user, "events", Result(0, line, ""))["event"] for line in done.out.splitlines()}
    assert kinds >= ({"planned", "end"} if words else {"start", "progress", "output", "done", "failed", "skipped", "end"})
