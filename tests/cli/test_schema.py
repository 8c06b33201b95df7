"""``rootless-layer schema``: all that is printed with --json fits the form that is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command import VERBS
from helpers.image_commands import skopeo
from helpers.registries import docker_registry, run
from helpers.roots import busybox_root
from helpers.schemas import fits
from helpers.serving import serving
from helpers.users import COMMAND, Result, User, good

from rootless_layer.cli.schema import FORMS

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


def test_every_verb_with_json_has_a_form() -> None:
    """What a verb prints with --json has a published schema, which has the verb's name or is that of a verb which prints the same."""
    others = {
        "build": "layer", "merge": "image", "pull": "image", "push": "image", "make": "events", "cache-rm": "cache-gc",
    }  # fmt: skip
    verbs = {"-".join(words) for words, verb in VERBS.items() if any("--json" in each.opts for each in verb.params)}
    assert set(FORMS) - {"error"} == {others.get(verb, verb) for verb in verbs}


def test_what_is_kept_in_the_cache(user: User) -> None:
    """Layers, bases and mounted caches that are listed, compared, verified and removed."""
    root, home = busybox_root(), user.home
    environment = {"ROOTLESS_LAYER_CACHE": str(home / "cache")}

    def tidy(*words: str) -> Result:
        return good(user.run([*COMMAND, "cache", *words, "--json"], env=environment))

    mounted = ["--mount", "type=cache,id=mine,target=/var/mine"]
    good(user.build("--rootfs", root, "--cache", output="lower", env=environment))
    good(user.build("--base", "lower", "--cache", *mounted, "--", "sh", "-c", "echo > /a", output="upper", env=environment))
    kept = {one["kind"]: one for one in fits(user, "cache-ls", tidy("ls"))}
    assert set(kept) == {"layer", "snapshot", "mount"}
    layers = [one["digest"] for one in fits(user, "cache-ls", tidy("ls")) if one["kind"] == "layer"]
    assert fits(user, "cache-explain", tidy("explain", *layers))
    assert fits(user, "cache-verify", tidy("verify"))["right"]
    (Path(kept["layer"]["path"]) / "layer.mtree").write_text("wrong\n")
    damaged = user.run([*COMMAND, "cache", "verify", "--json"], env=environment)
    assert (damaged.status, len(fits(user, "cache-verify", damaged)["dropped"])) == (65, 1)
    assert fits(user, "cache-gc", tidy("rm", "mine"))["removed"]
    assert fits(user, "cache-gc", tidy("gc", "--keep", "0"))["removed"]


def test_findings_and_errors(user: User) -> None:
    """What validate finds, and an error of any verb."""
    good(user.build("--rootfs", busybox_root(), "--", "sh", "-c", "mkdir -p /srv && ln -s /nowhere /srv/link"))
    assert fits(user, "validate", good(user.run([*COMMAND, "validate", "layer", "--json"])))[0]["valid"]
    (user.home / "layer/layer.mtree").write_text("wrong\n")
    done = user.run([*COMMAND, "validate", "layer", "none", "--json"])
    assert [one["valid"] for one in fits(user, "validate", done)] == [False, False]
    for words in (["inspect", "none"], ["build", "--absent"], ["cache", "ls", "--absent"]):
        failed = user.run([*COMMAND, *words, "--json"])
        assert fits(user, "error", failed)["error"]["status"] == failed.status


def test_layers_and_images(user: User) -> None:
    """A layer with entries of all kinds, images written, looked into and compared."""
    home, root = user.home, busybox_root()
    layer = fits(user, "layer", good(user.build("--rootfs", root, "--list", "--", "sh", "-ec", SCRIPT)))
    assert {"device", "link", "target"} <= {name for entry in layer["list"] for name in entry}
    cache = {"ROOTLESS_LAYER_CACHE": str(home / "cache")}
    fits(user, "layer", good(user.build("--rootfs", root, "--blob", "derived", "--cache", output="derived", env=cache)))
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
        [copied] = fits(user, "copy", good(run(user, "copy", name, registry.name("copied:1"), "--json")))
        assert copied["names"] == [registry.name("copied:1")]
    (home / "layout/index.json").write_text(json.dumps(index))
    kinds |= {one["kind"] for one in fits(user, "inspect", good(user.run([*COMMAND, "inspect", home / "layout", "--json"])))}
    assert kinds == {"image", "absent", "artifact"}


def test_a_registry_that_answers(user: User) -> None:
    """A registry says where it answers, and which images it has."""
    good(user.build("--rootfs", busybox_root()))
    with serving(user, f"app:1={user.home}/layer") as served:
        said = fits(user, "serve", Result(0, served.printed, ""))
        assert said["images"] == [{"name": served.name("app:1"), "digest": served.images[served.name("app:1")]}]


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["made", "planned"])
def test_events(user: User, words: list[str]) -> None:
    """Each line that make prints is an event: what is made, what fails, and what is left out."""
    (user.home / "make.toml").write_text(MAKE.format(root=busybox_root(), home=user.home))
    environment = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    done = user.run([*COMMAND, "make", user.home / "make.toml", "--json", *words], env=environment)
    assert done.status == (0 if words else 3), done.err
    kinds = {fits(user, "events", Result(0, line, ""))["event"] for line in done.out.splitlines()}
    assert kinds >= ({"planned", "end"} if words else {"start", "progress", "output", "done", "failed", "skipped", "end"})
