"""The images of ``rootless_layer/nix``: the same whoever builds them, read by others, and errors that say why.

All images are built by one ``nix-build`` for each user, in Nix's sandbox, and podman runs some.
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
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from helpers import nix_pkgs
from helpers.effort import EVERY
from helpers.nix_images import EXAMPLES, Built
from helpers.nix_pkgs import Nix, fetch_nix, make_nix
from helpers.place import HERE, PLACE, remove
from helpers.users import Result, make_user

pytestmark = pytest.mark.slow

FEW = ("basis", "redis", "layered-with-fakechroot", "nginx", "owned", "nix", "of-layers", "no-tag-layered")
"""What the second user builds, where not everything is tested."""


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


# What cannot be done


WRONG = {
    "both contents and copyToRoot": 'ours.buildImage { name = "x"; contents = pkgs.bash; copyToRoot = pkgs.bash; }',
    "must be greater than 1": 'ours.streamLayeredImage { name = "x"; maxLayers = 1; }',
    "compressor must be one of": 'ours.buildImage { name = "x"; compressor = "xz"; }',
    "unknown": 'ours.buildImage { name = "x"; unknown = 1; }',
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
    "config: User is a string": 'ours.streamImage { name = "x"; config.User = [ ]; }',
    "the script failed with exit status 3": 'ours.streamImage { name = "x"; runAsRoot = "exit 3"; }',
    "a script wished to change the store path's file": """
        ours.streamImage { name = "x"; runAsRoot = "chown 5 ${pkgs.bash}/bin/bash";
          fromImage = ours.buildImage { name = "bash"; copyToRoot = pkgs.bash; compressor = "none"; }; }""",
    "bin/bash: a script wished to change": """
        ours.streamLayeredImage { name = "x"; contents = pkgs.bash; fakeRootCommands = "chown 5 bin/bash"; }""",
    "cp --remove-destination FILE PLACE": """
        ours.streamLayeredImage { name = "y"; contents = pkgs.bash; fakeRootCommands = "chown -RL 5:6 bin"; }""",
    "'the other day' is not a time": 'ours.streamImage { name = "x"; created = "the other day"; }',
    "'1706659200' is not a time": 'ours.streamLayeredImage { name = "x"; created = "1706659200"; }',
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
    one = Path(tempfile.mkdtemp(prefix="archive-", dir=built.nix.user.home)) / "nix-shell.tar"
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
