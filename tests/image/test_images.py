"""Images put together from layers and bases: read by the programs that people have, and the same every time."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.aftermath import CLOSED, FULL, assert_nothing_left, assert_said, until
from helpers.effort import PATIENT
from helpers.images import sha256
from helpers.place import PLACE, remove
from helpers.stores import Store, fingerprint, shared_store
from helpers.users import COMMAND, SOMEBODY, Result, User, good, make_user
from hypothesis import given, settings
from hypothesis import strategies as st

from rootless_layer.errors import InputError, RootlessLayerError
from rootless_layer.image.read import NamedImage, choose, read_images
from rootless_layer.image.write import write_docker_archive, write_layout
from rootless_layer.layer.blob import open_layer
from rootless_layer.oci.descriptor import Platform

pytestmark = pytest.mark.slow

REDIS = """\
groupadd -r redis
useradd -r -g redis -d /data -M redis
mkdir /data
chown redis:redis /data
chmod 2750 /data
mkdir -p /usr/local/bin
echo echo > /usr/local/bin/suid
chown redis:redis /usr/local/bin/suid
chmod 4755 /usr/local/bin/suid
"""
DERIVED = """\
mkdir -p srv
cp /bin/true srv/capable
/usr/sbin/setcap cap_net_raw+ep srv/capable
chown 33:44 srv
"""
LAYOUT_FILES = {"blobs", "index.json", "oci-layout"}


@attrs.frozen
class Made:
    """Layers that every test may put into an image, as directories that everybody may read."""

    store: Store
    redis: Path
    derived: Path

    @property
    def layers(self) -> list[str]:
        """The options that put both into an image."""
        return ["--layer", str(self.redis), "--layer", str(self.derived)]

    @property
    def options(self) -> list[str]:
        """The options of an image of both that runs."""
        programs = ":".join(f"{self.store.path(name)}/bin" for name in ("coreutils", "libcap2-bin"))
        return [
            *self.layers,
            "-t",
            "app:1",
            "--env",
            f"PATH=/bin:{programs}:{self.store.path('libcap2-bin')}/sbin",
            "--cmd",
            "bash",
        ]


@pytest.fixture(scope="session")
def made(shared: Path, accounts: Path) -> Iterator[Made]:
    """A layer of redis that is stored in gzip, and a derived one for the top of it."""
    user = make_user(shared, "somebody")
    store = shared_store("bash", "coreutils", "passwd", "libcap2-bin")
    contents = ["--copy-to-root", store.path("bash"), "--copy-to-root", accounts]
    script = ["--script", user.script(REDIS), "--compression", "gzip"]
    assert user.build(*store.options, *contents, *script, output="redis").status == 0
    derived = user.script("#!/bin/bash\nset -e\n" + DERIVED, "derive")
    options = ["--view", "directory", "--script", derived, "--blob", "derived", "--compression", "gzip"]
    assert user.build(*options, output="derived").status == 0
    yield Made(store, user.home / "redis", user.home / "derived")
    remove(user.home)


@pytest.fixture(scope="session")
def small(shared: Path) -> Iterator[list[str]]:
    """Two small layers, of which the first is derived, as the directories that they are in."""
    user = make_user(shared, "somebody")
    for name in ("one", "two"):
        (user.home / f"{name}-tree").mkdir()
        (user.home / f"{name}-tree" / name).write_text(name * 1000)
    assert user.build("--copy-to-root", user.home / "one-tree", "--blob", "derived", output="one").status == 0
    assert user.build("--copy-to-root", user.home / "two-tree", "--compression", "gzip", output="two").status == 0
    yield [str(user.home / "one"), str(user.home / "two")]
    remove(user.home)


def image(user: User, *words: str | Path, output: str = "image", **more: Any) -> Result:
    """Run ``rootless-layer image … -o HOME/output``."""
    return user.run(
        [*COMMAND, "image", "-o", user.home / output, *words], env={"MARK": str(user.home), **more.pop("env", {})}, **more
    )


def merge(user: User, *words: str | Path, output: str = "merged", **more: Any) -> Result:
    """Run ``rootless-layer merge … -o HOME/output``."""
    return user.run([*COMMAND, "merge", "-o", user.home / output, *words], env={"MARK": str(user.home)}, **more)


def blob_of(layout: Path, digest: str) -> Path:
    """Say where a blob of a layout lies."""
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")


def manifest_of(layout: Path, number: int = 0) -> dict[str, Any]:
    """Read a manifest of a layout."""
    index = json.loads((layout / "index.json").read_bytes())
    manifest: dict[str, Any] = json.loads(blob_of(layout, index["manifests"][number]["digest"]).read_bytes())
    return manifest


def config_of(layout: Path, number: int = 0) -> dict[str, Any]:
    """Read the config of an image in a layout."""
    config: dict[str, Any] = json.loads(blob_of(layout, manifest_of(layout, number)["config"]["digest"]).read_bytes())
    return config


def assert_layout_true(layout: Path) -> None:
    """Check every claim of a layout: each blob is what its name and its descriptor say, and no other is there."""
    assert set(os.listdir(layout)) == LAYOUT_FILES
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    named: dict[str, int] = {}
    for number, row in enumerate(json.loads((layout / "index.json").read_bytes())["manifests"]):
        manifest = manifest_of(layout, number)
        config = config_of(layout, number)
        for one in (row, manifest["config"], *manifest["layers"]):
            named[one["digest"]] = one["size"]
        plain = [sha256(unpacked(blob_of(layout, one["digest"]))) for one in manifest["layers"]]
        assert config["rootfs"] == {"type": "layers", "diff_ids": plain}
    there = {sha256(path.read_bytes()): path.stat().st_size for path in (layout / "blobs/sha256").iterdir()}
    assert there == named
    assert {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()} == set(named)


def unpacked(blob: Path) -> bytes:
    """Read a blob as the programs do that people have."""
    program = {b"\x1f\x8b": ["gzip", "-dc"], b"\x28\xb5": ["zstd", "-qdc"]}.get(blob.read_bytes()[:2])
    if program is None:
        return blob.read_bytes()
    with open(blob, "rb") as file:
        return subprocess.run(program, stdin=file, check=True, capture_output=True).stdout


def skopeo(user: User, *words: str | Path) -> Result:
    """Run skopeo without a policy, and without anybody's passwords."""
    (user.home / "auth.json").write_text("{}")
    command = ["skopeo", "--insecure-policy", "--tmpdir", user.home / "tmp", *words]
    return user.run(command, env={"REGISTRY_AUTH_FILE": f"{user.home}/auth.json"})


# Consumers


@attrs.frozen
class Podman:
    """podman with a storage of its own."""

    user: User
    storage: str

    def __call__(self, *words: str | Path, **more: Any) -> Result:
        """Run a command of podman's."""
        return self.user.run([*self.command(), *words], **more)

    def command(self) -> list[str]:
        """Begin a command line."""
        return ["podman", "--root", f"{self.storage}/root", "--runroot", f"{self.storage}/run", "--storage-driver", "vfs"]

    def says(self, name: str, script: str) -> list[str]:
        """Give the lines that a script prints in a container."""
        offline = ["--network", "none", "--cgroups", "disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
        # crun takes cgroups of version 2 alone, so that it is given nothing else to see.
        mounts = 'umount -lR /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
        alone = ["unshare", "--mount", "bash", "-ec", mounts, "-"]
        return good(
            self.user.run([*alone, *self.command(), "run", "--rm", *offline, name, "bash", "-c", script])
        ).out.splitlines()

    def forget(self) -> None:
        """Remove every image."""
        good(self("rmi", "--all", "--force"))


@pytest.fixture
def podman(users: list[User]) -> Iterator[Podman]:
    """podman, where there is root."""
    user = users[0]
    if not user.is_root:
        pytest.skip("podman needs root, or ids of one's own in /etc/subuid")
    storage = tempfile.mkdtemp(prefix="p", dir=os.environ[PLACE])  # podman takes no long path
    made = Podman(user, storage)
    yield made
    made("rm", "--all", "--force")
    made("rmi", "--all", "--force")
    remove(Path(storage))


LOOK = "id redis; stat -c %U:%G:%a /data /usr/local/bin/suid; stat -c %u:%g:%a /srv; getcap /srv/capable"
SEEN = [
    "uid=999(redis) gid=999(redis) groups=999(redis)",
    "redis:redis:2750",
    "redis:redis:4755",
    "33:44:755",
    "/srv/capable cap_net_raw=ep",
]


def test_podman_runs_an_archive(podman: Podman, made: Made) -> None:
    """podman loads the archive by its name, and owners, set-ID bits and capabilities of both layers are there."""
    good(image(podman.user, *made.options, output="app.tar"))
    good(podman("load", "-i", podman.user.home / "app.tar"))
    assert podman.says("app:1", LOOK) == SEEN


def test_podman_loads_from_a_pipe(podman: Podman, made: Made) -> None:
    """``rootless-layer image --closure … -o - | podman load`` loads an image of a closure that runs, as streamLayeredImage does."""
    line = 'set -o pipefail; "$@" | "${PODMAN[@]}" load'
    podman_array = f"PODMAN=({' '.join(podman.command())})\n"
    programs = ":".join(f"{made.store.path(name)}/bin" for name in ("bash", "coreutils"))
    layers = [*made.store.options, "--max-layers", "9", "--layer", str(made.derived)]
    options = [*layers, "-t", "app:1", "--env", f"PATH={programs}"]
    good(podman.user.run(["bash", "-c", podman_array + line, "-", *COMMAND, "image", *options, "-o", "-"]))
    listed = json.loads(good(podman("inspect", "app:1")).out)
    good(image(podman.user, *options))
    assert f"sha256:{listed[0]['Id']}" == manifest_of(podman.user.home / "image")["config"]["digest"]
    assert len(manifest_of(podman.user.home / "image")["layers"]) == 9
    assert podman.says("app:1", "stat -c %u:%g:%a /srv /nix/store; ls /nix/store | wc -l") == [
        "33:44:755",
        "0:0:755",
        str(len(made.store.paths)),
    ]


def test_podman_runs_a_docker_archive(podman: Podman, made: Made) -> None:
    """podman loads the docker-archive of the old shape, and sees the same in it."""
    good(image(podman.user, *made.options, "-f", "docker-archive", output="app.tar"))
    good(podman("load", "-i", podman.user.home / "app.tar"))
    assert podman.says("app:1", LOOK) == SEEN


@pytest.mark.parametrize("kind", ["layout", "archive", "docker-archive"])
def test_skopeo_copies_everywhere(user: User, small: list[str], kind: str) -> None:
    """skopeo copies an image of each format to each of its own, with the config's bytes; docker's to OCI's with its meaning."""
    options = ["-t", "app:1", *(word for folder in small for word in ("--layer", folder))]
    good(image(user, *options))
    config = blob_of(user.home / "image", manifest_of(user.home / "image")["config"]["digest"]).read_bytes()
    good(image(user, *options, "-f", kind, output="given"))
    where = user.home / "given"
    sources = {
        "layout": [f"oci:{where}:app:1"],
        "archive": [f"oci-archive:{where}:app:1", f"docker-archive:{where}:app:1", f"docker-archive:{where}"],
        "docker-archive": [f"docker-archive:{where}:app:1"],
    }[kind]
    for number, source in enumerate(sources):
        for transport in ("oci", "oci-archive", "docker-archive", "dir"):
            target = f"{transport}:{user.home}/{transport}-{number}" + ("" if transport == "dir" else ":app:1")
            good(skopeo(user, "copy", source, target))
            copied = good(skopeo(user, "inspect", "--config", "--raw", target)).out.encode()
            if source.startswith("docker") and transport.startswith("oci"):
                assert json.loads(copied) == json.loads(config)
            else:
                assert copied == config


@pytest.fixture
def registry(users: list[User]) -> Iterator[str]:
    """A registry on this machine: its host and port."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    user = users[-1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": f"{user.home}/registry"}}, "http": {"addr": where}}
    (user.home / "registry.json").write_text(json.dumps(config))
    server = user.start([program, "serve", user.home / "registry.json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: answers(where) or server.poll() is not None)
        assert server.poll() is None
        yield where
    finally:
        server.terminate()
        server.wait()


def answers(where: str) -> bool:
    """Say whether something listens at a host and port."""
    host, _, port = where.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
        return True
    return False


def test_a_registry_takes_and_gives_the_image(users: list[User], made: Made, registry: str) -> None:
    """A registry keeps the manifest's bytes, and what comes back from it is the layout's blobs."""
    user = users[-1]
    digest = good(image(user, *made.options)).out.strip()
    where = f"docker://{registry}/app:1"
    good(skopeo(user, "copy", "--dest-tls-verify=false", f"oci:{user.home}/image:app:1", where))
    assert sha256(good(skopeo(user, "inspect", "--tls-verify=false", "--raw", where)).out.encode()) == digest
    good(skopeo(user, "copy", "--src-tls-verify=false", where, f"oci:{user.home}/again:app:1"))
    assert fingerprint_of_blobs(user.home / "again") == fingerprint_of_blobs(user.home / "image")


def fingerprint_of_blobs(layout: Path) -> dict[str, str]:
    """Give the digest of each blob by its name."""
    return {path.name: sha256(path.read_bytes()) for path in (layout / "blobs/sha256").iterdir()}


def test_umoci_unpacks_the_image(user: User, made: Made) -> None:
    """umoci unpacks both layers, for root with their owners and without privilege too."""
    good(image(user, *made.options))
    assert_layout_true(user.home / "image")
    rootless = [] if user.is_root else ["--rootless"]
    good(user.run(["umoci", "unpack", *rootless, "--image", f"{user.home}/image:app:1", user.home / "bundle"]))
    root = user.home / "bundle/rootfs"
    assert "redis:x:" in (root / "etc/passwd").read_text()
    if user.is_root:
        assert [((root / name).stat().st_uid, (root / name).stat().st_gid) for name in ("data", "srv")] == [(999, 999), (33, 44)]
        assert os.getxattr(root / "srv/capable", "security.capability")


def test_oci_image_tool_finds_nothing_wrong(user: User, small: list[str]) -> None:
    """oci-image-tool validates the layout."""
    if shutil.which("oci-image-tool") is None:
        pytest.skip("oci-image-tool is not installed")
    good(image(user, "--layer", small[1], "-t", "app"))
    good(user.run(["oci-image-tool", "validate", "--type", "image", "--ref", "name=app:latest", user.home / "image"]))


def test_stored_blobs_are_linked_into_a_layout(user: User, small: list[str]) -> None:
    """A layout next to the layer's directory has its blob as a hard link: it costs no disk; a derived one is written."""
    tree = Path(small[1]).parent / "two-tree"
    layer = user.build("--copy-to-root", tree).layer
    good(image(user, "--layer", user.home / "layer", "--layer", small[0]))
    assert_layout_true(user.home / "image")
    blob = blob_of(user.home / "image", layer["digest"])
    assert blob.samefile(blob_of(user.home / "layer", layer["digest"]))
    assert blob_of(user.home / "image", manifest_of(user.home / "image")["layers"][1]["digest"]).stat().st_nlink == 1


# Config


def config_by(user: User, *words: str | Path, **more: Any) -> dict[str, Any]:
    """Make an image and give its config."""
    good(image(user, *words, **more))
    return config_of(user.home / "image")


FLAGS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "env": (["--env", "A=1", "--env", "B=", "--env", "A=2=3"], {"Env": ["A=2=3", "B="]}),
    "entrypoint": (["--entrypoint", '["/bin/sh", "-c"]'], {"Entrypoint": ["/bin/sh", "-c"]}),
    "entrypoint-word": (["--entrypoint", "/bin/a"], {"Entrypoint": ["/bin/a"]}),
    "cmd": (["--cmd", "[]"], {"Cmd": []}),
    "user": (["--user", "33:44"], {"User": "33:44"}),
    "workdir": (["--workdir", "/srv"], {"WorkingDir": "/srv"}),
    "expose": (
        ["--expose", "80", "--expose", "53/UDP", "--expose", "8000-8001"],
        {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}},
    ),
    "volume": (["--volume", "/a", "--volume", "/b"], {"Volumes": {"/a": {}, "/b": {}}}),
    "label": (["--label", "a=b=c", "--label", "é= x"], {"Labels": {"a": "b=c", "é": " x"}}),
    "stop-signal": (["--stop-signal", "SIGQUIT"], {"StopSignal": "SIGQUIT"}),
    "config": (
        ["--config", '{"Healthcheck": {"Test": ["NONE"]}, "Tty": true}'],
        {"Healthcheck": {"Test": ["NONE"]}, "Tty": True},
    ),
}


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_each_flag_sets_its_property(users: list[User], small: list[str], name: str) -> None:
    """Each option stands in the config under the name that image-spec gives it, and nothing else does."""
    words, expected = FLAGS[name]
    assert config_by(users[-1], "--layer", small[1], *words)["config"] == expected


def test_config_files_and_flags_are_merged_in_order(users: list[User], small: list[str]) -> None:
    """Of several --config the last wins, flags win over them all, and null takes away what stood there before."""
    user = users[-1]
    whole = {
        "rootfs": {"type": "layers", "diff_ids": []},
        "os": "plan9",
        "config": {"Env": ["A=1", "B=1"], "Cmd": ["a"], "User": "u"},
    }
    (user.home / "whole.json").write_text(json.dumps(whole))
    given = ["--config", "whole.json", "--config", '{"Env": ["B=2", "C=2"], "User": null, "Cmd": ["b"]}', "--env", "C=3"]
    config = config_by(user, "--layer", small[1], *given)
    assert config["config"] == {"Env": ["A=1", "B=2", "C=3"], "Cmd": ["b"]}
    assert config["os"] == "linux"


BASE = {
    "architecture": "amd64", "os": "linux", "created": "2020-02-02T02:02:02.123456789Z", "author": "before",
    "config": {
        "Env": ["PATH=/bin", "A=base"], "Labels": {"a": "base", "b": "base"}, "ExposedPorts": {"1/tcp": {}}, "Volumes": {"/a": {}},
        "Cmd": ["base"], "User": "base", "Entrypoint": None, "Unknown": {"deep": [1, 2.5, "é\x00", None]}, "OnBuild": None,
    },
    "history": [{"created": "2020-02-02T02:02:02Z", "created_by": "base", "comment": "x"}, {"empty_layer": True, "created_by": "ENV"}],
    "rootfs": {"type": "layers", "diff_ids": []}, "os.version": "10.0", "moby.buildkit": {"big": 12345678901234567890, "list": []},
    "container_config": {"Image": "sha256:x"},
}  # fmt: skip
"""A config with what docker writes beside image-spec's properties."""


def layout_of(folder: Path, config: object, layers: list[bytes], **more: Any) -> Path:
    """Write an image layout by hand, with plain layers."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        (folder / "blobs/sha256" / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": sha256(data), "size": len(data)}

    if isinstance(config, dict) and "diff_ids" in (config.get("rootfs") or {}):
        config = config | {"rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}}
    manifest = {
        "schemaVersion": 2,
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(layer, "layer.v1.tar") for layer in layers],
    }
    row = put(json.dumps(manifest | more).encode(), "manifest.v1+json")
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [row]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def tar_of(**files: bytes) -> bytes:
    """Make a tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def test_properties_are_merged_over_the_bases(users: list[User], small: list[str]) -> None:
    """Variables, labels, ports and volumes join the base's, other properties replace them, and all else stays."""
    user = users[-1]
    base = layout_of(user.home / "base", BASE, [tar_of(a=b"a")])
    words = ["--env", "A=new", "--env", "Z=1", "--label", "b=new", "--expose", "2", "--volume", "/b", "--cmd", "new"]
    words += ["--config", '{"User": null}', "--author", "after", "--created", "1700000000", "--layer", small[1]]
    config = config_by(user, "--base", base, "--platform", "linux/amd64", *words)
    inner = config.pop("config")
    assert inner == {
        "Env": ["PATH=/bin", "A=new", "Z=1"], "Labels": {"a": "base", "b": "new"}, "ExposedPorts": {"1/tcp": {}, "2/tcp": {}},
        "Volumes": {"/a": {}, "/b": {}}, "Cmd": ["new"], "Entrypoint": None, "Unknown": BASE["config"]["Unknown"], "OnBuild": None,
    }  # fmt: skip
    diff_ids = [sha256(tar_of(a=b"a")), json.loads(Path(small[1], "layer.json").read_bytes())["diffId"]]
    row = {"created": "2023-11-14T22:13:20Z", "created_by": "rootless-layer build"}
    assert config.pop("history") == [*BASE["history"], row]
    assert config.pop("rootfs") == {"type": "layers", "diff_ids": diff_ids}
    assert (config.pop("created"), config.pop("author")) == ("2023-11-14T22:13:20Z", "after")
    assert config == {name: value for name, value in BASE.items() if name in config}
    assert "moby.buildkit" in config


@pytest.mark.parametrize("history", [None, [], [{"empty_layer": True}], [{"created_by": "one"}]])
def test_the_history_has_a_row_for_each_layer(users: list[User], small: list[str], history: list[dict[str, Any]] | None) -> None:
    """A base without a history, or with too short a one, gets the rows that readers count."""
    user = users[-1]
    config = {**BASE, "history": history}
    base = layout_of(user.home / "base", config, [tar_of(a=b"a"), tar_of(b=b"b")])
    good(image(user, "--base", base, "--platform", "linux/amd64", "--layer", small[0]))
    rows = config_of(user.home / "image")["history"]
    assert rows[: len(history or ())] == (history or [])
    assert sum(not row.get("empty_layer") for row in rows) == 3
    assert_layout_true(user.home / "image")


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        (["--created", "2026-01-31T13:00:00+01:00"], "2026-01-31T12:00:00Z"),
        (["--created", "0"], "1970-01-01T00:00:00Z"),
        (["--created", "0001-01-01"], "0001-01-01T00:00:00Z"),
        ([], "1970-01-01T00:00:05Z"),
    ],
)
def test_when_it_was_created(users: list[User], small: list[str], given_: list[str], written: str) -> None:
    """The image and its new layers were created when --created says, else at SOURCE_DATE_EPOCH."""
    config = config_by(users[-1], "--layer", small[0], *given_, env={"SOURCE_DATE_EPOCH": "5"})
    assert (config["created"], config["history"][0]["created"]) == (written, written)


def test_an_image_is_for_a_platform(users: list[User], small: list[str]) -> None:
    """--platform says what an image is for that has no base, or a layer's directory for one."""
    for words in (["--layer", small[0]], ["--base", small[0]]):
        config = config_by(users[-1], *words, "--platform", "linux/arm/v7")
        assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")


WRONG = {
    "Unknown": 1, "env": [], "Env": ["A"], "Cmd": "word", "Entrypoint": [1], "Labels": {"a": 1}, "Volumes": ["/a"],
    "ExposedPorts": {"80/tcp": None}, "Memory": True, "User": 0, "Tty": "yes", "StopTimeout": 1.5, "Healthcheck": [],
}  # fmt: skip


def test_all_wrong_properties_are_said_at_once(users: list[User]) -> None:
    """Unknown and ill-typed properties, of every --config and flag, are one error that lists them all: 65."""
    user = users[-1]
    half = len(WRONG) // 2
    parts = [dict(list(WRONG.items())[:half]), dict(list(WRONG.items())[half:])]
    words = [word for part in parts for word in ("--config", json.dumps(part))]
    result = image(user, *words, "--env", "no-value")
    assert_said(result, 65, "'no-value' is not NAME=VALUE", "The properties are User, ", *(rf"\b{name}\b" for name in WRONG))
    assert len(result.err.splitlines()) == len(WRONG) + 2
    assert_nothing_left(user)
    assert not (user.home / "image").exists()


@pytest.mark.parametrize("text", ["{", '{"Memory": NaN}', '{"Memory": 1e999}', '{"User": "\\ud800"}', "absent.json", "latin.json",
                                  '{"Healthcheck": ' + '{"a":' * 300 + "1" + "}" * 301, '{"rootfs": {}, "config": 5}',
                                  '{"Healthcheck": ' + "[" * 100_000, '{"Memory": ' + "9" * 5000 + "}"])  # fmt: skip
def test_a_config_that_is_none(users: list[User], text: str) -> None:
    """What is no JSON, or none that can be written again, is an error: 65, or 66 where the file is not there."""
    user = users[-1]
    (user.home / "latin.json").write_bytes(b'{"User": "\xff"}')
    assert_said(image(user, "--config", text), 66 if text == "absent.json" else 65, "config|Memory|User|Healthcheck|json|JSON")
    assert not (user.home / "image").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--env", os.fsdecode(b"A=\xff")],
        ["--label", os.fsdecode(b"\xff=a")],
        ["--author", os.fsdecode(b"\xff")],
        ["--entrypoint", "[1]"],
        ["-t", "Upper"],
        ["-t", "a//b"],
        ["-t", "a:b:c"],
        ["-t", ".a"],
        ["-t", "a:"],
        ["-t", "a\n"],
        ["-t", "UPPER/x"],
        ["-t", f"{'a' * 256}:1"],
        ["-t", f"a:{'1' * 129}"],
        ["--platform", "linux//v8"],
        ["--platform", "foo"],
        ["--platform", "linux/amd64/v8/x"],
        ["--expose", "abc"],
        ["--expose", "99999"],
        ["--workdir", "srv"],
        ["--volume", "data"],
        ["--stop-signal", "SIGFOO"],
        ["--user", "a:b:c"],
        ["--env", "=x"],
        ["--label", "=x"],
    ],
)
def test_words_that_no_image_can_have(users: list[User], small: list[str], words: list[str]) -> None:
    """What no image can have is a wrong argument as it is written: 2."""
    assert_said(image(users[-1], "--layer", small[1], *words), 2)


def test_arguments_that_cannot_be(users: list[User]) -> None:
    """A time that is none, a layout for stdout, and JSON beside an archive are wrong arguments: 2."""
    for words in (["--created", "soon"], ["--created", "9" * 30], ["--cmd", "[1"], ["--cmd", "echo hi"], ["--entrypoint", ""]):
        assert_said(image(users[-1], *words), 2, words[0])
    assert_said(users[-1].run([*COMMAND, "image", "--layer", "x", "-o", "-", "-f", "layout"]), 2, "--format")
    assert_said(users[-1].run([*COMMAND, "image", "--layer", "x", "-o", "-", "--json"]), 2, "--json")


# Bases


@attrs.frozen
class Base:
    """An image to build upon: its path, with a name behind a # where there is one, and its layers' diff IDs."""

    path: str
    diff_ids: list[str]


def diff_ids_of(layers: list[str]) -> list[str]:
    """Give the diff IDs of layers' directories."""
    return [json.loads(Path(folder, "layer.json").read_bytes())["diffId"] for folder in layers]


def old_docker_archive(path: Path, layers: list[bytes], tag: str) -> Path:
    """Write what ``docker save`` wrote of old: a layer that is there twice is a link the second time."""
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": ["A=docker"]}, "docker_version": "1.10",
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
    }  # fmt: skip
    first: dict[bytes, str] = {}
    with tarfile.open(path, "w") as archive:

        def put(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        for number, layer in enumerate(layers):
            folder = tarfile.TarInfo(f"{number:064x}/")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            put(f"{number:064x}/VERSION", b"1.0")
            if layer in first:
                link = tarfile.TarInfo(f"{number:064x}/layer.tar")
                link.type, link.linkname = tarfile.SYMTYPE, f"../{first[layer]}/layer.tar"
                archive.addfile(link)
            else:
                put(f"{number:064x}/layer.tar", layer)
                first[layer] = f"{number:064x}"
        put("config.json", json.dumps(config).encode())
        put("repositories", b"{}")
        names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
        put("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).encode())
    return path


def make_base(user: User, kind: str, small: list[str]) -> Base:
    """Make a base in one of the forms in which images come."""
    home = user.home
    options = [word for folder in small for word in ("--layer", folder)] + ["-t", "base:1", "--platform", "linux/amd64"]
    mine = diff_ids_of(small)
    if kind == "old docker-archive":
        layers = [tar_of(a=b"a"), tar_of(b=b"b"), tar_of(a=b"a")]
        return Base(f"{old_docker_archive(home / 'old.tar', layers, 'base:1')}#base:1", [sha256(layer) for layer in layers])
    if kind == "layer":
        return Base(small[1], mine[1:])
    if kind == "umoci":
        good(user.run(["umoci", "init", "--layout", home / "umoci"]))
        good(user.run(["umoci", "new", "--image", f"{home}/umoci:1"]))
        for number in range(3):
            (home / f"file{number}").write_text(str(number))
            good(user.run(["umoci", "insert", "--image", f"{home}/umoci:1", home / f"file{number}", f"/file{number}"]))
        return Base(f"{home}/umoci#1", config_of(home / "umoci")["rootfs"]["diff_ids"])
    form = "layout" if kind == "skopeo" else kind.removesuffix(" in gzip").removesuffix(" in zstd")
    good(image(user, *options, "-f", form, output="base"))
    if kind == "skopeo":
        good(skopeo(user, "copy", f"oci:{home}/base:base:1", f"oci:{home}/copied:tag"))
        return Base(f"{home}/copied#tag", mine)
    for suffix, program in (("gzip", ["gzip"]), ("zstd", ["zstd", "-q", "--rm"])):
        if kind.endswith(f"in {suffix}"):
            good(user.run([*program, home / "base"]))
            return Base(str(next(home.glob("base.*"))), mine)
    return Base(f"{home}/base#base:1", mine)


@pytest.mark.parametrize(
    "kind",
    ["layout", "archive", "archive in gzip", "archive in zstd", "docker-archive", "docker-archive in gzip", "old docker-archive",
     "skopeo", "umoci", "layer"],
)  # fmt: skip
def test_a_base_of_every_form(user: User, small: list[str], kind: str) -> None:
    """A base may be of any form and by any program; its layers are below the new one, with the same bytes."""
    base = make_base(user, kind, small)
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "new").write_text("new")
    assert user.build("--copy-to-root", tree, output="new").status == 0
    good(image(user, "--base", base.path, "--platform", "linux/amd64", "--layer", user.home / "new", "-t", "new"))
    assert_layout_true(user.home / "image")
    assert config_of(user.home / "image")["rootfs"]["diff_ids"] == [*base.diff_ids, *diff_ids_of([str(user.home / "new")])]
    config = config_of(user.home / "image")
    assert sum(not row.get("empty_layer") for row in config["history"]) == len(base.diff_ids) + 1
    for form in ("archive", "docker-archive"):
        good(image(user, "--base", base.path, "--platform", "linux/amd64", "--layer", user.home / "new", "-f", form, output=form))
        again = good(skopeo(user, "inspect", "--config", "--raw", f"docker-archive:{user.home}/{form}")).out
        assert json.loads(again) == config
    assert_nothing_left(user)


def test_a_base_by_buildah(podman: Podman, small: list[str]) -> None:
    """An image that buildah added a layer to is a base, with buildah's variables and labels."""
    user = podman.user
    storage = [word.replace(podman.storage, f"{podman.storage}/buildah") for word in podman.command()[1:]]
    buildah = ["buildah", *storage]
    good(image(user, "--layer", small[0], "-t", "base:1", output="base.tar"))
    good(user.run([*buildah, "pull", "--policy", "never", f"oci-archive:{user.home}/base.tar"]))
    container = good(user.run([*buildah, "from", "--pull-never", "base:1"])).out.strip()
    (user.home / "file").write_text("file")
    good(user.run([*buildah, "add", container, user.home / "file", "/file"]))
    good(user.run([*buildah, "config", "--env", "A=buildah", "--label", "b=buildah", container]))
    good(user.run([*buildah, "commit", "--rm", container, f"oci-archive:{user.home}/committed.tar:base:2"]))
    good(image(user, "--base", user.home / "committed.tar", "--layer", small[1], "--env", "B=1"))
    assert_layout_true(user.home / "image")
    config = config_of(user.home / "image")
    assert len(config["rootfs"]["diff_ids"]) == 3
    assert (config["config"]["Env"], config["config"]["Labels"]["b"]) == (["A=buildah", "B=1"], "buildah")


PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7")


def many_platforms(user: User, small: list[str]) -> Path:
    """Merge images for several platforms into one."""
    for platform in PLATFORMS:
        made = platform.replace("/", "-")
        good(image(user, "--layer", small[1], "--env", f"FOR={platform}", "--platform", platform, "-t", f"{made}:1", output=made))
    good(merge(user, *(user.home / platform.replace("/", "-") for platform in PLATFORMS), "--index", "many:1"))
    return user.home / "merged"


def test_a_base_for_several_platforms(users: list[User], small: list[str]) -> None:
    """Of an image for several platforms --platform chooses, else the machine does; what is not there is told with what is."""
    user = users[-1]
    many = many_platforms(user, small)
    for platform in PLATFORMS:
        assert config_by(user, "--base", many, "--platform", platform)["config"]["Env"] == [f"FOR={platform}"]
    assert config_by(user, "--base", many, "--platform", "arm64")["config"]["Env"] == ["FOR=linux/arm64"]
    assert config_by(user, "--base", many, "--platform", "linux/arm64/v8")["config"]["Env"] == ["FOR=linux/arm64"]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    assert config_by(user, "--base", many)["config"]["Env"] == [f"FOR=linux/{machine}"]
    there = [rf"\({platform}\)" for platform in PLATFORMS]
    assert_said(
        image(user, "--base", many, "--platform", "linux/s390x"), 65, str(many), "there is no image for linux/s390x", *there
    )
    assert_said(image(user, "--base", many, "--platform", "linux/arm"), 65, str(many), "several images are", *there)
    assert_said(image(user, "--base", f"{many}#other", "--platform", "arm64"), 65, "no other for linux/arm64", "many:1")


def test_one_of_several_names(users: list[User], small: list[str]) -> None:
    """The name behind a # chooses, with or without its registry, and whatever the archive is."""
    user = users[-1]
    for name in ("one", "two"):
        good(
            image(
                user,
                "--layer",
                small[1],
                "--env",
                f"A={name}",
                "-t",
                f"{name}:1",
                "-t",
                f"localhost:5000/x/{name}:2",
                output=name,
            )
        )
    for kind in ("layout", "archive", "docker-archive"):
        good(merge(user, user.home / "one", user.home / "two", "-f", kind, output=kind))
        for wanted in ("two:1", "docker.io/library/two:1", "localhost:5000/x/two:2"):
            assert config_by(user, "--base", f"{user.home}/{kind}#{wanted}")["config"]["Env"] == ["A=two"]
        for wanted in ("", "#1", "#three", "#localhost:5000/x/two"):
            assert_said(image(user, "--base", f"{user.home}/{kind}{wanted}"), 65, kind, "one:1", "localhost:5000/x/two:2")


def test_half_a_name_is_kept_as_it_is(users: list[User], small: list[str]) -> None:
    """A tag without a name, as skopeo writes it, stays in a layout, and is nothing that docker reads."""
    user = users[-1]
    good(image(user, "--layer", small[1], "-t", "one:1"))
    good(skopeo(user, "copy", f"oci:{user.home}/image:one:1", f"oci:{user.home}/copied:latest"))
    good(merge(user, f"{user.home}/copied#latest", output="merged.tar"))
    copied = good(skopeo(user, "copy", f"oci-archive:{user.home}/merged.tar:latest", f"dir:{user.home}/one"))
    assert copied.err == ""
    with tarfile.open(user.home / "merged.tar") as archive:
        assert json.load(archive.extractfile("manifest.json") or io.BytesIO())[0]["RepoTags"] == []


# Reproducible


SURROUNDINGS: list[dict[str, str]] = [
    {"LC_ALL": "C", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "1"},
    {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "2", "LANG": "tr_TR.UTF-8"},
]


def test_everybody_makes_the_same_bytes(users: list[User], small: list[str]) -> None:
    """Root and somebody, with any umask, locale, time zone and directory, write the same image in each format."""
    (users[-1].home / "é").mkdir()
    options = ["--label", "é=ü", "--expose", "80", "--expose", "443", "--created", "2026-01-31T12:00:00", "-t", "a:1"]
    options += [word for folder in small for word in ("--layer", folder)]
    seen: dict[str, set[str]] = {}
    for number, user in enumerate(users + users):
        for kind in ("layout", "archive", "docker-archive"):
            output = f"{kind}-{number}"
            more = {"env": SURROUNDINGS[number % 2], "umask": (0o022, 0o077, 0o777, 0)[number], "cwd": users[-1].home / "é"}
            good(image(user, *options, "-f", kind, output=output, **more))
            path = user.home / output
            files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
            said = [(str(one.relative_to(path)), sha256(one.read_bytes())) for one in files]
            seen.setdefault(kind, set()).add(json.dumps(said))
            assert all(one.stat().st_mode & 0o600 == 0o600 for one in files if one.stat().st_uid != 0 or user.is_root)
    assert {kind: len(made) for kind, made in seen.items()} == {"layout": 1, "archive": 1, "docker-archive": 1}


@pytest.mark.parametrize("kind", ["archive", "docker-archive"])
def test_a_stream_is_the_files_bytes(user: User, made: Made, kind: str) -> None:
    """What goes to stdout is what the file would hold, and stderr stays empty."""
    good(image(user, *made.options, "-f", kind, output="app.tar"))
    with open(user.home / "streamed", "wb") as file:
        process = user.start([*COMMAND, "image", *made.options, "-f", kind, "-o", "-"], stdout=file, stderr=subprocess.PIPE)
        assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert (user.home / "streamed").read_bytes() == (user.home / "app.tar").read_bytes()


def test_json_says_what_was_written(users: list[User], small: list[str]) -> None:
    """--json gives the digests, names, platforms and layers; without it stdout has the manifest's digest."""
    user = users[-1]
    options = ["--layer", small[1], "-t", "a", "-t", "b:2", "-t", "a:latest", "--platform", "linux/arm/v7"]
    digest = good(image(user, *options)).out.strip()
    said = json.loads(good(image(user, *options, "--json")).out)
    layers = [one | {"diffId": diff_ids_of(small)[1]} for one in manifest_of(user.home / "image")["layers"]]
    assert said == [{"manifestDigest": digest, "names": ["a:latest", "b:2"], "platform": "linux/arm/v7", "layers": layers}]
    assert sha256(blob_of(user.home / "image", digest).read_bytes()) == digest


def test_an_earlier_layout_is_replaced(user: User, small: list[str]) -> None:
    """A layout takes the place of an earlier one, even of its own base, and an archive that of a file."""
    good(image(user, "--layer", small[0]))
    good(image(user, "--base", user.home / "image", "--layer", small[1]))
    assert_layout_true(user.home / "image")
    assert config_of(user.home / "image")["rootfs"]["diff_ids"] == diff_ids_of(small)
    good(image(user, "--base", user.home / "image", output="image.tar"))
    good(image(user, "--base", user.home / "image.tar", "--layer", small[1], output="image.tar"))
    good(image(user, "--base", user.home / "image.tar", output="again"))
    assert config_of(user.home / "again")["rootfs"]["diff_ids"] == [*diff_ids_of(small), *diff_ids_of(small)[1:]]
    assert_nothing_left(user)


# Several images


def test_podman_loads_several_images(podman: Podman, small: list[str]) -> None:
    """One archive of several images, of which one has two names: podman loads each by its names."""
    user = podman.user
    for name in ("one", "two"):
        options = ["--layer", small[0], "--layer", small[1], "--label", f"is={name}", "-t", f"{name}:1"]
        good(image(user, *options, *(["-t", "localhost/x/two:2"] if name == "two" else []), output=name))
    for kind in ("archive", "docker-archive"):
        good(merge(user, user.home / "one", user.home / "two", "-f", kind, output="all.tar"))
        good(podman("load", "-i", user.home / "all.tar"))
        for name, is_ in (("one:1", "one"), ("two:1", "two"), ("localhost/x/two:2", "two")):
            labels = json.loads(good(podman("inspect", name)).out)[0]["Labels"]
            assert labels == {"is": is_}
        podman.forget()


def test_an_index_for_several_platforms(user: User, small: list[str]) -> None:
    """Each platform's image is found in the index by skopeo, in a layout and in an archive, which are the same."""
    many = many_platforms(user, small)
    good(merge(user, f"{many}#many:1", "--index", "again", output="again.tar"))
    for where in (f"oci:{many}:many:1", f"oci-archive:{user.home}/again.tar:again:latest"):
        for platform in PLATFORMS:
            system, architecture, *variant = platform.split("/")
            override = ["--override-os", system, "--override-arch", architecture]
            override += ["--override-variant", variant[0]] if variant else []
            config = json.loads(good(skopeo(user, *override, "inspect", "--config", where)).out)
            assert config["config"]["Env"] == [f"FOR={platform}"]


def test_what_cannot_be_merged(users: list[User], small: list[str]) -> None:
    """Two images of one name, two for one platform, and an index in a docker-archive are errors that name them."""
    user = users[-1]
    for name in ("one", "two"):
        good(image(user, "--layer", small[1], "-t", "same:1", "--label", name, "-t", f"{name}:1", output=name))
    good(image(user, "--layer", small[1], "--platform", "linux/s390x", output="other"))
    both = [user.home / "one", user.home / "two"]
    for words, said, *status in (
        (both, ["same:1: several images have this name"]),
        ([*both, "--index", "a"], [f"{both[1]} and {both[0]}: both are for linux/"]),
        ([both[0], user.home / "other", "--index", "a", "-f", "docker-archive"], ["docker-archive"]),
        ([f"{both[0]}#absent"], ["one", "absent", "same:1"]),
        ([user.home / "absent"], ["absent"], 66),
        ([both[0], "--index", "A"], ["'A' is not the name"], 2),
    ):
        assert_said(merge(user, *words), *(status or [65]), *said)
        assert not (user.home / "merged").exists()
    assert_nothing_left(user)


# Bad input


def refused(user: User, base: str | Path, *said: str, status: int = 65, words: tuple[str, ...] = ()) -> None:
    """Check that a base is refused with words that name it, and that nothing is left of the attempt."""
    result = image(user, "--base", base, "--platform", "linux/amd64", *words, output="refused")
    assert_said(result, status, re.escape(str(base)), *said)
    assert not (user.home / "refused").exists()
    assert_nothing_left(user)


def attempt(path: Path, folder: Path) -> tuple[str, RootlessLayerError | None]:
    """Build upon a base in this process, to be quick: give the digest of its manifest, or the error, which names it."""
    remove(folder) if folder.exists() else None
    folder.mkdir()
    numbers = itertools.count()
    try:
        found = read_images(str(path), lambda: f"{folder}/{next(numbers)}")
        base = choose(found, str(path), Platform("linux", "amd64"))
        changed = base.configured({"Env": ["A=1"], "Labels": {"a": "b"}}).with_created("2020-01-01T00:00:00Z")
        (folder / "layout").mkdir()
        write_layout([NamedImage(changed, stored.names) for stored in found[:1]], folder / "layout")
        write_docker_archive([NamedImage(changed)], io.BytesIO())
    except RootlessLayerError as error:
        assert all(str(path) in problem for problem in error.problems), error
        return "", error
    assert_layout_true(folder / "layout")
    return base.manifest_digest, None


@pytest.fixture(scope="session")
def archives(shared: Path) -> Iterator[dict[str, bytes]]:
    """Images of two layers, as archives of each form."""
    user = make_user(shared, "somebody")
    base = old_docker_archive(user.home / "old.tar", [tar_of(a=b"a" * 600), tar_of(b=b"b"), tar_of(a=b"a" * 600)], "base:1")
    words = ["--base", base, "--platform", "linux/amd64", "-t", "base:1"]
    for kind in ("archive", "docker-archive"):
        good(image(user, *words, "-f", kind, output=kind))
    made = {"old": base.read_bytes(), **{kind: (user.home / kind).read_bytes() for kind in ("archive", "docker-archive")}}
    yield made | {"gzip": gzip.compress(made["archive"], mtime=0)}
    remove(user.home)


KINDS = ("archive", "docker-archive", "old", "gzip")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_archives(users: list[User], archives: dict[str, bytes], kind: str) -> None:
    """An archive that ends early is an error that names it, or ends behind all that there is of the image."""
    user, whole = users[0], archives[kind]
    path = user.home / "cut"
    path.write_bytes(whole)
    expected, error = attempt(path, user.home / "work")
    assert error is None
    lengths = [*range(0, len(whole), max(1, len(whole) // 60)), *(len(whole) - n for n in (1, 2, 8, 512, 1024, 1536, 2048))]
    outcomes = {}
    for length in lengths:
        path.write_bytes(whole[:length])
        digest, error = attempt(path, user.home / "work")
        assert error is not None or digest == expected
        outcomes[length] = error
    assert all(error is not None for length, error in outcomes.items() if length < len(whole) - 5 * 512)
    for length in (0, 1, 511, len(whole) // 2, int(len(whole) * 0.8)):
        path.write_bytes(whole[:length])
        refused(user, path)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes(users: list[User], archives: dict[str, bytes], kind: str) -> None:
    """A byte that changed in a layer or a document is an error, or changes nothing of the image."""
    user, whole = users[0], archives[kind]
    path = user.home / "flipped"
    path.write_bytes(whole)
    expected, _ = attempt(path, user.home / "work")
    positions = [position for position, byte in enumerate(whole) if byte]
    for position in random.Random(0).sample(positions, min(len(positions), 250)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        digest, error = attempt(path, user.home / "work")
        # The config of an old docker-archive is not named by its digest: only what it is for may be another.
        assert error is not None or digest == expected or kind == "old", position


def test_a_changed_blob_in_a_layout(user: User, small: list[str]) -> None:
    """A layout or a layer's directory whose blob is not what its digest says is refused, although it would be linked: 65."""
    tree = Path(small[1]).parent / "two-tree"
    layer = user.build("--copy-to-root", tree, "--compression", "gzip").layer
    good(image(user, "--layer", user.home / "layer", "--platform", "linux/amd64"))
    blob = blob_of(user.home / "image", layer["digest"])
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)  # it is a link of the layer's own
    for words in ((), ("-f", "archive"), ("-f", "docker-archive")):
        result = image(user, "--layer", user.home / "layer", *words, output="refused")
        assert_said(result, 65, re.escape(str(blob_of(user.home / "layer", layer["digest"]))))
        result = image(user, "--base", user.home / "image", "--platform", "linux/amd64", *words, output="refused")
        assert_said(result, 65, re.escape(str(blob)))
        assert not (user.home / "refused").exists()
    blob.write_bytes(data[:-1])
    assert_said(image(user, "--layer", user.home / "layer", output="refused"), 65, "should hold")
    refused(user, user.home / "image", "should have")
    blob.unlink()
    refused(user, user.home / "image", "missing")
    assert_nothing_left(user)


NO_JSON: list[bytes] = [
    b"", b"{", b"null", b"[]", b"0", b'"text"', b"true", b"{}", b"[null]", b"[[]]", b"[1]", b"\xff\xfe", b"NaN", b"9" * 5000, b"1e999",
    b"[" * 100_000, b'{"a":' * 100_000,
]  # fmt: skip
ODD_VALUES = [
    None,
    [],
    {},
    0,
    -1,
    1.5,
    "",
    "text",
    True,
    [None],
    [[]],
    {"a": None},
    10**30,
    "../../etc/passwd",
    "/etc/passwd",
    "a\0b",
    "\ud800",
]


@pytest.mark.parametrize("name", ["index.json", "manifest.json", "manifest", "config"])
def test_documents_that_are_none(users: list[User], name: str) -> None:
    """A document that is no JSON or another value than it should be is an error that names the image."""
    user = users[-1]
    for number, data in enumerate(NO_JSON):
        top = user.home / f"{name}-{number}"
        if name == "manifest.json":
            top.mkdir()
            (top / name).write_bytes(data)
        else:
            layout_of(top, BASE, [tar_of(a=b"a")])
            row = put(top, data, "config.v1+json" if name == "config" else "manifest.v1+json")
            if name == "config":
                row = put(top, json.dumps(manifest_of(top) | {"config": row}).encode(), "manifest.v1+json")
            index = json.dumps({"schemaVersion": 2, "manifests": [row]}).encode()
            (top / "index.json").write_bytes(data if name == "index.json" else index)
        assert attempt(top, user.home / "work")[1] is not None, data[:20]
        if number % 5 == 0:
            refused(user, top)


def put(layout: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Put a blob into a layout."""
    blob_of(layout, sha256(data)).write_bytes(data)
    return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": sha256(data), "size": len(data)}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the place of every value within a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Give a JSON value with another value at a place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def odd_values(document: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Give each place of a document with odd values for it: a third of them for each of config.md's many."""
    found = list(places(document))
    for number, path in enumerate(found):
        for value in ODD_VALUES[number % 3 :: 3] if len(found) > 20 else ODD_VALUES:
            yield path, value


def test_values_of_the_wrong_kind(users: list[User]) -> None:
    """Whatever stands for any value of any document, an image comes of it that is true, or an error that names the base."""
    user = users[-1]
    top = user.home / "layout"
    layers = [tar_of(a=b"a")]
    layout_of(top, BASE, layers)
    index = json.loads((top / "index.json").read_bytes())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "a:1"}
    manifest, config = manifest_of(top), config_of(top)
    docker = [{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}]
    archive = user.home / "docker"
    archive.mkdir()
    (archive / "layer.tar").write_bytes(layers[0])
    for path, value in odd_values(config):
        row = put(top, json.dumps(replaced(config, path, value)).encode(), "config.v1+json")
        row = put(top, json.dumps(manifest | {"config": row}).encode(), "manifest.v1+json")
        (top / "index.json").write_text(json.dumps(index | {"manifests": [row]}))
        attempt(top, user.home / "work")
    for path, value in odd_values(manifest):
        row = put(top, json.dumps(replaced(manifest, path, value)).encode(), "manifest.v1+json")
        (top / "index.json").write_text(json.dumps(index | {"manifests": [row]}))
        attempt(top, user.home / "work")
    for path, value in odd_values(index):
        (top / "index.json").write_text(json.dumps(replaced(index, path, value)))
        attempt(top, user.home / "work")
    (archive / "config.json").write_text(json.dumps(config))
    for path, value in odd_values(docker):
        (archive / "manifest.json").write_text(json.dumps(replaced(docker, path, value)))
        attempt(archive, user.home / "work")


def test_counts_that_do_not_agree(users: list[User], small: list[str]) -> None:
    """A manifest with more or fewer layers than its config has diff IDs is refused: 65."""
    user = users[-1]
    layer = tar_of(a=b"a")
    for number, diff_ids in enumerate(([], [sha256(layer)] * 2, ["sha256:" + "0" * 63], ["md5:" + "0" * 32], None)):
        top = layout_of(user.home / f"base{number}", {**BASE, "rootfs": {"type": "layers"}, "x": number}, [layer])
        row = put(top, json.dumps({**BASE, "rootfs": {"diff_ids": diff_ids}}).encode(), "config.v1+json")
        row = put(top, json.dumps(manifest_of(top) | {"config": row}).encode(), "manifest.v1+json")
        (top / "index.json").write_text(json.dumps({"manifests": [row]}))
        refused(user, top, "diff IDs|diff_ids")


@pytest.mark.parametrize("what", ["config", "layer", "gzip layer"])
def test_a_docker_archive_that_contradicts_itself(users: list[User], what: str) -> None:
    """A config that is not what its name says, or a layer that is not what its diff ID says, is refused."""
    user = users[-1]
    layer, other = tar_of(a=b"a"), tar_of(a=b"b")
    config = json.dumps({**BASE, "rootfs": {"diff_ids": [sha256(layer if what == "config" else other)]}}).encode()
    name = hashlib.sha256(b"other" if what == "config" else config).hexdigest() + ".json"
    rows = json.dumps([{"Config": name, "Layers": ["layer.tar"]}]).encode()
    data = gzip.compress(layer) if what == "gzip layer" else layer
    path = user.home / "docker.tar"
    path.write_bytes(tar_of(**{name: config, "layer.tar": data, "manifest.json": rows}))
    refused(user, path, status=65)


@pytest.mark.parametrize(
    "name", ["/{}", "../../../../../../../../..{}", "a/../../../../../../../..{}", "link", "hard", "folder/layer.tar"]
)
def test_no_name_in_an_archive_reaches_the_machine(user: User, name: str) -> None:
    """Names that are absolute or go up, and links that lead out of an archive, name nothing of this machine."""
    outside = user.home / "outside"
    outside.mkdir()
    (outside / "layer.tar").write_bytes(tar_of(secret=b"secret"))
    given_ = name.format(outside / "layer.tar")
    config = {**BASE, "rootfs": {"diff_ids": [sha256((outside / "layer.tar").read_bytes())]}}
    made = io.BytesIO(
        tar_of(
            **{
                "config.json": json.dumps(config).encode(),
                "manifest.json": json.dumps([{"Config": "config.json", "Layers": [given_]}]).encode(),
            }
        )
    )
    with tarfile.open(fileobj=made, mode="a") as archive:
        for link, kind, target in (
            ("link", tarfile.SYMTYPE, outside / "layer.tar"),
            ("hard", tarfile.LNKTYPE, outside / "layer.tar"),
            ("folder", tarfile.SYMTYPE, outside),
        ):
            info = tarfile.TarInfo(link)
            info.type, info.linkname = kind, str(target)
            archive.addfile(info)
    (user.home / "image.tar").write_bytes(made.getvalue())
    refused(user, user.home / "image.tar", "missing")
    folder = user.home / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "manifest.json").write_text(json.dumps([{"Config": "config.json", "Layers": [given_]}]))
    refused(user, folder, "missing")


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256", "index.json", "layer", "config"])
def test_no_link_leads_out_of_a_layout(user: User, name: str) -> None:
    """A link within a layout is not followed, whatever part of it is one."""
    top = layout_of(user.home / "layout", BASE, [tar_of(a=b"a")])
    path = top / name
    if name in {"layer", "config"}:
        manifest = manifest_of(top)
        path = blob_of(top, (manifest["layers"][0] if name == "layer" else manifest["config"])["digest"])
    path.rename(user.home / "outside")
    path.symlink_to(user.home / "outside")
    refused(user, top)


def test_sizes_below_nothing(users: list[User]) -> None:
    """A header that says less than nothing, which would be read again and again, is an error."""
    user = users[-1]
    for number, kind in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        info = tarfile.TarInfo("index.json")
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        if kind == tarfile.GNU_FORMAT:
            header[124:136] = (-1024).to_bytes(12, "big", signed=True)
        else:
            info.pax_headers = {"size": "-1536"}
            header = bytearray(info.tobuf(tarfile.PAX_FORMAT))
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header[:512])
        (user.home / f"{number}.tar").write_bytes(bytes(header) + bytes(1024))
        refused(user, user.home / f"{number}.tar")


def test_indexes_without_end(users: list[User]) -> None:
    """Indexes that list one another a hundred million times are refused, and so are those that are nested deep."""
    user = users[-1]
    for times, levels in ((100, 4), (1, 8)):
        top = layout_of(user.home / f"layout{levels}", BASE, [])
        rows = json.loads((top / "index.json").read_bytes())["manifests"]
        for _ in range(levels):
            rows = [put(top, json.dumps({"manifests": rows}).encode(), "index.v1+json")] * times
        (top / "index.json").write_text(json.dumps({"manifests": rows}))
        refused(user, top, "too deep|too much")


def test_what_is_wrong_within_a_compressed_archive(users: list[User], archives: dict[str, bytes]) -> None:
    """A layer that is damaged in an archive that was compressed as a whole is told by the archive's name."""
    user, whole = users[-1], archives["archive"]
    position = whole.index(b"a" * 600)
    (user.home / "base.tar.gz").write_bytes(gzip.compress(whole[:position] + b"b" + whole[position + 1 :]))
    refused(user, user.home / "base.tar.gz", "the layer is sha256:")
    (user.home / "base.tar.gz").write_bytes(gzip.compress(whole[: position + 10]))
    refused(user, user.home / "base.tar.gz")


def test_what_is_no_image(users: list[User]) -> None:
    """Nothing, a directory with something else, a device and a file of zeros are refused, each by its name."""
    user = users[-1]
    (user.home / "empty").mkdir()
    (user.home / "zeros").write_bytes(bytes(10240))
    (user.home / "text").write_text("text")
    (user.home / "text.gz").write_bytes(gzip.compress(b"text"))
    (user.home / "cut.gz").write_bytes(gzip.compress(os.urandom(1000))[:500])
    os.mkfifo(user.home / "fifo")
    for name in ("absent", "empty", "zeros", "text", "text.gz", "cut.gz", "fifo"):
        if not name.startswith("text."):
            refused(user, user.home / name, status=66 if name == "absent" else 65)
    assert_said(image(user, "--base", user.home / "text.gz", output="refused"), 65, "tar archive")
    refused(user, "/dev/null")
    if user.name != "root":
        (user.home / "text").chmod(0)
        refused(user, user.home / "text", CLOSED, status=66)


def test_layers_that_are_none(users: list[User], small: list[str]) -> None:
    """A layer's directory whose description was changed is refused, whatever it says: 65."""
    user = users[-1]
    folder = user.home / "wrong"
    for given_ in small:
        shutil.copytree(given_, folder, dirs_exist_ok=True)
        said = json.loads((folder / "layer.json").read_bytes())
        names = ["mediaType", "digest", "size", "diffId", "uncompressedSize"]
        names += ["listing"] if said["blob"] == "derived" else []
        for number, data in enumerate([*NO_JSON[:4], NO_JSON[-1]]):
            (folder / "layer.json").write_bytes(data)
            if number % 2 == 0:
                assert_said(image(user, "--layer", folder), 65, str(folder))
            with pytest.raises(InputError, match=re.escape(str(folder))):
                open_layer(str(folder))
        for name in names:
            for value in (None, [], {}, -1, 1.5, "../../../etc/passwd", True):
                (folder / "layer.json").write_text(json.dumps(said | {name: value}))
                with pytest.raises(InputError, match=re.escape(str(folder))):
                    open_layer(str(folder))
        remove(folder)
    assert_said(image(user, "--layer", user.home / "absent"), 66, "absent")
    assert not (user.home / "image").exists()


@pytest.mark.parametrize("device", ["native", "native,1", "native,a,b", "native,-1,3", "native,99999999999,3", ""])
def test_devices_that_are_none(users: list[User], device: str) -> None:
    """A derived layer whose listing has a device without its numbers is refused by the listing's name."""
    user = users[-1]
    script = user.script("#!/bin/sh\nmknod null c 1 3\n")
    good(user.build("--view", "directory", "--script", script, "--blob", "derived"))
    listing = user.home / "layer/layer.mtree"
    listing.write_text(listing.read_text().replace("native,1,3", device))
    result = image(user, "--layer", user.home / "layer")
    assert result.status in {65, 66}, result.err
    assert_said(result, result.status, re.escape(str(listing)))
    assert not (user.home / "image").exists()


@pytest.mark.parametrize("change", ["data", "size", "gone", "listing"])
def test_a_source_that_changed_since(user: User, change: str) -> None:
    """A derived layer whose source changed makes no image, and of a stream there is no end: 66."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(bytes(3 << 20))
    layer = user.build("--copy-to-root", tree, "--blob", "derived").layer
    if change == "listing":
        path = user.home / "layer/layer.mtree"
        path.write_text(path.read_text().replace("mode=0644", "mode=0600"))
    elif change == "gone":
        (tree / "file").unlink()
    else:
        (tree / "file").write_bytes(b"\1" * ((3 << 20) + (change == "size")))
    named = "layer.mtree" if change in {"listing", "data"} else "tree/file"
    for kind in ("layout", "archive", "docker-archive"):
        result = image(user, "--layer", user.home / "layer", "-f", kind, "-t", "a")
        assert_said(result, 66, re.escape(named))
        assert not (user.home / "image").exists()
        if kind != "layout":
            with open(user.home / "streamed", "wb") as file:
                command = [*COMMAND, "image", "--layer", user.home / "layer", "-f", kind, "-o", "-"]
                process = user.start(command, stdout=file, stderr=subprocess.PIPE, env={"MARK": str(user.home)})
                said = process.communicate()[1].decode()
            assert (process.returncode, named in said, "Traceback" in said) == (66, True, False), said
            assert b"manifest.json" not in (user.home / "streamed").read_bytes()
            refused(user, user.home / "streamed")
    assert layer["uncompressedSize"] > 3 << 20
    assert_nothing_left(user)


def test_outputs_that_are_taken(user: User, small: list[str]) -> None:
    """What is no layout is not replaced by one, and a directory or a device not by an archive: 73."""
    (user.home / "full").mkdir()
    (user.home / "full/file").write_text("mine")
    (user.home / "file").write_text("mine")
    os.mkfifo(user.home / "fifo")
    before = fingerprint(user.home / "full")
    for name, kind in (("full", "layout"), ("file", "layout"), ("full", "archive"), ("fifo", "docker-archive"), ("no/such", "archive"),
                       ("no/such", "layout"), ("/dev/null", "archive"), ("file/below", "archive")):  # fmt: skip
        refused_ = image(user, "--layer", small[0], "-f", kind, output=name)
        assert_said(refused_, 73, name, "is not an image layout" if (name, kind) == ("full", "layout") else "")
    assert fingerprint(user.home / "full") == before
    assert (user.home / "file").read_text() == "mine"
    assert stat.S_ISFIFO((user.home / "fifo").stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    good(image(user, "--layer", small[0], "-f", "archive", output="file"))
    assert_nothing_left(user)


@pytest.fixture
def tiny(user: User) -> Iterator[Path]:
    """A file system of 1 MiB that is the user's."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = user.home / "tiny"
    folder.mkdir()
    owner = 0 if user.is_root else SOMEBODY
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1m,uid={owner},gid={owner},mode=0755", "tmpfs", folder], check=True)
    yield folder
    left = os.listdir(folder)
    subprocess.run(["umount", folder], check=True)
    assert left == []


def test_no_room(user: User, tiny: Path) -> None:
    """An image that does not fit, or a base that does not fit unpacked, is an error that names the place: 73."""
    tree = user.home / "tree"
    tree.mkdir()
    (tree / "random").write_bytes(random.Random(0).randbytes(2 << 20))
    assert user.build("--copy-to-root", tree, "--blob", "derived").status == 0
    for kind in ("layout", "archive", "docker-archive"):
        result = image(user, "--layer", user.home / "layer", "-f", kind, output="tiny/image")
        assert_said(result, 73, FULL, "tiny/image", "[Nn]othing was kept")
        assert os.listdir(tiny) == []
    good(image(user, "--layer", user.home / "layer", output="base.tar"))
    good(user.run(["gzip", "base.tar"]))
    for place in (tiny, user.home / "absent"):
        result = image(user, "--base", user.home / "base.tar.gz", env={"TMPDIR": str(place)})
        assert_said(result, 73, str(place), "TMPDIR")
        assert not (user.home / "image").exists()
    with open("/dev/full", "wb") as full:
        command = [*COMMAND, "image", "--layer", user.home / "layer", "-o", "-"]
        process = user.start(command, stdout=full, stderr=subprocess.PIPE)
        said = process.communicate()[1].decode()
    assert process.returncode == 73
    assert FULL in said
    assert "Traceback" not in said
    assert_nothing_left_but(user, tiny)


def assert_nothing_left_but(user: User, mounted: Path) -> None:
    """Check what :func:`assert_nothing_left` does, where a test has a file system of its own."""
    assert os.listdir(mounted) == []
    assert user.leftovers() == []


EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "cut", "drop", "insert", "copy"]),
        st.binary(min_size=1, max_size=16),
    ),
    min_size=1,
    max_size=6,
)


@given(kind=st.sampled_from(KINDS), edits=EDITS)
@settings(max_examples=150, deadline=None, suppress_health_check=PATIENT)
def test_mutated_archives(
    tmp_path_factory: pytest.TempPathFactory, archives: dict[str, bytes], kind: str, edits: list[Any]
) -> None:
    """However an archive is mutilated, an image comes of it that is true, or an error of this package's."""
    data = bytearray(archives[kind])
    filled = [position for position, byte in enumerate(data) if byte]
    for where, what, some in edits:
        position = min(filled[int(where * len(filled))], len(data))
        if what == "flip":
            data[position : position + len(some)] = some
        elif what == "cut":
            del data[position:]
        elif what == "drop":
            del data[position : position + 512 * some[0]]
        elif what == "insert":
            data[position:position] = some
        else:
            data += data[position : position + 512 * some[0]]
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    (folder / "image").write_bytes(data)
    attempt(folder / "image", folder / "work")
