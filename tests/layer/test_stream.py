"""The tar stream holds every entry, whole and once, however many processes write it."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.images import sha256
from helpers.stores import Store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless_layer.tar.parallel import Streams, serialise
from rootless_layer.tree.tree import Entry, Tree

pytestmark = pytest.mark.slow


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
