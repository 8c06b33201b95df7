"""Images are read by the programs that people have."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.image_commands import image, skopeo
from helpers.image_layers import Layers
from helpers.image_layouts import assert_layout_true, blob_of, manifest_of
from helpers.images import sha256
from helpers.podman import Podman
from helpers.registries import docker_registry
from helpers.users import COMMAND, User, good

pytestmark = pytest.mark.slow

LOOK = "id redis; stat -c %U:%G:%a /data /usr/local/bin/suid; stat -c %u:%g:%a /srv; getcap /srv/capable"
SEEN = [
    "uid=999(redis) gid=999(redis) groups=999(redis)",
    "redis:redis:2750",
    "redis:redis:4755",
    "33:44:755",
    "/srv/capable cap_net_raw=ep",
]


def test_podman_runs_an_archive(podman: Podman, made: Layers) -> None:
    """podman loads the archive by its name, and owners, set-ID bits and capabilities of both layers are there."""
    good(image(podman.user, *made.options, output="app.tar"))
    good(podman("load", "-i", podman.user.home / "app.tar"))
    assert podman.says("app:1", LOOK) == SEEN


def test_podman_loads_from_a_pipe(podman: Podman, made: Layers) -> None:
    """``rootless-layer image --closure … -o - | podman load`` loads an image of a closure that runs, as streamLayeredImage does."""
    line = 'set -o pipefail; "$@" | "${PODMAN[@]}" load'
    podman_array = f"PODMAN=({' '.join(podman.command())})\n"
    programs = ":".join(f"{made.store.path(name)}/bin" for name in ("bash", "coreutils"))
    layers = [*made.store.options, "--max-layers", "9", "--layer", str(made.derived)]
    options = [*layers, "-t", "app:1", "--env", f"PATH={programs}"]
    good(podman.user.run(["bash", "-c", podman_array + line, "-", *COMMAND, "image", *options, "-o", "-"]))
    listed = json.loads(good(podman("inspect", "app:1")).out)
    good(image(podman.user, *options))
    assert f"sha256:{listed[0]['Id']}" == manifest_of(podman.user.home / "image")["config"]["digest"]
    assert len(manifest_of(podman.user.home / "image")["layers"]) == 9
    assert podman.says("app:1", "stat -c %u:%g:%a /srv /nix/store; ls /nix/store | wc -l") == [
        "33:44:755",
        "0:0:755",
        str(len(made.store.paths)),
    ]


def test_podman_runs_a_docker_archive(podman: Podman, made: Layers) -> None:
    """podman loads the docker-archive of the old shape, and sees the same in it."""
    good(image(podman.user, *made.options, "-f", "docker-archive", output="app.tar"))
    good(podman("load", "-i", podman.user.home / "app.tar"))
    assert podman.says("app:1", LOOK) == SEEN


@pytest.mark.parametrize("kind", ["layout", "archive", "docker-archive"])
def test_skopeo_copies_everywhere(user: User, small: list[str], kind: str) -> None:
    """skopeo copies an image of each format to each of its own, with the config's bytes; docker's to OCI's with its meaning."""
    options = ["-t", "app:1", *(word for folder in small for word in ("--layer", folder))]
    good(image(user, *options))
    config = blob_of(user.home / "image", manifest_of(user.home / "image")["config"]["digest"]).read_bytes()
    good(image(user, *options, "-f", kind, output="given"))
    where = user.home / "given"
    sources = {
        "layout": [f"oci:{where}:app:1"],
        "archive": [f"oci-archive:{where}:app:1", f"docker-archive:{where}:app:1", f"docker-archive:{where}"],
        "docker-archive": [f"docker-archive:{where}:app:1"],
    }[kind]
    for number, source in enumerate(sources):
        for transport in ("oci", "oci-archive", "docker-archive", "dir"):
            target = f"{transport}:{user.home}/{transport}-{number}" + ("" if transport == "dir" else ":app:1")
            good(skopeo(user, "copy", source, target))
            copied = good(skopeo(user, "inspect", "--config", "--raw", target)).out.encode()
            if source.startswith("docker") and transport.startswith("oci"):
                assert json.loads(copied) == json.loads(config)
            else:
                assert copied == config


@pytest.fixture
def registry(users: list[User]) -> Iterator[str]:
    """A registry on this machine: its host and port."""
    with docker_registry(users[-1]) as made:
        yield made.host


def test_a_registry_takes_and_gives_the_image(users: list[User], made: Layers, registry: str) -> None:
    """A registry keeps the manifest's bytes, and what comes back from it is the layout's blobs."""
    user = users[-1]
    digest = good(image(user, *made.options)).out.strip()
    where = f"docker://{registry}/app:1"
    good(skopeo(user, "copy", "--dest-tls-verify=false", f"oci:{user.home}/image:app:1", where))
    assert sha256(good(skopeo(user, "inspect", "--tls-verify=false", "--raw", where)).out.encode()) == digest
    good(skopeo(user, "copy", "--src-tls-verify=false", where, f"oci:{user.home}/again:app:1"))
    assert fingerprint_of_blobs(user.home / "again") == fingerprint_of_blobs(user.home / "image")


def fingerprint_of_blobs(layout: Path) -> dict[str, str]:
    """Give the digest of each blob by its name."""
    return {path.name: sha256(path.read_bytes()) for path in (layout / "blobs/sha256").iterdir()}


def test_umoci_unpacks_the_image(user: User, made: Layers) -> None:
    """umoci unpacks both layers, for root with their owners and without privilege too."""
    good(image(user, *made.options))
    assert_layout_true(user.home / "image")
    rootless = [] if user.is_root else ["--rootless"]
    good(user.run(["umoci", "unpack", *rootless, "--image", f"{user.home}/image:app:1", user.home / "bundle"]))
    root = user.home / "bundle/rootfs"
    assert "redis:x:" in (root / "etc/passwd").read_text()
    if user.is_root:
        assert [((root / name).stat().st_uid, (root / name).stat().st_gid) for name in ("data", "srv")] == [(999, 999), (33, 44)]
        assert os.getxattr(root / "srv/capable", "security.capability")


def test_oci_image_tool_finds_nothing_wrong(user: User, small: list[str]) -> None:
    """oci-image-tool validates the layout."""
    if shutil.which("oci-image-tool") is None:
        pytest.skip("oci-image-tool is not installed")
    good(image(user, "--layer", small[1], "-t", "app"))
    good(user.run(["oci-image-tool", "validate", "--type", "image", "--ref", "name=app:latest", user.home / "image"]))
