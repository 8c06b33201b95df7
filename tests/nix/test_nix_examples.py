"""The functions of ``rootless_layer/nix``: every argument of dockerTools, and the meaning of nixpkgs' own examples.

All images are built by one ``nix-build``, in Nix's sandbox, and looked at as umoci unpacks them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from helpers.nix_images import Built, store_paths

pytestmark = pytest.mark.slow

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
        assert "Cmd" not in top.settings
        assert top.root.joinpath("example-output").is_dir()
        assert top.text("extraCommands") == "(extraCommand)\n"
        assert len(top.blobs) == len(image.blobs) + 1  # coreutils, which PATH names, is in the base
    assert built["layered-on-top"].owner("example-output") == "0:0:777"


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
def test_the_parents_variables_are_inherited(built: Built, example: str) -> None:
    """Variables of the parent are kept, and the child's take their place; as in nixpkgs all else is the child's own."""
    assert built[example].settings == {"Env": ["FROM_PARENT=true", "LAST_LAYER=child", "FROM_CHILD=true"]}
    assert "author" not in built[example].config


@pytest.mark.parametrize("example", ["config-inherited", "config-inherited-layered"])
def test_the_parents_config_is_inherited(built: Built, example: str) -> None:
    """With inheritConfig all else in the parent's config is inherited as well, as Docker's FROM does."""
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
    # The trees are nothing but links, which are in the image themselves.
    assert image.store & {"ca-certificates", "bin-sh", "usr-bin-env"} == set()
    assert len(image.blobs) == len(image.store) + 1


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


@pytest.mark.parametrize(
    ("example", "said"),
    [("nix-shell", ["value", "Hello, world!"]), ("nix-shell-structured", ["Hello, world!", "it's text,5,1,no,a b,a value,no"])],
)
def test_a_shell_image_builds_the_derivation(built: Built, example: str, said: list[str]) -> None:
    """The image's command builds the derivation in a container, with the attributes that Nix gives to its builder and no others."""
    image = built[example]
    variables = [pair for pair in image.settings["Env"] if not pair.startswith("PATH=")]
    assert {"args", "__ignoreNulls", "__structuredAttrs"}.isdisjoint(pair.partition("=")[0] for pair in variables)
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    inside = [*alone, "sh", "-ec", 'mkdir -p "$1/dev"; mount --rbind /dev "$1/dev"; exec chroot "$@"', "-", image.root]
    done = built.myself.run([*inside, "/usr/bin/env", "-i", "-C", "/build", *image.settings["Env"], *image.settings["Cmd"]])
    assert done.out.splitlines() == said, done.err


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
    "config, in forms of docker and of nixpkgs": lambda built: (
        built["config-forms"].settings
        == {
            "User": "1000", "WorkingDir": "/srv", "Cmd": ["sleep", "5"], "Entrypoint": ["/bin/entry"],
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            "Labels": {"number": "1", "yes": "true", "none": "", "text": "text"}, "Nothing": {"of": "ours"},
        }
        and "has a property 'Nothing'; it is kept" in built.warnings
    ),
    "architecture": lambda built: built["layered-options"].config["architecture"] == "riscv64",
    "architecture, this machine's": lambda built: built["bash"].config["architecture"] == "amd64",
    "uid, gid": lambda built: built["owned"].owner("etc/text") == "1001:1002:444",
    "uid, gid, layered": lambda built: (
        {(one.uid, one.gid) for one in built["layered-options"].layers[0].values() if one.name.count("/") > 1} == {(1001, 1002)}
    ),
    "uname, gname": lambda built: (
        {(one.uid, one.uname, one.gname) for one in built["layered-options"].members.values()}
        == {(0, "", ""), (1001, "someone", "somegroup")}
    ),
    "uname, gname, by default": lambda built: (
        {(one.uname, one.gname) for one in built["layered-image"].members.values()} == {("", "")}
    ),
    "created": lambda built: built["created"].config["created"] == "2024-05-06T05:08:09Z",
    "created, a date": lambda built: built["config-forms"].config["created"] == "2024-01-31T00:00:00Z",
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
    "layeringPipeline, a derivation": lambda built: [min(store_paths(one), 2) for one in built["pipeline-file"].layers] == [1, 2, 0],
    "layeringPipeline, a path": lambda built: (
        built["pipeline-path"].config["rootfs"]["diff_ids"][:-1] == built["pipeline-file"].config["rootfs"]["diff_ids"][:-1]
    ),
    "layeringPipeline: subcomponent_out, split_every": lambda built: (
        store_paths(built["pipeline-out"].layers[0]) > 2 and {store_paths(one) for one in built["pipeline-out"].layers[1:-1]} <= {1, 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_each_argument_has_its_effect(built: Built, argument: str) -> None:
    """Each argument of dockerTools does in the image what it does there."""
    assert ARGUMENTS[argument](built)
