"""Closures come into the layer as they are, or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from helpers import nix_closure
from helpers.inputs import ABSENT, LIBRARY, PROGRAM
from helpers.layers import assert_no_layer, refused, unpacked
from helpers.place import once
from helpers.stores import Store
from helpers.users import User

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def nix() -> nix_closure.NixClosure:
    """A closure made by a real Nix, once for all of pytest's processes."""
    return made_by_nix("nix")


def made_by_nix(name: str, *, optimise: bool = False) -> nix_closure.NixClosure:
    """Give a closure of that name."""

    def make(folder: Path) -> None:
        made = nix_closure.build_closure(folder, ["bash", "coreutils"], optimise=optimise)
        (folder / "made.json").write_text(json.dumps([made.top, made.paths]))

    folder = once(name, make)
    top, paths = json.loads((folder / "made.json").read_text())
    return nix_closure.NixClosure(folder, top, tuple(paths), folder / "path-info.json", folder / "graph")


def test_every_form_of_a_closure_gives_the_same_layer(user: User, nix: nix_closure.NixClosure) -> None:
    """What Nix writes of one closure with its references gives one digest, and lists of its paths, in whatever order, one.

    They may be two: by the references each path stands behind all that it needs, without them by its name.
    """
    (user.home / "list").write_text("".join(f"{path}\n" for path in reversed(nix.paths)))
    root = ["--store-root", nix.store_root]
    half = len(nix.paths) // 2
    by_references = (
        ["--closure", nix.graph],
        ["--closure", nix.path_info],
        ["--closure", user.home / "list", "--store-path", nix.paths[half], "--closure", nix.graph],
    )
    by_names = (["--closure", user.home / "list"], [word for path in nix.paths for word in ("--store-path", path)])
    for forms in (by_references, by_names):
        layers = [user.build(*root, *words).layer for words in forms]
        assert all(layer["madeFrom"]["closure"] == list(nix.paths) for layer in layers)
        assert len({layer["digest"] for layer in layers}) == 1


def test_a_closure_stands_under_its_own_name(user: User, small: Store) -> None:
    """Wherever the store lies on this machine, its paths are /nix/store in the layer, with no trace of the machine."""
    found = unpacked(user, user.build(*small.options))
    assert f"{PROGRAM[1:]}/bin/program" in found
    assert f"{LIBRARY[1:]}/share/text" in found
    assert set(found) >= {"nix", "nix/store"}
    assert all(name == "nix" or name.startswith("nix/store") for name in found)
    assert found[f"{PROGRAM[1:]}/bin/library"].info.linkname == f"{LIBRARY}/lib/library.so"
    assert found[f"{PROGRAM[1:]}/bin/program"].owner == "0:0:555"


def test_a_store_root_may_be_relative(user: User, small: Store) -> None:
    """--store-root counts from the working directory, and the layer is the same."""
    whole = user.build(*small.options).layer
    assert user.build("--closure", "store/graph", "--store-root", "store").layer["digest"] == whole["digest"]


def test_an_optimised_store_gives_the_same_layer(user: User, nix: nix_closure.NixClosure) -> None:
    """Nix's hard links between files with the same data are the store's own business, not the layer's."""
    folder = made_by_nix("nix-optimised", optimise=True).store_root
    linked = [path for path in (folder / "nix/store").rglob("*") if path.is_file() and path.stat().st_nlink > 1]
    assert linked
    plain = user.build("--closure", nix.graph, "--store-root", nix.store_root, "--copy-to-root", f"{nix.store_root}{nix.top}")
    graph = ["--closure", folder / "graph", "--store-root", folder]
    optimised = user.build(*graph, "--copy-to-root", f"{folder}{nix.top}", output="optimised")
    assert plain.layer["digest"] == optimised.layer["digest"]


def test_all_missing_paths_are_told_at_once(user: User, small: Store) -> None:
    """Every store path that is not there, and every reference that is not given, stands in one error."""
    other = ABSENT.replace("absent", "other")
    refused(user.build(*small.options, "--store-path", ABSENT, "--store-path", other), ABSENT, other, status=66)
    small.graph.write_text(f"{PROGRAM}\n\n2\n{LIBRARY}\n{PROGRAM}\n{ABSENT}\n\n1\n{other}\n")
    refused(user.build(*small.options), LIBRARY, ABSENT, other, "refers to", status=66)
    assert_no_layer(user)


@pytest.mark.parametrize("path", ["/etc/passwd", "nix/store", f"{LIBRARY}/lib"])
def test_what_is_no_store_path_is_refused(user: User, small: Store, path: str) -> None:
    """--store-path takes a store path and nothing else."""
    refused(user.build(*small.options, "--store-path", path), repr(path), status=2)
    assert_no_layer(user)


def test_a_closure_file_of_no_known_form_is_refused(user: User) -> None:
    """A file that is not there, or not a closure, is named in the error."""
    (user.home / "odd").write_text("something else\n")
    for name, status in (("odd", 65), ("absent", 66)):
        refused(user.build("--closure", user.home / name), user.home / name, status=status)
    assert_no_layer(user)


def test_tools_are_seen_and_are_not_in_the_layer(users: list[User], store: Store) -> None:
    """Scripts in the root view run the tools' programs from their read-only store paths, of which nothing gets into the layer."""
    digests = set()
    for user in users:
        bash = store.path("bash")
        script = user.script(
            f"#!{bash}/bin/bash -e\nmkdir -p data\nchown 5:6 data\n! touch {bash}/x 2> data/refused\nln -s {bash} sh\n"
        )
        options = ["--tools", store.graph, "--store-root", store.root, "--script", script]
        result = user.build(*options)
        found = unpacked(user, result)
        assert sorted(found) == ["data", "data/refused", "sh"]
        assert found["data"].owner == "5:6:755"
        assert os.strerror(errno.EROFS).encode() in found["data/refused"].data
        digests.add(result.layer["digest"])
        assert "bin/bash" in unpacked(user, user.build(*options, "--closure", store.graph, "--copy-to-root", bash))
        assert user.leftovers() == []
        beside = user.build(*options, "--", "mkdir", "/nix/store/own")
        assert sorted(unpacked(user, beside)) == ["data", "data/refused", "nix", "nix/store", "nix/store/own", "sh"]
    assert len(digests) == 1
