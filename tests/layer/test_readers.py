"""Everybody reads the layers: tar programs, skopeo, umoci, podman, Python."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.images import sha256
from helpers.inputs import REDIS, odd
from helpers.layers import blob_of, infos
from helpers.place import PLACE, remove
from helpers.stores import Store, shared_store
from helpers.users import User

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def redis_store() -> Store:
    """A closure to make an image of: a shell, coreutils, and shadow's programs."""
    return shared_store("bash", "coreutils", "passwd")


def image_layout(user: User, layer: dict[str, Any], store: Store, folder: Path) -> Path:
    """Write an OCI image layout of one layer, as small as the specification allows."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        (folder / "blobs/sha256" / hashlib.sha256(data).hexdigest()).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}+json", "digest": sha256(data), "size": len(data)}

    config = {
        "architecture": "amd64", "os": "linux", "config": {"Env": [f"PATH=/bin:{store.path('coreutils')}/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["diffId"]]},
    }  # fmt: skip
    blob = blob_of(user, layer)
    os.link(blob, folder / "blobs/sha256" / blob.name)
    descriptor = {key: layer[key] for key in ("mediaType", "digest", "size")}
    manifest = {"schemaVersion": 2, "config": put(json.dumps(config).encode(), "config.v1"), "layers": [descriptor]}
    index = put(json.dumps(manifest).encode(), "manifest.v1") | {"annotations": {"org.opencontainers.image.ref.name": "test"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return folder


def redis_layer(user: User, store: Store, accounts: Path, kind: str) -> dict[str, Any]:
    """Build the redis example with bash in /bin."""
    contents = ["--copy-to-root", store.path("bash"), "--copy-to-root", accounts]
    return user.build(*store.options, *contents, "--script", user.script(REDIS), "--compression", kind).layer


def test_tar_programs_read_the_same(user: User) -> None:
    """GNU tar, bsdtar and Python list the same paths, without a word on stderr, and extract the same data."""
    layer = user.build(*odd(user)).layer
    blob = blob_of(user, layer)
    expected = {os.fsencode(name) for name in infos(blob.read_bytes())}
    # GNU tar knows no hdrcharset, which the one name that is not UTF-8 has.
    for program, words in (("tar", ["--quoting-style=literal", "--warning=no-unknown-keyword"]), ("bsdtar", [])):
        listed = subprocess.run(
            [program, *words, "-tf", blob], check=True, capture_output=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        )
        assert listed.stderr == b""
        names = {line.rstrip(b"/") for line in listed.stdout.splitlines()}
        assert names >= {name for name in expected if name.isascii() and b"\n" not in name and b"\\" not in name}


@pytest.mark.parametrize("kind", ["none", "gzip"])
def test_skopeo_and_umoci_read_the_image(user: User, redis_store: Store, accounts: Path, kind: str) -> None:
    """skopeo copies the layer to docker's format and back, and umoci unpacks it with its owners."""
    layer = redis_layer(user, redis_store, accounts, kind)
    layout = image_layout(user, layer, redis_store, user.home / "image")
    policy = ["skopeo", "copy", "--insecure-policy", "--tmpdir", user.home / "tmp"]
    copied = user.run([*policy, f"oci:{layout}:test", f"docker-archive:{user.home}/image.tar:image:test"])
    assert copied.status == 0, copied.err
    again = user.run([*policy, f"docker-archive:{user.home}/image.tar", f"oci:{user.home}/again:test"])
    assert again.status == 0, again.err
    rootless = [] if user.is_root else ["--rootless"]
    unpacked = user.run(["umoci", "unpack", *rootless, "--image", f"{layout}:test", user.home / "bundle"])
    assert unpacked.status == 0, unpacked.err
    root = user.home / "bundle/rootfs"
    assert "redis:x:" in (root / "etc/passwd").read_text()
    assert (root / "bin/bash").samefile(Path(f"{root}{redis_store.path('bash')}/bin/bash"))
    if user.is_root:
        assert ((root / "data").stat().st_uid, (root / "data").stat().st_gid) == (999, 999)


def test_skopeo_reads_a_zstd_layer(user: User, redis_store: Store, accounts: Path) -> None:
    """skopeo reads the layer in zstd, of which docker's format knows nothing, and gets the diff ID's bytes of it."""
    layer = redis_layer(user, redis_store, accounts, "zstd")
    layout = image_layout(user, layer, redis_store, user.home / "image")
    words = ["--insecure-policy", "--tmpdir", user.home / "tmp", "--dest-decompress"]
    copied = user.run(["skopeo", "copy", *words, f"oci:{layout}:test", f"dir:{user.home}/plain"])
    assert copied.status == 0, copied.err
    assert (user.home / "plain" / layer["diffId"].removeprefix("sha256:")).is_file()


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_podman_runs_the_image(users: list[User], redis_store: Store, accounts: Path, kind: str) -> None:
    """podman loads the layer and runs its programs, which know redis and who owns /data."""
    user = users[0]
    if not user.is_root:
        pytest.skip("podman needs root, or ids of one's own in /etc/subuid")
    layer = redis_layer(user, redis_store, accounts, kind)
    layout = image_layout(user, layer, redis_store, user.home / "image")
    archive = user.home / "image.tar"
    subprocess.run(["tar", "-C", layout, "-cf", archive, "."], check=True)
    storage = tempfile.mkdtemp(prefix="p", dir=os.environ[PLACE])  # podman takes no long path
    podman = ["podman", "--root", f"{storage}/root", "--runroot", f"{storage}/run", "--storage-driver", "vfs"]
    try:
        loaded = user.run([*podman, "load", "-i", archive])
        assert loaded.status == 0, loaded.err
        [name] = user.run([*podman, "images", "--quiet"]).out.split()
        offline = ["--network", "none", "--cgroups", "disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]
        # crun takes cgroups of version 2 alone, so that it is given nothing else to see.
        alone = [
            "unshare",
            "--mount",
            "bash",
            "-ec",
            'umount -lR /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"',
            "-",
        ]
        ran = user.run([*alone, *podman, "run", "--rm", *offline, name, "bash", "-c", "id redis; stat -c %U:%G /data"])
        assert ran.status == 0, ran.err
        assert ran.out == "uid=999(redis) gid=999(redis) groups=999(redis)\nredis:redis\n"
    finally:
        user.run([*podman, "rm", "--all", "--force"])
        user.run([*podman, "rmi", "--all", "--force"])
        remove(Path(storage))


def test_python_reads_the_compressed_blobs(user: User) -> None:
    """The blobs are one gzip file and one zstd file, for libraries too."""
    for kind in ("gzip", "zstd"):
        layer = user.build(*odd(user), "--compression", kind).layer
        data = blob_of(user, layer).read_bytes()
        stream = gzip.decompress(data) if kind == "gzip" else zstandard.ZstdDecompressor().stream_reader(data).read()
        assert sha256(stream) == layer["diffId"]
