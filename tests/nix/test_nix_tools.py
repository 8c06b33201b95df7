"""``pkgs.dockerTools`` under the overlay: its examples, and all that is made by ``override``, are of these functions."""

from __future__ import annotations

import json
from typing import Any

from helpers.nix_pkgs import LET, Nix

TOOLS = """
let
  final = pkgs // import <rootless-layer/overlay.nix> final pkgs;
  tools = final.dockerTools;
in
"""


def evaluate(nix: Nix, expression: str) -> Any:
    """Evaluate an expression that may use ``tools``."""
    done = nix.run("nix-instantiate", "--eval", "--strict", "--json", "-E", LET + TOOLS + expression)
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_the_examples_are_of_these_functions(stores: list[Nix]) -> None:
    """nixpkgs' own examples are made by the functions of the overlay, as an image of these."""
    said = evaluate(
        stores[0],
        """{
          inherit (tools.examples) users layered;
          same = tools.examples.users == tools.buildImage {
            name = "users";
            tag = "latest";
            runAsRoot = tools.shadowSetup;
          };
          names = map (example: example.rootlessImage.name) [ tools.examples.users tools.examples.layered ];
        }""",
    )
    assert said["names"] == ["users-image", "layered-image"]
    assert said["same"]


def test_override_changes_nixpkgs_own_and_these_functions(stores: list[Nix]) -> None:
    """What ``override`` is given reaches nixpkgs' dockerTools, these functions and the examples; it can be a function, and repeated."""
    said = evaluate(
        stores[0],
        """let
          given = tools.override { storeDir = "/elsewhere"; };
          again = given.override (old: { rootless-layer = pkgs.writeScriptBin "rootless-layer" old.storeDir; });
          builder = one: one.examples.users.rootlessImage.drvAttrs.builder;
        in
        {
          storeDirs = map (one: one.storeDir) [ tools given again ];
          same = builder given == builder tools;
          other = builder again == "${again.rootless-layer}/bin/rootless-layer";
          twice = builder (again.override { }) == builder again;
        }""",
    )
    assert said == {"storeDirs": ["/nix/store", "/elsewhere", "/elsewhere"], "same": True, "other": True, "twice": True}


def test_what_a_virtual_machine_would_have_is_said_by_the_build(stores: list[Nix]) -> None:
    """An evaluation says nothing of ``diskSize``: the build of the layer does, once."""
    image = '(tools.buildImage { name = "disk"; tag = "1"; diskSize = 4096; runAsRoot = "touch /file"; }).rootlessImage'
    nix = stores[0]
    evaluated = nix.run("nix-instantiate", "-E", LET + TOOLS + image)
    assert (evaluated.status, "diskSize" in evaluated.err) == (0, False)
    first, again = (nix.run("nix-build", "--no-out-link", "-E", LET + TOOLS + image) for _ in range(2))
    assert (first.status, again.status) == (0, 0), first.err
    assert first.err.count("in docker image disk: diskSize and buildVMMemorySize do nothing") == 1
    assert "diskSize" not in again.err
