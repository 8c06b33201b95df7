"""The flake: its outputs are there, its checks are built, and its templates evaluate, with the small nixpkgs as their input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.effort import EVERY
from helpers.nix_pkgs import Nix, fetch_nix
from helpers.place import HERE, remove
from helpers.users import Result

from rootless_layer.cli import man

pytestmark = pytest.mark.slow

NIXPKGS = """
{
  outputs = _: {
    lib = import TESTS/lib.nix;
    legacyPackages.x86_64-linux = import TESTS/pkgs.nix { machine = MACHINE; };
  };
}
"""
TEMPLATES = ("image", "layer", "chain")


@attrs.frozen
class Flake:
    """A copy of the flake, and the input that stands for nixpkgs."""

    nix: Nix
    place: Path
    nixpkgs: Path

    def run(self, *words: str, flake: str = "", more: tuple[str, ...] = ()) -> Result:
        """Run a command of Nix's on an output of the flake."""
        found, _, output = flake.partition("#")
        inputs = ["--override-input", "nixpkgs", f"path:{self.nixpkgs}", *more]
        options = ["--extra-experimental-features", "nix-command flakes", "--impure", "--no-write-lock-file", *inputs]
        return self.nix.run("nix", *words, f"path:{found or self.place}{'#' if output else ''}{output}", *options)

    def evaluate(self, output: str, *, flake: Path | None = None, apply: str = "x: x", more: tuple[str, ...] = ()) -> Any:
        """Evaluate an output."""
        done = self.run("eval", "--json", "--apply", apply, flake=f"{flake or ''}#{output}", more=more)
        assert done.status == 0, done.err
        return json.loads(done.out)


@pytest.fixture
def flake(stores: list[Nix]) -> Iterator[Flake]:
    """The flake, as it is in the checkout."""
    nix = stores[0]
    place, nixpkgs = nix.user.home / "flake", nix.user.home / "nixpkgs"
    for name in ("rootless_layer", "templates"):
        shutil.copytree(HERE.parent / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(HERE.parent / "flake.nix", place / "flake.nix")
    nixpkgs.mkdir()
    text = NIXPKGS.replace("TESTS", str(HERE / "nix")).replace("MACHINE", str(nix.work))
    (nixpkgs / "flake.nix").write_text(text)
    yield Flake(nix, place, nixpkgs)
    remove(place)
    remove(nixpkgs)


def test_the_flake_has_what_it_says(flake: Flake) -> None:
    """Overlay, packages, functions, checks and templates are there; its checks are built."""
    assert flake.evaluate("templates", apply="builtins.attrNames") == ["chain", "default", "image", "layer"]
    assert flake.evaluate("overlays.default", apply="builtins.isFunction") is True
    assert "buildImage" in flake.evaluate("lib.x86_64-linux", apply="builtins.attrNames")
    meta = flake.evaluate("packages.x86_64-linux.default.meta", apply="meta: { inherit (meta) mainProgram platforms; }")
    assert meta == {"mainProgram": "rootless-layer", "platforms": ["x86_64-linux", "aarch64-linux"]}
    checks = flake.evaluate("checks.x86_64-linux", apply="builtins.mapAttrs (_name: check: check.drvPath)")
    assert sorted(checks) == ["chain", "image", "layer"]
    tests = flake.evaluate("packages.x86_64-linux.default.tests", apply="builtins.mapAttrs (_name: check: check.drvPath)")
    assert tests == checks
    built = flake.nix.run("nix-store", "--realise", *checks.values())
    assert built.status == 0, built.err


def test_the_package_has_manual_pages_and_completions(flake: Flake) -> None:
    """`nix profile install` gives `man rootless-layer build` and what the Tab key needs, as distributions do."""
    built = flake.nix.run("nix-store", "--realise", flake.evaluate("packages.x86_64-linux.default.drvPath"))
    assert built.status == 0, built.err
    package = flake.nix.on_disk(built.out.strip())
    # A compiled module would have the time of this build in it.
    assert [str(path) for path in package.rglob("*.pyc")] == []
    share = package / "share"
    names = {str(path.relative_to(share)) for path in share.rglob("*") if path.is_file()}
    assert {f"man/man1/{name}" for name, _ in man.pages()} <= names
    assert {
        "bash-completion/completions/rootless-layer.bash",
        "zsh/site-functions/_rootless-layer",
        "fish/vendor_completions.d/rootless-layer.fish",
    } <= names


def test_templates_evaluate(flake: Flake) -> None:
    """Each template has a default package, which is an image by the flake's functions."""
    for name in TEMPLATES:
        there = flake.place / "templates" / name
        more = ("--override-input", "rootless-layer", f"path:{flake.place}")
        image = flake.evaluate("packages.x86_64-linux.default.rootlessImage.drvPath", flake=there, more=more)
        assert image.endswith("-image.drv")


@pytest.mark.skipif(not EVERY, reason="other versions of Nix are fetched with ROOTLESS_LAYER_TEST_EVERY=1 only")
@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_newer_versions_of_nix_evaluate_it(flake: Flake, shared: Path, suite: str) -> None:
    """Nix 2.26 and 2.34 find the same derivations, and nothing wrong with the flake."""
    newer = attrs.evolve(flake, nix=attrs.evolve(flake.nix, prefix=fetch_nix(suite, shared / f"flake-{suite}")))
    apply = "builtins.mapAttrs (_name: check: check.drvPath)"
    assert newer.evaluate("checks.x86_64-linux", apply=apply) == flake.evaluate("checks.x86_64-linux", apply=apply)
    done = newer.run("flake", "check", "--no-build")
    assert done.status == 0, done.err
