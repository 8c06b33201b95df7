"""What the tests of the images that Nix builds share."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.nix_images import EXAMPLES, Built
from helpers.nix_pkgs import Nix, give_everybody


@pytest.fixture(scope="session")
def stores(shared: Path) -> Iterator[list[Nix]]:
    """Everybody's Nix, with all that is built of the examples."""
    yield from give_everybody(shared)


@pytest.fixture(scope="session")
def built(stores: list[Nix]) -> Built:
    """Every example, by one nix-build."""
    nix = stores[0]
    done = nix.run("nix-build", "--no-out-link", EXAMPLES, "-A", "index", timeout=600)
    assert done.status == 0, done.err
    index = json.loads(nix.on_disk(done.out.strip()).read_bytes())
    layout = nix.user.home / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", nix.on_disk(index["all"]), "-C", layout], check=True)
    return Built(nix, index, layout, done.err)
