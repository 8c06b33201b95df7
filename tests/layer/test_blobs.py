"""Stored, derived and compressed blobs are the same bytes every time, and an error of the disk ends them all."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from helpers.images import sha256
from helpers.inputs import REDIS
from helpers.layers import blob_of, infos
from helpers.stores import Store
from helpers.users import COMMAND, HANG, User

pytestmark = pytest.mark.slow


def test_a_derived_layer_is_the_stored_one(user: User, store: Store) -> None:
    """stored, derived and every compression have one diff ID, and derived has the stored blob's digest and size."""
    found = {}
    for kind in ("none", "gzip", "zstd", "gzip:0", "zstd:1"):
        for blob in ("stored", "derived"):
            tree = store.on_disk("coreutils")
            found[kind, blob] = user.build("--copy-to-root", tree, "--compression", kind, "--blob", blob).layer
            assert (user.home / "layer/blobs").exists() == (blob == "stored")
        assert {found[kind, "stored"][key] == found[kind, "derived"][key] for key in ("digest", "size", "mediaType")} == {True}
    assert len({(layer["diffId"], layer["uncompressedSize"]) for layer in found.values()}) == 1
    sizes = {kind: found[kind, "stored"]["size"] for kind in ("none", "gzip", "zstd")}
    assert sizes["zstd"] < sizes["gzip"] < sizes["none"] // 2


def test_a_derived_layers_listing_makes_it_again(user: User, store: Store, accounts: Path) -> None:
    """The listing of a derived layer names files that hold every byte: bsdtar makes the same tree of it."""
    words = [*store.options, "--copy-to-root", accounts, "--script", user.script(REDIS + "echo own > /data/own\n: > /empty\n")]
    stored = infos(blob_of(user, user.build(*words).layer).read_bytes())
    with tarfile.open(blob_of(user, json.loads((user.home / "layer/layer.json").read_text()))) as archive:
        data = {info.name: sha256(archive.extractfile(info).read()) for info in archive if info.isreg()}  # type: ignore[union-attr]
    layer = user.build(*words, "--blob", "derived", output="derived").layer
    assert layer["blob"] == "derived"
    folder = user.home / "derived"
    assert sorted(path.name for path in folder.iterdir()) == ["files", "layer.json", "layer.mtree"]
    again = subprocess.run(
        ["bsdtar", "--format=pax", "-cf", "-", "@layer.mtree"], check=True, capture_output=True, cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert again.stderr == b""
    with tarfile.open(fileobj=io.BytesIO(again.stdout)) as archive:
        for info in archive:
            name = os.path.normpath(info.name)
            if name == ".":
                continue
            there = stored.pop(name)
            real = there
            if info.isreg() and there.islnk():
                continue  # the listing's contents= stands with the file that it links to
            if info.isreg():
                assert sha256(archive.extractfile(info).read()) == data[name]  # type: ignore[union-attr]
            if not (info.islnk() or there.islnk()):
                assert (info.type, info.uid, info.gid, info.linkname) == (real.type, real.uid, real.gid, real.linkname)
                assert info.issym() or info.mode == real.mode
    assert stored == {}


WITH_CORES = """\
import os, sys
count = int(sys.argv.pop(1))
os.cpu_count = lambda: count
os.sched_getaffinity = lambda pid: set(range(count))
from rootless_layer.cli.main import run
run()
"""


@pytest.mark.parametrize("kind", ["none", "gzip", "gzip:1", "zstd", "zstd:1"])
def test_the_number_of_cores_does_not_show(users: list[User], store: Store, kind: str) -> None:
    """Producers and codecs write the same bytes with 1, 2, 4 and 7 threads, and bound to one core."""
    user = users[-1]
    # A few blocks of the codecs for each thread.
    tree = store.on_disk("coreutils")
    words = ["build", "--copy-to-root", tree, "--compression", kind, "--json", "--blob", "derived", "-o", user.home / "layer"]
    digests = {user.run([sys.executable, "-c", WITH_CORES, str(count), *words]).layer["digest"] for count in (1, 2, 4, 7)}
    digests.add(user.run(["taskset", "-c", str(min(os.sched_getaffinity(0))), *COMMAND, *words]).layer["digest"])
    assert len(digests) == 1


def test_a_compressed_blob_has_no_time_and_no_name(user: User) -> None:
    """The gzip header is the same at all times: no file name, no modification time."""
    (user.home / "tree").mkdir()
    layer = user.build("--copy-to-root", user.home / "tree", "--compression", "gzip").layer
    header = blob_of(user, layer).read_bytes()[:10]
    assert header[:2] == b"\x1f\x8b"
    assert header[3:8] == bytes(5)
    time.sleep(1.1)
    assert user.build("--copy-to-root", user.home / "tree", "--compression", "gzip").layer["digest"] == layer["digest"]


@pytest.mark.parametrize("kind", ["gzip:4", "zstd:0", "zstd:20", "gzip:-1", "bzip2", "gzip:x", "none:1", ""])
def test_a_compression_that_is_none_is_refused(user: User, kind: str) -> None:
    """Unknown kinds and levels are errors before anything is done."""
    result = user.build("--compression", kind)
    assert result.status == 2
    assert kind.partition(":")[0] in result.err
    assert json.loads(result.out)["error"]["status"] == 2


FULL = """
import errno, os, sys
from rootless_layer.tar.compression import BlobWriter
from rootless_layer.tar.compression import Compression

class Full:
    written = 0
    def write(self, data):
        self.written += len(data)
        if self.written > 1 << 20:
            raise OSError(errno.ENOSPC, "full")
        return len(data)
    def flush(self):
        pass

data = memoryview(os.urandom(8 << 20))
for _ in range(60):
    try:
        with BlobWriter(Compression(sys.argv[1]), Full()) as writer:
            for begin in range(0, len(data), 2 << 20):
                writer.write(data[begin : begin + (2 << 20)])
            writer.finish()
    except OSError as error:
        print(error.strerror)
"""

SHORT = """
import resource, sys
from rootless_layer.system.files import WritebackFile

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with WritebackFile(sys.argv[1]) as file:
    assert file.write(bytes(600)) == 600
    try:
        file.write(bytes(600))
    except OSError as error:
        print(error.errno)
"""


def test_a_write_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    """Where only a part of the last bytes fits, the kernel says so by their number alone: the rest is written, or is an error."""
    done = subprocess.run([sys.executable, "-c", SHORT, tmp_path / "file"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{errno.EFBIG}\n", "")


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_no_codec_waits_for_ever_where_there_is_no_room(kind: str) -> None:
    """An error of the file amidst the codec's work comes to the caller each time; its threads all end."""
    done = subprocess.run([sys.executable, "-c", FULL, kind], capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["full"] * 60), done.stderr
