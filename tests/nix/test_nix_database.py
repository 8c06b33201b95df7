"""The Nix database of an image: what it registers is in the image, and what an image below registers stays."""

from __future__ import annotations

import os
import re
import sqlite3
import tarfile
from pathlib import Path

import pytest
from helpers.nix_pkgs import Nix

IMAGES = """
let
  program = pkgs.writeScriptBin "program" "#!${pkgs.runtimeShell}";
  tree = pkgs.buildEnv { name = "tree"; paths = [ pkgs.busybox ]; };
  base = ours.buildLayeredImageWithNixDb { name = "base"; contents = [ program ]; compressor = "none"; };
  upper = {
    image = ours.buildImageWithNixDb { name = "upper"; fromImage = base; copyToRoot = [ tree ]; };
    layered = ours.buildLayeredImageWithNixDb { name = "upper"; fromImage = base; contents = [ tree ]; };
    foreign = ours.buildImageWithNixDb { name = "upper"; fromImage = "${base}"; copyToRoot = [ tree ]; };
  };
in
ours.exportImage { name = "exported"; fromImage = upper.KIND; }
"""


@pytest.mark.parametrize("kind", ["image", "layered", "foreign"])
def test_a_database_upon_another(stores: list[Nix], tmp_path: Path, kind: str) -> None:
    """Both closures are registered, and there; so are the roots; the store is root's, of mode 0755."""
    nix = stores[-1]
    [archive] = nix.build(IMAGES.replace("KIND", kind))
    with tarfile.open(nix.on_disk(archive)) as tar:
        members = {member.name.removesuffix("/"): member for member in tar}
        file = tar.extractfile(members["nix/var/nix/db/db.sqlite"])
        assert file is not None
        (tmp_path / "db.sqlite").write_bytes(file.read())
    with sqlite3.connect(tmp_path / "db.sqlite") as database:
        rows = database.execute("select path, registrationTime from ValidPaths").fetchall()
    valid = {path for path, _ in rows}
    assert {path.split("-", 1)[1] for path in valid} >= {"program", "tree"}
    assert valid == {f"/{name}" for name in members if re.fullmatch(r"nix/store/[^/.][^/]*", name)}
    assert {time for _, time in rows} == {315532800}
    roots = {name: member.linkname for name, member in members.items() if name.startswith("nix/var/nix/gcroots/docker/")}
    assert {os.path.basename(target) for target in roots.values()} == {os.path.basename(name) for name in roots}
    assert {target.split("-", 1)[1] for target in roots.values()} == {"program", "tree"}
    assert set(roots.values()) <= valid
    for name in ("nix", "nix/store"):
        assert (members[name].uid, members[name].gid, members[name].mode) == (0, 0, 0o755)
