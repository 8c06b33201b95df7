"""What a build writes is true, complete, the same every time, and read by everybody."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.images import sha256
from helpers.place import PLACE, remove
from helpers.stores import Store, shared_store
from helpers.users import COMMAND, HANG, Result, User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer.tar.parallel import Streams, serialise
from rootless_layer.tree.tree import Entry, Tree

pytestmark = pytest.mark.slow

REDIS = "groupadd -r redis\nuseradd -r -g redis -d /data -M redis\nmkdir /data\nchown redis:redis /data\n"
ODD = """\
umask 022
mkdir -p folder/deep set
echo data > folder/file
ln folder/file folder/deep/hard
ln -s ../file folder/deep/symbolic
chown -h 7:8 folder/deep/symbolic
mknod null c 1 3
mknod disk b 259 1000
mkfifo queue
echo set > set/uid; chown 33:44 set/uid; chmod 4711 set/uid
chmod 2775 set; chmod 1777 folder
chown 3000000:4000000000 folder/deep
: > empty
touch -- "$(printf 'new\\nline')" 'space # = \\ back' "$(printf 'b\\377d')" é -dash
"""
LARGE_ID, LARGER_ID = 3_000_000, 4_000_000_000


def blob_of(user: User, layer: dict[str, Any], output: str = "layer") -> Path:
    """Say where a layer's blob lies."""
    return user.home / output / "blobs/sha256" / layer["digest"].removeprefix("sha256:")


def decompressed(blob: Path, kind: str) -> bytes:
    """Read a blob as the programs do that people have."""
    program = {"none": ["cat"], "gzip": ["gzip", "-dc"], "zstd": ["zstd", "-qdc"]}[kind]
    with open(blob, "rb") as file:
        return subprocess.run(program, stdin=file, check=True, capture_output=True).stdout


def infos(stream: bytes) -> dict[str, tarfile.TarInfo]:
    """Read the members of a tar stream, each of which may stand there once."""
    with tarfile.open(fileobj=io.BytesIO(stream), errorlevel=2) as archive:
        members = archive.getmembers()
    found = {info.name: info for info in members}
    assert len(found) == len(members)
    return found


def odd(user: User) -> list[str | Path]:
    """Give the options of a layer with an entry of every kind."""
    script = user.script("#!/bin/bash\nset -e\n" + ODD, "odd")
    return ["--view", "directory", "--script", script]


# Facts


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_layer_json_is_true(user: User, kind: str) -> None:
    """Digests, sizes, media type and number of entries are those of the blob, recomputed with other programs."""
    layer = user.build(*odd(user), "--compression", kind).layer
    assert json.loads((user.home / "layer/layer.json").read_text()) == layer
    assert sorted(path.name for path in (user.home / "layer/blobs/sha256").iterdir()) == [layer["digest"].removeprefix("sha256:")]
    blob = blob_of(user, layer)
    stream = decompressed(blob, kind)
    assert layer["digest"] == sha256(blob.read_bytes())
    assert layer["size"] == blob.stat().st_size
    assert layer["diffId"] == sha256(stream)
    assert layer["uncompressedSize"] == len(stream)
    ending = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}[kind]
    assert layer["mediaType"] == f"application/vnd.oci.image.layer.v1.tar{ending}"
    assert layer["blob"] == "stored"
    listing = (user.home / "layer" / layer["listing"]).read_bytes()
    listed = [line for line in listing.splitlines() if not line.startswith(b"#")]
    assert layer["entries"] == len(listed)
    assert layer["entries"] - len(infos(stream)) in {0, 1}  # the root is an entry, and not always a member


def long_listing(source: str | Path, where: Path) -> dict[str, tuple[str, ...]]:
    """Read what bsdtar says of an archive or a listing: by name the mode, owner, group, size or device, and target."""
    done = subprocess.run(
        ["bsdtar", "--numeric-owner", "-tvf", str(source)], check=True, capture_output=True, cwd=where,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    )  # fmt: skip
    assert done.stderr == b""
    found: dict[str, tuple[str, ...]] = {}
    pattern = re.compile(r"(\S+) +\d+ +(\d+) +(\d+) +(\d+(?:, *\d+)?) +(\w+ +\d+ +[\d:]+) (.*)")
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        match = pattern.fullmatch(line)
        assert match, line
        mode, uid, gid, size, when, rest = match.groups()
        name, _, target = rest.partition(" -> ")
        name, _, link = name.partition(" link to ")
        if link:
            found[os.path.normpath(name)] = found[os.path.normpath(link)]
        else:
            found[os.path.normpath(name)] = (mode, uid, gid, size, when, target)
    return found


def test_the_listing_is_what_the_tar_holds(user: User) -> None:
    """bsdtar reads layer.mtree, and says the same of it as of the blob: names, modes, owners, sizes, types, links, devices."""
    layer = user.build(*odd(user)).layer
    folder = user.home / "layer"
    of_tar = long_listing(blob_of(user, layer), folder)
    of_listing = long_listing("layer.mtree", folder)
    root = of_listing.pop(".")
    assert root[:3] == ("drwxr-xr-x", "0", "0")
    assert of_listing == of_tar
    assert len(of_tar) == len(infos(blob_of(user, layer).read_bytes()))
    assert of_tar["set/uid"][:3] == ("-rws--x--x", "33", "44")
    assert of_tar["null"][3].replace(" ", "") == "1,3"
    assert of_tar["folder/deep"][1:3] == (str(LARGE_ID), str(LARGER_ID))


def test_the_listing_says_what_is_linked_and_attributed(user: User) -> None:
    """What mtree has no word for stands in comments: a hard link's target and the extended attributes."""
    script = user.script("echo 1 > a; ln a b; setfattr -n user.name -v value a; setcap cap_chown=ep a\n")
    user.build("--view", "directory", "--script", script).layer  # noqa: B018 - it must have succeeded
    lines = (user.home / "layer/layer.mtree").read_text().splitlines()
    assert lines[0] == "#mtree"
    linked = next(line for line in lines[lines.index("#link=./a") :] if not line.startswith("#"))
    assert linked.startswith("./b type=file ")
    attributes = [line for line in lines if line.startswith("#xattr=")]
    assert "#xattr=user.name,dmFsdWU=" in attributes
    assert any(line.startswith("#xattr=security.capability,") for line in attributes)


def test_list_is_the_tree_with_owners(user: User) -> None:
    """--list says mode, owner, size or device, path and target of every path, one in each line whatever its name."""
    result = user.run([*COMMAND, "build", *odd(user), "--list", "-o", user.home / "layer"])
    assert result.status == 0
    lines = result.out.splitlines()
    assert len(lines) == json.loads((user.home / "layer/layer.json").read_text())["entries"]
    fields = {words[3]: words for words in (line.split(maxsplit=4) for line in lines)}
    assert fields["/set/uid"][:3] == ["-rws--x--x", "33:44", "4"]
    assert fields["/null"][:3] == ["crw-r--r--", "0:0", "1,3"]
    assert fields["/folder/deep"][1] == f"{LARGE_ID}:{LARGER_ID}"
    assert fields["/folder/deep/symbolic"][4] == "-> ../file"
    assert {fields["/folder/deep/hard"][-1], fields["/folder/file"][-1]} & {"link to /folder/file", "link to /folder/deep/hard"}


# Stored, derived, compressed


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


# The stream


def stream_of(entries: Sequence[Entry], processes: int) -> bytes:
    """Serialise entries into memory."""
    parts: list[bytes] = []
    serialise(entries, lambda part: parts.append(bytes(part)), processes=processes)
    return b"".join(parts)


def test_the_number_of_producers_does_not_show(big_store: Store) -> None:
    """serialise writes the same bytes in its own process and with 1, 2 and 4 more."""
    tree = []
    for here, _folders, files in os.walk(os.fsencode(big_store.root / "nix")):
        for name in files:
            path = os.path.join(here, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                tree += [Entry(path=top + path, mode=status.st_mode, size=status.st_size, source=path) for top in (b"a", b"b")]
    entries = Tree.of(tree).archived()
    assert len(entries) > 1000
    digests = {sha256(stream_of(entries, processes)) for processes in (0, 1, 2, 4)}
    assert len(digests) == 1


@pytest.mark.parametrize("processes", [0, 1, 2, 3])
def test_streams_one_after_another(tmp_path: Path, processes: int) -> None:
    """Each stream is what it is alone, and a part stays as it is until the next has been taken; the last is empty."""
    trees = []
    for number, sizes in enumerate(([], [5 << 20, 100], [10] * 2500, [0], [9 << 20], [300_000] * 40)):
        entries = []
        for place, size in enumerate(sizes):
            path = tmp_path / f"{number}-{place}"
            path.write_bytes((b"%d.%d " % (number, place) * (size // 4 + 1))[:size])
            entries.append(Entry(path=b"%06d" % place, mode=stat.S_IFREG | 0o644, size=size, source=os.fsencode(path)))
        trees.append(entries)
    before: list[tuple[memoryview, bytes]] = []

    def consume(part: memoryview) -> None:
        for view, was in before:
            assert bytes(view) == was
        parts.append(bytes(part))
        before[:] = [(part, parts[-1])]

    with Streams(trees, processes=processes) as streams:
        for entries in trees:
            parts: list[bytes] = []
            streams.copy(consume)
            assert (parts[-1], b"" in parts[:-1]) == (b"", False)
            assert b"".join(parts) == stream_of(entries, 0)
            check_stream(entries, b"".join(parts))


def test_a_fork_that_fails_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all producers can be started, those that were are ended, and no pipe stays open."""
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    entry = Entry(path=b"file", mode=stat.S_IFREG | 0o644, size=64 << 20, source=os.fsencode(tmp_path / "file"))
    forked: list[int] = []
    fork = os.fork

    def failing() -> int:
        if forked:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        forked.append(fork())
        return forked[-1]

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", failing)
    with pytest.raises(BlockingIOError):
        Streams([[entry], [entry]], processes=2)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(forked[0], 0)


SLOT = 2 << 20
SIZES = [
    SLOT - more for more in (0, 1, 511, 512, 513, 1024, 1025, 1536, 1537, 2048, 4096, 4608, 5120)
] + [2 * SLOT - 1024, 3 * SLOT - 512, 4 * SLOT - 512, 4 * SLOT, 8 * SLOT - 512, (256 << 10), (256 << 10) + 1, (256 << 10) - 1]  # fmt: skip


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_a_file_may_end_anywhere_in_the_memory(tmp_path: Path, processes: int) -> None:
    """Files of every size around those of the shared memory are written whole, alone and in a row, and the archive ends once."""
    source = os.fsencode(tmp_path / "file")
    entries = []
    for size in SIZES:
        path = source + b"-%d" % size
        with open(path, "wb") as file:
            file.write(b"%d" % size)
            file.truncate(size)
        entries.append(Entry(path=b"%09d" % size, mode=stat.S_IFREG | 0o644, size=size, source=path))
    for given_entries in ([entry] for entry in entries):
        check_stream(given_entries, stream_of(given_entries, processes))
    check_stream(entries, stream_of(entries, processes))
    check_stream(entries[::-1], stream_of(entries[::-1], processes))


def check_stream(entries: Sequence[Entry], stream: bytes) -> None:
    """Check that a stream holds regular files, their data, and one end of the archive."""
    position = 0
    for entry in entries:
        info = tarfile.TarInfo.frombuf(stream[position : position + 512], "utf-8", "strict")
        assert info.name == entry.path.decode()
        assert info.size == entry.size
        position += 512
        with open(entry.source or b"", "rb") as file:
            assert (
                hashlib.sha256(stream[position : position + entry.size]).digest() == hashlib.file_digest(file, "sha256").digest()
            )
        assert stream[position + entry.size : position + entry.size + -entry.size % 512].strip(b"\0") == b""
        position += entry.size + -entry.size % 512
    assert stream[position:] == bytes(1024)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2000, 2001])
def test_the_archive_ends_once(count: int) -> None:
    """Whatever the number of entries, two blocks of zeros end the archive, and nothing else."""
    entries = [Entry(path=b"%05d" % number, mode=stat.S_IFDIR | 0o755) for number in range(count)]
    for processes in (0, 2):
        stream = stream_of(entries, processes)
        assert len(stream) == 512 * count + 1024
        assert stream[-1024:] == bytes(1024)


def test_a_9_gib_files_size_is_in_its_header(tmp_path: Path) -> None:
    """A size of more than ustar's 8 GiB is written as readers understand it."""
    size = 9 << 30
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(size)

    class Enough(Exception):  # noqa: N818 - no error
        """The header has been seen."""

    first: list[bytes] = []

    def consume(part: memoryview) -> None:
        first.append(bytes(part))
        raise Enough

    entry = Entry(path=b"large", mode=stat.S_IFREG | 0o644, size=size, source=os.fsencode(path))
    with pytest.raises(Enough):
        serialise([entry], consume, processes=1)
    with tarfile.open(fileobj=io.BytesIO(first[0]), mode="r|") as archive:
        info = archive.next()
    assert info is not None
    assert (info.name, info.size) == ("large", size)


PART = st.one_of(
    st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40).map(str.encode),
    st.binary(min_size=1, max_size=20).map(lambda data: data.replace(b"/", b"_").replace(b"\0", b"_")),
    st.integers(90, 255).map(lambda length: b"n" * length),
).filter(lambda part: part not in {b".", b".."} and not part.startswith(b".wh.") and len(part) <= 255)  # fmt: skip
PATH = st.lists(PART, min_size=1, max_size=4).map(b"/".join)
ID = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
COMMON = {"uid": ID, "gid": ID, "mtime": st.one_of(st.integers(-(2**33), 2**34), st.integers(-1, 1))}
PERMISSIONS = st.integers(0, 0o7777)
ATTRIBUTE_NAME = st.one_of(
    st.from_regex(rb"user\.[a-z.]{1,20}", fullmatch=True), st.from_regex(rb"user\.[^=\0]{1,20}", fullmatch=True)
)
ATTRIBUTE = st.tuples(ATTRIBUTE_NAME, st.binary(max_size=300))


def kind_of(kind: int) -> st.SearchStrategy[int]:
    """Give modes of one file type."""
    return PERMISSIONS.map(lambda permissions: kind | permissions)


ENTRY = st.one_of(
    st.builds(Entry, path=PATH, mode=kind_of(stat.S_IFDIR), **COMMON),
    st.builds(
        Entry, path=PATH, mode=kind_of(stat.S_IFREG), **COMMON,
        xattrs=st.lists(ATTRIBUTE, max_size=3, unique_by=lambda pair: pair[0]).map(lambda pairs: tuple(sorted(pairs))),
    ),
    st.builds(Entry, path=PATH, mode=st.just(stat.S_IFLNK | 0o777), target=PATH, **COMMON),
    st.builds(
        Entry, path=PATH, mode=st.one_of(kind_of(stat.S_IFCHR), kind_of(stat.S_IFBLK)), **COMMON,
        rdev=st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 2**20 - 1)).filter(bool),
    ),
    st.builds(Entry, path=PATH, mode=kind_of(stat.S_IFIFO), **COMMON),
)  # fmt: skip


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.lists(ENTRY, max_size=12, unique_by=lambda entry: entry.path))
def test_any_tree_is_read_back(entries: list[Entry]) -> None:
    """Whatever the names, owners, times, devices, targets and attributes, Python's tarfile reads them as they were."""
    stream = stream_of(entries, 0)
    with tarfile.open(fileobj=io.BytesIO(stream), errors="surrogateescape", encoding="utf-8") as archive:
        members = archive.getmembers()
    assert len(members) == len(entries)
    kinds = {
        stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFREG: tarfile.REGTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
        stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
    }  # fmt: skip
    for entry, info in zip(entries, members, strict=True):
        assert os.fsencode(info.name) == entry.path
        assert info.type == kinds[stat.S_IFMT(entry.mode)]
        assert info.issym() or info.mode == stat.S_IMODE(entry.mode)
        assert (info.uid, info.gid, info.mtime) == (entry.uid, entry.gid, entry.mtime)
        assert info.uname == info.gname == ""
        assert os.fsencode(info.linkname) == (entry.target or b"")
        if entry.rdev:
            assert (info.devmajor, info.devminor) == (os.major(entry.rdev), os.minor(entry.rdev))
        read = {
            os.fsencode(key.removeprefix("SCHILY.xattr.")): value.encode("utf-8", "surrogateescape")
            for key, value in info.pax_headers.items()
            if key.startswith("SCHILY.xattr.")
        }
        assert read == dict(entry.xattrs)


# The output


def tree_with(user: User, text: str) -> Path:
    """Make a tree with one file."""
    folder = user.home / "tree"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(text)
    return folder


def test_an_earlier_layer_is_replaced(user: User) -> None:
    """A layer in the output's place goes as a whole: nothing of it is left, derived or stored."""
    first = user.build("--copy-to-root", tree_with(user, "1")).layer
    second = user.build("--copy-to-root", tree_with(user, "2"), "--blob", "derived").layer
    assert first["digest"] != second["digest"]
    assert sorted(path.name for path in (user.home / "layer").iterdir()) == ["layer.json", "layer.mtree"]
    third = user.build("--copy-to-root", tree_with(user, "3")).layer
    assert os.listdir(user.home / "layer/blobs/sha256") == [third["digest"].removeprefix("sha256:")]
    assert user.leftovers() == []


def test_a_failed_build_keeps_the_earlier_layer(user: User) -> None:
    """Whatever goes wrong, the output is what it was before."""
    first = user.build("--copy-to-root", tree_with(user, "1")).layer
    for words, status in (
        (["--copy-to-root", user.home / "absent"], 66),
        (["--copy-to-root", tree_with(user, "2"), "--view", "directory", "--", "false"], 1),
        (["--store-path", "/nix/store/7l2a4vd7ggk7mk80ya2zdh940m1lf9h0-absent"], 66),
    ):
        assert user.build(*words).status == status
        assert json.loads((user.home / "layer/layer.json").read_text()) == first
        assert blob_of(user, first).is_file()
        assert user.leftovers() == []


def test_an_empty_directory_is_filled(user: User) -> None:
    """An output that is there and empty is taken."""
    (user.home / "layer").mkdir()
    if not user.is_root and os.geteuid() == 0:
        os.chown(user.home / "layer", user.home.stat().st_uid, -1)
    assert user.build("--copy-to-root", tree_with(user, "1")).layer["entries"] == 2
    assert user.leftovers() == []


@pytest.mark.parametrize("kind", ["directory", "file", "hidden", "link"])
def test_what_is_no_layer_is_not_replaced(user: User, kind: str) -> None:
    """A directory with other files, a file, or a link to such a directory stays, and the error names it."""
    target = user.home / "layer"
    if kind == "file":
        target.write_text("text")
    else:
        folder = user.home / "folder" if kind == "link" else target
        folder.mkdir()
        (folder / (".hidden" if kind == "hidden" else "file")).write_text("text")
        if kind == "link":
            target.symlink_to(folder)
    result = user.build("--copy-to-root", tree_with(user, "1"))
    assert result.status == 73
    assert str(target) in result.err
    files = [path for path in (user.home / "folder", target) if path.is_dir() and not path.is_symlink()]
    assert all(next(iter(folder.iterdir())).read_text() == "text" for folder in files)
    assert target.is_symlink() == (kind == "link")
    assert user.leftovers() == []


def test_a_link_to_a_layer_is_followed_or_replaced_whole(user: User) -> None:
    """Where the output is a link to an earlier layer, the new one is found under the same name, and nothing is left over."""
    first = user.build("--copy-to-root", tree_with(user, "1"), output="real").layer
    (user.home / "layer").symlink_to("real")
    second = user.build("--copy-to-root", tree_with(user, "2")).layer
    assert second["digest"] != first["digest"]
    assert json.loads((user.home / "layer/layer.json").read_text()) == second
    assert blob_of(user, second).is_file()
    assert user.leftovers() == []


def test_an_output_that_cannot_be_made_is_named(user: User) -> None:
    """A parent that is not there, is a file, or may not be written to is status 73."""
    tree = tree_with(user, "1")
    (user.home / "file").write_text("text")
    outputs = ["absent/layer", "file/layer"]
    if not user.is_root:
        (user.home / "closed").mkdir(mode=0o555)
        outputs.append("closed/layer")
    for output in outputs:
        result = user.build("--copy-to-root", tree, output=output)
        assert result.status == 73, result.err
        assert str(user.home / output) in result.err
    assert user.leftovers() == []


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_no_room_leaves_nothing(user: User, kind: str) -> None:
    """Where the blob cannot be written to its end, status 73 says so, and nothing is kept."""
    tree = tree_with(user, "")
    (tree / "file").write_bytes(os.urandom(3 << 20))
    words = [*COMMAND, "build", "-o", user.home / "layer", "--copy-to-root", tree, "--compression", kind]
    result = user.run(["prlimit", "--fsize=1000000", *words])
    assert result.status == 73, result.err
    assert str(user.home / "layer") in result.err
    assert "Traceback" not in result.err
    assert not (user.home / "layer").exists()
    assert user.leftovers() == []


def test_builds_to_one_output_leave_one_whole_layer(user: User) -> None:
    """Several builds at once to the same place leave one of their layers, whole, and nothing beside it."""
    tree = tree_with(user, "")
    (tree / "file").write_bytes(os.urandom(1 << 20))
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(user.build("--copy-to-root", tree, "--uid", str(number))))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.status for result in results} <= {0, 73}, [result.err for result in results]
    assert any(result.status == 0 for result in results)
    assert not any("Traceback" in result.err for result in results)
    layer = json.loads((user.home / "layer/layer.json").read_text())
    assert sha256(blob_of(user, layer).read_bytes()) == layer["digest"]
    assert user.leftovers() == []


def test_the_output_has_the_umasks_modes(user: User) -> None:
    """The layer is as readable as the umask says, and no more; its directory is as one that it replaces was."""
    tree = tree_with(user, "1")
    for mask, mode in ((0o022, 0o755), (0o077, 0o700)):
        for name, top in ((oct(mask), mode), ("replaced", 0o755)):
            assert user.build("--copy-to-root", tree, umask=mask, output=name).status == 0
            assert stat.S_IMODE((user.home / name).stat().st_mode) == top
            assert stat.S_IMODE((user.home / name / "layer.json").stat().st_mode) == mode & 0o666


# What is said


def test_stdout_is_data_only(user: User) -> None:
    """What scripts say and what is told goes to stderr; stdout has the digest, or what was asked for."""
    words: list[str | Path] = ["--view", "directory", "--script", user.script("echo from the script; echo error >&2\n")]
    plain = user.run([*COMMAND, "build", "-o", user.home / "layer", *words])
    digest = json.loads((user.home / "layer/layer.json").read_text())["digest"]
    assert plain.out == f"{digest}\n"
    assert "from the script\n" in plain.err
    assert "error\n" in plain.err
    quiet = user.run([*COMMAND, "build", "-q", "-o", user.home / "layer", *words])
    assert quiet.out == ""
    assert "rootless-layer" not in quiet.err
    as_json = user.build("-q", *words)
    assert as_json.layer["digest"] == digest
    listed = user.run([*COMMAND, "build", "--list", "-q", "-o", user.home / "layer", *words])
    assert listed.out.splitlines() == ["drwxr-xr-x       0:0          0 /"]
    failed = user.run([*COMMAND, "build", "-q", "-o", user.home / "layer", "--view", "directory", "--", "false"])
    assert failed.out == ""
    assert "false" in failed.err


def test_a_reader_may_go_away(user: User) -> None:
    """Where nobody reads the listing to its end the command ends as programs do, and the layer is whole."""
    tree = user.home / "tree"
    tree.mkdir()
    for number in range(3000):
        (tree / f"{number:0100}").touch()
    command = " ".join([*COMMAND, "build", "--list", "-o", "layer", "--copy-to-root", "tree"])
    result = user.run(["bash", "-c", f"{command} | head -n1; echo ${{PIPESTATUS[0]}}"])
    assert result.out.splitlines() == ["drwxr-xr-x       0:0          0 /", "141"]
    assert "Traceback" not in result.err
    assert "Exception" not in result.err
    assert (user.home / "layer/layer.json").is_file()


def test_help_and_version_go_to_stdout(user: User) -> None:
    """Asked for, help is data; --version names the program."""
    for words in (["--help"], ["build", "--help"], ["--version"]):
        result = user.run([*COMMAND, *words])
        assert result.status == 0
        assert result.err == ""
        assert "rootless-layer" in result.out or "Usage" in result.out


@pytest.mark.parametrize(
    "words",
    [
        [], ["build"], ["build", "--absent", "-o", "layer"], ["build", "-o", "layer", "--view", "side"],
        ["build", "-o", "layer", "--env", "NAME"], ["build", "-o", "layer", "--uid", "root"], ["build", "-o"],
    ],
)  # fmt: skip
def test_wrong_arguments_are_status_2(user: User, words: list[str]) -> None:
    """A command line that is no such thing is told on stderr, with status 2."""
    result = user.run([*COMMAND, *words])
    assert result.status == 2
    assert result.out == ""
    assert result.err
    assert not (user.home / "layer").exists()


# Times, owners, names


def test_later_times_are_clamped(user: User) -> None:
    """Times after --source-date-epoch become it, earlier ones stay, in whole seconds; directories always have it."""
    tree = user.home / "tree"
    (tree / "folder").mkdir(parents=True)
    times = {"early": 1_000_999_999_999, "same": 2_000_000_000_000, "late": 3_000_000_000_000, "before": -1_500_000_000}
    for name, nanoseconds in times.items():
        (tree / name).write_text(name)
        os.utime(tree / name, ns=(nanoseconds, nanoseconds))
    (tree / "link").symlink_to("late")
    os.utime(tree / "link", ns=(times["late"], times["late"]), follow_symlinks=False)
    os.utime(tree / "folder", (5, 5))
    expected = {"early": 1000, "same": 2000, "late": 2000, "before": -2, "link": 2000, "folder": 2000}
    script = ["--view", "directory", "--script", user.script("echo new > new; touch -d @77 old; mkdir made\n")]
    for words, env, more in (
        (["--source-date-epoch", "2000"], {}, {}),
        ([], {"SOURCE_DATE_EPOCH": "2000"}, {}),
        (["--source-date-epoch", "2000"], {"SOURCE_DATE_EPOCH": "5"}, {}),
        (["--source-date-epoch", "2000", *script], {}, {"new": 2000, "old": 77, "made": 2000}),
    ):
        layer = user.build("--copy-to-root", tree, *words, env=env).layer
        found = infos(blob_of(user, layer).read_bytes())
        assert {name: info.mtime for name, info in found.items()} == expected | more
        assert layer["madeFrom"]["epoch"] == 2000
    found = infos(blob_of(user, user.build("--copy-to-root", tree).layer).read_bytes())
    assert {info.mtime for name, info in found.items() if name != "before"} == {1}


@pytest.mark.parametrize("text", ["", "now", "-1", "1.5", "1e3", "9" * 30, "²"])
def test_a_time_that_is_none_is_refused(user: User, text: str) -> None:
    """SOURCE_DATE_EPOCH and the option take whole seconds since 1970, and say so; an empty variable is none."""
    tree = tree_with(user, "1")
    result = user.build("--copy-to-root", tree, env={"SOURCE_DATE_EPOCH": text})
    if text:
        assert result.status in {2, 65}, result.err
        assert text in result.err
    asked = user.build("--copy-to-root", tree, "--source-date-epoch", text)
    assert asked.status in {2, 65}
    assert "Traceback" not in result.err + asked.err


def test_the_owner_of_sources_is_asked_for(user: User, store: Store, accounts: Path) -> None:
    """--uid and --gid own what comes from sources; what a script makes is root's."""
    words = [*store.options, "--copy-to-root", accounts, "--uid", str(LARGE_ID), "--gid", str(LARGER_ID)]
    found = infos(blob_of(user, user.build(*words, "--script", user.script("mkdir /made\necho 1 > /file\n")).layer).read_bytes())
    made = {name: (info.uid, info.gid) for name, info in found.items()}
    assert made.pop("made") == made.pop("file") == (0, 0)
    given = {name: owner for name, owner in made.items() if name not in {"nix", "nix/store", ".", "tmp"}}
    assert set(given.values()) == {(LARGE_ID, LARGER_ID)}


@pytest.mark.parametrize("number", ["-1", "4294967295", "99999999999999999999"])
def test_an_owner_that_is_none_is_refused(user: User, number: str) -> None:
    """Ids go from 0 to 2³² - 2."""
    for option in ("--uid", "--gid"):
        result = user.build(option, number)
        assert result.status in {2, 65}
        assert number in result.err


NAMES = [
    b"space in it", b"new\nline", b"tab\tand\x7f", b"not \xff\xfe utf-8", "é名🎈".encode(), b"-dash", b"back\\slash", b"#hash=",
    b"l" * 255, "é".encode() * 127, b"quote'\"`$(x)", b"*?[a]", b"trailing ", b"x\\040", b"@at", b".hidden", b"..dots", b"nl\n",
]  # fmt: skip


def test_any_name_is_kept(user: User) -> None:
    """Names of any bytes come into the layer as they are, from disk and from a script, whatever the locale."""
    tree = os.fsencode(user.home / "tree")
    os.mkdir(tree)
    deep = tree
    for number in range(6):
        deep += b"/" + b"d%d" % number * 60
        os.mkdir(deep)
    for name in NAMES:
        with open(tree + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"not \xff\xfe utf-8", tree + b"/link")
    digests = set()
    words: list[str | Path] = ["--copy-to-root", user.home / "tree"]
    for more in ([], ["--view", "directory", "--", "true"]):
        for locale in ("C", "C.UTF-8", "POSIX"):
            layer = user.build(*words, *more, env={"LC_ALL": locale}).layer
            digests.add(layer["digest"])
    assert len(digests) == 1
    blob = blob_of(user, layer)
    found = infos(blob.read_bytes())
    assert {os.fsencode(name) for name in found} >= {*NAMES, b"link", deep.removeprefix(tree + b"/")}
    assert os.fsencode(found["link"].linkname) == b"not \xff\xfe utf-8"
    for program in ("tar", "bsdtar"):
        folder = user.home / program
        folder.mkdir()
        command = [program, "-xf", blob, "-C", folder]
        subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})
        assert set(os.listdir(os.fsencode(folder))) == set(os.listdir(tree))
        for name in NAMES:
            with open(os.fsencode(folder) + b"/" + name, "rb") as file:
                assert file.read() == name


def test_names_of_sources_are_any_bytes(user: User) -> None:
    """A content's own path may be no text at all; layer.json is still JSON."""
    tree = os.fsencode(user.home) + b"/not \xff utf-8\n"
    os.mkdir(tree)
    with open(tree + b"/file", "wb") as file:
        file.write(b"text")
    result = user.build("--copy-to-root", os.fsdecode(tree))
    assert result.layer["entries"] == 2
    assert json.loads((user.home / "layer/layer.json").read_text()) == result.layer


# Readers


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
