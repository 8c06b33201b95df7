"""The file that a path of another process means is found as the kernel finds it: links, dots, descriptors, other roots."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rootless_layer.session.inside.caller import Caller

pytestmark = pytest.mark.slow

Found = tuple[int, int] | int
"""The device and inode of a file, or an error."""
LINKS = {
    "to-file": "d/file", "to-dir": "d", "up": "..", "far-up": "../../../../../..", "loop": "loop", "ring-1": "ring-2", "ring-2": "ring-1",
    "nowhere": "missing", "chain": "to-dir/back", "d/back": "../to-file", "d/top": "../..", "dots": "./d/./e/..", "slash": "d/",
    "file-slash": "d/file/", "null": "/dev/null", "of-root": "/", "self": "/proc/self/root", "here": "/proc/self/cwd", "d/e/long": "../" * 30,
}  # fmt: skip
NAMES = (*(name.rpartition("/")[2] for name in LINKS), "d", "e", "file", "missing", ".", "..", "", "d/file")
PATHS = st.tuples(st.sampled_from(("", "", "", "/", "/proc/self/cwd/", "/proc/thread-self/cwd/")), st.lists(st.sampled_from(NAMES), max_size=6)).map(
    lambda parts: parts[0] + "/".join(parts[1])
)  # fmt: skip


def caller_of(pid: int, name: str = "stat", *arguments: int) -> Caller:
    """Give a process that makes a call, as a notification of the kernel's tells it."""
    return Caller(0, pid, name, 0, (*arguments, *(0,) * (6 - len(arguments))))


def by_kernel(path: bytes, *, follow: bool) -> Found:
    """Give what the kernel finds for this process."""
    try:
        status = os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        return error.errno or 0
    return status.st_dev, status.st_ino


def by_caller(caller: Caller, path: bytes, *, follow: bool, walking: bool = False) -> Found:
    """Give what the recorder finds for a process, by the quick way or step by step."""
    try:
        if walking:
            top = os.open(f"/proc/{caller.pid}/{'root' if path.startswith(b'/') else 'cwd'}", os.O_PATH)
            try:
                descriptor = caller._walk(top, path, follow=follow)
            finally:
                os.close(top)
        else:
            descriptor = caller.hold(caller.start(), path, follow)
    except OSError as error:
        return error.errno or 0
    try:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


def refusal(action: Callable[[], object]) -> int | None:
    """Give the error of an action."""
    try:
        action()
    except OSError as error:
        return error.errno
    return None


@contextlib.contextmanager
def within(tree: Path) -> Iterator[None]:
    """Make a tree with links of many kinds and go there."""
    (tree / "d/e").mkdir(parents=True)
    (tree / "d/file").write_text("")
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    before = Path.cwd()
    os.chdir(tree)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """A process that has the tree as its working directory, as this one has."""
    with tempfile.TemporaryDirectory() as folder, within(Path(folder)), other(lambda: None) as pid:
        yield caller_of(pid)


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, follow=st.booleans())
@example(path="d/file/", follow=True)
@example(path="to-file/", follow=False)
@example(path="ring-1/", follow=False)
@example(path="to-file/.", follow=True)
@example(path="/proc/self/fd/0/..", follow=True)
@example(path="d/e/long/proc/self/root/dev/null", follow=False)
def test_a_path_means_what_it_means_to_the_kernel(caller: Caller, path: str, follow: bool) -> None:  # noqa: FBT001 - drawn
    """By either way the same file is found, or the same error is given."""
    if not path:
        return  # a call without a path is about a descriptor, or refused before
    right = by_kernel(path.encode(), follow=follow)
    assert by_caller(caller, path.encode(), follow=follow) == right
    assert by_caller(caller, path.encode(), follow=follow, walking=True) == right


@pytest.mark.parametrize("count", [39, 40, 41])
def test_as_many_links_as_the_kernel_follows(tmp_path: Path, count: int) -> None:
    """40 links are followed, and no more."""
    (tmp_path / "0").write_text("")
    for number in range(1, count + 1):
        (tmp_path / f"{number}").symlink_to(f"{number - 1}")
    path = os.fsencode(tmp_path / f"{count}")
    right = by_kernel(path, follow=True)
    assert (right == errno.ELOOP) == (count > 40)
    caller = caller_of(os.getpid())
    assert by_caller(caller, path, follow=True) == by_caller(caller, path, follow=True, walking=True) == right


@pytest.mark.parametrize("path", ["/proc/self/fd/%d", "/dev/fd/%d", "/proc/thread-self/fd/%d", "/proc/%d/fd/%d"])
def test_descriptors_of_the_caller(tmp_path: Path, path: str) -> None:
    """/proc/self/fd is the caller's: its file is found when this process has none of that number, or another one."""
    (tmp_path / "file").write_text("")
    status = os.stat(tmp_path / "file")
    for number in (400, 401):
        with other(lambda number=number: os.dup2(os.open(tmp_path / "file", os.O_RDONLY), number)) as pid:  # type: ignore[misc]
            if number == 401:
                os.dup2(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), number)
            numbers = (pid, number) if path.count("%") > 1 else (number,)
            found = by_caller(caller_of(pid), (path % numbers).encode(), follow=True)
            if number == 401:
                os.close(number)
            assert found == (status.st_dev, status.st_ino), number


def test_no_path_leads_through_a_process_that_is_no_scripts(tmp_path: Path) -> None:
    """The root, the directory and the descriptors of this process, or of one above it, are closed to its children; theirs are open."""
    os.dup2(os.open(tmp_path, os.O_RDONLY | os.O_CLOEXEC), 320)
    with other(lambda: None) as pid:
        caller = caller_of(pid)
        for closed in (os.getpid(), os.getppid()):
            for name in ("root", "cwd", "exe", "root/tmp", f"task/{closed}/cwd"):
                assert by_caller(caller, f"/proc/{closed}/{name}".encode(), follow=True) in {errno.EACCES, errno.ENOENT}, name
        assert by_caller(caller, f"/proc/{os.getpid()}/fd/320".encode(), follow=True) == errno.EACCES
        right = by_kernel(b".", follow=True)
        for way in (
            f"/proc/{pid}/cwd",
            f"/proc/{pid}/task/{pid}/cwd",
            "/proc/self/cwd",
            "/proc/thread-self/cwd",
            f"/proc/{pid}/root{os.getcwd()}",
        ):
            assert by_caller(caller, way.encode(), follow=True) == right, way
    os.close(320)


def test_a_directory_that_is_a_descriptor(tmp_path: Path) -> None:
    """A path relative to a descriptor begins at the caller's; an empty path is the descriptor's file; a closed one is EBADF."""
    (tmp_path / "file").write_text("")
    with other(lambda: os.dup2(os.open(tmp_path, os.O_RDONLY), 300)) as pid:
        caller = caller_of(pid)
        for path, name in ((b"file", "file"), (b"", "."), (b"./file", "file")):
            descriptor = caller.hold(caller.start(300), path, follow=True)
            assert os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / name))
            os.close(descriptor)
        assert refusal(lambda: caller.hold(caller.start(299), b"file", follow=True)) == errno.EBADF


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its root directory")
def test_another_root_directory(tmp_path: Path) -> None:
    """In a chroot absolute paths, links and ``..`` stay below its root."""
    inside = tmp_path / "a/b"
    (inside / "sub").mkdir(parents=True)
    (inside / "file").write_text("")
    (tmp_path / "a/file").write_text("outside")
    for name, target in {"absolute": "/file", "up": "../../../file", "sub/up": "../../../file", "root": "/"}.items():
        (inside / name).symlink_to(target)

    def enter() -> None:
        os.chroot(inside)
        os.chdir("/sub")

    right = os.stat(inside / "file")
    with other(enter) as pid:
        caller = caller_of(pid)
        for path in (
            "/file",
            "../file",
            "/absolute",
            "/up",
            "up",
            "../../../file",
            "/../../file",
            "/root/root/file",
            "/sub/../../file",
        ):
            for walking in (False, True):
                found = by_caller(caller, path.encode(), follow=True, walking=walking)
                assert found == (right.st_dev, right.st_ino), (path, walking)


def test_the_memory_of_the_caller(tmp_path: Path) -> None:
    """Text is read up to its end and never beyond a page that is not there; what is not mapped is EFAULT."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    pages = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
    assert libc.munmap(ctypes.c_void_p(pages + 4096), ctypes.c_size_t(4096)) == 0
    caller = caller_of(os.getpid())
    for text in (b"", b"a", b"x" * 300, b"y" * 4000):
        at = pages + 4096 - len(text) - 1
        ctypes.memmove(at, text + b"\0", len(text) + 1)
        assert caller.text(at) == text
    ctypes.memmove(pages + 4096 - 4, b"abcd", 4)
    for address in (pages + 4092, pages + 4096, 0):
        assert refusal(lambda address=address: caller.text(address)) == errno.EFAULT  # type: ignore[misc]
    long = ctypes.create_string_buffer(b"z" * 5000)
    assert refusal(lambda: caller.text(ctypes.addressof(long))) == errno.ENAMETOOLONG
    caller.write(ctypes.addressof(long), b"new")
    assert long.raw[:4] == b"newz"
    assert refusal(lambda: caller.write(pages + 4095, b"ab")) == errno.EFAULT


@contextlib.contextmanager
def other(prepare: Callable[[], object]) -> Iterator[int]:
    """Run a process that prepares something and waits."""
    ready, tell = os.pipe()
    wait, end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(end)
            prepare()
            os.write(tell, b"x")
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(wait)
    os.close(tell)
    try:
        assert os.read(ready, 1)
        yield pid
    finally:
        os.close(ready)
        os.close(end)
        os.waitpid(pid, 0)
