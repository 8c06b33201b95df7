"""What the recorder holds of its callers from one call to the next is theirs: descriptors of each process, and the root of each."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path

import pytest
from helpers.aftermath import members, owner
from helpers.running import Runner

from rootless_layer.session.inside import shared
from rootless_layer.session.inside.caller import Caller
from rootless_layer.session.inside.calls import AUDIT

pytestmark = pytest.mark.slow

CHANGED = """
mkdir -p in$TOP
cp $B in/busybox
echo x > in$TOP/file
echo x > file
$B chown 1:2 $TOP/file
mkfifo ready end
ln ready end in$TOP/
$B chroot in /busybox sh -c "/busybox chown 3:4 $TOP/file; echo > $TOP/ready; read line < $TOP/end; /busybox chown 5:6 $TOP/file" &
"""


def test_a_descriptor_is_the_callers(tmp_path: Path) -> None:
    """It is a copy: of the file that the process has by that number now; of one that is closed there is none."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    script = "exec 5<one; echo; read line; exec 5<two; echo; read line; exec 5<&-; echo; read line"
    with subprocess.Popen(["sh", "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("one", "two"):
            process.stdout.readline()
            copy = shared.share(process.pid, 5)
            assert copy is not None
            assert os.path.samestat(os.fstat(copy), os.stat(tmp_path / name))
            assert not os.get_inheritable(copy)
            os.close(copy)
            process.stdin.write(b"\n")
            process.stdin.flush()
        process.stdout.readline()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            shared.share(process.pid, 5)
        process.stdin.write(b"\n")
    assert shared.share(process.pid, 0) is None
    shared.end()


def test_a_threads_descriptors_have_names() -> None:
    """There may be no pidfd of a thread: its descriptors are had otherwise."""
    told: list[int] = []
    end = threading.Event()
    thread = threading.Thread(target=lambda: (told.append(threading.get_native_id()), end.wait()))
    thread.start()
    while not told:
        pass
    assert shared.share(told[0], 0) is None
    end.set()
    thread.join()
    shared.end()


def held() -> int:
    """Count the processes that this one holds; it has other descriptors for other reasons."""
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum("pidfd" in os.readlink(name) for name in names if os.path.lexists(name))


def test_no_more_processes_are_held_than_may_be() -> None:
    """However many processes make calls, a few are held; in the end none is."""
    before = held()
    for _ in range(200):
        with subprocess.Popen(["sleep", "60"]) as process:
            copy = shared.share(process.pid, 0)
            assert copy is not None
            os.close(copy)
            process.kill()
        assert before < held() < before + 100
    shared.end()
    assert held() == before


@pytest.mark.parametrize("first", [False, True])
def test_each_process_has_its_root(runner: Runner, first: bool) -> None:  # noqa: FBT001 - a parameter
    """A program that changes its root names files below that; whoever did not, and those that come after, name the others."""
    script = "read line < ready; $B chown 7:8 $TOP/file; echo > end; wait; echo x > last; $B chown 9:10 $TOP/last\n"
    again = "" if first else "$B chroot / /bin/busybox true 2>/dev/null || :\n"
    runner.run(again + CHANGED + script)
    found = members(runner.user)
    top = next(
        name.removesuffix("file").removeprefix("in/") for name in found if name.startswith("in/") and name.endswith("file")
    )
    assert owner(found[f"in/{top}file"])[:2] == (5, 6)
    assert owner(found["file"])[:2] == (7, 8)
    assert owner(found["last"])[:2] == (9, 10)


MOVED = """
sized() { [ "$($B stat -L -c %s $TOP/$1)" = $2 ] || { echo "$1 has not $2 bytes" >&2; exit 1; }; }
absent() { ! $B stat $TOP/$1 2>/dev/null; }
mkdir -p a/b; printf 1 >a/b/file; sized a/b/file 1; sized a/b/file 1
absent a/b/more; printf 22 >a/b/more; sized a/b/more 2
absent c/file; mkdir c; printf 333 >c/file; sized c/file 3
mv a/b a/moved; absent a/b/file; sized a/moved/file 1
mkdir a/b; printf 4444 >a/b/file; sized a/b/file 4
$B rm -r a/b; absent a/b/file; mkdir a/b; printf 55555 >a/b/file; sized a/b/file 5
ln -s moved a/link; sized a/link/file 1; $B rm a/link; ln -s b a/link; sized a/link/file 5
ln -s moved a/other; mv -T a/other a/link; sized a/link/file 1
mv a above; absent a/b/file; sized above/b/file 5; mkdir -p a/b; printf 666666 >a/b/file; sized a/b/file 6
ln -s b/file a/last; sized a/last 6; ln -sf moved/file a/last; absent a/last/; $B stat $TOP/a/last >/dev/null
$B stat -c %n /proc/self/status >/dev/null
"""


def test_a_path_leads_to_what_is_there_now(runner: Runner) -> None:
    """A directory, or a link on the way to a file, may be renamed, removed and replaced; a file that was not there may be."""
    runner.run(MOVED)


def _open_below(top: Path) -> int:
    """Count the descriptors of this process that lead there."""
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum(os.readlink(name).startswith(str(top)) for name in names if os.path.lexists(name))


def test_directories_are_held_where_scripts_are_alone(tmp_path: Path) -> None:
    """A directory is found by its path at once; where others may rename one, or after somebody did, it is looked up."""
    path = bytes(tmp_path)
    caller = Caller(0, os.getpid(), "stat", AUDIT["x86_64"], ())
    shared.begin(os.getpid())
    assert caller.folder(path) is None
    shared.begin(os.getpid(), alone=True)
    assert caller.folder(b"/proc/self") is None
    there = caller.folder(path)
    assert there is not None
    assert there == caller.folder(path)
    assert os.path.samestat(os.fstat(there), os.stat(tmp_path))
    shared.moved(os.stat(__file__).st_mode)
    assert shared.folder(path) is not None
    shared.moved(os.stat(tmp_path).st_mode)
    assert shared.folder(path) is None
    for number in range(600):
        (tmp_path / str(number)).mkdir()
        assert caller.folder(path + b"/%d" % number) is not None
    assert 0 < _open_below(tmp_path) < 300
    shared.end()
    assert _open_below(tmp_path) == 0
