"""What is attached to images: bills of materials and other files, in layouts and registries of both kinds, and signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.image_commands import image, merge, skopeo
from helpers.image_layouts import blob_of
from helpers.images import sha256
from helpers.podman import Podman
from helpers.registries import Registry, listing_registry, run
from helpers.users import User, good

SPDX, CYCLONEDX = "application/spdx+json", "application/vnd.cyclonedx+json"


@pytest.fixture(params=["fallback", "api"])
def either(request: pytest.FixtureRequest, user: User) -> Iterator[Registry]:
    """A registry that knows nothing of referrers, and one that lists them."""
    if request.param == "fallback":
        yield request.getfixturevalue("registry")
        return
    with listing_registry(user) as running:
        yield running


def rows(layout: Path) -> list[dict[str, Any]]:
    """Give what index.json lists that has the type of an artifact."""
    found: list[dict[str, Any]] = json.loads((layout / "index.json").read_bytes())["manifests"]
    return [row for row in found if "artifactType" in row]


def attached(user: User, subject: str | Path) -> dict[str, str]:
    """Give what ``inspect`` says is attached: by its type the digest of what it is attached to."""
    said = json.loads(good(run(user, "inspect", "--json", subject)).out)
    return {one["artifactType"]: one["subject"] for one in said if "artifactType" in one}


def test_a_layout_has_the_bill(user: User, small: list[str]) -> None:
    """index.json lists a manifest with the image as its subject; the image itself has the digest that it has without."""
    plain = good(image(user, "--layer", small[1], "-t", "app:1", output="plain")).out.strip()
    digest = good(image(user, "--layer", small[1], "-t", "app:1", "--sbom", "spdx")).out.strip()
    assert digest == plain
    [row] = rows(user.home / "image")
    assert row["artifactType"] == SPDX
    manifest = json.loads(blob_of(user.home / "image", row["digest"]).read_bytes())
    assert manifest["subject"]["digest"] == digest
    assert manifest["artifactType"] == SPDX
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    [file] = manifest["layers"]
    assert json.loads(blob_of(user.home / "image", file["digest"]).read_bytes())["spdxVersion"] == "SPDX-2.3"
    assert good(run(user, "sbom", user.home / "image")).out.encode() == blob_of(user.home / "image", file["digest"]).read_bytes()
    assert attached(user, user.home / "image") == {SPDX: digest}
    assert ": valid: 1 image" in good(run(user, "validate", user.home / "image")).out
    good(skopeo(user, "copy", f"oci:{user.home}/image:app:1", f"oci:{user.home}/copied:app:1"))


def test_what_is_attached_stays_where_the_digest_does(user: User, small: list[str]) -> None:
    """``merge`` takes along what is attached, without a word; where the image is another then, it says that it does not."""
    good(image(user, "--layer", small[1], "-t", "app:1", "--sbom", "cyclonedx"))
    done = good(merge(user, user.home / "image", output="again.tar"))
    assert "left out" not in done.err
    good(merge(user, user.home / "again.tar"))
    assert rows(user.home / "merged") == rows(user.home / "image")
    other = good(merge(user, user.home / "image", "--annotation", "org.example.a=1", output="other"))
    assert rows(user.home / "other") == []
    assert "left out" in other.err


def test_a_registry_lists_what_is_attached(user: User, either: Registry, small: list[str], folder: Path) -> None:
    """A push puts it after the image; ``inspect`` finds it, ``copy`` takes it along where that is wished, and to a second one."""
    name = either.name("app:1")
    digest = good(run(user, "image", "--layer", small[1], "--sbom", "spdx", "-o", name)).out.strip()
    assert attached(user, name) == {SPDX: digest}
    (folder / "note.json").write_text('{"bomFormat": "CycloneDX"}')
    assert good(
        run(user, "copy", name, name, "--attach", folder / "note.json", "--attach", f"{folder}/note.json:text/x-note")
    ).out
    both = {SPDX: digest, CYCLONEDX: digest, "text/x-note": digest}
    assert attached(user, name) == both
    good(run(user, "pull", "--referrers", name, "-o", user.home / "pulled"))
    assert attached(user, user.home / "pulled") == both
    good(run(user, "pull", name, "-o", user.home / "without"))
    assert rows(user.home / "without") == []
    good(run(user, "copy", name, either.name("plain/app:1")))
    assert attached(user, either.name("plain/app:1")) == {}
    for _ in range(2):  # what is listed already is not listed twice
        good(run(user, "copy", "--referrers", name, either.name("other/app:2")))
    assert attached(user, either.name("other/app:2")) == both
    said = json.loads(good(run(user, "inspect", "--json", either.name("other/app:2"))).out)
    assert len([one for one in said if "artifactType" in one]) == 3


def test_a_docker_archive_has_nothing_attached(user: User, registry: Registry, small: list[str]) -> None:
    """To ask for both is a mistake; where a layout has something attached, it is told that it is left out."""
    for output in (registry.name("app:1"), "image"):
        good(run(user, "image", "--layer", small[1], "-t", "app:1", "--sbom", "spdx", "-o", output))
    [row] = rows(user.home / "image")
    done = run(user, "pull", "--referrers", registry.name("app:1"), "-o", user.home / "a.tar", "-f", "docker-archive")
    assert (done.status, "--referrers" in done.err, (user.home / "a.tar").exists()) == (2, True, False)
    told = good(merge(user, user.home / "image", "-f", "docker-archive", output="a.tar")).err
    assert f"{row['digest']} is left out" in told


@pytest.mark.parametrize("file", ["/dev/zero", "large"])
def test_a_file_without_end_is_not_attached(user: User, registry: Registry, small: list[str], file: str) -> None:
    """A device has no size that says how much it gives: so much is read, and not more."""
    with open(user.home / "large", "wb") as large:
        large.truncate((64 << 20) + 1)
    good(image(user, "--layer", small[1], "-t", "app:1"))
    done = run(user, "push", user.home / "image", registry.name("app:1"), "--attach", f"{user.home / file}:text/plain")
    assert (done.status, "too many to attach" in done.err) == (2, True), done.err
    assert registry.asked("PUT") == []


def test_the_tag_of_the_digest_lists_it(user: User, registry: Registry, small: list[str]) -> None:
    """Where a registry lists nothing, an index is there under the tag that distribution-spec has for that."""
    digest = good(run(user, "image", "--layer", small[1], "--sbom", "spdx", "-o", registry.name("app:1"))).out.strip()
    name = registry.name(f"app:{digest.replace(':', '-')}")
    index = json.loads(good(skopeo(user, "inspect", "--tls-verify=false", "--raw", name)).out)
    assert [row["artifactType"] for row in index["manifests"]] == [SPDX]
    raw = good(
        skopeo(user, "inspect", "--tls-verify=false", "--raw", registry.name(f"app@{index['manifests'][0]['digest']}"))
    ).out
    assert json.loads(raw)["subject"]["digest"] == digest


def test_a_layout_is_pushed_with_what_is_attached(user: User, either: Registry, small: list[str]) -> None:
    """A layout's own artifacts go to the registry; those of an index are attached to the index."""
    digest = good(image(user, "--layer", small[1], "-t", "app:1", "--sbom", "spdx")).out.strip()
    good(run(user, "push", user.home / "image", either.name("app:1")))
    assert attached(user, either.name("app:1")) == {SPDX: digest}
    good(image(user, "--layer", small[1], "--platform", "linux/s390x", output="other"))
    good(merge(user, user.home / "image", user.home / "other", "--index", "app:1", output="both"))
    (user.home / "x.json").write_text('{"bomFormat": "CycloneDX"}')
    good(run(user, "push", user.home / "both", either.name("both:1"), "--attach", user.home / "x.json"))
    raw = good(skopeo(user, "inspect", "--tls-verify=false", "--raw", either.name("both:1"))).out
    assert attached(user, either.name("both:1")) == {SPDX: digest, CYCLONEDX: sha256(raw.encode())}


def test_a_file_of_make(user: User, folder: Path) -> None:
    """A bill in an output of a file of make, which is not written again as long as nothing changes."""
    (folder / "more").write_text("more")
    file = user.home / "images.toml"
    file.write_text(f'[layer.top]\ncopy-to-root = ["{folder}"]\n[image.app]\nlayers = ["top"]\noutput = "app"\n')
    good(run(user, "make", file))
    assert rows(user.home / "app") == []
    file.write_text(file.read_text() + 'sbom = "spdx"\n')
    good(run(user, "make", file))
    assert [row["artifactType"] for row in rows(user.home / "app")] == [SPDX]
    before = (user.home / "app").stat().st_ino
    good(run(user, "make", file))
    assert (user.home / "app").stat().st_ino == before


SIGNER = """\
#!/bin/sh
echo "signing $1 $2" >&2
echo "$2" > "$0.said"
exit $(cat "$0.status")
"""


def test_a_program_signs_what_was_pushed(user: User, registry: Registry, small: list[str]) -> None:
    """It is told the name with the digest; where it fails the push does, with its words."""
    program = user.home / "sign"
    program.write_text(SIGNER)
    program.chmod(0o755)
    said, status = Path(f"{program}.said"), Path(f"{program}.status")
    status.write_text("0")
    host = registry.host
    words = ("image", "--layer", small[1], "--sign-by", f"{program} sign")
    digest = good(run(user, *words, "-o", registry.name("app:1"))).out.strip()
    assert said.read_text() == f"{host}/app@{digest}\n"
    good(image(user, "--layer", small[1]))
    good(run(user, "push", user.home / "image", registry.name("team/app:1"), "--sign-by", f"{program} sign"))
    assert said.read_text() == f"{host}/team/app@{digest}\n"
    good(run(user, "copy", registry.name("app:1"), registry.name("copy:1"), "--sign-by", f"{program} sign"))
    assert said.read_text() == f"{host}/copy@{digest}\n"
    status.write_text("7")
    done = run(user, *words, "-o", registry.name("app:2"))
    assert done.status == 73
    assert f"signing sign {host}/app@{digest}" in done.err
    assert "status 7" in done.err
    assert (done.out, digest in done.err) == ("", True)


@pytest.mark.parametrize(
    "words",
    [
        ("image", "--layer", "SMALL", "--sbom", "spdx", "-f", "docker-archive", "-o", "out"),
        ("image", "--layer", "SMALL", "--sign-by", "true", "-o", "out"),
        ("image", "--layer", "SMALL", "--sign-by", "/none/such", "-o", "docker://127.0.0.1:1/app:1"),
        ("push", "SMALL", "docker://127.0.0.1:1/app:1", "--attach", "FILE"),
        ("push", "SMALL", "docker://127.0.0.1:1/app:1", "--attach", "FILE:no/type/at all"),
        ("push", "SMALL", "docker://127.0.0.1:1/app:1", "--attach", "FILE.none:text/plain"),
    ],
)
def test_what_cannot_be(user: User, small: list[str], words: tuple[str, ...]) -> None:
    """What could not be attached or signed is said before anything is written."""
    (user.home / "file").write_text("text")
    given = (word.replace("SMALL", small[1]).replace("FILE", f"{user.home}/file") for word in words)
    done = run(user, *given)
    assert done.status in {2, 66}, done.err
    assert "cannot be reached" not in done.err
    assert not (user.home / "out").exists()


@pytest.mark.slow
def test_engines_take_an_archive_with_a_bill(small: list[str], podman: Podman) -> None:
    """podman loads an archive to which something is attached, under the image's own name, and skopeo takes it by its name."""
    user = podman.user
    good(image(user, "--layer", small[1], "-t", "example.com/app:1", "--sbom", "spdx", output="app.tar"))
    assert "example.com/app:1" in good(podman("load", "-i", user.home / "app.tar")).out
    good(skopeo(user, "copy", f"oci-archive:{user.home}/app.tar:example.com/app:1", f"dir:{user.home}/copied"))
    good(skopeo(user, "copy", f"docker-archive:{user.home}/app.tar", f"dir:{user.home}/again"))
