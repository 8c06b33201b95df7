"""Closures are read right from what the real Nix writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import attrs
import pytest
from helpers.closure_forms import A, B, C, closure, dump

from rootless_layer.errors import ClosureError
from rootless_layer.store.closure import Closure, StorePath
from rootless_layer.store.nar_size import nar_sizes
from rootless_layer.store.read import load_closure

EXPRESSION = """
let
  boot = builtins.path { path = ./boot; name = "boot"; };
  run = name: script: attributes: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "${boot}/bin/busybox";
    args = [ "sh" "-ec" "PATH=${boot}/bin; ${script}" ];
  } // attributes);
  low = run "low" "echo ${boot} $out > $out" { };
in rec {
  top = run "top" "busybox mkdir -p $out/a/b; echo ${low} > $out/low; busybox ln -s ../low $out/a/link; cd $out/a; echo x > exec; busybox chmod 755 exec" { };
  graph = run "graph" "busybox cp graph $out" {
    exportReferencesGraph = [ "graph" top ];
  };
  attributes = run "attributes" ''
    cd $NIX_BUILD_TOP
    busybox cp .attrs.json $(busybox grep -o '/nix/store/[^/"]*-attributes' .attrs.json)
  '' { __structuredAttrs = true; exportReferencesGraph.what = [ top ]; };
}
"""
SETTINGS = """
experimental-features = nix-command
substituters =
sandbox = true
sandbox-fallback = false
sandbox-paths =
build-users-group =
"""


@attrs.frozen
class Nix:
    """The installed Nix, with a store below ``root`` in which a closure was built."""

    root: Path
    outputs: dict[str, str] = attrs.field(factory=dict)

    def run(self, program: str, *arguments: str, given: str = "") -> str:
        """Run a program of Nix on the store; give what it prints."""
        return subprocess.run(
            [program, "--store", self.root / "store", *arguments],
            cwd=self.root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "NIX_CONFIG": SETTINGS,
            },
            input=given,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def file(self, output: str) -> Path:
        """Give where an output lies on this machine."""
        return Path(f"{self.root}/store{self.outputs[output]}")


@pytest.fixture(scope="session")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Nix:
    """Build a closure, and the files that Nix gives to a builder for it."""
    nix = Nix(tmp_path_factory.mktemp("nix"))
    (nix.root / "boot/bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", nix.root / "boot/bin/busybox")
    (nix.root / "default.nix").write_text(EXPRESSION)
    for name in ("top", "graph", "attributes"):
        nix.outputs[name] = nix.run("nix-build", "--no-out-link", "-A", name).strip()
    return nix


def expected_of(nix: Nix) -> Closure:
    """Ask Nix's database, a question for each path, what the closure of top is."""
    graph = {
        path: nix.run("nix-store", "-q", "--references", path).split()
        for path in nix.run("nix-store", "-qR", nix.outputs["top"]).split()
    }
    assert len(graph) == 3
    return closure(graph, f"{nix.root}/store")


def printed(nix: Nix, directory: Path, *command: str) -> Path:
    """Keep what a program of Nix prints in a file."""
    (directory / "printed").write_text(nix.run(*command))
    return directory / "printed"


def test_real_references_graph(nix: Nix) -> None:
    """The file of exportReferencesGraph has the closure as Nix's database has it."""
    loaded = load_closure(nix.file("graph"), store_root=nix.root / "store")
    assert loaded == expected_of(nix)
    loaded.check()


def test_real_structured_attributes(nix: Nix) -> None:
    """The .attrs.json of a builder has the closure, under whatever name it got."""
    loaded = load_closure(nix.file("attributes"), store_root=nix.root / "store")
    assert loaded == expected_of(nix)


def test_real_path_info(nix: Nix, tmp_path: Path) -> None:
    """``nix path-info --json -r`` has the closure; without -r its check fails."""
    command = ("nix", "path-info", "--json", nix.outputs["top"])
    whole = load_closure(printed(nix, tmp_path, *command, "-r"), store_root=nix.root / "store")
    assert whole == expected_of(nix)
    alone = load_closure(printed(nix, tmp_path, *command), store_root=nix.root / "store")
    with pytest.raises(ClosureError, match="-low, not given"):
        alone.check()
    assert alone.merge(whole) == whole


def test_real_dump_db(nix: Nix, tmp_path: Path) -> None:
    """``nix-store --dump-db`` has the closure, and what it adds is read over."""
    paths = nix.run("nix-store", "-qR", nix.outputs["top"]).split()
    dumped = printed(nix, tmp_path, "nix-store", "--dump-db", *paths)
    assert load_closure(dumped, store_root=nix.root / "store") == expected_of(nix)


def test_real_sizes(nix: Nix, tmp_path: Path) -> None:
    """Each form that has sizes gives Nix's; for a form without, they are reckoned from the disk to the same byte."""
    paths = nix.run("nix-store", "-qR", nix.outputs["top"]).split()
    sizes = {StorePath(path): int(nix.run("nix-store", "-q", "--size", path)) for path in paths}
    dumped = printed(nix, tmp_path, "nix-store", "--dump-db", *paths)
    assert load_closure(dumped).sizes == sizes
    assert load_closure(nix.file("attributes")).sizes == sizes
    assert load_closure(printed(nix, tmp_path, "nix", "path-info", "--json", "-r", nix.outputs["top"])).sizes == sizes
    without = load_closure(nix.file("graph"), store_root=nix.root / "store")
    assert without.sizes == {}
    assert nar_sizes(without) == sizes


def test_real_list(nix: Nix, tmp_path: Path) -> None:
    """``nix-store -qR`` has the paths of the closure."""
    listed = printed(nix, tmp_path, "nix-store", "-qR", nix.outputs["top"])
    loaded = load_closure(listed, store_root=nix.root / "store")
    assert loaded.paths == expected_of(nix).paths
    loaded.check()


def test_real_file_without_references(nix: Nix, tmp_path: Path) -> None:
    """A file added to a store is a closure of one path."""
    (tmp_path / "a+b=c?.txt").write_text("data")
    added = nix.run("nix-store", "--add", str(tmp_path / "a+b=c?.txt")).strip()
    info = printed(nix, tmp_path, "nix", "path-info", "--json", "-r", added)
    loaded = load_closure(info, store_root=nix.root / "store")
    assert loaded == closure({added: []}, f"{nix.root}/store")
    assert Path(loaded.location(loaded.paths[0])).read_text() == "data"


def test_real_path_that_is_not_valid(nix: Nix, tmp_path: Path) -> None:
    """A path which the store lacks is a problem, not a path without references."""
    info = printed(nix, tmp_path, "nix", "path-info", "--json", A)
    with pytest.raises(ClosureError, match="is not in the store: build it"):
        load_closure(info)


def test_real_load_db(tmp_path: Path) -> None:
    """What these tests write as a dump, Nix registers as the same graph."""
    (tmp_path / "store").mkdir()
    nix = Nix(tmp_path)
    nix.run("nix-store", "--load-db", given=dump({A: [A, C], B: [A], C: []}))
    assert nix.run("nix-store", "-qR", B).split() == [C, A, B]
    assert set(nix.run("nix-store", "-q", "--references", A).split()) == {A, C}
