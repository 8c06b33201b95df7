"""What the tests of validate share: outputs of every form, built once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.place import remove
from helpers.users import COMMAND, make_user


@pytest.fixture(scope="session")
def built(shared: Path) -> Iterator[Path]:
    """Layers of ours and what is made of them: stored and derived, in every form of an image."""
    user = make_user(shared, "somebody")
    tree = user.home / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/name").write_text("name")
    (tree / "etc/name").chmod(0o4755)
    (tree / "etc/odd \\\n").write_text("x" * 300_000)
    (tree / "etc/link").symlink_to("name")
    for name, options in {"plain": [], "gzip": ["--compression", "gzip"], "zstd": ["--compression", "zstd"]}.items():
        assert user.build("--copy-to-root", tree, "--uid", "7", *options, output=name).status == 0
    assert (
        user.build("--copy-to-root", tree, "--uid", "7", "--compression", "gzip", "--blob", "derived", output="derived").status
        == 0
    )
    layers = [word for name in ("plain", "gzip", "derived") for word in ("--layer", user.home / name)]
    for name, kind in (("layout", "layout"), ("a.tar", "archive"), ("docker.tar", "docker-archive")):
        assert user.run([*COMMAND, "image", *layers, "-t", "a:1", "-f", kind, "-o", user.home / name]).status == 0
    (user.home / "a.tar.gz").write_bytes(gzip.compress((user.home / "a.tar").read_bytes()))
    yield user.home
    remove(user.home)
