"""A layer as a derivation: in Nix's sandbox, however the attributes come and whoever builds, the layer of the command outside."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.effort import EVERY
from helpers.nix_pkgs import LET, Nix, fetch_nix, give_everybody, make_nix
from helpers.place import remove
from helpers.users import COMMAND, Result, User, make_user

pytestmark = pytest.mark.slow

SCRIPT = """
mkdir -p srv/files tmp
chown 33:12345 srv/files
chmod 1777 tmp
echo data > srv/files/data
chown 5000000:33 srv/files/data
chmod 4750 srv/files/data
mknod srv/null c 1 3
chmod g+s srv/files
"""

LAYERS = """
let
  top = pkgs.buildEnv { name = "top"; pathsToLink = [ "/bin" ]; paths = [ pkgs.bash pkgs.coreutils ]; };
  asked = view: { layerScript = ''SCRIPT''; layerView = view; layerContents = [ top ]; layerGid = 7; };
  raw = view: more: derivation ({
    name = "layer";
    inherit (pkgs) system;
    builder = "${ours.rootless-layer}/bin/rootless-layer";
    args = [ "nix-build" ];
  } // asked view // more);
  hooked = view: more: pkgs.stdenv.mkDerivation ({
    name = "layer";
    nativeBuildInputs = [ ours.rootlessLayerHook ];
  } // asked view // more);
  plain = { exportReferencesGraph = [ "graph" top ]; };
  structured = { __structuredAttrs = true; exportReferencesGraph.graph = [ top ]; };
  forms = view: [
    (raw view plain)
    (raw view (plain // { passAsFile = [ "layerScript" ]; }))
    (raw view structured)
    (hooked view plain)
    (hooked view structured)
  ];
in
[ top ] ++ forms "root" ++ forms "directory"
""".replace("SCRIPT", SCRIPT)


@pytest.fixture(scope="module")
def stores(shared: Path) -> Iterator[list[Nix]]:
    """Everybody's Nix, for these tests alone: they look at what is left in its home."""
    yield from give_everybody(shared)


def layer(nix: Nix, path: str) -> dict[str, Any]:
    """Read what a layer in the store says of itself."""
    said: dict[str, Any] = json.loads(nix.on_disk(f"{path}/layer.json").read_bytes())
    return said


def outside(nix: Nix, top: str, view: str) -> str:
    """Give the digest of the layer that the command builds outside of Nix."""
    graph = nix.user.home / "graph"
    graph.write_text(nix.run("nix", "path-info", "--json", "-r", top).out)
    script = nix.user.script(SCRIPT, "outside")
    options = ["--closure", graph, "--store-root", nix.store, "--copy-to-root", top, "--gid", "7", "--script", script]
    digest: str = nix.user.build(*options, "--view", view).layer["digest"]
    return digest


def test_every_form_gives_the_layer_of_the_command(stores: list[Nix]) -> None:
    """Attributes in the environment or as JSON, a derivation of its own or by the hook, root or not: the command's layer."""
    digests: dict[str, set[str]] = {"root": set(), "directory": set()}
    for nix in stores:
        before = nix.user.leftovers()
        top, *built = nix.build(LAYERS)
        assert len(built) == 10
        for view, paths in (("root", built[:5]), ("directory", built[5:])):
            digests[view] |= {layer(nix, path)["digest"] for path in paths} | {outside(nix, top, view)}
            for path in paths:
                assert {file.name for file in nix.on_disk(path).iterdir()} == {"layer.json", "layer.mtree", "files"}
                assert layer(nix, path)["blob"] == "derived"
        assert nix.user.leftovers() == before
    assert [len(found) for found in digests.values()] == [1, 1], digests


def test_a_build_user_of_the_daemon_builds_the_same(stores: list[Nix]) -> None:
    """A user without privilege that Nix, run by root, builds as, gets the layer that all others get."""
    nix = stores[-1]
    if not nix.user.is_root:
        pytest.skip("only root has users to build for it")
    ids = range(30001, 30001 + 2 * (os.cpu_count() or 1))
    passwd = "".join(f"nixbld{number}:x:{number}:30000::/var/empty:/bin/false\n" for number in ids)
    accounts = {"passwd": passwd, "group": f"nixbld:x:30000:{','.join(f'nixbld{number}' for number in ids)}\n"}
    mounts = [f"export NIX_STATE_DIR={nix.user.home}/state"]  # of its locks, which are not in the store's own
    for name, lines in accounts.items():
        made = nix.user.home / name
        made.write_text(Path("/etc", name).read_text() + lines)
        mounts.append(f"mount --bind {made} /etc/{name}")
    known = nix.build(LAYERS)[1:]
    anew = LAYERS.replace('name = "layer"', 'name = "by-a-build-user"')
    done = nix.run(
        "nix-build", "--no-out-link", "-E", LET + anew, settings="build-users-group = nixbld\n",
        before=["unshare", "--mount", "bash", "-ec", "; ".join((*mounts, 'exec "$@"')), "-"], timeout=300,
    )  # fmt: skip
    assert done.status == 0, done.err
    built = done.out.split()[1:]
    assert set(built).isdisjoint(known)
    assert [layer(nix, path)["digest"] for path in built] == [layer(nix, path)["digest"] for path in known]
    assert list(nix.user.home.glob("state/userpool*/3000*"))  # Nix's locks of those whom it built as


@pytest.mark.skipif(not EVERY, reason="other versions of Nix are fetched with ROOTLESS_LAYER_TEST_EVERY=1 only")
@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_newer_versions_of_nix_give_the_same(stores: list[Nix], shared: Path, suite: str) -> None:
    """Nix 2.26 and 2.34 build the layers that 2.8 builds, for everybody."""
    prefix = fetch_nix(suite, shared / suite)
    for nix in stores:
        user = make_user(shared, nix.user.name)
        newer = make_nix(user)
        newer = Nix(user, newer.store, newer.work, prefix)
        version = newer.run("nix", "--version").out
        assert "2.8" not in version
        ours, theirs = nix.build(LAYERS), newer.build(LAYERS)
        digests = [layer(nix, path)["digest"] for path in ours[1:]]
        assert [layer(newer, path)["digest"] for path in theirs[1:]] == digests, version
        remove(user.home)


OVERLAY = """
let
  overlay = import <rootless-layer/overlay.nix>;
  final = pkgs // overlay final pkgs;
  tools = final.dockerTools;
  asked = tools: tools.streamImage {
    name = "x";
    tag = "1";
    runAsRoot = "${tools.shadowSetup} cp /etc/passwd /copy; chown 5:6 /copy";
  };
in
[ (asked tools).rootlessImage (asked ours).rootlessImage tools.caCertificates ]
"""


def test_the_overlay_gives_the_functions_and_keeps_the_rest(stores: list[Nix]) -> None:
    """pkgs.dockerTools is these functions, by a program made of the package's own source, and has what else nixpkgs has."""
    nix = stores[0]
    by_overlay, by_import, certificates = nix.build(OVERLAY)
    assert by_overlay != by_import  # another program made it
    said = [json.loads(nix.on_disk(f"{path}/image.json").read_bytes()) for path in (by_overlay, by_import)]
    assert said[0]["manifestDigest"] == said[1]["manifestDigest"]
    assert certificates.endswith("-ca-certificates")


HOOK = """
[
  # What the phases install becomes the root; hooks run about the phase.
  (pkgs.stdenv.mkDerivation {
    name = "installed";
    src = pkgs.writeTextDir "share/text" "text";
    nativeBuildInputs = [ ours.rootlessLayerHook ];
    installPhase = "mkdir -p $out/bin; cp -r share $out; echo program > $out/bin/program";
    preRootlessLayer = "echo before > $out/before";
    postRootlessLayer = "test -e $out/layer.json";
    layerCommand = [ "chown" "5:6" "bin/program" ];
    layerView = "directory";
    exportReferencesGraph = [ "unused" pkgs.coreutils ];
    layerTools = "unused";
    layerCompression = "zstd:3";
    layerBlob = "stored";
    PATH = "${pkgs.coreutils}/bin";
  })
  (pkgs.stdenv.mkDerivation {
    name = "not-a-layer";
    src = pkgs.writeTextDir "share/text" "text";
    nativeBuildInputs = [ ours.rootlessLayerHook ];
    dontRootlessLayer = true;
    installPhase = "cp -r share $out";
  })
]
"""


def test_the_hook_makes_a_layer_of_what_is_installed(stores: list[Nix]) -> None:
    """What the phases of a package install is the root that its layer starts from, and dontRootlessLayer leaves it a package."""
    nix = stores[0]
    made, package = nix.build(HOOK)
    listed = nix.on_disk(f"{made}/layer.mtree").read_text()
    assert "./bin/program type=file mode=0644 uid=5 gid=6" in listed
    assert "./share/text type=file" in listed
    assert "./before type=file" in listed
    said = layer(nix, made)
    assert said["mediaType"].endswith("+zstd")
    assert nix.on_disk(f"{made}/blobs/sha256/{said['digest'][7:]}").stat().st_size == said["size"]
    assert nix.on_disk(f"{package}/text").read_text() == "text"


MOUNTED = """
let
  layer = mounts: text: ours.buildLayer {
    name = "mounted";
    copyToRoot = [ pkgs.bash pkgs.coreutils ];
    runAsRoot = "mkdir -p srv; echo from-a-bind > srv/text; chown 5:6 srv/text" + text;
    inherit mounts;
  };
in
[
  (layer [ ] "")
  (layer [ "type=tmpfs,target=/scratch,mode=0700" "source=${pkgs.writeTextDir "text" "from-a-bind"},target=/opt/bound" ] ''

    test "$(cat /opt/bound/text)" = "$(cat /srv/text)"
    touch /scratch/file
    ! touch /opt/bound/other
  '')
]
"""


def test_mounts_in_the_sandbox(stores: list[Nix]) -> None:
    """Scripts of a derivation have memory and its inputs mounted, and the layer is that without; what is not an input is refused."""
    for nix in stores:
        plain, mounted = (layer(nix, path)["digest"] for path in nix.build(MOUNTED))
        assert plain == mounted


# The attributes, without Nix


def built(user: User, attributes: Mapping[str, object], *, structured: bool = True, **environment: str) -> Result:
    """Run the builder as Nix would, with these attributes."""
    top = user.home / "build"
    top.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(top, *(os.stat(user.home).st_uid, os.stat(user.home).st_gid))
    out = user.home / "out"
    if structured:
        (top / ".attrs.json").write_text(json.dumps({"outputs": {"out": str(out)}, **attributes}))
        environment["NIX_ATTRS_JSON_FILE"] = "/build/.attrs.json"  # as Nix 2.8 has it: it is not there
    else:
        environment |= {"out": str(out)} | {name: str(value) for name, value in attributes.items()}
    return user.run([*COMMAND, "nix-build"], env={"NIX_BUILD_TOP": str(top), **environment}, cwd=top)


def test_all_that_is_wrong_with_the_attributes_is_told_at_once(user: User) -> None:
    """Unknown attributes, values of a wrong type and graphs that are not there: each is named, and there is no output."""
    wrong = {
        "layerScirpt": "true", "layerUid": "nobody", "layerView": "top", "layerKeepDirlinks": "perhaps", "layerEpoch": "soon",
        "layerTools": ["absent"], "layerContents": {}, "layerTimeout": [], "layerEnvironment": [], "layerCompression": "xz",
        "layerScripts": ["/absent"], "layerMounts": ["type=cache,target=/x"],
    }  # fmt: skip
    done = built(user, wrong)
    assert done.status == 65, done.err
    for name in wrong:
        assert f"rootless-layer: {name}: " in done.err or name in {"layerCompression", "layerScripts"}
    assert "xz: not a compression" in done.err
    assert "/absent: the script cannot be read" in done.err
    assert "Traceback" not in done.err
    assert not (user.home / "out").exists()
    for absent in ("layerScripts", "layerBases"):
        assert built(user, {absent: ["/absent"]}).status == 66


def test_attributes_are_the_same_in_both_forms(user: User) -> None:
    """What JSON has as numbers, lists and true is text in the environment, with the same meaning."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "file").write_text("data")
    graph = user.home / "build/graph"
    graph.parent.mkdir()
    graph.write_text("")
    given = {
        "layerContents": [str(tree)], "layerScript": 'echo "$GREETING" > said\n', "layerView": "directory", "layerUid": 5,
        "layerEnvironment": {"GREETING": "hello"}, "layerTimeout": 30, "layerEpoch": 7, "layerKeepDirlinks": True,
        "layerClosureWritable": False, "layerAllowSparse": True, "layerCompression": "gz:1", "layered": "is not ours",
    }  # fmt: skip
    assert built(user, given | {"exportReferencesGraph": {"graph": []}, "graph": []}).status == 0
    first = json.loads((user.home / "out/layer.json").read_bytes())
    (user.home / "build/.attrs.json").unlink()
    plain = given | {
        "layerContents": str(tree), "layerEnvironment": '{"GREETING": "hello"}', "layerKeepDirlinks": "1", "layerAllowSparse": "1", "layerClosureWritable": "",
        "exportReferencesGraph": "graph /nix/store/x",
    }  # fmt: skip
    done = built(user, plain, structured=False)
    assert done.status == 0, done.err
    assert json.loads((user.home / "out/layer.json").read_bytes()) == first
    assert first["mediaType"].endswith("+gzip")


def test_outside_of_a_build_it_says_so(user: User) -> None:
    """Without an output there is nothing to build; structured attributes that are none are named."""
    done = user.run([*COMMAND, "nix-build"])
    assert (done.status, "this is no build of Nix" in done.err) == (65, True)
    file = user.home / "attributes"
    for text in ("{", "[]", '{"outputs": []}', '{"outputs": {}}'):
        file.write_text(text)
        done = user.run([*COMMAND, "nix-image"], env={"NIX_ATTRS_JSON_FILE": str(file)})
        assert done.status == 65
        assert str(file) in done.err
        assert "Traceback" not in done.err


def test_a_killed_build_leaves_nothing(user: User) -> None:
    """A build that is terminated leaves neither an output nor anything beside it."""
    out = user.home / "out"
    environment = {
        "out": str(out),
        "NIX_BUILD_TOP": str(user.home),
        "layerScript": "echo RUNNING >&2; sleep 60",
        "layerView": "directory",
    }
    process = user.start([*COMMAND, "nix-build"], env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b"RUNNING" not in process.stderr.readline():
        pass
    process.terminate()
    process.stderr.read()
    process.stderr.close()
    assert process.wait() == 143
    assert not out.exists()
    assert user.leftovers() == []
