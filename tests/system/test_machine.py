"""What this machine could not do is never told as a damaged input, and what is damaged never as the machine's fault."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import resource
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.aftermath import assert_said
from helpers.users import COMMAND, User

from rootless_layer.errors import InputError, MachineError, OutputError, RootlessLayerError, SourceError, UnreadableError
from rootless_layer.image.read import read_images
from rootless_layer.oci.descriptor import CONFIG, MANIFEST, MEDIA_TYPES
from rootless_layer.system.border import guarded
from rootless_layer.system.machine import failed, unreadable, unwritable
from rootless_layer.tar import compression, decompression
from rootless_layer.tar.compression import Compression
from rootless_layer.tar.unpack import unpack_tar

NUMBERS: list[tuple[int, type[RootlessLayerError], type[RootlessLayerError], str]] = [
    (errno.ENOENT, SourceError, OutputError, "^$"),
    (errno.EACCES, UnreadableError, OutputError, "(?i)permission|readable"),
    (errno.EPERM, UnreadableError, OutputError, "(?i)permission|readable"),
    (errno.EROFS, UnreadableError, OutputError, "(?i)permission|readable"),
    (errno.ENOSPC, SourceError, OutputError, "(?i)room"),
    (errno.EDQUOT, SourceError, OutputError, "(?i)quota"),
    (errno.EFBIG, SourceError, OutputError, "ulimit -f"),
    (errno.EMFILE, MachineError, MachineError, "ulimit -n"),
    (errno.ENFILE, MachineError, MachineError, "files open"),
    (errno.ENOMEM, MachineError, MachineError, "(?i)memory"),
    (errno.EAGAIN, MachineError, MachineError, "ulimit -u"),
    (errno.EIO, MachineError, MachineError, "disk"),
]


@pytest.mark.parametrize(("number", "reading", "writing", "hint"), NUMBERS, ids=[errno.errorcode[row[0]] for row in NUMBERS])
def test_each_number_has_its_error(
    number: int, reading: type[RootlessLayerError], writing: type[RootlessLayerError], hint: str
) -> None:
    """The kernel's number alone decides the error and the exit status, and the hint fits: no room is made for what is forbidden."""
    error = OSError(number, os.strerror(number))
    one, other = unreadable(error, "/a/path"), unwritable(error, "/a/path")
    assert (type(one), type(other)) == (reading, writing)
    assert {MachineError: 74, OutputError: 73, SourceError: 66, UnreadableError: 66}[type(other)] == other.exit_code
    for told in (one, other):
        assert told.problems[0].startswith("/a/path: ")
        assert os.strerror(number) in told.problems[0]
        assert "damaged" not in str(told)
    assert re.search(hint, other.hint)
    assert isinstance(failed(number, "/a/path", "x"), (reading, writing))


@contextlib.contextmanager
def limit(kind: int, most: int) -> Iterator[None]:
    """Lower a limit of this process's for a while."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes, "gzip": gzip.compress, "zstd": zstandard.compress, "xz": lzma.compress, "bzip2": bz2.compress,
}  # fmt: skip


@pytest.fixture(params=CODECS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tar of one file of 3 MiB, compressed in each of the ways."""
    info = tarfile.TarInfo("random")
    info.size = 3 << 20
    path = tmp_path / "x.tar"
    path.write_bytes(CODECS[request.param](info.tobuf() + os.urandom(3 << 20) + bytes(1024)))
    return path


def test_too_few_open_files(archive: Path, tmp_path: Path) -> None:
    """However few files may be open, an archive is read, or the limit is told; it is never said to be damaged."""
    last, held = max(map(int, os.listdir("/proc/self/fd"))), [os.dup(0)]
    while held[-1] <= last:  # no other test's descriptor is among those that are counted
        held.append(os.dup(0))
    free = held.pop()
    os.close(free)
    ended = []
    for more in range(8):
        with limit(resource.RLIMIT_NOFILE, free + more):
            try:
                unpack_tar(str(archive), str(tmp_path / f"spool-{more}"), 1)
                ended.append("read")
            except MachineError as error:
                ended.append("told")
                assert "ulimit -n" in error.hint
    for descriptor in held:
        os.close(descriptor)
    assert ended[0] == "told"
    assert ended[-1] == "read"


def test_a_file_that_may_not_be_so_large(archive: Path, tmp_path: Path) -> None:
    """A file of an archive that cannot be written is the output's fault, and the message names the place and the limit."""
    with limit(resource.RLIMIT_FSIZE, 1 << 20), pytest.raises(OutputError, match=r"spool/.*File too large") as caught:
        unpack_tar(str(archive), str(tmp_path / "spool"), 1)
    assert "ulimit -f" in caught.value.hint


@pytest.mark.parametrize("kind", CODECS)
def test_a_disk_that_fails(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails below a codec, at any place, is a failing disk's; bytes that are wrong are the input's."""
    data = CODECS[kind](os.urandom(3 << 20))
    (tmp_path / "blob").write_bytes(data)

    def failing(section: Any, buffer: Any) -> int:
        if section.remaining < len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return whole(section, memoryview(buffer)[:1000])

    whole = decompression._Section.readinto
    with monkeypatch.context() as patched:
        patched.setattr(decompression._Section, "readinto", failing)
        with pytest.raises(MachineError, match=r"blob: .*Input/output error"):
            list(decompression.decompressed(str(tmp_path / "blob"), size=len(data)))
    if kind != "none":  # each codec's own word for bytes that are none of its
        (tmp_path / "blob").write_bytes(data[:6] + b"\xff" * 1000)
        with pytest.raises(InputError, match="blob: ") as caught:
            list(decompression.decompressed(str(tmp_path / "blob")))
        assert type(caught.value) is InputError


def test_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, reading an archive and writing a blob say so: 74."""
    (tmp_path / "x.tar").write_bytes(tarfile.TarInfo("x").tobuf() + bytes(1024))

    def start(_thread: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(MachineError, match=r"x\.tar: .*thread"):
        unpack_tar(str(tmp_path / "x.tar"), str(tmp_path / "spool"), 1)
    with compression.BlobWriter(Compression("gzip"), io.BytesIO()) as writer, pytest.raises(MachineError, match="thread"):
        writer.write(memoryview(bytes(1000)))


SHORT: list[tuple[BaseException, int, str]] = [
    (MemoryError(), 74, "ulimit -v"),
    (RuntimeError("can't start new thread"), 74, "ulimit -u"),
    (ImportError("libx.so.1: failed to map segment from shared object"), 74, "ulimit -v"),
    (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), 74, "ulimit -u"),
    (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), 74, "ulimit -n"),
    (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "/a/path"), 74, "ulimit -f"),
]


@pytest.mark.parametrize(("error", "status", "hint"), SHORT, ids=[repr(row[0]) for row in SHORT])
def test_what_there_is_not_enough_of_is_told_at_the_border(error: BaseException, status: int, hint: str) -> None:
    """Nobody foresees where memory, threads or files run out: the library's functions say so, with what to do."""

    def fail() -> None:
        raise error

    with pytest.raises(MachineError) as caught:
        guarded(fail)()
    assert caught.value.exit_code == status
    assert hint in caught.value.hint
    assert getattr(error, "filename", None) is None or caught.value.problems[0].startswith("/a/path: ")


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), ImportError("no module x"), ValueError("x"), InputError("x"), BrokenPipeError()]
)
def test_what_is_no_shortage_stays_what_it_is(error: BaseException) -> None:
    """A fault of this program's is none of the machine's, and an error that says what it is stays."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        guarded(fail)()
    assert caught.value is error


def test_memory_that_runs_out_anywhere_is_no_traceback(user: User) -> None:
    """Below what Python or libarchive needs, the command says memory: 74, and never a fault of its own."""
    user.build("--view", "directory", "--script", user.script("touch a"))
    for kilobytes in (30_000, 50_000):
        result = user.run(["sh", "-c", f'ulimit -v {kilobytes}; exec "$@"', "sh", *COMMAND, "validate", "layer"])
        assert_said(result, 74, "(?i)memory|failed to map", "ulimit -v")
        assert "Traceback" not in result.err


def test_a_base_that_may_not_be_read(user: User) -> None:
    """A base's blob, index or directory without permission is an error that names it: 66, without a thread's traceback."""
    if user.is_root:
        pytest.skip("root reads everything")
    assert user.build("--view", "directory", "--script", user.script("touch a"), "--compression", "zstd").status == 0
    assert user.run([*COMMAND, "image", "--layer", "layer", "-t", "x", "-o", "base"]).status == 0
    cache = {"ROOTLESS_LAYER_CACHE": str(user.home / "cache")}
    layer = max((user.home / "base/blobs/sha256").iterdir(), key=lambda path: path.read_bytes()[:4] == b"\x28\xb5\x2f\xfd")
    for path in (layer, user.home / "base/index.json", user.home / "base/blobs"):
        mode = path.stat().st_mode
        path.chmod(0)
        for words in (["build", "--base", "base", "-o", "refused"], ["validate", "base"], ["inspect", "base"]):
            result = user.run([*COMMAND, *words], env=cache)
            assert_said(result, 66, str(path), "Permission denied", "readable")
            assert "damaged" not in result.err
        path.chmod(mode)


UNSUPPORTED = {
    "an encrypted layer": (lambda row: row.update(mediaType=f"{MEDIA_TYPES['gzip']}+encrypted"), "encrypted"),
    "a foreign layer": (lambda row: row.update(digest=f"sha256:{'a' * 64}", urls=["https://example.org/x"]), "foreign"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "word"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_only_unsupported(tmp_path: Path, change: Callable[[dict[str, Any]], object], word: str) -> None:
    """An image that this program cannot read is told to be unsupported, by what it has, and not to be damaged."""
    folder = tmp_path / "blobs/sha256"
    folder.mkdir(parents=True)

    def put(value: object) -> dict[str, Any]:
        data = json.dumps(value).encode()
        name = hashlib.sha256(data).hexdigest()
        (folder / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data), "mediaType": MEDIA_TYPES["none"]}

    layer = put("no tar")
    config = put({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}})
    config["mediaType"] = CONFIG
    change(layer)
    row = put({"schemaVersion": 2, "config": config, "layers": [layer]}) | {"mediaType": MANIFEST}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [row]}))
    with pytest.raises(InputError, match=word) as caught:
        read_images(str(tmp_path), str)
    assert "supported" in str(caught.value)
    assert "damaged" not in str(caught.value)
