"""Archives as docker, podman and others save them: what stands beside an image is never in the way of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.aftermath import assert_said
from helpers.docker_archives import OCI, SAVED, archive, blob, config_of, document, layout
from helpers.effort import todays
from helpers.images import FILE, LAYER, LOWER, Made, no_spool, sha256, tar
from helpers.podman import Podman
from helpers.users import COMMAND, User, good

from rootless_layer.check.validate import validate
from rootless_layer.errors import InputError
from rootless_layer.image.choose import choose
from rootless_layer.image.read import read_all
from rootless_layer.oci.descriptor import Platform
from rootless_layer.oci.reference import rank

LAYERS = [LOWER, tar(("a", FILE, b"a"))]
AMD64 = Platform("linux", "amd64")


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("wanted", todays(["", "#x:1", "#docker.io/library/x:1", "#1"], 2))
def test_an_archive_of_every_version(user: User, name: str, wanted: str) -> None:
    """It is inspected, valid, built upon, merged, and what is written of it is valid without a word."""
    path = SAVED[name](user.home / "saved.tar", LAYERS, "x:1")
    given = f"{path}{wanted}"
    assert user.run([*COMMAND, "validate", given]).status == 0
    said = json.loads(good(user.run([*COMMAND, "inspect", "--json", given])).out)
    assert [layer["diffId"] for layer in said[0]["layers"]][:2] == [sha256(layer) for layer in LAYERS]
    assert [row["kind"] for row in said[1:]] == (["absent", "artifact"] if "containerd" in name else [])
    assert user.build("--base", given, "--platform", "linux/amd64", output="layer").status == 0
    made = user.run([*COMMAND, "image", "--base", given, "--platform", "linux/amd64", "-t", "y:1", "-o", user.home / "image.tar"])
    merged = user.run([*COMMAND, "merge", given, "-o", user.home / "merged.tar"])
    assert ("is left out" in merged.err) == ("containerd" in name)
    for result, output in ((made, "image.tar"), (merged, "merged.tar")):
        assert result.status == 0, result.err
        checked = user.run([*COMMAND, "validate", user.home / output])
        assert checked.status == 0, checked.err
    assert good(user.run([*COMMAND, "validate", user.home / "image.tar"])).err.count("unusual") == (1 if name == "pack" else 0)


def test_podman_saves_what_is_read(podman: Podman) -> None:
    """Each format of ``podman save`` is read back, by the short name and the full one."""
    user = podman.user
    base = Made(user.home / "base", LAYERS).write().folder
    words = ["--base", base, "--platform", "linux/amd64", "-t", "localhost/x:1", "-o", user.home / "x.tar"]
    good(user.run([*COMMAND, "image", "-q", *words]))
    good(podman("load", "-i", user.home / "x.tar"))
    for kind in ("docker-archive", "oci-archive"):
        good(podman("save", "--format", kind, "-o", user.home / f"{kind}.tar", "localhost/x:1"))
        for name in ("", "#x:1", "#localhost/x:1"):
            result = user.build(
                "--base",
                f"{user.home}/{kind}.tar{name}",
                "--platform",
                "linux/amd64",
                output=f"{kind}{name[1:].replace('/', '-')}",
            )
            assert result.status == 0, result.err
        assert user.run([*COMMAND, "validate", user.home / f"{kind}.tar"]).status == 0


def several(path: Path, *rows: Any) -> Path:
    """Write a layout of rows, each made by a function of the files."""
    files: dict[str, bytes] = {}
    listed = [row(files) for row in rows]
    return archive(path, {**files, **layout(listed)})


def image(layer: bytes = LOWER, **more: Any) -> Any:
    """Make an image, listed as is said."""

    def made(files: dict[str, bytes]) -> dict[str, Any]:
        config = document(files, config_of([layer]), OCI + "config.v1+json")
        return document(
            files, {"schemaVersion": 2, "config": config, "layers": [blob(files, layer, LAYER)]}, OCI + "manifest.v1+json", **more
        )

    return made


def artifact(config: dict[str, Any], kind: str, config_type: str, **more: Any) -> Any:
    """Make what is no image."""

    def made(files: dict[str, bytes]) -> dict[str, Any]:
        manifest = {
            "schemaVersion": 2,
            "config": document(files, config, config_type),
            "layers": [blob(files, b"data", kind)],
            **more,
        }
        return document(files, manifest, OCI + "manifest.v1+json", **named("other"))

    return made


def named(name: str) -> dict[str, Any]:
    """Give the annotations of a name."""
    return {"annotations": {"org.opencontainers.image.ref.name": name}}


EMPTY = "application/vnd.oci.empty.v1+json"
OTHERS: dict[str, Any] = {
    "cosign's signature": artifact(
        {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [sha256(b"data")]}},
        "application/vnd.dev.cosign.simplesigning.v1+json", OCI + "config.v1+json"),
    "a signature of 1.1": artifact({}, "application/vnd.dev.sigstore.bundle.v0.3+json", EMPTY, artifactType="application/vnd.dev.sigstore"),
    "an attestation without a platform": artifact({**config_of([]), "os": "unknown"}, "application/vnd.in-toto+json", OCI + "config.v1+json"),
    "a chart": artifact({"name": "x"}, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/vnd.cncf.helm.config.v1+json"),
    "an SBOM": artifact({}, "application/spdx+json", EMPTY, artifactType="application/spdx+json"),
    "another media type": lambda files: blob(files, b"x", "application/x", **named("other")),
    "one that is absent": lambda _: {"mediaType": OCI + "manifest.v1+json", "digest": sha256(b"gone"), "size": 4},
    "an index that is absent": lambda _: {"mediaType": OCI + "index.v1+json", "digest": sha256(b"gone"), "size": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_image_is_never_in_the_way(users: list[User], name: str) -> None:
    """Before an image or behind it, in an index that says no platform: the image is chosen, and inspect shows the other."""
    user = users[-1]
    for order in (1, -1):
        path = several(user.home / "a.tar", *[OTHERS[name], image(**named("x:1"))][::order])
        result = user.build("--base", path, "--platform", "linux/amd64", output=f"layer{order}")
        assert result.status == 0, result.err
        said = json.loads(good(user.run([*COMMAND, "inspect", "--json", path])).out)
        assert [row["kind"] for row in said] == ["image", "absent" if "absent" in name else "artifact"]
        assert "no image" in user.run([*COMMAND, "inspect", path]).out
        assert user.run([*COMMAND, "validate", path]).status == 0
        merged = user.run([*COMMAND, "merge", path, "-o", user.home / "merged"])
        assert (merged.status, "left out" in merged.err) == (0, True), merged.err
    alone = several(user.home / "alone.tar", OTHERS[name])
    assert_said(user.build("--base", alone, "--platform", "linux/amd64", output="none"), 65, "alone")
    assert user.run([*COMMAND, "validate", alone]).status == 65


def test_a_damaged_image_is_said_where_it_is_meant(tmp_path: Path) -> None:
    """One that may be meant is an error, and one of another name or platform is not in the way."""
    damaged = artifact({**config_of([]), "rootfs": 7}, LAYER, OCI + "config.v1+json")
    found = read_all(several(tmp_path / "a.tar", damaged, image(**named("x:1"))), no_spool)
    assert choose(found.images, "a", AMD64, "x:1", found.others).layers[0].diff_id == sha256(LOWER)
    with pytest.raises(InputError, match="rootfs"):
        choose(found.images, "a", AMD64, "other", found.others)
    with pytest.raises(InputError, match="rootfs"):
        found.whole()


def test_a_foreign_layer(tmp_path: Path) -> None:
    """One that is in the image is a layer as any other; one that is not is an error that says so."""
    for there in (True, False):

        def made(files: dict[str, bytes], there: bool = there) -> dict[str, Any]:  # noqa: FBT001
            config = document(files, config_of([LOWER]), OCI + "config.v1+json")
            kind = "application/vnd.docker.image.rootfs.foreign.diff.tar"
            row = blob(files if there else {}, LOWER, kind, urls=["https://example.com/layer"])
            return document(files, {"schemaVersion": 2, "config": config, "layers": [row]}, OCI + "manifest.v1+json")

        path = several(tmp_path / f"{there}.tar", made)
        if there:
            assert len(read_all(path, no_spool).images) == 1
        else:
            with pytest.raises(InputError, match="is a foreign one, and not in the image"):
                read_all(path, no_spool)


def test_the_platform_by_which_an_index_lists_an_image(tmp_path: Path) -> None:
    """Engines choose by the index, not by the config; of arm they take an older variant where there is none for their own."""
    arm = [{"platform": {"os": "linux", "architecture": "arm", "variant": variant}} for variant in ("v5", "v6")]
    layers = [tar((name, FILE)) for name in "abc"]
    rows = [
        image(layer, **more)
        for layer, more in zip(layers, [*arm, {"platform": {"os": "linux", "architecture": "arm64"}}], strict=True)
    ]
    found = read_all(several(tmp_path / "a.tar", *rows), no_spool)
    for platform, layer in (("linux/arm/v7", 1), ("linux/arm/v6", 1), ("linux/arm/v5", 0), ("linux/arm64", 2)):
        assert choose(found.images, "a", Platform.parse(platform)).layers[0].diff_id == sha256(layers[layer])
    with pytest.raises(InputError, match="there is no image for linux/amd64"):
        choose(found.images, "a", AMD64)


@pytest.mark.parametrize(
    ("wanted", "name", "expected"),
    [
        ("busybox", "docker.io/library/busybox:latest", 2), ("busybox", "busybox:latest", 2), ("busybox:latest", "busybox", 2),
        ("docker.io/busybox", "busybox:latest", 2), ("index.docker.io/library/busybox", "busybox", 2), ("a/b", "docker.io/a/b:latest", 2),
        ("x:1", "localhost/x:1", 2), ("a/x:1", "localhost/a/x:1", 2), ("1", "x:1", 1), ("x:1", "x:1", 3), ("1", "1", 3),
        ("x", "localhost:5000/x:latest", 0), ("localhost:5000/x", "localhost:5000/x:latest", 2), ("x", "x:1", 0), ("quay.io/x", "x", 0),
    ],
)  # fmt: skip
def test_how_a_name_is_meant(wanted: str, name: str, expected: int) -> None:
    """To the letter, else as engines read short names, else by the tag alone."""
    assert rank(wanted, name) == expected


def test_the_best_name_wins(tmp_path: Path) -> None:
    """An image whose tag is the name of another is not taken for it."""
    layers = [tar((name, FILE)) for name in "ab"]
    rows = [image(layer, **named(name)) for layer, name in zip(layers, ("y:x", "docker.io/library/x:latest"), strict=True)]
    found = read_all(several(tmp_path / "a.tar", *rows), no_spool)
    assert choose(found.images, "a", AMD64, "x").layers[0].diff_id == sha256(layers[1])
    assert choose(found.images, "a", AMD64, "y:x").layers[0].diff_id == sha256(layers[0])


def test_many_rows_and_layers(tmp_path: Path) -> None:
    """More than any tool writes is refused at once, and validate says the same."""
    row = image()
    files: dict[str, bytes] = {}
    rows = [row(files)] * 100_000
    path = archive(tmp_path / "rows.tar", {**files, **layout(rows)})
    many = tmp_path / "layers.tar"
    config = {**config_of([]), "rootfs": {"type": "layers", "diff_ids": [sha256(LOWER)] * 100_000}}
    docker = [{"Config": "c.json", "RepoTags": None, "Layers": ["layer.tar"] * 100_000}]
    archive(many, {"c.json": json.dumps(config).encode(), "layer.tar": LOWER, "manifest.json": json.dumps(docker).encode()})
    for odd in (path, many):
        assert not validate(str(odd), no_spool).valid
        with pytest.raises(InputError, match=r"10000|1000 are the most"):
            read_all(odd, no_spool)
