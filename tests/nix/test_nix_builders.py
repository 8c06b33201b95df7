"""Layers and images that other machines build: Nix spreads independent layers, and none is built twice."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import pytest
from helpers.aftermath import until
from helpers.effort import EVERY, todays
from helpers.nix_builders import Builder, Machines, machines, valid_paths
from helpers.nix_pkgs import LET, Nix, fetch_nix, give_everybody
from helpers.place import remove
from helpers.users import Result

pytestmark = pytest.mark.slow

EXPRESSION = """
let
  layer = n: ours.buildLayer {
    name = "NAME-${toString n}";
    copyToRoot = [ pkgs.bash pkgs.coreutils ];
    VIEW = ''
      head -c 100000 /dev/zero | tr '\\0' ${if n == CHANGED then "y" else "x"} > of-${toString n}
      chown ${toString n}:33 of-${toString n}
    '';
  };
  layers = map layer [ 1 2 3 4 5 6 7 8 ];
in
[
  (ours.streamImage {
    name = "eight";
    tag = "1";
    inherit layers;
  }).rootlessImage
] ++ layers
"""
WAITING = """
let
  layer = n: pkgs.stdenv.mkDerivation {
    name = "waiting-${toString n}";
    nativeBuildInputs = [ ours.rootlessLayerHook ];
    exportReferencesGraph = [ "closure" pkgs.bash ];
    preRootlessLayer = "head -c 1 /gate/tickets > ticket";
    layerScript = "echo ${toString n} > of-${toString n}; chown ${toString n}:33 of-${toString n}";
    layerView = "directory";
  };
in
[
  (ours.streamImage {
    name = "waited";
    tag = "1";
    layers = map layer [ 1 2 3 4 5 6 7 8 ];
  }).rootlessImage
]
"""
"""An image of eight layers, each of which waits for a byte that it reads of a pipe."""
TICKETS, PLENTY = 3, 100
"""Layers that are built before the kill, and more than all of them."""


VERSIONS = ["own-own", "trixie-trixie", "sid-sid", "own-sid", "sid-own"] if EVERY else ["own-own"]
"""The Nix that asks, and that of the builders: this machine's or a newer Debian's, which is fetched."""
Nixes = list[tuple[Nix, str]]


@pytest.fixture(scope="module", params=VERSIONS)
def nixes(request: pytest.FixtureRequest, stores: list[Nix], shared: Path) -> Iterator[Nixes]:
    """Everybody's Nix, and where the programs are of the one that builds for it, if it is of another version."""
    asking, building = request.param.split("-")
    prefixes = {"own": os.path.dirname(shutil.which("nix") or "")}
    for suite in {asking, building} - prefixes.keys():
        prefixes[suite] = fetch_nix(suite, shared / f"{suite}-of-{request.param}")
    if asking == "own":
        yield [(nix, prefixes[building]) for nix in stores]
        return
    with contextlib.contextmanager(give_everybody)(shared) as everybody:  # a newer Nix may change a store's database
        yield [(attrs.evolve(nix, prefix=prefixes[asking]), prefixes[building]) for nix in everybody]


def eight(name: str, *, changed: int = 0, view: str = "runAsRoot") -> str:
    """Write the expression of an image of eight layers, and of these, of which one may be another."""
    return EXPRESSION.replace("NAME", name).replace("VIEW", view).replace("CHANGED", str(changed))


def layers(name: str, names: Iterable[str]) -> list[str]:
    """Choose the layers of a name, among those of derivations, outputs or store paths."""
    return sorted(each.rpartition("/")[2] for each in names if each.rpartition("/")[2][-len(name) - 2 : -1] == f"{name}-")


def digest(nix: Nix, image: str) -> str:
    """Read an image's digest."""
    said: dict[str, str] = json.loads(nix.on_disk(f"{image}/image.json").read_bytes())
    return said["manifestDigest"]


def outputs(done: Result) -> list[str]:
    """Give the outputs of a build, which must have gone well."""
    assert done.status == 0, done.err
    return done.out.split()


def assert_the_same_here(nix: Nix, expression: str) -> None:
    """Let Nix build on this machine what others have built, and compare every byte."""
    outputs(nix.run("nix-build", "--no-out-link", "--check", "-E", LET + expression))


def test_two_machines_build_the_layers_of_an_image(nixes: Nixes) -> None:
    """Both build layers, each layer is built once, all is byte for byte as built here, and a change of one moves no store path."""
    digests = set()
    for nix, builders in todays(nixes):
        with machines(nix, builders) as group, group.builder("one") as one, group.builder("two") as two:
            image, *made = outputs(group.build(eight("layer"), [one, two]))
            assert layers("layer", one.built())
            assert layers("layer", two.built())
            assert layers("layer", [*one.built(), *two.built()]) == [f"layer-{n}" for n in range(1, 9)]
            assert [*one.built(), *two.built()].count("eight-image") == 1
            assert_the_same_here(nix, eight("layer"))
            digests.add(digest(nix, image))

            before = valid_paths(one.nix).keys() | valid_paths(two.nix)
            other, *changed = outputs(group.build(eight("layer", changed=8), [one, two]))
            assert digest(nix, other) not in digests
            assert changed[:7] == made[:7]
            new = (valid_paths(one.nix).keys() | valid_paths(two.nix)) - before
            assert sorted(path.partition("-")[2] for path in new) == [
                "docker-layer-eight",
                "eight-image",
                "layer-8",
                "run-as-root",
            ]
    assert len(digests) == 1


def build_and_kill(nix: Nix, group: Machines, builders: list[Builder]) -> list[str]:
    """Begin to build the waiting layers, and kill the Nix that asked for them when some are here; give the names of these."""

    def here() -> list[str]:
        return layers("waiting", (path.partition("-")[2] for path in valid_paths(nix)))

    process = group.start(WAITING, builders)
    assert until(lambda: len(list(nix.store.glob("nix/store/*-waiting-?"))) == TICKETS or process.poll() is not None)
    assert until(lambda: len(here()) == TICKETS)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return here()


def test_what_was_built_before_a_kill_is_not_built_again(nixes: Nixes) -> None:
    """Where the Nix that asked is killed, the layers that were done stay, and another run builds the others and the image."""
    for nix, builders in todays(nixes):
        gate = nix.user.home / "gate"
        gate.mkdir()
        os.mkfifo(gate / "tickets")
        tickets = os.open(gate / "tickets", os.O_RDWR)
        shown = f"extra-sandbox-paths = /gate={gate}\n"
        with (
            machines(nix, builders) as group,
            group.builder("one", settings=shown) as one,
            group.builder("two", settings=shown) as two,
        ):
            os.write(tickets, b"x" * TICKETS)
            early = build_and_kill(nix, group, [one, two])
            logs = [{name: made for name, made in each.built().items() if name in early} for each in (one, two)]
            assert sorted([*logs[0], *logs[1]]) == early
            os.write(tickets, b"x" * PLENTY)
            outputs(group.build(WAITING, [one, two]))
            assert [{name: made for name, made in each.built().items() if name in early} for each in (one, two)] == logs
        os.close(tickets)


def test_a_binary_cache_gives_what_was_built(nixes: Nixes) -> None:
    """A Nix that builds nothing gets an image of a cache: its layers, and the store paths that they name."""
    expression = f"[ (builtins.head ({eight('cached').replace(' 3 4 5 6 7 8', '')})) ]"
    for nix, builders in todays(nixes):
        [image] = nix.build(expression)
        cache = f"file://{nix.user.home}/cache?compression=none"
        outputs(nix.run("nix", "copy", "--to", cache, image))
        other = attrs.evolve(nix, store=nix.user.home / "other", prefix=builders)
        words = ["--max-jobs", "0", "--option", "substituters", cache, "--option", "require-sigs", "false"]
        assert other.build(expression, *words) == [image]
        assert digest(other, image) == digest(nix, image)
        assert other.on_disk(f"{image}/image.json").read_bytes() == nix.on_disk(f"{image}/image.json").read_bytes()
        names = {path.partition("-")[2] for path in valid_paths(other)}
        assert {"cached-1", "cached-2", "eight-image"} <= names
        assert "run-as-root" not in names
        remove(other.store)


def test_a_machine_without_user_namespaces(nixes: Nixes) -> None:
    """A builder in a container gives the same bytes where nothing need be mounted; else it says why it cannot build the layer."""
    for nix, builders in todays(nixes):
        with machines(nix, builders) as group, group.builder("three", confined=True) as three:
            plain = f"[ (builtins.elemAt ({eight('plain', view='fakeRootCommands')}) 1) ]"
            outputs(group.build(plain, [three]))
            assert layers("plain", three.built()) == ["plain-1"]
            assert_the_same_here(nix, plain)
            rooted = group.build(f"[ (builtins.elemAt ({eight('rooted')}) 1) ]", [three])
            assert rooted.status != 0
            assert "nothing can be mounted here: user namespaces are switched off" in rooted.err
            assert "Traceback" not in rooted.err


def test_build_users_of_a_machine_build_the_same(nixes: Nixes) -> None:
    """A builder whose daemon is root's has users without privilege build: the bytes are the same, whatever the script is."""
    nix, builders = nixes[-1]
    if not nix.user.is_root:
        pytest.skip("only root has users to build for it")
    with machines(nix, builders) as group, group.builder("four", as_users=True) as four:
        for view in ("runAsRoot", "fakeRootCommands"):
            expression = f"[ (builtins.elemAt ({eight(f'{view}-of-users', view=view)}) 1) ]"
            outputs(group.build(expression, [four]))
            assert layers(f"{view}-of-users", four.built()) == [f"{view}-of-users-1"]
            assert_the_same_here(nix, expression)
        assert list(group.folder.glob("state/userpool*/3000*"))  # Nix's locks of those whom it built as
