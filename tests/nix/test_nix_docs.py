"""The first images of the documentation are built as they stand there, with the small nixpkgs as ``<nixpkgs>``."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.nix_pkgs import Nix
from helpers.place import HERE, remove

pytestmark = pytest.mark.slow

PAGES = {"start-nix.md": "rootless-layer", "nix.md": "."}
"""The pages that begin with a whole file, and where each has the checkout."""
NIXPKGS = """
{ ... }: import TESTS/pkgs.nix { machine = MACHINE; } // {
  redis = (import TESTS/pkgs.nix { machine = MACHINE; }).busybox;
}
"""


@pytest.fixture
def folder(stores: list[Nix]) -> Iterator[Path]:
    """A directory of somebody's."""
    made = stores[0].user.home / "docs"
    made.mkdir()
    yield made
    remove(made)


@pytest.mark.parametrize("page", PAGES)
def test_the_first_image_of_a_page_is_built(stores: list[Nix], folder: Path, page: str) -> None:
    """Its script's users and owners are in the image."""
    nix = stores[0]
    text = (HERE.parent / "docs" / page).read_text()
    first = re.search(r"^```nix\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert first
    (folder / "image.nix").write_text(first[1])
    (folder / "nixpkgs").mkdir()
    expression = NIXPKGS.replace("TESTS", str(HERE / "nix")).replace("MACHINE", str(nix.work))
    (folder / "nixpkgs/default.nix").write_text(expression)
    shutil.copytree(
        HERE.parent / "rootless_layer", folder / PAGES[page] / "rootless_layer", ignore=shutil.ignore_patterns("__pycache__")
    )
    whole = f"(import {folder}/image.nix)"
    archive = f'ours.exportImage {{ name = "of-docs"; fromImage = {whole}; }}'
    (made,) = nix.build(archive, "-I", f"nixpkgs={folder}/nixpkgs")
    with tarfile.open(nix.on_disk(made)) as tar:
        members = {member.name.removeprefix("./"): member for member in tar}
        passwd = tar.extractfile(members["etc/passwd"])
        assert passwd
        accounts = dict(line.split(":")[:3:2] for line in passwd.read().decode().splitlines())
    user = "app" if "app" in accounts else "redis"
    assert members["data"].uid == int(accounts[user])
