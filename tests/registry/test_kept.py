"""An image that somebody else wrote keeps its digest, wherever it goes, for as long as nothing of it changes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.image_commands import image, merge, skopeo
from helpers.image_layouts import BASE, blob_of, layout_of, put, tar_of
from helpers.images import sha256
from helpers.registries import Registry, run
from helpers.serving import serving
from helpers.users import User, good

from rootless_layer import open_images
from rootless_layer.image.derived import read_derived, write_derived

NAME = "org.opencontainers.image.ref.name"
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
PLATFORMS = ("amd64", "arm64")


def foreign(folder: Path, *platforms: str, docker: bool = False, attested: bool = False) -> tuple[Path, bytes]:
    """Write a layout as another tool might, with one image for each platform; give it, and the document that its name is for.

    Of each that is ``attested`` the index lists an attestation, as buildx writes it.
    """
    tar = tar_of(file=b"data")
    layout_of(folder, BASE | {"history": []}, [tar])
    for old in (folder / "blobs/sha256").iterdir():
        old.unlink()
    rows = [_manifest(folder, tar, platform, docker=docker) for platform in platforms]
    rows += [_attestation(folder, row) for row in rows if attested]
    top = rows[0]
    if len(rows) > 1:
        kind = f"{DOCKER}distribution.manifest.list.v2+json" if docker else f"{OCI}index.v1+json"
        said = {"schemaVersion": 2, "mediaType": kind, "annotations": {"by": "another tool"}, "manifests": rows}
        if docker:
            del said["annotations"]
        top = _put(folder, said, kind)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top | {"annotations": {NAME: "app:1"}}]}))
    return folder, blob_of(folder, top["digest"]).read_bytes()


def _put(folder: Path, said: object, kind: str) -> dict[str, Any]:
    return put(folder, json.dumps(said, indent=3).encode(), "x") | {"mediaType": kind}


def _manifest(folder: Path, tar: bytes, platform: str, *, docker: bool) -> dict[str, Any]:
    config = BASE | {"architecture": platform, "history": [], "rootfs": {"type": "layers", "diff_ids": [sha256(tar)]}}
    kinds = (
        (f"{DOCKER}distribution.manifest.v2+json", f"{DOCKER}container.image.v1+json", f"{DOCKER}image.rootfs.diff.tar")
        if docker
        else (f"{OCI}manifest.v1+json", f"{OCI}config.v1+json", f"{OCI}layer.v1.tar")
    )
    said = {
        "schemaVersion": 2,
        "mediaType": kinds[0],
        "config": _put(folder, config, kinds[1]),
        "layers": [put(folder, tar, "x") | {"mediaType": kinds[2]}],
    }
    if not docker:
        said["annotations"] = {"by": "another tool"}
    return _put(folder, said, kinds[0]) | {"platform": {"os": "linux", "architecture": platform}}


def _attestation(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    config = {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": [sha256(b"{}")]}, "config": {}}
    statement = put(folder, json.dumps({"of": row["digest"]}).encode(), "x") | {"mediaType": "application/vnd.in-toto+json"}
    config_row = _put(folder, config, f"{OCI}config.v1+json")
    said = {"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "config": config_row, "layers": [statement]}
    about = {"vnd.docker.reference.digest": row["digest"], "vnd.docker.reference.type": "attestation-manifest"}
    unknown = {"architecture": "unknown", "os": "unknown"}
    return _put(folder, said, f"{OCI}manifest.v1+json") | {"annotations": about, "platform": unknown}


def raw(user: User, name: str) -> bytes:
    """Give the document that a name in a registry is for."""
    return good(skopeo(user, "inspect", "--tls-verify=false", "--raw", name)).out.encode()


@pytest.mark.parametrize("kind", ["oci", "docker"])
@pytest.mark.parametrize("platforms", [PLATFORMS[:1], PLATFORMS], ids=["one", "two"])
def test_it_goes_to_a_registry_as_it_is(user: User, registry: Registry, folder: Path, platforms: list[str], kind: str) -> None:
    """What is pushed, and what is served, is the document of the layout, byte for byte, whatever kind it is of."""
    layout, document = foreign(folder / "foreign", *platforms, docker=kind == "docker")
    said = good(run(user, "push", layout, registry.name("app:1"))).out.split()
    assert raw(user, registry.name("app:1")) == document
    assert len(said) == len(platforms)
    assert len(platforms) > 1 or said == [sha256(document)]
    with serving(user, layout) as served:
        assert raw(user, served.name("app:1")) == document
        assert served.images[served.name("app:1")] == sha256(document)
    assert good(run(user, "diff", "--platform", "linux/amd64", layout, registry.name("app:1"))).out == ""


@pytest.mark.parametrize("form", ["layout", "archive"])
@pytest.mark.parametrize("platforms", [PLATFORMS[:1], PLATFORMS], ids=["one", "two"])
def test_it_comes_back_as_it_is(user: User, registry: Registry, folder: Path, platforms: list[str], form: str) -> None:
    """From a registry into a file, and back: the digest stays."""
    layout, document = foreign(folder / "foreign", *platforms)
    good(run(user, "push", layout, registry.name("app:1")))
    words = ["--all-platforms"] if len(platforms) > 1 else ["--platform", "linux/amd64"]
    good(run(user, "pull", registry.name("app:1"), *words, "-f", form, "-o", user.home / "pulled"))
    good(run(user, "push", user.home / "pulled", registry.name("again:1")))
    assert raw(user, registry.name("again:1")) == document
    assert good(run(user, "validate", user.home / "pulled")).status == 0
    if form == "layout":
        assert blob_of(user.home / "pulled", sha256(document)).read_bytes() == document
        assert [row["digest"] for row in json.loads((user.home / "pulled/index.json").read_bytes())["manifests"]] == [
            sha256(document)
        ]


@pytest.mark.parametrize("platforms", [PLATFORMS[:1], PLATFORMS], ids=["one", "two"])
def test_an_index_keeps_its_attestations(user: User, registry: Registry, folder: Path, platforms: list[str]) -> None:
    """What an index lists beside images goes with it, to a registry and into a file: the digest stays, and all can be had."""
    layout, document = foreign(folder / "foreign", *platforms, attested=True)
    good(run(user, "push", layout, registry.name("app:1")))
    assert raw(user, registry.name("app:1")) == document
    good(run(user, "pull", "--all-platforms", registry.name("app:1"), "-o", user.home / "pulled"))
    assert good(run(user, "validate", user.home / "pulled")).status == 0
    good(run(user, "push", user.home / "pulled", registry.name("again:1")))
    with serving(user, layout) as served:
        for number, name in enumerate((registry.name("app:1"), registry.name("again:1"), served.name("app:1"))):
            copied = user.home / f"copied{number}"
            good(skopeo(user, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", name, f"oci:{copied}:app:1"))
            assert blob_of(copied, sha256(document)).read_bytes() == document
            assert {path.name for path in (copied / "blobs/sha256").iterdir()} == {
                path.name for path in (layout / "blobs/sha256").iterdir()
            }


def test_an_attestation_that_is_not_there_is_left_out(user: User, registry: Registry, folder: Path) -> None:
    """Where a blob of it is missing, the index is made anew, and lists what is there."""
    layout, document = foreign(folder / "foreign", *PLATFORMS, attested=True)
    attestation = json.loads(blob_of(layout, json.loads(document)["manifests"][-1]["digest"]).read_bytes())
    blob_of(layout, attestation["layers"][0]["digest"]).unlink()
    good(run(user, "push", layout, registry.name("app:1")))
    listed = json.loads(raw(user, registry.name("app:1")))["manifests"]
    assert [row["platform"]["architecture"] for row in listed] == [*PLATFORMS]


def test_one_of_two_keeps_its_manifest(user: User, registry: Registry, folder: Path) -> None:
    """Of an index one image is pulled, and two are merged with another: each has the manifest that it had."""
    layout, document = foreign(folder / "foreign", *PLATFORMS)
    digests = [row["digest"] for row in json.loads(document)["manifests"]]
    good(run(user, "push", layout, registry.name("app:1")))
    said = good(run(user, "pull", registry.name("app:1"), "--platform", "linux/arm64", "-o", user.home / "one")).out
    assert said.split() == digests[1:]
    other, _ = foreign(folder / "other", "s390x")
    assert set(digests) < set(good(merge(user, layout, other, "--index", "app:1")).out.split())


def test_docker_s_kind_becomes_image_spec_s_in_a_file(user: User, registry: Registry, folder: Path) -> None:
    """A layout has manifests of image-spec's kind alone; the config and the layers stay."""
    layout, document = foreign(folder / "foreign", "amd64", docker=True)
    good(run(user, "push", layout, registry.name("app:1")))
    digest = good(run(user, "pull", registry.name("app:1"), "--platform", "linux/amd64", "-o", user.home / "one")).out.strip()
    made = json.loads(blob_of(user.home / "one", digest).read_bytes())
    assert made["mediaType"] == f"{OCI}manifest.v1+json"
    assert made["config"]["digest"] == json.loads(document)["config"]["digest"]


def test_what_changes_gets_a_manifest_of_its_own(user: User, folder: Path) -> None:
    """A label, or a layer, is another image: nothing of the old manifest stays."""
    layout, document = foreign(folder / "foreign", "amd64")
    (folder / "tree").mkdir()
    (folder / "tree/more").write_text("more")
    good(user.build("--copy-to-root", folder / "tree"))
    for number, words in enumerate((["--label", "a=b"], ["--layer", user.home / "layer"])):
        good(image(user, "--base", layout, "--platform", "linux/amd64", *words, output=f"image{number}"))
        assert not blob_of(user.home / f"image{number}", sha256(document)).exists()
        assert b"another tool" not in b"".join(
            path.read_bytes() for path in (user.home / f"image{number}/blobs/sha256").iterdir()
        )


def test_a_derived_image_keeps_it(folder: Path) -> None:
    """The directory of a derived image has the manifest, and the image that is read of it."""
    layout, document = foreign(folder / "foreign", "amd64")
    (folder / "derived").mkdir()
    with open_images(layout) as images:
        assert images[0].image.manifest == document
        write_derived(images[0].image, ["app:1"], folder / "derived")
        assert read_derived(str(folder / "derived"))[0].manifest == document


def test_a_pull_takes_what_the_registry_has(user: User, registry: Registry, folder: Path) -> None:
    """A layer that is another than the config says comes as it is; whoever checks it, or builds upon it, is told."""
    layout, _ = foreign(folder / "foreign", "amd64")
    config = BASE | {"architecture": "amd64", "history": [], "rootfs": {"type": "layers", "diff_ids": [sha256(b"another")]}}
    layer = put(layout, gzip.compress(tar_of(file=b"data")), "layer.v1.tar+gzip")
    said = {"schemaVersion": 2, "config": _put(layout, config, f"{OCI}config.v1+json"), "layers": [layer]}
    row = _put(layout, said, f"{OCI}manifest.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row | {"annotations": {NAME: "app:1"}}]}))
    name, words = registry.name("app:1"), ["--platform", "linux/amd64"]
    good(skopeo(user, "copy", "--preserve-digests", "--dest-tls-verify=false", f"oci:{layout}:app:1", name))
    assert good(run(user, "pull", name, *words, "-o", user.home / "pulled")).out.strip() == row["digest"]
    for subject in (name, user.home / "pulled"):
        assert run(user, "validate", subject).status == 65
        assert run(user, "image", "--base", subject, *words, "--label", "a=b", "-o", user.home / "made").status == 65
    assert not (user.home / "made").exists()


@pytest.mark.parametrize("lie", ["type", "schema"])
def test_a_manifest_that_is_wrong_is_not_kept(user: User, folder: Path, lie: str) -> None:
    """Where a manifest says of a layer what is not so, or is not as engines have it, one of this program's takes its place."""
    layout, document = foreign(folder / "foreign", "amd64")
    said = json.loads(document)
    if lie == "type":
        said["layers"][0]["mediaType"] += "+gzip"
    else:
        said["schemaVersion"] = 1
    row = _put(layout, said, said["mediaType"]) | {"annotations": {NAME: "app:1"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    digest = good(merge(user, layout)).out.strip()
    assert digest != row["digest"]
    assert good(run(user, "validate", user.home / "merged")).status == 0
