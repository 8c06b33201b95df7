"""Contents of several trees in one image: what each has can be seen."""

from __future__ import annotations

import tarfile

import pytest
from helpers.nix_pkgs import Nix

MERGED = """
let
  # bin is one link to a directory, as buildEnv makes it of one package.
  linked = pkgs.buildEnv { name = "linked"; paths = [ pkgs.busybox ]; };
  other = pkgs.writeScriptBin "other" "text";
  trees = if LINKED then [ linked other ] else [ other linked ];
in
map (fromImage: ours.exportImage { name = "merged"; inherit fromImage; }) [
  (ours.streamLayeredImage { name = "merged"; contents = trees; })
  (ours.streamImage { name = "merged"; copyToRoot = trees; })
]
"""


@pytest.mark.parametrize("linked", ["true", "false"])
def test_a_link_to_a_directory_and_a_directory(stores: list[Nix], linked: str) -> None:
    """A tree that has bin as a link and one that has it as a directory are both in bin, as links and never as copies."""
    nix = stores[-1]
    for archive in nix.build(MERGED.replace("LINKED", linked)):
        with tarfile.open(nix.on_disk(archive)) as tar:
            found = {member.name.removesuffix("/"): member for member in tar}
        assert found["bin"].isdir()
        for name in ("busybox", "other"):
            link = found[f"bin/{name}"]
            assert link.issym() or link.islnk()
            assert link.linkname.strip("/") in found
