"""The functions of ``rootless_layer/nix``: every argument of dockerTools, and the meaning of nixpkgs' own examples.

All images are built by one ``nix-build`` for each user, in Nix's sandbox, and looked at as umoci
unpacks them, or as podman runs them.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers import nix_pkgs
from helpers.effort import EVERY
from helpers.nix_pkgs import Nix, fetch_nix, make_nix
from helpers.place import HERE, PLACE, remove
from helpers.users import Result, User, make_user

pytestmark = pytest.mark.slow

EXAMPLES = HERE / "nix" / "all.nix"
FEW = ("basis", "redis", "layered-with-fakechroot", "nginx", "owned", "nix", "of-layers", "no-tag-layered")
"""What the second user builds, where not everything is tested."""


@attrs.define(slots=False)
class Loaded:
    """An image of the archive of all, as it is read from there."""

    name: str
    config: dict[str, Any]
    blobs: list[Path]
    layout: Path
    user: User
    """Whoever runs the tests."""

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that says how it is run."""
        settings: dict[str, Any] = self.config["config"]
        return settings

    @cached_property
    def layers(self) -> list[dict[str, tarfile.TarInfo]]:
        """Each layer's members by name, the lowest first."""
        found = []
        for blob in self.blobs:
            with tarfile.open(blob) as archive:
                found.append({member.name.removesuffix("/"): member for member in archive})
        return found

    @cached_property
    def members(self) -> dict[str, tarfile.TarInfo]:
        """What the layers come to, where nothing is removed."""
        return {name: member for layer in self.layers for name, member in layer.items()}

    def owner(self, path: str) -> str:
        """Owner, group and permissions, as ``stat -c %u:%g:%a`` writes them."""
        member = self.members[path]
        return f"{member.uid}:{member.gid}:{member.mode:o}"

    @cached_property
    def root(self) -> Path:
        """The root filesystem, as umoci unpacks it."""
        bundle = Path(tempfile.mkdtemp(dir=self.user.home / "tmp")) / "bundle"
        rootless = [] if os.geteuid() == 0 else ["--rootless"]
        done = self.user.run(["umoci", "unpack", *rootless, "--image", f"{self.layout}:{self.name}", bundle])
        assert done.status == 0, done.err
        return bundle / "rootfs"

    def text(self, path: str) -> str:
        """Read a file by its path in the image, through links."""
        return self.resolved(path).read_text()

    def resolved(self, path: str) -> Path:
        """Follow the links of a path, absolute ones within the image."""
        parts, current = path.strip("/").split("/")[::-1], self.root
        while parts:
            there = current / parts.pop()
            if there.is_symlink():
                target = os.readlink(there)
                current = self.root if target.startswith("/") else current
                parts += [part for part in target.split("/")[::-1] if part]
            else:
                current = there.resolve() if there.name == ".." else there
        return current

    @property
    def store(self) -> set[str]:
        """The names of the store paths in it, without their digests."""
        return {name.split("/")[2][33:] for name in self.members if name.startswith("nix/store/")}


@attrs.define(slots=False)
class Built:
    """All examples: what their evaluation says, and where the images are."""

    nix: Nix
    index: dict[str, Any]
    layout: Path
    warnings: str
    loaded: dict[str, Loaded] = attrs.field(factory=dict)

    def __getitem__(self, example: str) -> Loaded:
        """Give the image of an example."""
        if example not in self.loaded:
            said = self.index["images"][example]
            name = f"{said['imageName']}:{said['imageTag']}"
            rows = json.loads((self.layout / "index.json").read_bytes())["manifests"]
            digests = {row["digest"] for row in rows if row["annotations"]["org.opencontainers.image.ref.name"] == name}
            assert len(digests) == 1, name
            manifest = json.loads(self.blob(digests.pop()).read_bytes())
            config = json.loads(self.blob(manifest["config"]["digest"]).read_bytes())
            blobs = [self.blob(layer["digest"]) for layer in manifest["layers"]]
            self.loaded[example] = Loaded(name, config, blobs, self.layout, self.myself)
        return self.loaded[example]

    @property
    def myself(self) -> User:
        """Whoever runs the tests, with the builder's directory."""
        return attrs.evolve(self.nix.user, name="root" if os.geteuid() == 0 else "somebody")

    def blob(self, digest: str) -> Path:
        """Find a blob of the layout."""
        return self.layout / "blobs/sha256" / digest.removeprefix("sha256:")

    def archive(self, name: str) -> Path:
        """Find a file that was made of images."""
        return self.nix.on_disk(self.index["archives"][name])


@pytest.fixture(scope="module")
def stores(shared: Path) -> Iterator[list[Nix]]:
    """Everybody's Nix, with the packages built once."""
    users = [make_user(shared, "somebody")] + ([make_user(shared, "root")] if os.geteuid() == 0 else [])
    first = make_nix(users[0])
    first.build("builtins.attrValues (import <machine/packages.nix>)")
    yield [first, *(make_nix(user, like=first) for user in users[1:])]
    for user in users:
        remove(user.home)


@pytest.fixture(scope="module")
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


# Everybody, and every Nix


def test_everybody_builds_the_same(stores: list[Nix], built: Built) -> None:
    """Root and somebody without privilege get the same outputs, byte for byte, in Nix's sandbox."""
    names = sorted(built.index["images"].keys() - {"created-now"}) if EVERY else FEW
    for nix in stores[1:]:
        wanted = " ".join(f"examples.{name}.rootlessImage" for name in names)
        made = nix.build(f"let all = import {EXAMPLES}; inherit (all) examples; in [ {wanted} ]")
        assert made == [built.index["images"][name]["image"] for name in names]
        assert [contents(nix, path) for path in made] == [contents(built.nix, path) for path in made]


def contents(nix: Nix, path: str) -> tuple[str, ...]:
    """Say what an output of ours and all those that it refers to hold, but for the listings' paths on disk."""
    said = json.loads(nix.on_disk(f"{path}/image.json").read_bytes())
    return (*(json.dumps(layer, sort_keys=True) for layer in said["layers"]), said["config"])


@pytest.mark.skipif(not EVERY, reason="other versions of Nix are fetched with ROOTLESS_LAYER_TEST_EVERY=1 only")
@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_newer_versions_of_nix_build_the_same(stores: list[Nix], built: Built, shared: Path, suite: str) -> None:
    """Nix 2.26 and 2.34 build what 2.8 builds: the same layers and configs of every example."""
    user = make_user(shared, stores[-1].user.name)
    newer = attrs.evolve(make_nix(user), prefix=fetch_nix(suite, shared / f"images-{suite}"))
    done = newer.run("nix-build", "--no-out-link", EXAMPLES, "-A", "index", timeout=900)
    assert done.status == 0, done.err
    theirs = json.loads(newer.on_disk(done.out.strip()).read_bytes())["images"]
    ours = built.index["images"]
    assert theirs.keys() == ours.keys()
    dated = {"created-now"}
    for name in ours.keys() - dated:
        assert contents(newer, theirs[name]["image"]) == contents(built.nix, ours[name]["image"]), name
    remove(user.home)


def test_no_derivation_needs_a_virtual_machine_or_the_network(built: Built) -> None:
    """No derivation that an example takes requires a system feature, or is one that may use the network."""
    shown = built.nix.run("nix", "show-derivation", "--recursive", "-f", EXAMPLES, "index")
    assert shown.status == 0, shown.err
    derivations = json.loads(shown.out)
    ours = [one for one in derivations.values() if one["args"][:1] in (["nix-build"], ["nix-image"], ["nix-archive"])]
    assert len(ours) > 100
    for one in derivations.values():
        attributes = one["env"] | json.loads(one["env"].get("__json", "{}"))
        assert "requiredSystemFeatures" not in attributes
        assert not {"outputHash", "__impure", "__noChroot"} & set(attributes)


def test_the_outputs_keep_what_they_refer_to(built: Built) -> None:
    """An image is small, holds no layer's bytes, and refers to the store paths that its layers are made of."""
    image = built.index["images"]["layered-image"]["image"]
    wanted = built["layered-image"].store
    references = built.nix.run("nix-store", "--query", "--requisites", image).out.split()
    assert wanted <= {path.rpartition("/")[2][33:] for path in references}
    named = [path for path in references if "layered-image" in path]
    files = [file for path in named for file in built.nix.on_disk(path).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < sum(blob.stat().st_size for blob in built["layered-image"].blobs) / 10
    archives = built.index["archives"]
    kept = {
        name: built.nix.run("nix-store", "--query", "--references", archives[name]).out for name in ("streamed", "none", "gz")
    }
    assert built.index["paths"]["bash"] in kept["streamed"]
    assert kept["none"].strip().endswith("-text")
    assert kept["gz"] == ""


# With the meaning of nixpkgs' examples


def test_bash(built: Built) -> None:
    """A buildEnv's links to the store are links in the image, and what they lead to is there."""
    bash = built["bash"]
    assert bash.members["bin/bash"].issym() or bash.members["bin/bash"].islnk()
    assert bash.resolved("bin/bash").read_bytes()[:4] == b"\x7fELF"
    assert bash.config["created"] == "1970-01-01T00:00:01Z"
    assert len(bash.blobs) == 1
    assert any(name.startswith("libc6-") for name in bash.store)


def test_layered(built: Built) -> None:
    """A layered image has its contents as links, a layer for each store path, what its command needs, and what a script made."""
    image, other = built["layered-image"], built["another-layered-image"]
    assert image.text("extraCommands") == "(extraCommand)\n"
    assert image.members["bin/hello"].linkname == image.settings["Cmd"][0]
    assert "Hello" in image.text("bin/hello")
    assert [store_paths(layer) for layer in image.layers[:-1]] == [1] * (len(image.blobs) - 1)
    assert "hello" in other.store
    assert set(image.config["rootfs"]["diff_ids"]) & set(other.config["rootfs"]["diff_ids"])
    for example in ("layered-on-top", "layered-on-top-layered"):
        top = built[example]
        assert top.config["rootfs"]["diff_ids"][: len(image.blobs)] == image.config["rootfs"]["diff_ids"]
        assert top.settings["Cmd"] == image.settings["Cmd"]
        assert top.root.joinpath("example-output").is_dir()
        assert top.text("extraCommands") == "(extraCommand)\n"
        assert len(top.blobs) == len(image.blobs) + 1  # coreutils, which PATH names, is in the base
    assert built["layered-on-top"].owner("example-output") == "0:0:777"


def store_paths(layer: Mapping[str, object]) -> int:
    """Count the store paths in a layer."""
    return sum(name.startswith("nix/store/") and name.count("/") == 2 for name in layer)


def test_run_as_root(built: Built) -> None:
    """runAsRoot sees the parent image as its root; extraCommands run after it, at the same place."""
    parent = built["run-as-root-parent-image"]
    assert parent.name == "runasrootparentimage:latest"
    assert sorted(parent.layers[-1]) == ["example-file", "tmp"]
    extra = built["run-as-root-extra-commands"]
    assert (extra.text("runAsRoot"), extra.text("extraCommands")) == ("(runAsRoot)\n", "(extraCommand)\n")
    machine = built["virtual-machine"]
    assert machine.text("umask") == "0022\n"
    assert re.fullmatch(r"/nix/store/[^/]*-coreutils-[^/]*/bin:/bin\n", machine.text("path"))
    assert "in docker image virtual-machine: diskSize and buildVMMemorySize do nothing" in built.warnings


def test_redis(built: Built) -> None:
    """With shadowSetup a script adds users, and gives them what it makes; it writes into a directory of a buildEnv's."""
    redis = built["redis"]
    assert redis.owner("data") == "999:999:755"
    assert "redis:x:999:999::/data:" in redis.text("etc/passwd")
    assert redis.root.joinpath("bin/healthcheck").stat().st_mode & 0o111
    assert redis.owner("etc/shadow").endswith(":600") or redis.owner("etc/shadow").startswith("0:")
    assert redis.settings == {
        "Cmd": ["/bin/redis-server"],
        "Healthcheck": {"Interval": 30_000_000_000, "Test": ["CMD-SHELL", "/bin/healthcheck"]},
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
    }
    assert not any(name.startswith("passwd-") for name in redis.store)  # of the build only
    assert redis.resolved("bin/bash").read_bytes()[:4] == b"\x7fELF"


def test_nginx(built: Built) -> None:
    """Directories are given to the user that a service runs as, and the config's files are in the image."""
    nginx = built["nginx"]
    assert (nginx.owner("var/log/nginx"), nginx.owner("var/cache/nginx")) == ("60:60:755", "60:60:750")
    assert "nginx:x:60:60" in nginx.text("etc/passwd")
    assert nginx.text(nginx.settings["Cmd"][2]) == "user nginx nginx;"
    assert nginx.settings["ExposedPorts"] == {"80/tcp": {}}


@pytest.mark.parametrize("example", ["nix", "nix-layered"])
def test_the_nix_database_is_registered(built: Built, example: str) -> None:
    """Nix itself, given the image as a root, says that the contents' whole closure is valid, and finds what their hashes say."""
    image = built[example]
    roots = sorted(image.resolved("nix/var/nix/gcroots/docker").iterdir())
    top = os.readlink(roots[0])
    asked = ["nix-store", "--store", f"local?root={image.root}", "--query", "--requisites", top]
    environment = {"NIX_CONFIG": "", "NIX_CONF_DIR": "/nonexistent", "NIX_LOCALSTATE_DIR": ""}
    found = built.myself.run(asked, env=environment)
    assert found.status == 0, found.err
    listed = {path.rpartition("/")[2][33:] for path in found.out.split()}
    assert {"hello", "bash-5.2.15-2-b8"} <= listed or any(name.startswith("bash") for name in listed)
    assert listed <= image.store


def test_no_store_paths(built: Built) -> None:
    """What only a script ran is not in the image; without contents there is no store at all."""
    image = built["no-store-paths"]
    assert image.store == set()
    assert "nix" not in image.members
    assert image.root.joinpath("bin/busybox").stat().st_size > 100_000
    assert len(image.blobs) == 1


def test_cross_architecture(built: Built) -> None:
    """An image for another machine says so."""
    assert (built["cross"].config["architecture"], built["cross"].config["os"]) == ("arm64", "linux")
    assert built["cross"].text("text") == "for another machine"


@pytest.mark.parametrize("example", ["environment-variables", "environment-variables-layered"])
def test_the_parents_config_is_inherited(built: Built, example: str) -> None:
    """Variables of the parent are kept, the child's take their place, and all else in the config is inherited as well."""
    settings = built[example].settings
    assert settings["Env"] == ["FROM_PARENT=true", "LAST_LAYER=child", "FROM_CHILD=true"]
    parent = built["basis"].settings
    assert {name: value for name, value in settings.items() if name != "Env"} == {
        name: value for name, value in parent.items() if name != "Env"
    }
    assert (settings["User"], settings["WorkingDir"], settings["Labels"]) == ("1000", "/srv", {"kept": "yes"})


def test_layers_are_in_their_order(built: Built) -> None:
    """An image's own layer is above its parent's, and so they are unpacked for runAsRoot."""
    assert [built["layers-order"].text(f"tmp/layer{n}").strip() for n in (1, 2, 3)] == ["layer1", "layer2", "layer3"]
    assert built["layers-unpack-order"].text("layer-order") == "abc"
    assert len(built["layers-unpack-order"].blobs) == 3


def test_repeated_base_layers(built: Built) -> None:
    """A layer that is in an image several times is there each time, and once in the archive."""
    repeated = built["repeated-base-layers"]
    assert repeated.text("same") == "same"
    assert len(repeated.blobs) == 3
    assert len(repeated.config["history"]) == 3


def test_fakechroot(built: Built) -> None:
    """With enableFakechroot absolute paths are the image's, and what a script links to is in the image."""
    image = built["layered-with-fakechroot"]
    assert image.owner("home/jane") == "1000:1000:755"
    assert "Hello" in image.text("bin-of-hello/bin/hello")
    assert {"proc", "dev", "sys"} & set(image.members) == set()


def test_chown(built: Built) -> None:
    """fakeRootCommands give files to anybody."""
    assert (built["chown"].owner("data"), built["chown"].owner("data/file")) == ("12345:12345:755", "12345:12345:644")


def test_a_store_path_may_be_a_link(built: Built) -> None:
    """A store path that is a symbolic link stays one, and what it leads to is in the image."""
    image = built["store-symlink"]
    link = built.index["images"]["store-symlink"]["passthru"]["symlink"]
    assert image.members[link[1:]].issym()
    assert image.text("dir/target") == "content"


def test_names_may_have_a_registry(built: Built) -> None:
    """A name keeps its registry."""
    assert built["prefixed"].name == "registry-1.docker.io/image:latest"
    assert built["prefixed-layered"].name == "registry-1.docker.io/layered-image:latest"


def test_bulk_layers(built: Built) -> None:
    """maxLayers counts the base's layers and the customisation layer; the rest of the store paths share the last."""
    two, four = built["two-layered-image"], built["layered-bulk-layer"]
    assert (len(two.blobs), len(four.blobs)) == (2, 4)
    assert store_paths(two.layers[0]) == len(two.store) > 1
    assert any(name.startswith("coreutils") for name in four.store)


def test_a_user_with_a_home(built: Built) -> None:
    """useradd makes a home that is the user's."""
    image = built["user-with-home"]
    assert image.owner("home/alice").startswith("1234:1234:7")
    assert image.owner("home/alice/.profile") == "1234:1234:644"
    assert "alice:x:1234:1234" in image.text("etc/passwd")


def test_an_etc_of_an_activation_script(built: Built) -> None:
    """Links to a generated tree and a secret of its own owner and mode are in the image, and the tree as well."""
    etc = built["etc"]
    assert etc.text("etc/hostname") == "a-container"
    assert etc.owner("etc/some-secret") == "1234:0:440"


def test_ca_certificates(built: Built) -> None:
    """The certificates are where three families of systems look for them, /bin/sh and /usr/bin/env where all do."""
    image = built["ca-certificates"]
    places = ["ssl/certs/ca-bundle.crt", "ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt"]
    texts = {image.text(f"etc/{place}") for place in places}
    assert len(texts) == 1
    assert "BEGIN CERTIFICATE" in texts.pop()
    assert image.resolved("bin/sh").name == "bash"
    assert image.resolved("usr/bin/env").name == "env"


def test_a_shell_image_is_as_nix_shell(built: Built) -> None:
    """A shell image has the derivation's variables and inputs, a user of its own, and the store is that user's."""
    image = built["nix-shell"]
    variables = dict(pair.split("=", 1) for pair in image.settings["Env"])
    assert variables["variable"] == "value"
    assert variables["HOME"] == "/home/builder"
    assert variables["NIX_BUILD_TOP"] == variables["TMPDIR"] == image.settings["WorkingDir"] == "/build"
    assert image.settings["User"] == "1234:100"
    assert (image.owner("build"), image.owner("nix/store")) == ("1234:100:755", "1234:100:755")
    assert "nixbld:x:1234:100:Build user:/home/builder:/noshell" in image.text("etc/passwd")
    assert "hello" in image.store
    assert image.text(variables["buildCommandPath"]) == "hello > $out"
    assert len(image.blobs) == 3


# An argument each


ARGUMENTS: dict[str, Callable[[Built], object]] = {
    "name, in lower case": lambda built: built["no-tag"].name.startswith("no-tag:"),
    "tag": lambda built: built["bash"].name == "bash:latest",
    "tag = null": lambda built: re.search(f"/{built.index['images']['no-tag']['imageTag']}-", built.index["images"]["no-tag"]["image"]),
    "tag = null, layered": lambda built: re.fullmatch(r"no-tag-layered:[0-9a-z]{32}", built["no-tag-layered"].name),
    "fromImage": lambda built: built["run-as-root-parent-image"].text("srv/basis") == "basis\n",
    "fromImageName, fromImageTag": lambda built: (
        built["named"].config["rootfs"]["diff_ids"][0] == built["bash"].config["rootfs"]["diff_ids"][0]
    ),
    "copyToRoot, a package": lambda built: (
        built["direct"].members["bin/bash"].islnk()
        and built["direct"].members["bin/bash"].linkname == f"{built.index['paths']['bash'][1:]}/bin/bash"
    ),
    "copyToRoot, a list": lambda built: built["direct"].text("etc/text") == "text",
    "contents": lambda built: (
        built["old-contents"].text("etc/text") == "text" and "The contents parameter is deprecated" in built.warnings
    ),
    "copyToRoot, the last counts": lambda built: built["overlapping"].text("etc/text") == "two",
    "contents, the first counts": lambda built: built["overlapping-layered"].text("etc/text") == "one",
    "keepContentsDirlinks = false": lambda built: (
        built["directories-followed"].members["bin"].isdir()
        and built["directories-followed"].members["bin/hello"].islnk()
        and built["directories-followed"].members["bin/busybox"].islnk()
    ),
    "keepContentsDirlinks = true": lambda built: built["directories-kept"].members["bin"].issym(),
    "config": lambda built: built["basis"].settings["ExposedPorts"] == {"80/tcp": {}},
    "architecture": lambda built: built["layered-options"].config["architecture"] == "riscv64",
    "architecture, this machine's": lambda built: built["bash"].config["architecture"] == "amd64",
    "uid, gid": lambda built: built["owned"].owner("etc/text") == "1001:1002:444",
    "uid, gid, layered": lambda built: (
        {(one.uid, one.gid) for one in built["layered-options"].layers[0].values() if one.name.count("/") > 1} == {(1001, 1002)}
    ),
    "uname, gname": lambda built: {(one.uname, one.gname) for one in built["layered-options"].members.values()} == {("", "")},
    "created": lambda built: built["created"].config["created"] == "2024-05-06T05:08:09Z",
    "created, layered": lambda built: {row["created"] for row in built["layered-options"].config["history"][-1:]} == {
        "2024-05-06T07:08:09Z"
    },
    "created = now": lambda built: built["created-now"].config["created"] > "2025",
    "mtime": lambda built: (
        {one.mtime for layer in built["layered-options"].layers[:-1] for one in layer.values() if one.name.count("/") > 1} == {981173106}
    ),
    "includeStorePaths": lambda built: (
        built["without-store"].store == set() and built["without-store"].members["bin/hello"].linkname.startswith("/nix/store")
    ),
    "passthru": lambda built: built.index["images"]["layered-options"]["passthru"] == {"extra": "passed"},
    "meta": lambda built: built.index["images"]["layered-options"]["description"] == "an image",
    "debug": lambda built: 'layeringPipeline = [["popularity_contest"]]' in built.warnings,
    "runAsRoot, what it links to": lambda built: "Hello" in built["made-reference"].text("hello"),
    "layers": lambda built: (
        [built["of-layers"].owner(str(n)) for n in (1, 2, 3)] == [f"{n}:0:644" for n in (1, 2, 3)]
        and len(built["of-layers"].blobs) == 4
    ),
    "isExe": lambda built: built.index["images"]["of-layers"]["isExe"] and not built.index["images"]["bash"]["isExe"],
    "layeringPipeline: popularity_contest, reverse, limit_layers": lambda built: (
        [min(store_paths(layer), 2) for layer in built["pipeline-popularity"].layers] == [1, 1, 2, 0]
        and "hello" in {name.split("/")[2][33:] for name in built["pipeline-popularity"].layers[0] if name.count("/") == 2}
    ),
    "layeringPipeline: split_paths, over, pipe, subcomponent_in, flatten, map, remove_paths": lambda built: (
        not any(name.startswith("coreutils") for name in built["pipeline-split"].store)
        and store_paths(built["pipeline-split"].layers[0]) == 1
    ),
    "layeringPipeline: subcomponent_out, split_every": lambda built: (
        store_paths(built["pipeline-out"].layers[0]) > 2 and {store_paths(one) for one in built["pipeline-out"].layers[1:-1]} <= {1, 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_each_argument_has_its_effect(built: Built, argument: str) -> None:
    """Each argument of dockerTools does in the image what it does there."""
    assert ARGUMENTS[argument](built)


WRONG = {
    "both contents and copyToRoot": 'ours.buildImage { name = "x"; contents = pkgs.bash; copyToRoot = pkgs.bash; }',
    "must be greater than 1": 'ours.streamLayeredImage { name = "x"; maxLayers = 1; }',
    "compressor must be one of": 'ours.buildImage { name = "x"; compressor = "xz"; }',
    "unknown": 'ours.buildImage { name = "x"; unknown = 1; }',
    "uses __structuredAttrs": 'ours.streamNixShellImage { drv = pkgs.runCommand "x" { __structuredAttrs = true; } ""; }',
    "both command and run": 'ours.streamNixShellImage { drv = pkgs.runCommand "x" { } ""; command = "a"; run = "b"; }',
}


def test_wrong_arguments_are_refused(stores: list[Nix]) -> None:
    """What cannot be asked for is an error when it is evaluated."""
    for message, expression in WRONG.items():
        done = stores[0].run("nix-instantiate", "-E", nix_pkgs.LET + expression)
        assert done.status != 0, expression
        assert message in done.err


FAILS = {
    "of 2 layers 2 are taken": """
        ours.streamLayeredImage { name = "x"; maxLayers = 2; contents = [ pkgs.bash ];
          fromImage = ours.buildImage { name = "one"; compressor = "none"; }; }""",
    "there is no image absent:latest": """
        ours.streamImage { name = "x"; fromImageName = "absent"; fromImageTag = "latest";
          fromImage = ours.buildImage { name = "one"; tag = "latest"; compressor = "none"; }; }""",
    "config: there is no property 'Nothing'": 'ours.streamImage { name = "x"; config.Nothing = 1; }',
    "the script failed with exit status 3": 'ours.streamImage { name = "x"; runAsRoot = "exit 3"; }',
    "a script wished to change the store path's file": """
        ours.streamImage { name = "x"; runAsRoot = "chown 5 ${pkgs.bash}/bin/bash";
          fromImage = ours.buildImage { name = "bash"; copyToRoot = pkgs.bash; compressor = "none"; }; }""",
    "'yesterday' is not a time": 'ours.streamImage { name = "x"; created = "yesterday"; }',
}


def test_what_fails_says_why(stores: list[Nix]) -> None:
    """A build that cannot be done ends with a message, and leaves no output."""
    for message, expression in FAILS.items():
        done = stores[0].run("nix-build", "--no-out-link", "-E", nix_pkgs.LET + expression)
        assert done.status != 0, expression
        assert message in done.err
        assert "Traceback" not in done.err


# Archives, and who reads them


@pytest.mark.parametrize(
    ("name", "magic"),
    [("none", b"oci-"), ("gz", b"\x1f\x8b"), ("zstd", b"\x28\xb5\x2f\xfd"), ("layered-gz", b"\x1f\x8b"), ("layered-zstd", b"\x28\xb5\x2f\xfd")],
)  # fmt: skip
def test_an_archive_is_compressed_as_is_asked(built: Built, name: str, magic: bytes) -> None:
    """compressor says how the whole archive is compressed, gz by default, and skopeo finds the image in it."""
    archive = built.archive(name)
    assert archive.read_bytes()[:4].startswith(magic)
    assert {"none": ".tar", "gz": ".gz", "zstd": ".zst"}[name.rpartition("-")[2]] == archive.suffix
    plain = built.nix.user.home / f"{name}-plain.tar"
    plain.write_bytes(decompressed(archive))
    seen = built.myself.run(["skopeo", "inspect", "--config", f"docker-archive:{plain}"])
    assert seen.status == 0, seen.err


def decompressed(archive: Path) -> bytes:
    """Decompress an archive by the programs that everybody has."""
    data = archive.read_bytes()
    program = {b"\x1f\x8b": ["gzip", "-dc"], b"\x28\xb5": ["zstd", "-dc"]}.get(data[:2], ["cat"])
    return subprocess.run(program, input=data, check=True, capture_output=True).stdout


def test_archives_are_merged(built: Built) -> None:
    """Merged images are all there, by their names, in an archive that is compressed as the last of them."""
    for name, last in (("merged", b"\x28\xb5\x2f\xfd"), ("merged-archives", b"\x1f\x8b")):
        archive = built.archive(name)
        assert archive.read_bytes()[:4].startswith(last)
        unpacked = built.nix.user.home / f"{name}.tar"
        unpacked.write_bytes(decompressed(archive))
        with tarfile.open(unpacked) as tar:
            manifest = tar.extractfile("manifest.json")
            assert manifest is not None
            names = {row["RepoTags"][0].rpartition("/")[2] for row in json.load(manifest)}
            assert names == {"gz:latest", "none:latest", "zstd:latest"}


def test_an_image_is_exported_as_its_files(built: Built) -> None:
    """exportImage gives the root filesystem that the layers come to, with its owners."""
    with tarfile.open(built.archive("exported")) as tar:
        members = {member.name.removesuffix("/"): member for member in tar}
    redis = built["redis"]
    assert set(members) == set(redis.members)
    assert (members["data"].uid, members["data"].gid) == (999, 999)


def test_a_foreign_archive_is_built_upon(built: Built) -> None:
    """fromImage may be an archive that somebody else has made: runAsRoot sees it, and its layer's bytes are in the output."""
    with tarfile.open(built.archive("on-archive")) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        layers = json.load(manifest)[0]["Layers"]
        found = []
        for layer in layers:
            with tarfile.open(fileobj=tar.extractfile(layer)) as inner:
                found.append({member.name for member in inner})
    assert "text" in found[0]
    assert "copy" in found[1]


@pytest.fixture
def podman(built: Built) -> Iterator[Callable[..., Result]]:
    """podman with a storage of its own, where there is root."""
    if os.geteuid() != 0:
        pytest.skip("podman needs root, or ids of one's own in /etc/subuid")
    storage = tempfile.mkdtemp(prefix="p", dir=os.environ[PLACE])  # podman takes no long path
    user = built.myself

    def run(*words: str | Path) -> Result:
        # crun takes cgroups of version 2 alone, so that it is given nothing else to see.
        mounts = 'umount -lR /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
        alone = [
            "unshare",
            "--mount",
            "bash",
            "-ec",
            mounts,
            "-",
            "podman",
            "--root",
            f"{storage}/root",
            "--runroot",
            f"{storage}/run",
        ]
        return user.run([*alone, "--storage-driver", "vfs", *words])

    yield run
    remove(Path(storage))


def test_podman_runs_them(built: Built, podman: Callable[..., Result]) -> None:
    """podman loads the archives, compressed or not, and runs what is in them; a shell image builds its derivation."""
    options = ["--rm", "--network", "none", "--cgroups", "disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
    for name in ("gz", "zstd", "layered-gz"):
        loaded = podman("load", "-i", built.archive(name))
        assert loaded.status == 0, loaded.err
    said = podman("run", *options, "layered-gz", "/bin/busybox", "stat", "-c", "%u:%g:%a", "/bin", "/nix/store")
    assert said.out.split() == ["0:0:755", "0:0:755"], said.err
    one = Path(tempfile.mkdtemp(dir=built.nix.user.home / "tmp")) / "nix-shell.tar"
    made = built.myself.run(
        ["skopeo", "--insecure-policy", "copy", f"oci:{built.layout}:{built['nix-shell'].name}", f"docker-archive:{one}:shell:1"]
    )
    assert made.status == 0, made.err
    assert podman("load", "-i", one).status == 0
    said = podman("run", *options, "shell:1")
    assert said.out.splitlines() == ["value", "Hello, world!"], said.err


CHAIN = """
let
  link = fromImage: number: ours.streamImage {
    name = "link";
    tag = toString number;
    inherit fromImage;
    copyToRoot = if fromImage == null then pkgs.buildEnv { name = "root"; paths = [ pkgs.bash pkgs.coreutils ]; } else null;
    runAsRoot = ''
      head -c 1000000 /dev/zero | tr '\\0' '${toString number}' > /data-${toString number}
      chown ${toString number}:0 /data-${toString number}
      rm -f /data-before
      echo ${toString number} > /data-before
    '';
  };
in
map (image: image.rootlessImage) (builtins.tail (builtins.foldl' (links: number:
  links ++ [ (link (pkgs.lib.last links) number) ]) [ null ] (builtins.genList (number: number + 1) COUNT)))
"""


def test_each_image_of_a_chain_holds_what_its_script_made(built: Built) -> None:
    """Of images that are built one upon the other each output has its own script's files, and not those of the base."""
    count = 16 if EVERY else 4
    nix, images = built.nix, []
    for number in range(1, count + 1):
        began = time.monotonic()
        images = nix.build(CHAIN.replace("COUNT", str(number)))
        print(f"link {number}: {time.monotonic() - began:.2f} s")
    outputs = {path for image in images for path in nix.run("nix-store", "--query", "--requisites", image).out.split()}
    layers = {path for path in outputs if path.endswith("-docker-layer-link")}
    assert len(layers) == count
    for path in layers:
        files = [file.stat().st_size for file in nix.on_disk(path).glob("files/*")]
        assert len(files) == 2
        assert sum(files) < 1_000_010
        entries = nix.on_disk(f"{path}/layer.mtree").read_text().splitlines()
        assert sum("data-" in line for line in entries) == 2
        assert (len(entries) < 10) == ("/nix/store/" not in "".join(entries))
    assert sum("/nix/store/" not in nix.on_disk(f"{path}/layer.mtree").read_text() for path in layers) == count - 1
    for image in images:
        assert [file.name for file in nix.on_disk(image).iterdir()] == ["image.json"]
        assert nix.on_disk(f"{image}/image.json").stat().st_size < 1000 + 700 * count
    said = json.loads(nix.on_disk(f"{images[-1]}/image.json").read_bytes())
    assert len(said["layers"]) == count


# The Nix files themselves


def test_every_nix_file_is_well_formed(stores: list[Nix]) -> None:
    """Nix parses each of its files, and each block of Nix in docs/."""
    pages = "".join(page.read_text() for page in (HERE.parent / "docs").glob("*.md"))
    blocks = re.findall(r"^```nix\n(.*?)^```", pages, re.DOTALL | re.MULTILINE)
    assert len(blocks) > 2
    files = [*sorted(nix_pkgs.NIX_FILES.glob("*.nix")), *sorted((HERE / "nix").glob("*.nix"))]
    assert len(files) > 10
    for number, block in enumerate(blocks):
        file = stores[0].user.home / f"block-{number}.nix"
        file.write_text(block)
        files.append(file)
    for file in files:
        parsed = stores[0].run("nix-instantiate", "--parse", file)
        assert parsed.status == 0, parsed.err
    assert stat.S_ISREG((nix_pkgs.NIX_FILES / "hook.sh").stat().st_mode)
