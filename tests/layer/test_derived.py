"""Derived images: what they say is what an archive of them holds, and what is damaged is found."""

from __future__ import annotations

import json
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.stores import Store
from helpers.users import COMMAND, Result, User, good

pytestmark = pytest.mark.slow

FIRST = """
mkdir -p a/b c d/e
echo 1 > a/one
ln a/one a/two
ln a/one c/three
echo 2 > a/b/file
chmod 4755 a/b/file
ln -s /a link
chown 7:8 a/b
mknod c/null c 1 3
echo gone > d/e/f
"""
SCRIPTS = (
    FIRST,
    "rm a/one; rm -r a/b; echo other > a/b; rm -r d; mkdir d; echo new > d/g; chown 9:9 c",
    "echo more >> c/three; rm link; mkdir link; echo x > link/x; touch d/h; rm a/b; mkdir a/b",
    "true",
)


def run(user: User, command: str, attributes: dict[str, Any], name: str) -> Result:
    """Run one of Nix's builders with structured attributes."""
    top = user.home / f"build-{name}"
    top.mkdir()
    (top / ".attrs.json").write_text(json.dumps({"outputs": {"out": str(user.home / name)}, **attributes}))
    return user.run([*COMMAND, command], env={"NIX_BUILD_TOP": str(top)})


@pytest.fixture
def chain(user: User, store: Store) -> list[str]:
    """The directories of derived layers, each built upon those before it, the first with a closure and links to it."""
    layers: list[str] = []
    for number, script in enumerate(SCRIPTS):
        options = [word for layer in layers for word in ("--base", layer)]
        if not layers:
            options = [*store.options, "--copy-to-root", store.path("coreutils")]
        script_file = user.script(script, f"script-{number}")
        words = [*options, "--blob", "derived", "--view", "directory", "--script", script_file]
        cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
        assert user.build(*words, output=f"layer-{number}", env=cache).status == 0
        layers.append(str(user.home / f"layer-{number}"))
    return layers


def test_the_listings_make_the_tree_that_the_layers_make(user: User, chain: list[str]) -> None:
    """The tree of a derived image, read from listings, is byte for byte the tree of an archive of it that was unpacked."""
    good(run(user, "nix-image", {"imageName": "chain", "imageTag": "1", "imageLayers": chain}, "image"))
    good(user.run([*COMMAND, "nix-archive", user.home / "image", "-o", user.home / "chain.tar"]))
    trees = []
    for source in ("image", "chain.tar"):
        environment = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
        good(user.run([*COMMAND, "nix-export", user.home / source, "-o", user.home / f"{source}.export"], env=environment))
        trees.append(tree_of(user.home / f"{source}.export"))
    assert trees[0] == trees[1]
    assert trees[0]["c"][:3] == ("5", 9, 9)
    assert "d/e" not in trees[0]
    assert "a/one" not in trees[0]
    assert len({trees[0][name][-1] for name in ("bin/cat", "a/two")}) == 2


def test_a_layer_that_says_nothing_of_the_root_leaves_it(user: User) -> None:
    """A root that a lower layer made 1777 stays so below a layer of which the tar has no root: for Nix as for the command."""
    cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    below: list[str] = []
    for number, script in enumerate(("chmod 1777 .; touch a", "touch b")):
        words = [*below, "--blob", "derived", "--view", "directory", "--script", user.script(script, f"script-{number}")]
        assert user.build(*words, output=f"layer-{number}", env=cache).status == 0
        below += ["--base", str(user.home / f"layer-{number}")]
    layers = [str(user.home / "layer-0"), str(user.home / "layer-1")]
    top = user.build(*below, "--view", "directory", "--script", user.script("chmod 0755 .", "last"), output="top", env=cache)
    same = {"layerBases": layers, "layerView": "directory", "layerScript": "chmod 0755 .", "layerBlob": "stored"}
    good(run(user, "nix-build", same, "nix-top"))
    assert json.loads((user.home / "nix-top/layer.json").read_bytes())["digest"] == json.loads(top.out)["digest"]
    good(run(user, "nix-image", {"imageName": "x", "imageTag": "1", "imageLayers": layers}, "image"))
    good(
        run(user, "nix-image", {"imageName": "x", "imageTag": "1", "imageLayers": [*layers, str(user.home / "nix-top")]}, "whole")
    )
    for image, mode in (("image", 0o1777), ("whole", 0o755)):
        good(user.run([*COMMAND, "nix-export", user.home / image, "-o", user.home / f"{image}.tar"], env=cache))
        with tarfile.open(user.home / f"{image}.tar") as tar:
            roots = [member.mode for member in tar if member.name in {".", "./", ""}]
        assert (roots or [0o755]) == [mode]  # without an entry it is 0755


def test_an_archive_is_not_compressed_as_this_program_cannot(user: User) -> None:
    """Of an archive that xz compressed none comes that is compressed as that is: the error names the archive."""
    assert user.build("--view", "directory", "--script", user.script("touch a")).status == 0
    good(user.run([*COMMAND, "image", "--layer", "layer", "-t", "x", "-o", "x.tar"]))
    (user.home / "x.tar.xz").write_bytes(lzma.compress((user.home / "x.tar").read_bytes()))
    refused = user.run([*COMMAND, "nix-archive", "--compressor", "last", user.home / "x.tar.xz", "-o", "y.tar"])
    assert refused.status == 65
    assert "x.tar.xz" in refused.err


def tree_of(archive: Path) -> dict[str, tuple[object, ...]]:
    """Say of each path of a tar what it is, whose, and for a file its data and all of its names."""
    with tarfile.open(archive) as tar:
        members = {member.name.removesuffix("/"): member for member in tar}
        groups: dict[str, set[str]] = {}
        for name, member in members.items():
            groups.setdefault(member.linkname if member.islnk() else name, set()).add(name)
        found = {}
        for first, names in groups.items():
            one = members[first]
            file = tar.extractfile(one)
            data = file.read() if file is not None and one.isreg() else b""
            what = (one.type.decode(), one.uid, one.gid, one.mode, one.mtime, one.devmajor, one.devminor, one.linkname, data)
            found |= {name: (*what, tuple(sorted(names))) for name in names}
    return found


def test_a_derived_image_says_what_its_archive_holds(user: User, chain: list[str]) -> None:
    """Manifest, names and layers are those of the archive, and an image upon it adds its layer to the list."""
    good(run(user, "nix-image", {"imageName": "Chain", "imageTag": "1", "imageLayers": chain[:2]}, "image"))
    said = json.loads((user.home / "image/image.json").read_bytes())
    assert said["names"] == ["chain:1"]
    assert sorted(os.listdir(user.home / "image")) == ["image.json"]
    more = {"imageBase": str(user.home / "image"), "imageLayers": chain[2:], "imageConfig": {"Cmd": ["sh"]}, "imageCreated": "@7"}
    good(run(user, "nix-image", more, "more"))
    above = json.loads((user.home / "more/image.json").read_bytes())
    assert above["layers"][:2] == said["layers"]
    assert json.loads(above["config"])["created"] == "1970-01-01T00:00:07Z"
    archive = good(user.run([*COMMAND, "image", "--base", user.home / "more", "-t", "x", "-o", user.home / "x.tar", "--json"]))
    described = json.loads(archive.out)[0]
    assert [layer["digest"] for layer in described["layers"]] == [layer["digest"] for layer in above["layers"]]
    for image in ("image", "more"):
        assert "valid: 1 image," in good(user.run([*COMMAND, "validate", user.home / image])).out
    assert good(user.run([*COMMAND, "inspect", user.home / "more"])).out


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a later version": (lambda said: said.update(version=2), "is of version 2, and this program reads version 1"),
    "another config": (lambda said: said.update(config=said["config"].replace("amd64", "arm64")), "and should describe sha256:"),
    "no config": (lambda said: said.update(config="[]"), "in the config: the document: is an object"),
    "a layer less": (lambda said: said["layers"].pop(), "and should describe sha256:"),
    "a layer of no digest": (lambda said: said["layers"][0].update(digest="md5:1"), "is not a sha256 digest"),
    "no layers": (lambda said: said.update(layers=None), "does not describe an image"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_description_is_refused(user: User, damage: str) -> None:
    """What image.json says must be of its form, and what its manifest's digest says."""
    assert user.build("--blob", "derived", "--view", "directory", "--", "touch", "file").status == 0
    good(
        run(
            user,
            "nix-image",
            {"imageName": "x", "imageArchitecture": "amd64", "imageLayers": [str(user.home / "layer")]},
            "image",
        )
    )
    path = user.home / "image/image.json"
    said = json.loads(path.read_bytes())
    change, message = DAMAGE[damage]
    change(said)
    path.write_text(json.dumps(said))
    for command in (["nix-archive", user.home / "image", "-o", user.home / "x.tar"], ["validate", user.home / "image"]):
        done = user.run([*COMMAND, *command])
        assert done.status == 65, done.err
        assert message in done.err + done.out
        assert "Traceback" not in done.err
    assert not (user.home / "x.tar").exists()
    assert user.leftovers() == []


def test_a_layer_that_is_no_more_what_it_was_is_found(user: User) -> None:
    """Where a file has changed of which a derived layer is made, nothing is written, and validate says so."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "file").write_text("before")
    assert user.build("--copy-to-root", tree, "--blob", "derived").status == 0
    good(run(user, "nix-image", {"imageName": "x", "imageLayers": [str(user.home / "layer")]}, "image"))
    (tree / "file").write_text("behind")
    archive = user.run([*COMMAND, "nix-archive", user.home / "image", "-o", user.home / "x.tar", "--compressor", "zstd"])
    assert (archive.status, "A source changed since the layer was built" in archive.err) == (66, True)
    assert not (user.home / "x.tar").exists()
    assert user.leftovers() == []
    assert user.run([*COMMAND, "validate", user.home / "image"]).status == 65


def test_a_foreign_archive_is_referred_to(user: User, tmp_path: Path) -> None:
    """Of an archive upon which an image is built the blobs stay where they are; of a compressed one they are in the output."""
    assert user.build("--view", "directory", "--", "touch", "file").status == 0
    archive = user.home / "base.tar"
    good(user.run([*COMMAND, "image", "--layer", user.home / "layer", "-t", "base:1", "-o", archive]))
    good(user.run(["gzip", "-k", archive]))
    for name, kept in (("base.tar", 0), ("base.tar.gz", 1)):
        attributes = {"imageName": "x", "imageBase": str(user.home / name), "imageBaseName": "base", "imageBaseTag": "1"}
        good(run(user, "nix-image", attributes, f"from-{name}"))
        said = json.loads((user.home / f"from-{name}/image.json").read_bytes())
        assert said["layers"][0]["file"].startswith("blobs/" if kept else str(user.home))
        assert len(list((user.home / f"from-{name}").glob("blobs/sha256/*"))) == kept
        good(user.run([*COMMAND, "validate", user.home / f"from-{name}"]))


def test_an_archive_may_have_another_name(user: User) -> None:
    """The one image of an archive is named as is asked, and what is no name, or meant for several, is refused."""
    assert user.build("--view", "directory", "--", "touch", "file").status == 0
    good(run(user, "nix-image", {"imageName": "x", "imageTag": "1", "imageLayers": [str(user.home / "layer")]}, "image"))
    good(user.run([*COMMAND, "nix-archive", user.home / "image", "--repo_tag", "other:2", "-o", user.home / "other.tar"]))
    with tarfile.open(user.home / "other.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.load(manifest)[0]["RepoTags"] == ["other:2"]
    for words, status, message in (
        ([user.home / "image", "--tag", "No Name"], 2, "'No Name' is not the name of an image"),
        ([user.home / "image", user.home / "image", "--tag", "x"], 2, "one image can have that name, and there are 2"),
        ([user.home / "absent"], 66, "absent: no such image"),
    ):
        done = user.run([*COMMAND, "nix-archive", *words, "-o", user.home / "wrong.tar"])
        assert (done.status, message in done.err) == (status, True), done.err
    named = run(user, "nix-image", {"imageName": "no name", "imageTag": "1"}, "unnamed")
    assert (named.status, "'no name:1' is not the name of an image" in named.err) == (65, True)
    assert not (user.home / "wrong.tar").exists()


def test_programs_beside_a_wrapper_are_found(tmp_path: Path) -> None:
    """Where the command fakeroot is wrapped, as in nixpkgs, its daemon and library are those that lie beside it."""
    from rootless_layer.session.fakeroot import find_programs

    real = find_programs()
    for folder in ("bin", "lib"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/fakeroot").write_text("#!/bin/sh\nexec .fakeroot-wrapped\n")
    (tmp_path / "bin/fakeroot").chmod(0o755)
    (tmp_path / "bin/faked").symlink_to(real.faked)
    (tmp_path / "lib/libfakeroot.so").symlink_to(real.library)
    assert find_programs(str(tmp_path / "bin")) == real
