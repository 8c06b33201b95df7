"""Images go to a registry and come back: what others push is read, others read what is pushed, and nothing is sent twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.image_commands import image, merge, skopeo
from helpers.image_layouts import manifest_of
from helpers.images import sha256
from helpers.podman import Podman
from helpers.registries import Registry, blobs_of, docker_registry, run
from helpers.users import User, good

from rootless_layer import compare, open_base, open_images, validate, write_images
from rootless_layer.image.bring import batches


def test_it_comes_back_as_it_was(user: User, registry: Registry, layout: Path) -> None:
    """What is pushed has the layout's digests, for skopeo and when it is pulled; what skopeo pushed is pulled with its layers."""
    digest = good(run(user, "push", layout, registry.name("app:1"))).out.strip()
    raw = good(skopeo(user, "inspect", "--tls-verify=false", "--raw", registry.name("app:1"))).out.encode()
    assert sha256(raw) == digest
    assert json.loads(raw) == manifest_of(layout)
    assert good(run(user, "pull", registry.name("app:1"), "-o", user.home / "pulled")).out.strip() == digest
    assert blobs_of(user.home / "pulled") == blobs_of(layout)
    good(
        skopeo(user, "copy", "--dest-tls-verify=false", "--preserve-digests", f"oci:{layout}:app:1", registry.name("other/app:2"))
    )
    assert good(run(user, "pull", registry.name(f"other/app@{digest}"), "-o", user.home / "again")).out.strip() == digest
    assert blobs_of(user.home / "again") == blobs_of(layout)
    assert good(run(user, "validate", registry.name("app:1"))).out.startswith(
        f"{registry.name('app:1')}: valid: 1 image, 2 layers"
    )
    assert good(run(user, "diff", layout, registry.name("app:1"))).out == ""
    said = json.loads(good(run(user, "inspect", "--json", registry.name("app:1"))).out)
    assert [one["manifestDigest"] for one in said] == [digest]


def test_what_is_there_is_not_sent(user: User, registry: Registry, small: list[str]) -> None:
    """A second push asks for the manifest alone; of another image, by one HEAD for each blob.

    The layer is not read, so that its sources need not be there.
    """
    shutil.copytree(small[0], user.home / "layer")
    good(run(user, "image", "--layer", user.home / "layer", "--layer", small[1], "-o", registry.name("app:1")))
    assert registry.asked("PUT", below="/blobs/")
    before = len(registry.requests())
    good(run(user, "image", "--layer", user.home / "layer", "--layer", small[1], "-o", registry.name("app:2")))
    later = registry.requests()[before:]
    assert [each for each in later if each.startswith(("PUT", "POST", "PATCH"))] == ["PUT /v2/app/manifests/2"]
    assert not [each for each in later if "/blobs/" in each or each.startswith("GET /v2/app")]
    before = len(registry.requests())
    good(run(user, "image", "--layer", user.home / "layer", "--layer", small[1], "--label", "a=b", "-o", registry.name("app:2")))
    later = registry.requests()[before:]
    assert len([each for each in later if each.startswith("HEAD /v2/app/blobs/")]) == 3
    assert len([each for each in later if each.startswith("PUT") and "/blobs/" in each]) == 1  # the config
    assert not [each for each in later if each.startswith("GET /v2/app")]


def test_what_a_registry_has_lost_is_sent_again(user: User, registry: Registry, small: list[str]) -> None:
    """A registry that refuses the name, as it has a manifest without its blobs, gets these again."""
    words = ["image", "--layer", small[0], "--layer", small[1], "-o"]
    digest = good(run(user, *words, registry.name("app:1"))).out.strip()
    for lost in (user.home / "registry/docker/registry/v2/repositories/app/_layers/sha256").iterdir():
        shutil.rmtree(lost)
    assert good(run(user, *words, registry.name("app:2"))).out.strip() == digest
    assert good(run(user, "pull", registry.name("app:2"), "-o", user.home / "pulled")).out.strip() == digest


def test_small_blobs_go_together() -> None:
    """A process takes as many blobs as come to 8 MiB, in their order, and each blob is one process's."""
    assert batches([9 << 20, 5 << 20, 4 << 20, 1, 1]) == [range(1), range(1, 3), range(3, 5)]
    assert batches([]) == []


def test_a_base_is_mounted(user: User, registry: Registry, layout: Path, small: list[str], folder: Path) -> None:
    """A base of the same registry is not downloaded: its manifest and config are enough, and its layers are mounted."""
    good(run(user, "push", layout, registry.name("base:1")))
    (folder / "more").write_text("more")
    good(user.build("--copy-to-root", folder))
    before = len(registry.requests())
    good(run(user, "image", "--base", registry.name("base:1"), "--layer", user.home / "layer", "-o", registry.name("team/app:1")))
    later = registry.requests()[before:]
    layers = {layer["digest"] for layer in manifest_of(layout)["layers"]}
    assert not [each for each in later if each.startswith("GET") and each.rpartition("/")[2] in layers]
    assert len([each for each in later if "mount=" in each]) == len(layers)
    pulled = good(run(user, "pull", registry.name("team/app:1"), "-o", user.home / "pulled"))
    assert pulled.status == 0
    assert {layer["digest"] for layer in manifest_of(user.home / "pulled")["layers"]} > layers


def test_a_base_is_downloaded_once(user: User, registry: Registry, layout: Path, folder: Path) -> None:
    """A layer upon a base needs its tree: the layers come once, and not again while their snapshots are in the cache."""
    good(run(user, "push", layout, registry.name("base:1")))
    (folder / "more").write_text("more")
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    layers = {layer["digest"] for layer in manifest_of(layout)["layers"]}
    counts = []
    for _ in range(2):
        before = len(registry.requests())
        good(user.build("--base", registry.name("base:1"), "--copy-to-root", folder, env=env))
        counts.append(sum(each.startswith("GET") and each.rpartition("/")[2] in layers for each in registry.requests()[before:]))
    assert counts == [len(layers), 0]


def test_several_platforms(user: User, registry: Registry, small: list[str]) -> None:
    """An index is pushed after its manifests; one platform is pulled, or all; a copy has every byte."""
    for platform in ("linux/amd64", "linux/arm64"):
        good(image(user, "--layer", small[1], "--platform", platform, "-t", "app:1", output=platform.replace("/", "-")))
    both = [user.home / "linux-amd64", user.home / "linux-arm64"]
    good(run(user, "merge", *both, "--index", "app:1", "-o", registry.name("app:1")))
    puts = registry.asked("PUT", below="/manifests/")
    assert puts[-1] == "PUT /v2/app/manifests/1"
    assert len(puts) == 3
    good(run(user, "pull", registry.name("app:1"), "--platform", "linux/arm64", "-o", user.home / "one"))
    [one] = json.loads(good(run(user, "inspect", "--json", user.home / "one")).out)
    assert one["platform"] == "linux/arm64"
    good(run(user, "pull", registry.name("app:1"), "--all-platforms", "-o", user.home / "all"))
    good(merge(user, *both, "--index", "app:1"))
    assert blobs_of(user.home / "all") == blobs_of(user.home / "merged")
    good(run(user, "push", user.home / "all", registry.name("again:1")))
    digest = good(run(user, "copy", registry.name("app:1"), registry.name("copies/app:3"))).out.strip()
    for name in ("app:1", "again:1", "copies/app:3"):
        raw = good(skopeo(user, "inspect", "--tls-verify=false", "--raw", registry.name(name))).out.encode()
        assert sha256(raw) == digest


def test_a_copy_keeps_what_is_no_image(user: User, registry: Registry, layout: Path) -> None:
    """Manifests that are not written as this program writes them are copied by the byte, between registries as well."""
    good(skopeo(user, "copy", "--dest-tls-verify=false", "--format", "v2s2", f"oci:{layout}:app:1", registry.name("app:1")))
    before = good(skopeo(user, "inspect", "--tls-verify=false", "--raw", registry.name("app:1"))).out
    good(run(user, "copy", registry.name("app:1"), registry.name("new/app:1")))
    assert good(skopeo(user, "inspect", "--tls-verify=false", "--raw", registry.name("new/app:1"))).out == before
    good(run(user, "pull", registry.name("app:1"), "-o", user.home / "pulled.tar"))
    good(run(user, "diff", user.home / "pulled.tar", layout))


def test_make_pulls_and_pushes(user: User, registry: Registry, layout: Path, folder: Path) -> None:
    """A file of make has names of registries as bases and as outputs."""
    good(run(user, "push", layout, registry.name("base:1")))
    (user.home / "tree").mkdir()
    (user.home / "tree/more").write_text("more")
    file = user.home / "images.toml"
    base, output = registry.name("base:1"), registry.name("app:1")
    file.write_text(
        f'[layer.top]\nbase = ["{base}"]\ncopy-to-root = ["tree"]\n'
        f'[image.app]\nbase = "{base}"\nlayers = ["top"]\noutput = "{output}"\n'
    )
    env = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    first = good(run(user, "make", file, env=env)).out
    assert good(run(user, "make", file, env=env)).out == first
    [one] = json.loads(good(run(user, "inspect", "--json", output)).out)
    assert one["manifestDigest"] in first
    assert len(one["layers"]) == 3


def test_the_library_speaks_to_registries(somebody: User, layout: Path, folder: Path) -> None:
    """Whatever takes the path of an image takes the name of one in a registry."""
    with docker_registry(somebody) as registry:
        with open_images(layout) as images:
            write_images(images, registry.name("app:1"))
        with open_images(registry.name("app:1")) as again:
            assert [one.image.manifest for one in again] == [one.image.manifest for one in images]
        with open_base(registry.name("app:1"), cache=folder / "cache") as base:
            assert base.chain_id == images[0].image.chain_id
        assert compare(layout, registry.name("app:1")).equal
        assert validate(registry.name("app:1")).valid


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["pull", "docker://127.0.0.1:1/App:1", "-o", "out"], 2),
        (["pull", "app:1", "-o", "out"], 2),
        (["pull", "docker://127.0.0.1:1/app:1", "-o", "out"], 66),
        (["push", "LAYOUT", "docker://127.0.0.1:1/app:1"], 73),
        (["push", "LAYOUT", "docker://127.0.0.1:1/app:1", "--creds", "me"], 2),
        (["copy", "docker://127.0.0.1:1/a", "docker://127.0.0.1:2/a", "--creds", "me:secret"], 2),
        (["image", "--base", "docker://127.0.0.1:1/app%2f..:1", "-o", "out"], 65),
        (["image", "--base", "LAYOUT", "-f", "archive", "-o", "docker://127.0.0.1:1/app:1"], 2),
    ],
)
def test_what_cannot_be(user: User, layout: Path, words: list[str], status: int) -> None:
    """Names that are none, registries that are not there, and passwords that could be for either: an error, nothing written."""
    done = run(user, *(str(layout) if word == "LAYOUT" else word for word in words))
    assert done.status == status, done.err
    assert "secret" not in done.err
    assert not (user.home / "out").exists()


def test_what_is_not_there_is_said(user: User, registry: Registry, layout: Path) -> None:
    """A name, a tag, a digest or a platform that the registry does not have is named."""
    good(run(user, "push", layout, registry.name("app:1")))
    for name, said in (("app:2", "app:2"), ("none:1", "none:1"), (f"app@sha256:{'0' * 64}", "0" * 64)):
        done = run(user, "pull", registry.name(name), "-o", user.home / "out")
        assert (done.status, said in done.err) == (66, True), done.err
    done = run(user, "pull", registry.name("app:1"), "--platform", "linux/s390x", "-o", user.home / "out")
    assert (done.status, "linux/s390x" in done.err) == (65, True), done.err
    assert not (user.home / "out").exists()


@pytest.mark.slow
def test_podman_pulls_it(layout: Path, podman: Podman) -> None:
    """podman pulls what is pushed, with the config's bytes."""
    user = podman.user
    with docker_registry(user) as registry:
        good(run(user, "push", layout, registry.name("app:1")))
        good(podman("pull", "--tls-verify=false", registry.name("app:1")))
        [said] = json.loads(good(podman("inspect", registry.name("app:1").removeprefix("docker://"))).out)
        assert f"sha256:{said['Id']}" == manifest_of(layout)["config"]["digest"]
