"""A whole nixpkgs, which ``NIXPKGS=DIR`` names: all of its own images through the overlay, beside its own functions.

Its Nix may be newer than this machine's; that of another Debian is fetched then.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.nix_pkgs import Nix, fetch_nix
from helpers.place import HERE

NIXPKGS = os.environ.get("NIXPKGS", "")
MANUAL = "doc/build-helpers/images/dockertools.section.md"
SETTINGS = "\nexperimental-features = nix-command flakes\nallow-import-from-derivation = false\n"
LEAST = (2, 18)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS=DIR names no nixpkgs")]


@pytest.fixture(scope="module")
def nix(stores: list[Nix], shared: Path) -> Nix:
    """Give a Nix that is new enough for nixpkgs."""
    said = stores[-1].run("nix", "--version").out
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found is not None, said
    new = (int(found[1]), int(found[2])) >= LEAST
    return stores[-1] if new else attrs.evolve(stores[-1], prefix=fetch_nix("trixie", shared / "real-nix"))


@pytest.fixture(scope="module")
def snippets(nix: Nix) -> Path:
    """Give a directory of the manual's expressions."""
    folder = nix.user.home / "snippets"
    folder.mkdir()
    [archive] = nix.build('[ (ours.buildImage { name = "exported"; tag = "1"; copyToRoot = pkgs.bash; }) ]')
    shutil.copyfile(nix.on_disk(archive), folder / "image.tar.gz")  # which one of them exports
    blocks = re.findall(r"^```nix\n(.*?)^```", Path(NIXPKGS, MANUAL).read_text(), re.DOTALL | re.MULTILINE)
    for number, block in enumerate(blocks):
        if "dockerTools" in block:
            (folder / f"snippet-{number:02}.nix").write_text(block)
    return folder


@pytest.fixture(scope="module")
def sides(nix: Nix, snippets: Path) -> dict[str, Any]:
    """Give what can be seen of all images, ``ours`` and ``theirs``; the derivations are written."""
    expression = f"import {HERE}/nix/real.nix {{ nixpkgs = {NIXPKGS}; snippets = {snippets}; }}"
    done = nix.run(
        "nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "-E", expression, settings=SETTINGS, timeout=1800
    )
    assert done.status == 0, done.err[-4000:]
    said: dict[str, Any] = json.loads(done.out)
    return said


def images(side: dict[str, Any]) -> dict[str, Any]:
    """Give all images of a side by their kinds and names."""
    return {
        f"{kind}/{name}": each for kind in ("examples", "snippets", "cross", "platforms") for name, each in side[kind].items()
    }


def test_each_image_is_as_nixpkgs_has_it(sides: dict[str, Any]) -> None:
    """All that evaluates in nixpkgs evaluates, and looks the same: names, outputs, what is passed through."""
    ours, theirs = images(sides["ours"]), images(sides["theirs"])
    assert ours.keys() == theirs.keys()
    assert len(theirs) > 50
    same = ("name", "outputs", "imageName", "tagged", "changes", "overridable")
    for name, one in theirs.items():
        if one is None:
            continue
        assert ours[name] is not None, name
        assert {key: ours[name][key] for key in same} == {key: one[key] for key in same}, name
        # An archive is none that can be run, although nixpkgs says so of a layered image's.
        lacking = set(one["passthru"]) - set(ours[name]["passthru"])
        assert lacking <= ({"isExe"} if ".tar" in one["name"] else set()), name


def test_where_the_program_cannot_run_all_is_nixpkgs_own(sides: dict[str, Any]) -> None:
    """For darwin, for i686 and from there for others, each derivation is nixpkgs'; for all others that Linux builds, none is."""
    ours, theirs = sides["ours"]["platforms"], sides["theirs"]["platforms"]
    assert all(theirs.values())
    same = {name for name, one in ours.items() if one["drvPath"] == theirs[name]["drvPath"]}
    assert same == {name for name in ours if name.startswith("own-")}
    found = {name.partition("/")[0]: one["architecture"] for name, one in ours.items() if name not in same}
    assert found == {"aarch64-linux": "arm64", "cross-aarch64": "arm64", "cross-riscv64": "riscv64", "musl": "amd64"}


def test_no_image_needs_a_virtual_machine(nix: Nix, sides: dict[str, Any]) -> None:
    """No derivation below any image requires kvm, although some in nixpkgs do."""
    assert any("kvm" in one["features"] for one in images(sides["theirs"]).values() if one)
    paths = [one["drvPath"] for name, one in images(sides["ours"]).items() if one and not name.startswith("platforms/own-")]
    shown = nix.run("nix", "derivation", "show", "--recursive", *paths, settings=SETTINGS, timeout=600)
    assert shown.status == 0, shown.err[-2000:]
    assert "docker-layer-redis" in shown.out
    assert '"kvm' not in shown.out
    assert "kvm" not in {
        word for found in re.findall(r'"requiredSystemFeatures": ?"([^"]*)"', shown.out) for word in found.split()
    }


def test_the_tests_of_nixpkgs_name_as_many_images(sides: dict[str, Any]) -> None:
    """Each script of nixos/tests/docker-tools*.nix is evaluated, with all of its images."""
    ours, theirs = sides["ours"]["tests"], sides["theirs"]["tests"]
    assert all(ours.values())
    assert all(len(ours[name]) == len(found) for name, found in theirs.items() if found is not None)
    assert len(ours["docker-tools"]) > 30


def test_no_function_and_no_argument_is_missing(sides: dict[str, Any]) -> None:
    """Every attribute of dockerTools is there, and every argument of its functions."""
    ours, theirs = sides["ours"], sides["theirs"]
    assert set(theirs["names"]) <= set(ours["names"])
    for name, arguments in theirs["functions"].items():
        assert set(arguments) <= set(ours["functions"][name]), name


@pytest.mark.parametrize("kind", ["examples", "snippets"])
def test_each_image_is_built_over_stand_ins(nix: Nix, snippets: Path, kind: str) -> None:
    """nixpkgs' own expressions are built, with small packages in the place of its own."""
    expression = f"builtins.attrValues (import {HERE}/nix/stand.nix {{ nixpkgs = {NIXPKGS}; snippets = {snippets}; }}).{kind}"
    done = nix.run("nix-build", "--keep-going", "--no-out-link", "-E", expression, settings=SETTINGS, timeout=3600)
    assert done.status == 0, done.err[-4000:]
    assert len(done.out.split()) > 15
