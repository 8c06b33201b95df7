"""An image that Nix built is put elsewhere by its own scripts, of which no archive is made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.image_commands import skopeo
from helpers.nix_builders import in_container
from helpers.nix_pkgs import Nix
from helpers.podman import podman_of
from helpers.registries import docker_registry, run
from helpers.users import Result, good

IMAGE = """
map (form: (form {
  name = "pushed";
  tag = "1";
  copyToRoot = pkgs.writeTextDir "text" "hello";
}).SCRIPT) [ ours.streamImage ours.buildImage ]
"""


def call(nix: Nix, script: str, *words: str | Path) -> Result:
    """Run a script of the store where it is at its path."""
    return nix.run("nix", "shell", script, "-c", script, *words)


def test_an_image_is_pushed_by_its_script(stores: list[Nix]) -> None:
    """``copyToRegistry`` is a script: its argument is the name, and the registry has the image then, whoever built it."""
    nix = stores[0]
    script = nix.build(IMAGE.replace("SCRIPT", "copyToRegistry"))[0]
    with docker_registry(nix.user) as registry:
        name = registry.name("pushed:1")
        done = call(nix, script, name)
        assert done.status == 0, done.err
        [said] = json.loads(good(run(nix.user, "inspect", "--json", name)).out)
        assert said["manifestDigest"] in done.out
        assert sum(layer["added"] for layer in said["layers"]) > 0
        again = call(nix, script, name)
        assert again.status == 0, again.err
        assert len(registry.asked("PUT", below="/blobs/")) == len({layer["digest"] for layer in said["layers"]}) + 1


BILL = """
ours.streamLayeredImage {
  name = "billed";
  tag = "1";
  contents = [ pkgs.bash ];
  annotations."org.example.a" = "1";
  sbom = "spdx";
}
"""


@pytest.mark.parametrize("function", ["streamLayeredImage", "streamImage"])
def test_a_bill_is_made_in_the_sandbox(stores: list[Nix], function: str) -> None:
    """The image has a bill of materials with the references of its store paths, and its push attaches that."""
    nix = stores[0]
    text = BILL if function == "streamLayeredImage" else BILL.replace("streamLayered", "stream").replace("contents", "copyToRoot")
    made, script = nix.build(f"let made = {text}; in [ made.rootlessImage made.copyToRegistry ]")
    bill = json.loads((nix.on_disk(made) / "sbom.spdx.json").read_bytes())
    urls = {each["SPDXID"]: each["externalRefs"][0]["referenceLocator"] for each in bill["packages"] if "externalRefs" in each}
    assert any(url.startswith("pkg:nix/") for url in urls.values())
    assert all(each["checksums"] for each in bill["packages"] if "packageFileName" in each)
    assert [row for row in bill["relationships"] if row["relationshipType"] == "DEPENDS_ON"]
    with docker_registry(nix.user) as registry:
        done = nix.run("nix", "shell", script, "-c", script, registry.name("billed:1"))
        assert done.status == 0, done.err
        image, attached = json.loads(good(run(nix.user, "inspect", "--json", registry.name("billed:1"))).out)
        assert (attached["artifactType"], attached["subject"]) == ("application/spdx+json", image["manifestDigest"])
        manifest = json.loads(good(skopeo(nix.user, "inspect", "--tls-verify=false", "--raw", registry.name("billed:1"))).out)
        assert manifest["annotations"] == {"org.example.a": "1"}


def test_an_image_is_copied_wherever_it_is_wanted(stores: list[Nix]) -> None:
    """``copyTo`` is a script of every image, whose argument is the place: the image there is the one that was built."""
    for nix in stores:
        scripts = nix.build(IMAGE.replace("SCRIPT", "copyTo"))
        built = json.loads(nix.on_disk(nix.build(IMAGE.replace("SCRIPT", "rootlessImage"))[0] + "/image.json").read_bytes())
        before = set(os.listdir(nix.store / "nix/store"))
        with docker_registry(nix.user) as registry:
            places = [
                registry.name("copied:1"),
                *(f"{kind}:{nix.user.home}/{kind}" for kind in ("oci", "oci-archive", "docker-archive")),
            ]
            for place in places:
                good(call(nix, scripts[0], place))
                where = place if place.startswith("docker://") else place.partition(":")[2]
                [said] = json.loads(good(run(nix.user, "inspect", "--json", where)).out)
                assert said["manifestDigest"] == built["manifestDigest"] or place.startswith("docker-archive:")
                assert [layer["diffId"] for layer in said["layers"]] == json.loads(built["config"])["rootfs"]["diff_ids"]
        assert set(os.listdir(nix.store / "nix/store")) == before
        wrong = call(nix, scripts[1], "elsewhere:x")
        assert (wrong.status, "usage:" in wrong.err) == (2, True)


def test_an_image_is_loaded_by_its_script(stores: list[Nix]) -> None:
    """``copyTo`` has podman and docker load the image, by its own name or another; where they fail the script fails."""
    nix = stores[-1]
    script = nix.build(IMAGE.replace("SCRIPT", "copyTo"))[1]
    with podman_of(nix.user) as podman:
        programs = nix.user.home / "programs"
        programs.mkdir()
        for name in ("podman", "docker"):
            words = " ".join([shutil.which("podman") or "podman", *podman.command()[1:]])
            (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            (programs / name).chmod(0o755)
        (nix.user.home / "top").mkdir()
        there = in_container(nix, nix.user.home / "top")
        for place, name in (("containers-storage:", "pushed:1"), ("docker-daemon:other:2", "other:2")):
            path = {"PATH": f"{programs}:{os.environ['PATH']}"}
            good(nix.user.run([*there, script, place], env=path))
            assert podman("image", "exists", name).status == 0
            assert nix.user.run([*there, script, place, "--no-such-option"], env=path).status != 0
